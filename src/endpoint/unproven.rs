//! Connections of which nobody has said yet who they are: so many are kept, and then one makes room for the next.
//!
//! Whoever can reach the port can open connections and say nothing. They must not keep the API server out, however fast
//! they come: the oldest one goes of the address that has most.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
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
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    id: u64,
    peer: IpAddr,
    task: Option<AbortHandle>,
}

/// One connection's place among them, until it is dropped or somebody has proved who they are.
#[derive(Debug)]
pub(super) struct Place {
    all: Arc<Unproven>,
    id: u64,
}

impl Unproven {
    /// A place for one more; another connection is ended if there are too many.
    pub(super) fn place(self: &Arc<Self>, peer: IpAddr) -> Place {
        let mut state = self.lock();
        while state.waiting.len() >= MOST {
            if let Some(Waiting { task: Some(task), .. }) = state.make_room() {
                task.abort();
            }
        }
        let id = state.next;
        state.next += 1;
        state.waiting.push_back(Waiting { id, peer, task: None });
        Place { all: Arc::clone(self), id }
    }

    /// What ends the connection of a place.
    pub(super) fn started(&self, id: u64, task: AbortHandle) {
        // It may have proved itself, or have ended, already.
        if let Some(found) = self.lock().waiting.iter_mut().find(|one| one.id == id) {
            found.task = Some(task);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes out the oldest connection of the address that has most; of the oldest such address, if some have as many.
    fn make_room(&mut self) -> Option<Waiting> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for one in &self.waiting {
            *counts.entry(one.peer).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let oldest = self.waiting.iter().position(|one| counts[&one.peer] == most)?;
        self.waiting.remove(oldest)
    }
}

impl Place {
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// From now on the connection stays, however many come after it.
    pub(super) fn is_proven(&self) {
        self.all.lock().waiting.retain(|one| one.id != self.id);
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

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    struct Open {
        all: Arc<Unproven>,
        places: Vec<Place>,
        connections: tokio::task::JoinSet<()>,
    }

    impl Open {
        fn new() -> Self {
            Self { all: Arc::default(), places: Vec::new(), connections: tokio::task::JoinSet::new() }
        }

        fn add(&mut self, peer: IpAddr) -> tokio::task::Id {
            let place = self.all.place(peer);
            let task = self.connections.spawn(std::future::pending::<()>());
            let id = task.id();
            self.all.started(place.id(), task);
            self.places.push(place);
            id
        }

        async fn ended(&mut self) -> tokio::task::Id {
            self.connections.join_next_with_id().await.unwrap().unwrap_err().id()
        }
    }

    #[tokio::test]
    async fn the_oldest_makes_room_and_who_has_proved_themselves_stays() {
        let mut open = Open::new();
        open.add(ONE);
        open.places[0].is_proven();
        let second = open.add(ONE);
        for _ in 0..MOST {
            open.add(ONE);
        }
        assert_eq!(open.ended().await, second);
        assert_eq!((open.connections.len(), open.all.lock().waiting.len()), (MOST + 1, MOST));
        open.places.clear();
        assert_eq!(open.all.lock().waiting.len(), 0);
    }

    #[tokio::test]
    async fn a_flood_from_one_address_ends_only_its_own() {
        let mut open = Open::new();
        let quiet = open.add(OTHER);
        let flood: Vec<_> = (0..MOST + 10).map(|_| open.add(ONE)).collect();
        for expected in &flood[..11] {
            assert_eq!(open.ended().await, *expected);
        }
        assert!(
            open.all
                .lock()
                .waiting
                .iter()
                .any(|one| one.task.as_ref().is_some_and(|task| task.id() == quiet))
        );
    }
}
