//! Kubernetes quantities as numbers. The API server writes them in a form of its own (`1024Mi` comes back as
//! `1Gi`), so they can only be compared by value. Pure.

/// The quantity in billionths; `None` if it is not one that is zero or positive.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (times, exponent) = scale(suffix)?;
    let exponent = exponent + 9 - i32::try_from(fraction.len()).ok()?;
    let digits = digits.checked_mul(times)?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    // Kubernetes rounds up what is finer than a billionth.
    if exponent >= 0 { digits.checked_mul(power) } else { Some((digits + power - 1) / power) }
}

/// A suffix as a factor and a power of ten.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        other => (1, other.strip_prefix(['e', 'E'])?.parse::<i8>().ok()?.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_amounts_are_equal_however_they_are_written() {
        for (left, right) in [
            ("1024Mi", "1Gi"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("2e3", "2k"),
            ("1.5Gi", "1536Mi"),
            ("1E", "1e18"),
        ] {
            assert!(nanos(left).is_some(), "{left}");
            assert_eq!(nanos(left), nanos(right), "{left} {right}");
        }
        assert_ne!(nanos("1G"), nanos("1Gi"));
        assert_eq!(nanos("1"), Some(1_000_000_000));
        assert_eq!(nanos("0"), Some(0));
    }

    #[test]
    fn what_is_no_quantity_is_none() {
        for bad in
            ["", ".", "-1", "1TB", "1 Gi", "Gi", "1.2.3", "ten", "1ee3", "1e99", "99999999999999999999E"]
        {
            assert_eq!(nanos(bad), None, "{bad}");
        }
    }
}
