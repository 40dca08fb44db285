//! Connections of which nobody has said yet who they are: so many are kept, and the oldest makes room for the next.
//!
//! Whoever can reach the port can open connections and say nothing. They must not keep the API server out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

/// Kept at most. The API server says who it is within milliseconds.
const MOST: usize = 256;

/// Those connections, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unproven {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: VecDeque<(u64, Option<AbortHandle>)>,
}

/// One connection's place among them, until it is dropped or somebody has proved who they are.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Unproven>,
    id: u64,
}

impl Unproven {
    /// A place for one more; the oldest connection is ended if there are too many.
    pub(super) fn place(self: &Arc<Self>) -> Place {
        let mut state = self.lock();
        while state.waiting.len() >= MOST {
            if let Some((_, Some(task))) = state.waiting.pop_front() {
                task.abort();
            }
        }
        let id = state.next;
        state.next += 1;
        state.waiting.push_back((id, None));
        Place { all: Arc::clone(self), id }
    }

    /// What ends the connection of a place.
    pub(super) fn started(&self, id: u64, task: AbortHandle) {
        // It may have proved itself, or have ended, already.
        if let Some((_, slot)) = self.lock().waiting.iter_mut().find(|(one, _)| *one == id) {
            *slot = Some(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// From now on the connection stays, however many come after it.
    pub(super) fn is_proven(&self) {
        self.all.lock().waiting.retain(|(id, _)| *id != self.id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.is_proven();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room_and_who_has_proved_themselves_stays() {
        let all = Arc::new(Unproven::default());
        let mut connections = tokio::task::JoinSet::new();
        let mut places = Vec::new();
        for _ in 0..MOST + 2 {
            let place = all.place();
            let task = connections.spawn(std::future::pending::<()>());
            all.started(place.id(), task);
            if place.id() == 0 {
                place.is_proven();
            }
            places.push(place);
        }
        // The first stays, and the next one went for the last.
        assert!(connections.join_next().await.unwrap().unwrap_err().is_cancelled());
        assert_eq!((connections.len(), all.lock().waiting.len()), (MOST + 1, MOST));
        drop(places);
        assert_eq!(all.lock().waiting.len(), 0);
    }
}
