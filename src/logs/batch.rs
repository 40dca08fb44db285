//! Packs records into calls of PutLogEvents, within its limits, and reads what the answer refused.
//!
//! Pure. The limits are those of the API reference: they hold for every batch that leaves here, so that no call is
//! refused as a whole. An event's own time (milliseconds, never decreasing) is only where CloudWatch files it; the
//! true time, to the nanosecond, is in the message.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::record::{Checkpoint, Record};
use crate::clock;

/// Events of a call, at most.
pub const MAX_EVENTS: usize = 10_000;
/// Bytes of a call, at most, each event counted with [`EVENT_OVERHEAD`].
pub const MAX_BYTES: usize = 1_048_576;
/// What CloudWatch adds to each event's bytes.
pub const EVENT_OVERHEAD: usize = 26;
/// Bytes of a message, at most: 256 KiB with the overhead, which every CloudWatch took at any time.
pub const MAX_MESSAGE: usize = 262_144 - EVENT_OVERHEAD;
/// Events of a call lie less than this apart.
const MAX_SPAN: i64 = 24 * 3_600_000;
/// A batch is worth a call from here on, or at this age.
pub const FLUSH_BYTES: usize = 262_144;
/// See [`FLUSH_BYTES`].
pub(super) const FLUSH_AGE: Duration = Duration::from_secs(1);
/// CloudWatch refuses what is older than 14 days or the retention of its group.
const OLDEST: Duration = Duration::from_hours(14 * 24);
/// CloudWatch refuses what is further in the future.
const NEWEST: Duration = Duration::from_hours(2);
/// What a call may wait before it arrives, throttled or without a network.
const MARGIN: Duration = Duration::from_hours(1);

/// One event of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Number of its record.
    pub seq: u64,
    /// Milliseconds since 1970.
    pub millisecond: i64,
    pub message: String,
}

/// What one call carries. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    events: Vec<Event>,
    bytes: usize,
}

/// A record that no event can carry. [`super::reader::Reader`] gives none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message of record {seq} has {bytes} bytes, expected at most {MAX_MESSAGE}")]
pub struct TooLong {
    pub seq: u64,
    pub bytes: usize,
}

/// `rejectedLogEventsInfo` of an answer: indexes into the call's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// `tooNewLogEventStartIndex`: this one and all behind it.
    pub too_new_from: Option<usize>,
    /// `tooOldLogEventEndIndex`: all before this one.
    pub too_old_before: Option<usize>,
    /// `expiredLogEventEndIndex`: all before this one.
    pub expired_before: Option<usize>,
}

impl Batch {
    /// In the order of their numbers and of their times.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// As CloudWatch counts them.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The events that the answer says were not taken.
    pub fn refused(&self, answer: Refused) -> impl Iterator<Item = &Event> {
        let begin = answer.too_old_before.max(answer.expired_before).unwrap_or(0);
        let end = answer.too_new_from.unwrap_or(self.events.len());
        self.events
            .iter()
            .enumerate()
            .filter(move |(at, _)| *at < begin || *at >= end)
            .map(|(_, event)| event)
    }

    /// What was not taken, for one more call, filed under the present time.
    ///
    /// Events are filed within what CloudWatch takes from the start; this is for a batch that waited for hours, or a
    /// group whose retention somebody shortened.
    #[must_use]
    pub fn again(&self, answer: Refused, now: Timestamp) -> Option<Self> {
        let millisecond = now.as_millisecond();
        let events: Vec<_> =
            self.refused(answer).map(|event| Event { millisecond, ..event.clone() }).collect();
        let bytes = events.iter().map(size).sum();
        (!events.is_empty()).then_some(Self { events, bytes })
    }
}

/// Packs the records of one stream.
///
/// Holds one batch at most. While a call is under way the batch grows up to the limits of a call; when [`Packer::push`]
/// hands one out, whoever reads the log has to wait for CloudWatch.
#[derive(Debug)]
pub struct Packer {
    events: Vec<Event>,
    bytes: usize,
    /// When the first of `events` came.
    since: Timestamp,
    /// Of the event before.
    millisecond: i64,
    /// Whether the batch says where a line of it was read.
    checkpoint: Checkpoint,
    oldest: SignedDuration,
}

impl Packer {
    /// A packer for a stream whose last event is filed under `millisecond` (0 for a new one), in a group with this
    /// retention (`None`: for ever).
    #[must_use]
    pub fn new(millisecond: i64, retention: Option<Duration>) -> Self {
        let oldest = retention.map_or(OLDEST, |retention| retention.min(OLDEST)).saturating_sub(MARGIN);
        Self {
            events: Vec::new(),
            bytes: 0,
            since: Timestamp::MIN,
            millisecond,
            checkpoint: Checkpoint::With,
            oldest: SignedDuration::try_from(oldest).expect("14 days fit"),
        }
    }

    /// Takes the next record. Hands out the batch before it, if the record does not fit into that one.
    ///
    /// # Errors
    /// [`TooLong`]; the record is not taken.
    pub fn push(&mut self, record: &Record, now: Timestamp) -> Result<Option<Batch>, TooLong> {
        let event = self.event(record, now);
        let size = size(&event);
        if event.message.len() > MAX_MESSAGE {
            return Err(TooLong { seq: record.seq, bytes: event.message.len() });
        }
        let is_full = self.events.len() == MAX_EVENTS
            || self.bytes + size > MAX_BYTES
            || self.events.first().is_some_and(|first| event.millisecond - first.millisecond >= MAX_SPAN);
        let full = is_full.then(|| self.take()).flatten();
        // The first line of every batch says where it was read: what is read on from there meets these numbers again.
        let event = if full.is_some() { self.event(record, now) } else { event };
        if self.events.is_empty() {
            self.since = now;
        }
        if record.origin.is_some() {
            self.checkpoint = Checkpoint::Without;
        }
        self.millisecond = event.millisecond;
        self.bytes += self::size(&event);
        self.events.push(event);
        Ok(full)
    }

    /// When the batch is worth a call; `None` while there is nothing to say.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        if self.events.is_empty() {
            None
        } else if self.bytes >= FLUSH_BYTES {
            Some(self.since)
        } else {
            Some(clock::after(self.since, FLUSH_AGE))
        }
    }

    /// Hands out what there is: when it is due, or at the end.
    #[must_use]
    pub fn take(&mut self) -> Option<Batch> {
        let events = std::mem::take(&mut self.events);
        let bytes = std::mem::take(&mut self.bytes);
        self.checkpoint = Checkpoint::With;
        (!events.is_empty()).then_some(Batch { events, bytes })
    }

    fn event(&self, record: &Record, now: Timestamp) -> Event {
        // A file's first line has a checkpoint too: its file may be what is left when the one before is gone.
        let is_head = record.origin.is_some_and(|origin| origin.offset == 0);
        let checkpoint = if is_head { Checkpoint::With } else { self.checkpoint };
        let millisecond = self.window(record.stamp.millisecond(), now).max(self.millisecond);
        Event { seq: record.seq, millisecond, message: record.encode(checkpoint) }
    }

    /// The time nearest to this one under which CloudWatch takes an event.
    fn window(&self, millisecond: i64, now: Timestamp) -> i64 {
        let oldest = now.checked_sub(self.oldest).unwrap_or(Timestamp::MIN).as_millisecond();
        let newest = clock::after(now, NEWEST.saturating_sub(MARGIN)).as_millisecond();
        millisecond.clamp(oldest, newest)
    }
}

fn size(event: &Event) -> usize {
    event.message.len() + EVENT_OVERHEAD
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logs::cri::Stream;
    use crate::logs::reader::MAX_PIECE;
    use crate::logs::record::{Body, End, Origin};
    use crate::logs::stamp::Stamp;

    const HOUR: i64 = 3_600_000;

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn record(seq: u64, at: Timestamp, text: impl Into<bytes::Bytes>) -> Record {
        let body = Body::Line { text: text.into(), end: End::Full };
        let origin = Some(Origin { file: 1, offset: seq * 10 });
        Record { seq, stamp: Stamp::utc(at), stream: Stream::Stdout, body, origin }
    }

    fn later(by: i64) -> Timestamp {
        Timestamp::from_millisecond(now().as_millisecond() + by).unwrap()
    }

    #[test]
    fn a_batch_is_due_after_a_second_or_256_kib() {
        let mut packer = Packer::new(0, None);
        assert_eq!((packer.due(), packer.take()), (None, None));
        assert_eq!(packer.push(&record(0, now(), "x"), now()), Ok(None));
        assert_eq!(packer.push(&record(1, now(), "x"), later(900)), Ok(None));
        assert_eq!(packer.due(), Some(later(1_000)));
        assert_eq!(packer.push(&record(2, now(), vec![b'x'; 262_000]), later(950)), Ok(None));
        assert_eq!(packer.due(), Some(now()));
        let batch = packer.take().unwrap();
        assert_eq!(batch.events().iter().map(|event| event.seq).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!((packer.due(), packer.take()), (None, None));
        assert_eq!(packer.push(&record(3, now(), "x"), later(2_000)), Ok(None));
        assert_eq!(packer.due(), Some(later(3_000)));
    }

    #[test]
    fn the_first_line_of_a_batch_and_of_a_file_have_checkpoints() {
        let mut packer = Packer::new(0, None);
        let continued = Record { origin: None, ..record(5, now(), "x") };
        for record in [
            continued,
            record(6, now(), "x"),
            record(7, now(), "x"),
            record(0, now(), "x"),
            record(8, now(), "x"),
        ] {
            packer.push(&record, now()).unwrap();
        }
        let with: Vec<_> =
            packer.take().unwrap().events.iter().map(|event| event.message.contains(":@")).collect();
        assert_eq!(with, [false, true, false, true, false]);
        packer.push(&record(9, now(), "x"), now()).unwrap();
        assert!(packer.take().unwrap().events[0].message.contains(":@"));
    }

    #[test]
    fn ten_thousand_events_are_full() {
        let mut packer = Packer::new(0, None);
        for seq in 1..=10_000 {
            assert_eq!(packer.push(&record(seq, now(), ""), now()), Ok(None));
        }
        let full = packer.push(&record(10_001, now(), ""), now()).unwrap().unwrap();
        assert_eq!((full.events().len(), full.events()[9_999].seq), (10_000, 10_000));
        let rest = packer.take().unwrap();
        assert_eq!(rest.events().len(), 1);
        assert!(rest.events()[0].message.contains(":@"), "the first of its batch");
    }

    #[test]
    fn a_mebibyte_is_full_to_the_byte() {
        let mut packer = Packer::new(0, None);
        let mut sizes = Vec::new();
        for seq in 1..=4 {
            assert_eq!(packer.push(&record(seq, now(), vec![b'x'; 262_000]), now()), Ok(None));
            sizes.push(packer.bytes);
        }
        let room = MAX_BYTES - packer.bytes;
        let size = size(&packer.event(&record(5, now(), ""), now()));
        for (more, is_full) in [(0, false), (1, true)] {
            let mut packer = Packer { events: packer.events.clone(), ..packer };
            let full = packer.push(&record(5, now(), vec![b'x'; room - size + more]), now()).unwrap();
            assert_eq!(full.is_some(), is_full);
            let largest = full.or_else(|| packer.take()).unwrap();
            assert_eq!(largest.bytes(), if is_full { sizes[3] } else { MAX_BYTES });
        }
    }

    #[test]
    fn the_longest_piece_fits_also_in_base64_and_more_is_refused() {
        let mut packer = Packer::new(0, None);
        let piece =
            record(u64::MAX / 20, "9999-01-01T00:00:00.123456789Z".parse().unwrap(), vec![0xff; MAX_PIECE]);
        packer.push(&piece, now()).unwrap();
        let longest = record(1, now(), vec![b'x'; MAX_MESSAGE]);
        let bytes = longest.encode(Checkpoint::Without).len();
        assert_eq!(packer.push(&longest, now()), Err(TooLong { seq: 1, bytes }));
        assert_eq!(packer.take().unwrap().events().len(), 1);
    }

    #[test]
    fn times_are_filed_where_cloudwatch_takes_them_and_never_go_back() {
        let mut packer = Packer::new(0, None);
        let filed: Vec<_> = [-15 * 24 * HOUR, -13 * 24 * HOUR, -HOUR, -2 * HOUR, 0, 3 * HOUR, HOUR / 2]
            .into_iter()
            .filter_map(|by| packer.push(&record(1, later(by), "x"), now()).unwrap())
            .flat_map(|batch| batch.events)
            .collect();
        let rest = packer.take().unwrap().events;
        let filed: Vec<_> =
            filed.iter().chain(&rest).map(|event| event.millisecond - now().as_millisecond()).collect();
        assert_eq!(filed, [-(14 * 24 - 1) * HOUR, -13 * 24 * HOUR, -HOUR, -HOUR, 0, HOUR, HOUR]);

        let mut packer = Packer::new(now().as_millisecond() - 5, Some(Duration::from_hours(24)));
        packer.push(&record(1, later(-30 * HOUR), "x"), now()).unwrap();
        assert_eq!(packer.take().unwrap().events[0].millisecond, now().as_millisecond() - 5);
        let mut packer = Packer::new(0, Some(Duration::from_hours(24)));
        packer.push(&record(1, later(-30 * HOUR), "x"), now()).unwrap();
        assert_eq!(packer.take().unwrap().events[0].millisecond, now().as_millisecond() - 23 * HOUR);
    }

    #[test]
    fn a_day_ends_a_batch() {
        let mut packer = Packer::new(0, None);
        assert_eq!(packer.push(&record(1, later(-24 * HOUR), "x"), now()), Ok(None));
        assert_eq!(packer.push(&record(2, later(-1), "x"), now()), Ok(None));
        assert_eq!(packer.push(&record(3, later(0), "x"), now()).unwrap().unwrap().events().len(), 2);
    }

    #[test]
    fn what_was_refused_is_known_and_sent_again_under_the_present_time() {
        let mut packer = Packer::new(0, None);
        for seq in 0..5 {
            packer.push(&record(seq, now(), "x"), now()).unwrap();
        }
        let batch = packer.take().unwrap();
        let refused = |answer| batch.refused(answer).map(|event| event.seq).collect::<Vec<_>>();
        let none = Refused::default();
        assert!(refused(none).is_empty());
        assert_eq!(batch.again(none, now()), None);
        assert_eq!(refused(Refused { too_old_before: Some(2), ..none }), [0, 1]);
        assert_eq!(refused(Refused { too_old_before: Some(1), expired_before: Some(3), ..none }), [0, 1, 2]);
        assert_eq!(refused(Refused { too_new_from: Some(4), ..none }), [4]);
        let both = Refused { too_new_from: Some(4), too_old_before: Some(1), expired_before: None };
        assert_eq!(refused(both), [0, 4]);
        assert_eq!(
            refused(Refused { too_new_from: Some(99), too_old_before: Some(99), ..none }),
            [0, 1, 2, 3, 4]
        );
        let again = batch.again(both, later(9)).unwrap();
        assert!(again.events().iter().all(|event| event.millisecond == later(9).as_millisecond()));
        assert_eq!(again.bytes(), again.events().iter().map(size).sum::<usize>());
    }

    fn sizes() -> impl Strategy<Value = usize> {
        prop_oneof![6 => 0..100_usize, 1 => 100_000..200_000_usize]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_batch_keeps_every_limit_and_nothing_is_lost(
            records in prop::collection::vec((-40 * 24 * HOUR..40 * 24 * HOUR, sizes(), any::<bool>()), 1..60),
            spread in 1_i64..1_000,
        ) {
            let mut packer = Packer::new(0, None);
            let (mut batches, mut sent) = (Vec::new(), 0);
            for (at, size, is_late) in &records {
                let at = if *is_late { *at } else { *at / spread / 100 };
                batches.extend(packer.push(&record(sent, later(at), vec![b'x'; *size]), now()).unwrap());
                sent += 1;
            }
            batches.extend(packer.take());
            for batch in &batches {
                let events = batch.events();
                prop_assert!(!events.is_empty() && events.len() <= 10_000);
                prop_assert!(batch.bytes() <= 1_048_576);
                prop_assert_eq!(batch.bytes(), events.iter().map(|event| event.message.len() + 26).sum::<usize>());
                prop_assert!(events.is_sorted_by_key(|event| event.millisecond));
                let (first, last) = (&events[0], &events[events.len() - 1]);
                prop_assert!(last.millisecond - first.millisecond < 24 * HOUR);
                prop_assert!(first.millisecond > later(-14 * 24 * HOUR).as_millisecond());
                prop_assert!(last.millisecond < later(2 * HOUR).as_millisecond());
                prop_assert!(first.message.contains(":@"));
            }
            let seqs: Vec<_> = batches.iter().flat_map(Batch::events).map(|event| event.seq).collect();
            prop_assert_eq!(seqs, (0..sent).collect::<Vec<_>>());
        }
    }
}
