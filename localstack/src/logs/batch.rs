//! The rules of a batch of events: what is refused as a whole, and what is rejected within an accepted one. Pure.
//!
//! Figures: the API reference of PutLogEvents.

use std::ops::Range;

use super::store::{DAY, Millis};

/// The most events of a batch.
pub(super) const MOST_EVENTS: usize = 10_000;
/// The most bytes of a batch, and of one event.
const MOST_BYTES: u64 = 1 << 20;
/// What each event counts beside its message.
const OVERHEAD: u64 = 26;
const TOO_NEW: Millis = 2 * 3600 * 1000;
const TOO_OLD: Millis = 14 * DAY;
const SPAN: Millis = DAY;

/// An event as it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InputEvent {
    pub timestamp: Millis,
    pub message: String,
}

/// What an event counts, when it comes and when it goes.
pub(super) fn size(message: &str) -> u64 {
    message.len() as u64 + OVERHEAD
}

/// The parts of a batch, by index. Since it is in order, what is rejected is at its ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub accepted: Range<usize>,
    /// The first that is too new.
    pub too_new_start: Option<usize>,
    /// The first that is not too old, if there are too old ones before it.
    pub too_old_end: Option<usize>,
    /// The first that has not expired, if there are expired ones before it.
    pub expired_end: Option<usize>,
}

/// Why a whole batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BatchError {
    #[error("Log events in a single PutLogEvents request must be in chronological order.")]
    Order,
    #[error("Log event too large: {0} bytes exceeds limit of {MOST_BYTES}")]
    Event(u64),
    #[error("Upload too large: {0} bytes exceeds limit of {MOST_BYTES}")]
    Batch(u64),
    #[error("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")]
    Span,
}

/// Whether a batch is small enough and in order, wherever it is for.
pub(super) fn check(events: &[InputEvent]) -> Result<(), BatchError> {
    if !events.is_sorted_by_key(|event| event.timestamp) {
        return Err(BatchError::Order);
    }
    let mut bytes = 0;
    for event in events {
        let size = size(&event.message);
        if size > MOST_BYTES {
            return Err(BatchError::Event(size));
        }
        bytes += size;
    }
    if bytes > MOST_BYTES { Err(BatchError::Batch(bytes)) } else { Ok(()) }
}

/// What is accepted of a batch that passed [`check`], by a group whose events expire before `horizon`.
pub(super) fn judge(events: &[InputEvent], horizon: Millis, now: Millis) -> Result<Judged, BatchError> {
    let before = |time: Millis| events.partition_point(|event| event.timestamp < time);
    let (too_old, expired) = (before(now.saturating_sub(TOO_OLD)), before(horizon));
    let too_new = events.partition_point(|event| event.timestamp <= now.saturating_add(TOO_NEW));
    // The span counts what time alone does not reject, expired or not.
    if let [first, .., last] = &events[too_old.min(too_new)..too_new]
        && last.timestamp - first.timestamp > SPAN
    {
        return Err(BatchError::Span);
    }
    let some = |end: usize| (end > 0).then_some(end);
    Ok(Judged {
        accepted: too_old.max(expired).min(too_new)..too_new,
        too_new_start: (too_new < events.len()).then_some(too_new),
        too_old_end: some(too_old),
        expired_end: some(expired),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 100 * DAY;

    fn mk_events(timestamps: &[Millis]) -> Vec<InputEvent> {
        timestamps.iter().map(|at| InputEvent { timestamp: *at, message: "x".to_owned() }).collect()
    }

    fn mk_sized(count: usize, bytes: usize) -> Vec<InputEvent> {
        vec![InputEvent { timestamp: 0, message: "x".repeat(bytes) }; count]
    }

    #[test]
    fn a_batch_is_in_the_order_of_time() {
        assert_eq!(check(&mk_events(&[1, 1, 2])), Ok(()));
        assert_eq!(check(&mk_events(&[1, 3, 2])), Err(BatchError::Order));
    }

    #[test]
    fn a_batch_counts_bytes_of_utf8_and_26_for_each_event() {
        // 4 * (262118 + 26) is the limit.
        assert_eq!(check(&mk_sized(4, 262_118)), Ok(()));
        let mut over = mk_sized(4, 262_118);
        over[0].message.push('x');
        assert_eq!(check(&over), Err(BatchError::Batch(1_048_577)));
        over[0].message.truncate(262_117);
        over[0].message.pop();
        over[0].message.push('ü');
        assert_eq!(check(&over), Ok(()));
        over[0].message.pop();
        over[0].message.push('€');
        assert_eq!(check(&over), Err(BatchError::Batch(1_048_577)));
        assert_eq!(check(&mk_sized(1, 1_048_550)), Ok(()));
        assert_eq!(check(&mk_sized(1, 1_048_551)), Err(BatchError::Event(1_048_577)));
    }

    #[test]
    fn what_is_too_old_or_too_new_is_rejected_and_the_rest_accepted() {
        let (old, new) = (NOW - TOO_OLD, NOW + TOO_NEW);
        let judge = |events: &[Millis]| judge(&mk_events(events), Millis::MIN, NOW).unwrap();
        let none = Judged::default();
        assert_eq!(judge(&[old]), Judged { accepted: 0..1, ..none.clone() });
        assert_eq!(judge(&[old - 1, old]), Judged { accepted: 1..2, too_old_end: Some(1), ..none.clone() });
        assert_eq!(judge(&[new, new + 1]), Judged { accepted: 0..1, too_new_start: Some(1), ..none.clone() });
        assert_eq!(
            judge(&[old - 1, old - 1, NOW, new + 1]),
            Judged { accepted: 2..3, too_old_end: Some(2), too_new_start: Some(3), ..none.clone() }
        );
        assert_eq!(judge(&[old - 1]), Judged { accepted: 1..1, too_old_end: Some(1), ..none.clone() });
        assert_eq!(judge(&[new + 1]), Judged { accepted: 0..0, too_new_start: Some(0), ..none });
    }

    #[test]
    fn what_has_expired_is_rejected_beside_what_is_too_old() {
        let judge = |events: &[Millis], days| judge(&mk_events(events), NOW - days * DAY, NOW).unwrap();
        let week = NOW - 7 * DAY;
        assert_eq!(
            judge(&[NOW - 20 * DAY, week - 1, week], 7),
            Judged { accepted: 2..3, too_old_end: Some(1), expired_end: Some(2), too_new_start: None }
        );
        assert_eq!(
            judge(&[NOW - 20 * DAY, week], 30),
            Judged { accepted: 1..2, too_old_end: Some(1), ..Judged::default() }
        );
    }

    #[test]
    fn a_batch_spans_a_day_at_most_not_counting_what_is_too_old_or_too_new() {
        let judge = |events: &[Millis]| judge(&mk_events(events), Millis::MIN, NOW);
        assert!(judge(&[NOW - DAY, NOW]).is_ok());
        assert_eq!(judge(&[NOW - DAY - 1, NOW]), Err(BatchError::Span));
        assert!(judge(&[NOW - 30 * DAY, NOW - DAY, NOW, NOW + DAY]).is_ok());
    }
}
