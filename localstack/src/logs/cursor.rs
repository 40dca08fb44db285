//! Places between events, as the tokens of pages carry them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::store::Key;
use crate::aws::page::BadToken;

/// A place: right before the event with this key, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    pub at: Key,
    /// Whether the next page is an empty one, though there may be more.
    pub pause: Pause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    No,
    Yes,
}

/// As many digits as the service's have.
const DIGITS: usize = 56;
const TIME: usize = 20;
const SEQUENCE: usize = 35;

impl Cursor {
    pub(super) fn new(at: Key) -> Self {
        Self { at, pause: Pause::No }
    }

    /// `f/` or `b/` and digits, as GetLogEvents has it.
    pub(super) fn token(self, prefix: &str) -> String {
        format!("{prefix}{}", self.digits())
    }

    /// The cursor of a token of GetLogEvents without its prefix.
    pub(super) fn read(digits: &str) -> Result<Self, BadToken> {
        if digits.len() != DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadToken);
        }
        let timestamp = digits[..TIME].parse().map_err(|_| BadToken)?;
        let sequence = digits[TIME..TIME + SEQUENCE].parse().map_err(|_| BadToken)?;
        let pause = match &digits[TIME + SEQUENCE..] {
            "0" => Pause::No,
            "1" => Pause::Yes,
            _ => return Err(BadToken),
        };
        Ok(Self { at: Key { timestamp, sequence }, pause })
    }

    /// Without a form that a client could read, as FilterLogEvents has it.
    pub(super) fn sealed(self) -> String {
        URL_SAFE_NO_PAD.encode(self.digits())
    }

    pub(super) fn unseal(token: &str) -> Result<Self, BadToken> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| BadToken)?;
        Self::read(std::str::from_utf8(&bytes).map_err(|_| BadToken)?)
    }

    fn digits(self) -> String {
        let Key { timestamp, sequence } = self.at;
        // Events are after 1970, and so is what lies between them.
        let (timestamp, pause) = (timestamp.max(0), u8::from(self.pause == Pause::Yes));
        format!("{timestamp:0TIME$}{sequence:0SEQUENCE$}{pause}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_carries_its_place_in_56_digits() {
        for (timestamp, sequence, pause) in
            [(0, 0, Pause::No), (1_795_000_000_000, 7, Pause::Yes), (i64::MAX, u64::MAX, Pause::No)]
        {
            let cursor = Cursor { at: Key { timestamp, sequence }, pause };
            let token = cursor.token("f/");
            assert_eq!(token.len(), 58);
            assert_eq!(Cursor::read(token.strip_prefix("f/").unwrap()), Ok(cursor));
            assert_eq!(Cursor::unseal(&cursor.sealed()), Ok(cursor));
        }
    }

    #[test]
    fn other_tokens_are_refused() {
        let nines = "9".repeat(DIGITS);
        for token in ["", "1", &"x".repeat(DIGITS), &nines, &"ü".repeat(DIGITS / 2), &format!("{:056}", 2)] {
            assert_eq!(Cursor::read(token), Err(BadToken), "{token}");
        }
        assert_eq!(Cursor::unseal("f/"), Err(BadToken));
        assert_eq!(Cursor::unseal("AAAA"), Err(BadToken));
    }
}
