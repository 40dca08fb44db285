//! A pod's `args`: one string that stands for an entrypoint and a command, in either of two forms.

use serde::Deserialize;
use serde_json::json;

/// What is run instead of the image's own; empty where the image's own is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Command {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
}

impl Command {
    /// Of the stored form: a JSON object with `entrypoint` and `cmd`, or words as a shell has them, which are the
    /// command.
    #[must_use]
    pub fn parse(args: &str) -> Self {
        let text = args.trim();
        let object = text.starts_with('{').then(|| serde_json::from_str(text).ok()).flatten();
        object.unwrap_or_else(|| Self { entrypoint: Vec::new(), cmd: words(text) })
    }

    /// The stored form.
    #[must_use]
    pub fn stored(&self) -> String {
        match (self.entrypoint.is_empty(), self.cmd.is_empty()) {
            (true, true) => String::new(),
            (true, false) => json!({ "cmd": self.cmd }).to_string(),
            (false, true) => json!({ "entrypoint": self.entrypoint }).to_string(),
            (false, false) => json!({ "entrypoint": self.entrypoint, "cmd": self.cmd }).to_string(),
        }
    }

    /// What runs in an image with these of its own: another entrypoint drops the image's command.
    #[must_use]
    pub fn argv(&self, entrypoint: &[String], cmd: &[String]) -> Vec<String> {
        let cmd = match (self.cmd.as_slice(), self.entrypoint.is_empty()) {
            ([], true) => cmd,
            ([], false) => &[],
            (own, _) => own,
        };
        let entrypoint = if self.entrypoint.is_empty() { entrypoint } else { &self.entrypoint };
        [entrypoint, cmd].concat()
    }
}

/// Words as a POSIX shell splits them, quotes and backslashes honoured, with nothing expanded. A quote that is not
/// closed ends with the text.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some('"') | None, '\\') => {
                if let Some(next) = chars.next() {
                    // Between double quotes, a backslash means something before these alone.
                    if quote.is_some() && !"\"\\$`".contains(next) {
                        word.get_or_insert_default().push('\\');
                    }
                    word.get_or_insert_default().push(next);
                }
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_bare_string_is_the_command_split_as_a_shell_splits() {
        for (args, cmd) in [
            ("", &[][..]),
            ("sleep 1000", &["sleep", "1000"]),
            (r#"sh -c 'echo "a  b"; exit 3'"#, &["sh", "-c", r#"echo "a  b"; exit 3"#]),
            (r#"a\ b "c \"d\" \n" '' e"f"g"#, &["a b", r#"c "d" \n"#, "", "efg"]),
            ("  open 'end  ", &["open", "end"]),
            ("{not json", &["{not", "json"]),
        ] {
            assert_eq!(Command::parse(args), Command { entrypoint: vec![], cmd: list(cmd) }, "{args}");
        }
    }

    #[test]
    fn an_object_sets_either_or_both_and_is_what_is_stored() {
        for text in [
            r#"{"entrypoint":["/agent"],"cmd":["a b","c"]}"#,
            r#"{"entrypoint":["/agent"]}"#,
            r#"{"cmd":["x"]}"#,
            "",
        ] {
            let command = Command::parse(text);
            assert_eq!(Command::parse(&command.stored()), command, "{text}");
        }
        let both = Command::parse(r#"{"entrypoint":["/agent"],"cmd":["x"]}"#);
        assert_eq!(both, Command { entrypoint: list(&["/agent"]), cmd: list(&["x"]) });
        // With a member that there is not, it is no such object.
        assert_eq!(Command::parse(r#"{"command":["x"]}"#).entrypoint, Vec::<String>::new());
    }

    #[test]
    fn an_image_gives_what_the_pod_does_not() {
        let argv = |args: &str| Command::parse(args).argv(&list(&["/entry"]), &list(&["default"])).join(" ");
        assert_eq!(argv(""), "/entry default");
        assert_eq!(argv("a b"), "/entry a b");
        assert_eq!(argv(r#"{"entrypoint":["/agent"]}"#), "/agent");
        assert_eq!(argv(r#"{"entrypoint":["/agent"],"cmd":["c"]}"#), "/agent c");
    }
}
