//! Kubernetes quantities: `500m`, `1.5`, `2Gi`, `1e3`.
//!
//! Only what a scheduler needs: non-negative amounts, rounded up, never down.

/// Parses a quantity into thousandths, rounded up. `None` if it is not a non-negative quantity or does not fit.
#[must_use]
pub fn milli(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let digits: u128 = [whole, fraction].concat().parse().ok()?;
    let (binary, decimal) = scale(suffix)?;
    let exponent = decimal.checked_add(3)?.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let amount = digits.checked_mul(1_u128.checked_shl(binary)?)?;
    let power = 10_u128.checked_pow(exponent.unsigned_abs());
    let milli = match (exponent < 0, power) {
        (false, power) => amount.checked_mul(power?)?,
        (true, Some(power)) => amount.div_ceil(power),
        (true, None) => u128::from(amount > 0),
    };
    u64::try_from(milli).ok()
}

/// Parses a quantity into whole units, rounded up.
#[must_use]
pub fn whole(text: &str) -> Option<u64> {
    milli(text).map(|milli| milli.div_ceil(1000))
}

/// Bits to shift by and powers of ten of a suffix.
fn scale(suffix: &str) -> Option<(u32, i32)> {
    let scale = match suffix {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        exponent => (0, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_writes_them_and_rounded_up() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("500m", Some(500)),
            ("0.1", Some(100)),
            ("1.5", Some(1500)),
            (".5", Some(500)),
            ("5.", Some(5000)),
            ("100u", Some(1)),
            ("1n", Some(1)),
            ("0", Some(0)),
            ("1k", Some(1_000_000)),
            ("1Ki", Some(1_024_000)),
            ("0.5Gi", Some(536_870_912_000)),
            ("1e3", Some(1_000_000)),
            ("1E3", Some(1_000_000)),
            ("12e-1", Some(1200)),
            ("1E", None),
            ("-1", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("one", None),
            ("1ki", None),
            ("99999999999999999999999999999999999999999", None),
        ] {
            assert_eq!(milli(text), expected, "{text}");
        }
        assert_eq!(whole("1500m"), Some(2));
        assert_eq!(whole("16Gi"), Some(17_179_869_184));
    }
}
