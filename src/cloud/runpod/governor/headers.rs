//! The headers that tell how many requests are left: structured fields (RFC 9651), of which only the parts that RunPod
//! documents are understood. What is not understood is as if it were not there.
//!
//! `RateLimit: "minute";r=0;t=12, "hour";r=2800;t=1812` and `RateLimit-Policy: "minute";q=60;w=60`:
//! <https://docs.runpod.io/api-reference-v2/rate-limits>.

use std::time::Duration;

use http::{HeaderMap, header};

use super::windows::Span;

/// Longer than any window.
const DAY: Duration = Duration::from_secs(86_400);

/// What one answer says of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Requests left.
    pub(super) left: Option<u32>,
    /// Until the window begins anew.
    pub(super) resets: Option<Duration>,
    /// Requests that a whole window has.
    pub(super) quota: Option<u32>,
    pub(super) length: Option<Duration>,
}

/// What the headers of an answer say, by window.
pub(super) fn read(headers: &HeaderMap) -> [Told; 3] {
    let mut told = [Told::default(); 3];
    for (name, is_policy) in [("ratelimit", false), ("ratelimit-policy", true)] {
        let texts = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        for (span, parameters) in texts.flat_map(members) {
            let told = &mut told[span.index()];
            for (key, number) in parameters {
                match (is_policy, key) {
                    (false, "r") => told.left = Some(u32::try_from(number).unwrap_or(u32::MAX)),
                    (false, "t") => told.resets = Some(Duration::from_secs(number).min(DAY)),
                    (true, "q") => told.quota = Some(u32::try_from(number).unwrap_or(u32::MAX)),
                    (true, "w") => told.length = Some(Duration::from_secs(number).min(DAY)),
                    _ => {}
                }
            }
        }
    }
    told
}

/// `Retry-After` in seconds; a date is not what RunPod sends.
pub(in super::super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(DAY))
}

/// The members of a list whose names are windows, each with its parameters that are numbers.
fn members(text: &str) -> impl Iterator<Item = (Span, Vec<(&str, u64)>)> {
    text.split(',').filter_map(|member| {
        let mut parts = member.split(';').map(str::trim);
        let span = Span::named(parts.next()?.trim_matches('"'))?;
        let number = |part: &'_ str| part.split_once('=').and_then(|(_, number)| number.trim().parse().ok());
        let parameters = parts.filter_map(|part| Some((part.split('=').next()?.trim(), number(part)?)));
        Some((span, parameters.collect()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn left(left: u32, seconds: u64) -> Told {
        Told { left: Some(left), resets: Some(Duration::from_secs(seconds)), ..Told::default() }
    }

    #[test]
    fn the_documented_examples_are_read() {
        let told = read(&map(&[
            ("ratelimit", r#""minute";r=0;t=12, "hour";r=2800;t=1812, "day";r=49500;t=45012"#),
            ("ratelimit-policy", r#""minute";q=60;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400"#),
        ]));
        let policy = |told: Told, quota, seconds| Told {
            quota: Some(quota),
            length: Some(Duration::from_secs(seconds)),
            ..told
        };
        assert_eq!(
            told,
            [
                policy(left(0, 12), 60, 60),
                policy(left(2800, 1812), 3000, 3600),
                policy(left(49500, 45012), 50000, 86400)
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_as_if_it_were_not_there() {
        for odd in
            ["", "minute", "100", r#""week";r=1;t=2"#, r#""minute";r=many;t=-1"#, ";;;,,,", "\"minute\";r"]
        {
            assert_eq!(read(&map(&[("ratelimit", odd)])), [Told::default(); 3], "{odd}");
        }
        let read =
            read(&map(&[("ratelimit", r#"minute ; t=5 ; r=7 ; x="y" ,"hour";r=99999999999;t=99999999"#)]));
        assert_eq!(read[0], left(7, 5));
        assert_eq!(read[1], left(u32::MAX, 86_400));
    }

    #[test]
    fn the_time_to_wait_is_a_number_of_seconds() {
        let wait = |value| retry_after(&map(&[("retry-after", value)]));
        assert_eq!(wait("12"), Some(Duration::from_secs(12)));
        assert_eq!(wait("99999999999"), Some(DAY));
        assert_eq!(wait("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(text in "[ -~]{0,80}") {
            let _told = read(&map(&[("ratelimit", &text), ("ratelimit-policy", &text), ("retry-after", &text)]));
        }
    }
}
