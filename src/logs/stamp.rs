//! Times as log lines have them: RFC 3339 with up to nine decimals, in the zone of the machine that wrote them.
//!
//! Pure. The zone is kept, because a kubelet shows it again with `timestamps=true`.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::Offset;

/// A time and the zone it was written in.
///
/// `Display` is the shortest form, without zeros at the end of its decimals: that of containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// The moment.
    pub at: Timestamp,
    offset: Offset,
}

impl Stamp {
    /// A time in UTC.
    #[must_use]
    pub fn utc(at: Timestamp) -> Self {
        Self { at, offset: Offset::UTC }
    }

    /// Reads what a kubelet would read: decimals behind a point or a comma, those beyond the ninth dropped.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let (clock, rest) = text.split_at_checked("2006-01-02T15:04:05".len())?;
        let is_form = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
        if is_form.iter().any(|(at, separator)| clock[*at] != *separator) {
            return None;
        }
        let (nanoseconds, rest) = decimals(rest)?;
        let offset = zone(rest)?;
        let date = Date::new(number(&clock[..4])?, small(&clock[5..7])?, small(&clock[8..10])?).ok()?;
        let (hour, minute, second) = (small(&clock[11..13])?, small(&clock[14..16])?, small(&clock[17..])?);
        let time = Time::new(hour, minute, second, nanoseconds).ok()?;
        let at = offset.to_timestamp(DateTime::from_parts(date, time)).ok()?;
        Some(Self { at, offset })
    }

    /// The form of `timestamps=true`: always nine decimals.
    #[must_use]
    pub fn fixed(&self) -> String {
        format!("{}.{:09}{}", self.clock(), self.nanoseconds(), self.zone())
    }

    /// Whole milliseconds since 1970, as CloudWatch counts; what is below is dropped.
    #[must_use]
    pub fn millisecond(&self) -> i64 {
        self.at.as_millisecond()
    }

    fn clock(&self) -> impl fmt::Display {
        let local = self.offset.to_datetime(self.at);
        let (date, time) = (local.date(), local.time());
        fmt::from_fn(move |f| {
            write!(f, "{:04}-{:02}-{:02}", date.year(), date.month(), date.day())?;
            write!(f, "T{:02}:{:02}:{:02}", time.hour(), time.minute(), time.second())
        })
    }

    fn nanoseconds(&self) -> i32 {
        self.offset.to_datetime(self.at).subsec_nanosecond()
    }

    fn zone(&self) -> impl fmt::Display {
        let minutes = self.offset.seconds() / 60;
        fmt::from_fn(move |f| match minutes {
            0 => f.write_str("Z"),
            _ => {
                let sign = if minutes < 0 { '-' } else { '+' };
                write!(f, "{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60)
            }
        })
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.clock())?;
        match self.nanoseconds() {
            0 => {}
            nanoseconds => write!(f, ".{}", format!("{nanoseconds:09}").trim_end_matches('0'))?,
        }
        write!(f, "{}", self.zone())
    }
}

/// Nanoseconds, and what follows the decimals.
fn decimals(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some((b'.' | b',', digits)) = text.split_first() else { return Some((0, text)) };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(count);
    let nine = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let nanoseconds = nine.fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    (count > 0).then_some((nanoseconds, rest))
}

/// `Z`, or hours and minutes.
fn zone(text: &[u8]) -> Option<Offset> {
    match text {
        b"Z" => Some(Offset::UTC),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            let seconds = (i32::from(hours) * 60 + i32::from(minutes)) * 60;
            let seconds = if *sign == b'-' { -seconds } else { seconds };
            Offset::from_seconds(seconds).ok().filter(|_| hours < 24 && minutes < 60)
        }
        _ => None,
    }
}

fn small(digits: &[u8]) -> Option<i8> {
    i8::try_from(number(digits)?).ok()
}

/// At most four digits.
fn number(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + i16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_shown_in_both_forms() {
        for (text, short, fixed) in [
            (
                "2026-11-21T03:29:11.489039417Z",
                "2026-11-21T03:29:11.489039417Z",
                "2026-11-21T03:29:11.489039417Z",
            ),
            ("2026-11-21T03:29:11.480Z", "2026-11-21T03:29:11.48Z", "2026-11-21T03:29:11.480000000Z"),
            ("2026-11-21T03:29:11,48Z", "2026-11-21T03:29:11.48Z", "2026-11-21T03:29:11.480000000Z"),
            ("2026-11-21T03:29:11Z", "2026-11-21T03:29:11Z", "2026-11-21T03:29:11.000000000Z"),
            ("2026-11-21T03:29:11.0Z", "2026-11-21T03:29:11Z", "2026-11-21T03:29:11.000000000Z"),
            (
                "2026-11-21T03:29:11.1234567899Z",
                "2026-11-21T03:29:11.123456789Z",
                "2026-11-21T03:29:11.123456789Z",
            ),
            ("2026-11-21T03:29:11+00:00", "2026-11-21T03:29:11Z", "2026-11-21T03:29:11.000000000Z"),
            (
                "2026-11-21T03:29:11.5-00:30",
                "2026-11-21T03:29:11.5-00:30",
                "2026-11-21T03:29:11.500000000-00:30",
            ),
            (
                "2026-11-21T03:29:11.5+13:45",
                "2026-11-21T03:29:11.5+13:45",
                "2026-11-21T03:29:11.500000000+13:45",
            ),
            (
                "2024-02-29T23:59:59.000000001Z",
                "2024-02-29T23:59:59.000000001Z",
                "2024-02-29T23:59:59.000000001Z",
            ),
        ] {
            let stamp = Stamp::parse(text.as_bytes()).unwrap();
            assert_eq!((stamp.to_string().as_str(), stamp.fixed().as_str()), (short, fixed), "{text}");
        }
    }

    #[test]
    fn the_zone_moves_the_moment() {
        let there = Stamp::parse(b"2026-11-21T05:29:11.489039417+02:00").unwrap();
        let here = Stamp::parse(b"2026-11-21T03:29:11.489039417Z").unwrap();
        assert_eq!(there.at, here.at);
        assert_eq!(here.millisecond(), 1_795_231_751_489);
        assert_ne!(there, here);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2026-11-21",
            "2026-11-21 03:29:11Z",
            "2026-11-21T03:29:11",
            "2026-11-21T03:29:11.Z",
            "2026-11-21T03:29:60Z",
            "2026-11-21T24:00:00Z",
            "2026-13-21T03:29:11Z",
            "2026-02-29T03:29:11Z",
            "2026-11-21T03:29:11+0200",
            "2026-11-21T03:29:11+24:00",
            "2026-11-21T03:29:11+02:60",
            "2026-11-21T03:29:11z",
            "2026-11-21T03:29:11Zx",
            "+026-11-21T03:29:11Z",
            "9999-12-31T23:59:59Z",
        ] {
            assert_eq!(Stamp::parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_time_survives_both_forms(seconds in -60_000_000_000_i64..250_000_000_000, nanoseconds in 0_i32..1_000_000_000, minutes in -1439_i32..1440) {
            let at = Timestamp::new(seconds, if seconds < 0 { -nanoseconds } else { nanoseconds }).unwrap();
            let stamp = Stamp { at, offset: Offset::from_seconds(minutes * 60).unwrap() };
            proptest::prop_assert_eq!(Stamp::parse(stamp.to_string().as_bytes()), Some(stamp));
            proptest::prop_assert_eq!(Stamp::parse(stamp.fixed().as_bytes()), Some(stamp));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, text in "[0-9TZ:.,+-]{0,40}") {
            for bytes in [&bytes, text.as_bytes()] {
                if let Some(stamp) = Stamp::parse(bytes) {
                    proptest::prop_assert_eq!(Stamp::parse(stamp.to_string().as_bytes()), Some(stamp));
                }
            }
        }
    }
}
