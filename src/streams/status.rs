//! How a command ended, in the words that kubectl reads on the error stream. Pure.

use serde::Serialize;

/// Bytes of a message, at most: it may repeat what a machine said.
const MESSAGE_MAX: usize = 4096;

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With this code; clients know no others.
    Exit(u8),
    /// It is not known how, or it never began: why.
    Failed(String),
}

/// In which words that is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    /// Before v4: text, and nothing for a success.
    Text,
    /// From v4 on: a `metav1.Status`.
    Json,
}

/// What the error stream says, all in all; nothing means success to every client.
pub(super) fn words(outcome: &Outcome, words: Words) -> Vec<u8> {
    let message = match outcome {
        Outcome::Exit(0) => String::new(),
        Outcome::Exit(code) => {
            format!("command terminated with non-zero exit code: exit status {code}")
        }
        Outcome::Failed(why) => format!("Internal error occurred: {}", cut(why)),
    };
    match words {
        Words::Text => message.into_bytes(),
        Words::Json => {
            let status = Status::new(outcome, message);
            // Strings and numbers can be written.
            serde_json::to_vec(&status).unwrap_or_else(|error| error.to_string().into_bytes())
        }
    }
}

fn cut(text: &str) -> &str {
    let mut end = MESSAGE_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// `metav1.Status`, with its fields in a kubelet's order.
#[derive(Serialize)]
struct Status {
    metadata: Empty,
    status: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Details {
    causes: [Cause; 1],
}

#[derive(Serialize)]
struct Cause {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    message: String,
}

impl Status {
    fn new(outcome: &Outcome, message: String) -> Self {
        let status = if *outcome == Outcome::Exit(0) { "Success" } else { "Failure" };
        let (reason, cause, code) = match outcome {
            Outcome::Exit(0) => (None, None, None),
            Outcome::Exit(code) => {
                let cause = Cause { reason: Some("ExitCode"), message: code.to_string() };
                (Some("NonZeroExitCode"), Some(cause), None)
            }
            Outcome::Failed(why) => {
                let cause = Cause { reason: None, message: cut(why).to_owned() };
                (Some("InternalError"), Some(cause), Some(500))
            }
        };
        let details = cause.map(|cause| Details { causes: [cause] });
        Self { metadata: Empty {}, status, message, reason, details, code }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_told_as_a_kubelet_tells_it() {
        for (outcome, json, text) in [
            (Outcome::Exit(0), r#"{"metadata":{},"status":"Success"}"#, ""),
            (
                Outcome::Exit(7),
                r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#,
                "command terminated with non-zero exit code: exit status 7",
            ),
            (
                Outcome::Failed("the machine is \"away\"".to_owned()),
                r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: the machine is \"away\"","reason":"InternalError","details":{"causes":[{"message":"the machine is \"away\""}]},"code":500}"#,
                "Internal error occurred: the machine is \"away\"",
            ),
        ] {
            assert_eq!(String::from_utf8(words(&outcome, Words::Json)).unwrap(), json);
            assert_eq!(String::from_utf8(words(&outcome, Words::Text)).unwrap(), text);
        }
    }

    #[test]
    fn a_long_story_is_cut_between_characters() {
        let told = words(&Outcome::Failed("\u{20ac}".repeat(2000)), Words::Text);
        assert_eq!(String::from_utf8(told).unwrap().len(), "Internal error occurred: ".len() + 4095);
    }
}
