//! Columns of text, as `kubectl get` prints them. Pure.

/// Lines of columns, each as wide as its widest cell; every line begins with `indent` and none ends with spaces.
pub(super) fn columns<const N: usize>(indent: &str, lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let joined = format!("{indent}{}", cells.collect::<Vec<_>>().join("  "));
        text += joined.trim_end();
        text.push('\n');
    }
    text
}

/// What is not known, or does not apply.
pub(super) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// The cells of a line.
pub(super) fn cells<const N: usize>(texts: [&str; N]) -> [String; N] {
    texts.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_need_to_be() {
        let lines = [cells(["TYPE", "ZONE"]), cells(["g5.xlarge", "a"]), cells(["µ", ""])];
        assert_eq!(columns("  ", &lines), "  TYPE       ZONE\n  g5.xlarge  a\n  µ\n");
    }
}
