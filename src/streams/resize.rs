//! Sizes of a client's terminal, as they come: JSON objects one behind the other. Pure.

use serde::Deserialize;

/// Bytes of one object, at most; they have some thirty.
const OBJECT_MAX: usize = 1024;

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminalSize {
    #[serde(rename = "Width")]
    pub columns: u16,
    #[serde(rename = "Height")]
    pub rows: u16,
}

/// Reads sizes.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    rest: Vec<u8>,
    /// What came was no size; nothing that follows is read.
    is_lost: bool,
}

impl Sizes {
    /// The last size that `bytes` bring to an end, if any: those before it are past.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<TerminalSize> {
        if self.is_lost {
            return None;
        }
        self.rest.extend_from_slice(bytes);
        let mut sizes = serde_json::Deserializer::from_slice(&self.rest).into_iter();
        let (mut last, mut used) = (None, 0);
        for size in sizes.by_ref() {
            match size {
                Ok(size) => last = Some(size),
                Err(error) => {
                    let error: serde_json::Error = error;
                    self.is_lost = !error.is_eof();
                    break;
                }
            }
        }
        used += sizes.byte_offset();
        self.rest.drain(..used.min(self.rest.len()));
        self.is_lost |= self.rest.len() > OBJECT_MAX;
        if self.is_lost {
            self.rest = Vec::new();
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size(columns: u16, rows: u16) -> TerminalSize {
        TerminalSize { columns, rows }
    }

    #[test]
    fn the_latest_size_counts_however_the_bytes_come() {
        let bytes = b"{\"Width\":99,\"Height\":33}\n{\"Width\":80,\"Height\":24}\n";
        assert_eq!(Sizes::default().read(bytes), Some(size(80, 24)));
        for cut in 1..bytes.len() {
            let mut sizes = Sizes::default();
            let first = sizes.read(&bytes[..cut]);
            let second = sizes.read(&bytes[cut..]);
            assert_eq!(second.or(first), Some(size(80, 24)), "cut at {cut}");
            assert_eq!(first, (cut >= 24).then_some(if cut >= 49 { size(80, 24) } else { size(99, 33) }));
        }
    }

    #[test]
    fn after_what_is_no_size_nothing_is_read() {
        for lost in
            ["{\"Width\":70000,\"Height\":1}", "nonsense", "[1]", &" ".repeat(OBJECT_MAX), "{\"Width\":-1}"]
        {
            let mut sizes = Sizes::default();
            let first = sizes.read(b"{\"Width\":1,\"Height\":2}");
            assert_eq!(first, Some(size(1, 2)));
            let open = format!("{lost}{}", "{\"a\":\"".to_owned() + &"x".repeat(OBJECT_MAX));
            assert_eq!(sizes.read(open.as_bytes()), None, "{lost}");
            assert_eq!(sizes.read(b"\"}{\"Width\":3,\"Height\":4}"), None, "{lost}");
            assert!(sizes.rest.is_empty());
        }
    }
}
