//! Lines of a page in the Prometheus text format. Pure.
//!
//! A line is taken apart as far as merging needs it, and its text is kept: numbers and times come out as the kubelet
//! wrote them. What does not parse is left out, since one bad line makes a reader throw a whole page away.

/// One line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Line<'a> {
    /// `# HELP name text` or `# TYPE name kind`.
    Comment {
        name: &'a str,
        is_type: bool,
        text: &'a str,
    },
    Sample(Sample<'a>),
}

/// A series with its value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample<'a> {
    /// The whole line.
    pub(super) text: &'a str,
    pub(super) name: &'a str,
    /// What stands between the braces.
    labels: &'a str,
    /// What follows them: the value, and the time if there is one.
    tail: &'a str,
    pub(super) value: f64,
    /// Milliseconds since 1970.
    pub(super) at: Option<i64>,
}

/// The kinds that there are in this format.
const KINDS: [&str; 5] = ["counter", "gauge", "histogram", "summary", "untyped"];

/// All lines of a page that parse.
pub(super) fn lines(page: &str) -> impl Iterator<Item = Line<'_>> {
    page.lines().filter_map(|line| match line.strip_prefix('#') {
        Some(comment) => self::comment(comment),
        None => sample(line).map(Line::Sample),
    })
}

fn comment(text: &str) -> Option<Line<'_>> {
    let text = text.trim_start();
    let (is_type, rest) = match (text.strip_prefix("HELP "), text.strip_prefix("TYPE ")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return None,
    };
    let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_good = if is_type { KINDS.contains(&text) } else { is_escaped(text) };
    (is_name(name) && is_good).then_some(Line::Comment { name, is_type, text })
}

fn sample(text: &str) -> Option<Sample<'_>> {
    let end = text.find(['{', ' '])?;
    let (name, rest) = text.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => braces(rest)?,
        None => ("", rest),
    };
    let tail = rest.trim_ascii();
    let mut words = tail.split_ascii_whitespace();
    let value = words.next()?.parse().ok()?;
    let at = words.next().map(str::parse).transpose().ok()?;
    (is_name(name) && words.next().is_none()).then_some(Sample { text, name, labels, tail, value, at })
}

/// What is before the closing brace, and what follows it. Labels that do not parse are no labels.
fn braces(text: &str) -> Option<(&str, &str)> {
    let mut pairs = Pairs { rest: text, is_bad: false };
    for _ in pairs.by_ref() {}
    let rest = pairs.rest.strip_prefix('}').filter(|_| !pairs.is_bad)?;
    Some((&text[..text.len() - rest.len() - 1], rest))
}

impl<'a> Sample<'a> {
    /// Names and values of the labels, the values still escaped.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        Pairs { rest: self.labels, is_bad: false }
    }

    /// The value of a label.
    pub(super) fn label(&self, name: &str) -> Option<&'a str> {
        self.labels().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// What tells the series from all others, whatever the order of its labels; `None` if a label comes twice.
    pub(super) fn key(&self) -> Option<String> {
        let mut pairs: Vec<_> = self.labels().collect();
        pairs.sort_unstable();
        if pairs.windows(2).any(|two| two[0].0 == two[1].0) {
            return None;
        }
        let mut key = String::with_capacity(self.name.len() + self.labels.len() + 1);
        key.push_str(self.name);
        for (name, value) in pairs {
            key.extend(["\n", name, "\n", value]);
        }
        Some(key)
    }

    /// The line with one more label.
    pub(super) fn with_label(&self, name: &str, value: &str) -> String {
        let comma = if self.labels.is_empty() { "" } else { "," };
        format!("{}{{{name}=\"{value}\"{comma}{}}} {}", self.name, self.labels, self.tail)
    }
}

/// Reads `name="value",…` up to what is not that.
struct Pairs<'a> {
    rest: &'a str,
    is_bad: bool,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.rest.starts_with('}') {
            return None;
        }
        let pair = pair(self.rest);
        match pair {
            Some((name, value, rest)) => {
                self.rest = rest;
                Some((name, value))
            }
            None => {
                self.is_bad = true;
                None
            }
        }
    }
}

fn pair(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once("=\"")?;
    let name = name.trim();
    let bytes = rest.as_bytes();
    let mut at = 0;
    while *bytes.get(at)? != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    let value = rest.get(..at)?;
    let rest = rest[at + 1..].trim_start();
    let rest = match rest.strip_prefix(',') {
        Some(rest) => rest.trim_start(),
        None if rest.is_empty() || rest.starts_with('}') => rest,
        None => return None,
    };
    (is_name(name) && !name.contains(':') && is_escaped(value)).then_some((name, value, rest))
}

/// As names of metrics are.
fn is_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b':');
    name.bytes().next().is_some_and(is_letter) && name.bytes().all(|b| is_letter(b) || b.is_ascii_digit())
}

/// Whether every backslash begins an escape that this format has.
fn is_escaped(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'\\' && !matches!(bytes.next(), Some(b'\\' | b'"' | b'n')) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(text: &str) -> Sample<'_> {
        match lines(text).collect::<Vec<_>>()[..] {
            [Line::Sample(sample)] => sample,
            ref other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_sample_is_taken_apart_and_kept_as_it_was() {
        let text = r#"c_total{pod="a",path="C:\\d}\"x,",} 1.5e+09 1795294376327"#;
        let sample = only(text);
        assert_eq!((sample.text, sample.name), (text, "c_total"));
        assert_eq!((sample.value, sample.at), (1.5e9, Some(1_795_294_376_327)));
        assert_eq!(sample.labels().collect::<Vec<_>>(), [("pod", "a"), ("path", r#"C:\\d}\"x,"#)]);
        assert_eq!(sample.label("pod"), Some("a"));
        let sample = only("up 1");
        assert_eq!((sample.name, sample.value, sample.at, sample.labels().count()), ("up", 1.0, None, 0));
        assert!(only("x NaN").value.is_nan());
        assert_eq!(only(r#"x{le="+Inf"} +Inf"#).value, f64::INFINITY);
    }

    #[test]
    fn lines_that_a_reader_would_stumble_over_are_left_out() {
        for text in [
            "",
            "x",
            "x ",
            "x y",
            "x 1 2 3",
            "x 1 1.5",
            "9x 1",
            r#"x{a="b} 1"#,
            r#"x{a="b"c="d"} 1"#,
            r#"x{a="b"} "#,
            r#"x{a=b} 1"#,
            r#"x{a="\d"} 1"#,
            r#"x{a:b="c"} 1"#,
            r#"x{a="b"}} 1"#,
            r#"x{,} 1"#,
            "# TYPE x number",
            "# TYPE x",
            r"# HELP x an \x escape",
            "# a comment",
            "#",
        ] {
            assert_eq!(lines(text).collect::<Vec<_>>(), [], "{text}");
        }
    }

    #[test]
    fn comments_say_what_a_family_is() {
        let text = "# HELP x_total [STABLE] What x is.\n# TYPE x_total counter";
        let help = Line::Comment { name: "x_total", is_type: false, text: "[STABLE] What x is." };
        let kind = Line::Comment { name: "x_total", is_type: true, text: "counter" };
        assert_eq!(lines(text).collect::<Vec<_>>(), [help, kind]);
    }

    #[test]
    fn the_order_of_labels_makes_no_other_series() {
        let key = |text| only(text).key();
        assert_eq!(key(r#"x{a="1",b="2"} 1"#), key(r#"x{b="2",a="1"} 2 3"#));
        assert_ne!(key(r#"x{a="1",b="2"} 1"#), key(r#"x{a="2",b="1"} 1"#));
        assert_ne!(key(r#"x{a="1"} 1"#), key(r#"y{a="1"} 1"#));
        assert_eq!(key(r#"x{a="1",a="2"} 1"#), None);
    }

    #[test]
    fn a_label_is_added_to_any_series() {
        for (text, expected) in [
            ("x 1 2", r#"x{i="7"} 1 2"#),
            ("x{} 1", r#"x{i="7"} 1"#),
            (r#"x{a="b"} 1"#, r#"x{i="7",a="b"} 1"#),
        ] {
            assert_eq!(only(text).with_label("i", "7"), expected);
            assert_eq!(only(expected).label("i"), Some("7"));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[a-c{}=\"\\\\, #\\n0-9.]{0,60}", any: String) {
            for text in [&text, &any] {
                for line in lines(text) {
                    if let Line::Sample(sample) = line {
                        let labelled = sample.with_label("instance_id", "i-1");
                        proptest::prop_assert_eq!(only(&labelled).value.to_bits(), sample.value.to_bits());
                        drop(sample.key());
                    }
                }
            }
        }
    }
}
