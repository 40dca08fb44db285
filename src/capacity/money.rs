//! Money: whole micro-dollars, so that sums are exact.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Millionths of a US dollar; per hour where it is a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MicroUsd(pub u64);

/// A text that is no amount of dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an amount of US dollars such as `1.25`")]
pub struct NoAmount;

impl MicroUsd {
    /// As metrics show it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact up to nine billion dollars")]
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

impl std::iter::Sum for MicroUsd {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|one| one.0).sum())
    }
}

impl fmt::Display for MicroUsd {
    /// Dollars with at least two and at most six decimals: `1.00`, `0.0042`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = format!("{:06}", self.0 % 1_000_000);
        let shown = decimals.trim_end_matches('0');
        write!(f, "{}.{shown:0<2}", self.0 / 1_000_000)
    }
}

impl FromStr for MicroUsd {
    type Err = NoAmount;

    /// Decimal notation without sign or exponent; what lies below a millionth is dropped.
    fn from_str(text: &str) -> Result<Self, NoAmount> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let is_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(decimals) {
            return Err(NoAmount);
        }
        let whole: u64 = whole.parse().map_err(|_| NoAmount)?;
        let millionths: u64 = format!("{decimals:0<6}")[..6].parse().map_err(|_| NoAmount)?;
        whole.checked_mul(1_000_000).and_then(|micro| micro.checked_add(millionths)).map(Self).ok_or(NoAmount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars_are_read_and_shown() {
        for (text, micro, shown) in [
            ("1", 1_000_000, "1.00"),
            ("0.526", 526_000, "0.526"),
            ("2.24208", 2_242_080, "2.24208"),
            ("0.0000019", 1, "0.000001"),
            ("98.320000", 98_320_000, "98.32"),
            ("3.", 3_000_000, "3.00"),
        ] {
            assert_eq!(text.parse(), Ok(MicroUsd(micro)), "{text}");
            assert_eq!(MicroUsd(micro).to_string(), shown);
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in ["", ".", "-1", "+1", "1e3", "1,5", "$1", "0x1", "99999999999999", "٣", "1.2.3"] {
            assert_eq!(text.parse::<MicroUsd>(), Err(NoAmount), "{text}");
        }
    }
}
