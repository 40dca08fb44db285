//! The service's list of sessions: who they are for, how they stand, and the token that opens each one's channel.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::session::Command;

/// Ended sessions that are remembered.
const HISTORY: usize = 1000;

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Book(Mutex<HashMap<String, Record>>);

/// One session.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) id: String,
    pub(super) target: String,
    pub(super) document: String,
    pub(super) reason: Option<String>,
    pub(super) started: Timestamp,
    pub(super) state: State,
    /// The query of its stream URL, to be used as it is.
    pub(super) query: String,
    pub(super) commands: mpsc::Sender<Command>,
    token: Option<(String, Instant)>,
}

/// How a session stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Active,
    Terminating,
    Ended { at: Timestamp, why: String },
}

/// Why a token opens nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum TokenError {
    NoSession,
    Ended,
    /// Wrong, used or too old.
    Refused,
}

impl Record {
    pub(super) fn new(
        id: &str,
        target: &str,
        document: &str,
        query: &str,
        commands: mpsc::Sender<Command>,
        started: Timestamp,
    ) -> Self {
        Self {
            id: id.to_owned(),
            target: target.to_owned(),
            document: document.to_owned(),
            reason: None,
            started,
            state: State::Active,
            query: query.to_owned(),
            commands,
            token: None,
        }
    }
}

impl Book {
    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Record>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn add(&self, record: Record) {
        self.with(|sessions| {
            let ended = |record: &Record| match &record.state {
                State::Active | State::Terminating => None,
                State::Ended { at, .. } => Some((*at, record.id.clone())),
            };
            if sessions.values().filter_map(ended).count() >= HISTORY
                && let Some((_, oldest)) = sessions.values().filter_map(ended).min()
            {
                sessions.remove(&oldest);
            }
            sessions.insert(record.id.clone(), record);
        });
    }

    pub(super) fn get(&self, id: &str) -> Option<Record> {
        self.with(|sessions| sessions.get(id).cloned())
    }

    /// Every session, the newest first.
    pub(super) fn all(&self) -> Vec<Record> {
        let mut all = self.with(|sessions| sessions.values().cloned().collect::<Vec<_>>());
        all.sort_by(|one, other| (other.started, &other.id).cmp(&(one.started, &one.id)));
        all
    }

    /// Gives the session a new token in place of its old one.
    pub(super) fn issue(&self, id: &str, token: &str, lifetime: Duration, now: Instant) {
        self.with(|sessions| {
            if let Some(record) = sessions.get_mut(id) {
                record.token = Some((token.to_owned(), now + lifetime));
            }
        });
    }

    /// Uses the session's token up.
    pub(super) fn redeem(&self, id: &str, token: &str, now: Instant) -> Result<Record, TokenError> {
        self.with(|sessions| {
            let record = sessions.get_mut(id).ok_or(TokenError::NoSession)?;
            match &record.state {
                State::Active => {}
                State::Terminating | State::Ended { .. } => return Err(TokenError::Ended),
            }
            match record.token.take() {
                Some((value, until)) if value == token && now < until => Ok(record.clone()),
                // A wrong guess does not spend the right token.
                Some(kept) if kept.0 != token => {
                    record.token = Some(kept);
                    Err(TokenError::Refused)
                }
                Some(_) | None => Err(TokenError::Refused),
            }
        })
    }

    pub(super) fn terminating(&self, id: &str) {
        self.with(|sessions| {
            if let Some(record) = sessions.get_mut(id)
                && record.state == State::Active
            {
                record.state = State::Terminating;
            }
        });
    }

    pub(super) fn ended(&self, id: &str, why: String, at: Timestamp) {
        self.with(|sessions| {
            if let Some(record) = sessions.get_mut(id) {
                record.state = State::Ended { at, why };
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_opens_once_and_not_for_long() {
        let book = Book::default();
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        let (commands, _kept) = mpsc::channel(1);
        book.add(Record::new("s", "i-1", "d", "q", commands, Timestamp::UNIX_EPOCH));
        book.issue("s", "secret", minute, now);
        assert_eq!(book.redeem("other", "secret", now).unwrap_err(), TokenError::NoSession);
        assert_eq!(book.redeem("s", "guess", now).unwrap_err(), TokenError::Refused);
        assert!(book.redeem("s", "secret", now).is_ok());
        assert_eq!(book.redeem("s", "secret", now).unwrap_err(), TokenError::Refused);
        book.issue("s", "second", minute, now);
        assert_eq!(book.redeem("s", "second", now + minute).unwrap_err(), TokenError::Refused);
        book.issue("s", "third", minute, now);
        book.ended("s", String::new(), Timestamp::UNIX_EPOCH);
        assert_eq!(book.redeem("s", "third", now).unwrap_err(), TokenError::Ended);
    }
}
