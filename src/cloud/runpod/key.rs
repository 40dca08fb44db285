//! The API key: given, or in a file that is read anew for each request, so that a mounted Secret may change.
//!
//! Nothing prints it: what holds it hides it, and texts of others are scrubbed of it.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use http::HeaderValue;
use tokio::io::AsyncReadExt as _;

/// Longer than any key: a path that names another file is not read in whole.
const LONGEST: usize = 1024;

/// An API key. Its `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// Why there is no key. Never with any of its contents.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("the API key is empty, or has characters that no key has")]
    Malformed,
    #[error("reading the API key from `{path}`: {error}")]
    Unreadable { path: String, error: String },
}

impl ApiKey {
    /// The key, without white space around it.
    ///
    /// # Errors
    /// It is empty, or no text that a header can carry.
    pub fn new(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let is_key = !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|b| b.is_ascii_graphic());
        if is_key { Ok(Self(text.to_owned())) } else { Err(KeyError::Malformed) }
    }

    /// As the `Authorization` header, marked so that nobody logs it.
    ///
    /// # Errors
    /// Never for a key that [`ApiKey::new`] made.
    pub(super) fn bearer(&self) -> Result<HeaderValue, KeyError> {
        let mut value =
            HeaderValue::try_from(format!("Bearer {}", self.0)).map_err(|_| KeyError::Malformed)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// `text` without the key.
    pub(super) fn scrub(&self, text: &str) -> String {
        text.replace(&self.0, "…")
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// Where the key comes from.
#[derive(Debug)]
pub enum KeySource {
    Given(ApiKey),
    File(KeyFile),
}

/// A file with the key, and what was last read from it.
#[derive(Debug)]
pub struct KeyFile {
    path: PathBuf,
    last: Mutex<Option<ApiKey>>,
}

impl KeySource {
    /// The key in this file, as it is whenever it is needed.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(KeyFile { path: path.into(), last: Mutex::default() })
    }

    /// The key of now. While a file cannot be read, the last one that could: a mounted Secret is exchanged in steps.
    ///
    /// # Errors
    /// There never was one.
    pub(super) async fn current(&self) -> Result<ApiKey, KeyError> {
        let file = match self {
            Self::Given(key) => return Ok(key.clone()),
            Self::File(file) => file,
        };
        let found = file.read().await;
        let mut last = file.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (found, &*last) {
            (Ok(key), before) => {
                if before.as_ref().is_some_and(|before| *before != key) {
                    tracing::info!(path = %file.path.display(), "RunPod's API key has changed");
                }
                *last = Some(key.clone());
                Ok(key)
            }
            (Err(error), Some(before)) => {
                tracing::warn!(%error, "RunPod's API key cannot be read; the last one is used");
                Ok(before.clone())
            }
            (Err(error), None) => Err(error),
        }
    }
}

impl KeyFile {
    async fn read(&self) -> Result<ApiKey, KeyError> {
        let unreadable = |error: std::io::Error| KeyError::Unreadable {
            path: self.path.display().to_string(),
            error: error.to_string(),
        };
        let file = tokio::fs::File::open(&self.path).await.map_err(unreadable)?;
        let mut text = String::new();
        file.take(LONGEST as u64 + 2).read_to_string(&mut text).await.map_err(unreadable)?;
        ApiKey::new(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "rpa_ABCDEF0123456789";

    #[test]
    fn nothing_prints_the_key() {
        let key = ApiKey::new(&format!(" {SECRET}\n")).unwrap();
        let header = key.bearer().unwrap();
        for text in
            [format!("{key:?}"), format!("{:#?}", KeySource::Given(key.clone())), format!("{header:?}")]
        {
            assert!(!text.contains("rpa_") && !text.contains("0123"), "{text}");
        }
        assert_eq!(key.scrub(&format!("bad token {SECRET}.")), "bad token ….");
        for wrong in ["", " \n", "two words", "line\nbreak", &"x".repeat(LONGEST + 1)] {
            assert_eq!(ApiKey::new(wrong), Err(KeyError::Malformed));
        }
    }

    #[tokio::test]
    async fn a_file_is_read_anew_and_a_broken_one_keeps_the_last_key() {
        let path = std::env::temp_dir().join(format!("orca-key-{}", uuid::Uuid::new_v4()));
        let source = KeySource::file(&path);
        let missing = source.current().await.unwrap_err();
        assert!(missing.to_string().contains(&path.display().to_string()), "{missing}");
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        assert_eq!(source.current().await, ApiKey::new(SECRET));
        std::fs::write(&path, "rpa_second").unwrap();
        assert_eq!(source.current().await, ApiKey::new("rpa_second"));
        assert!(!format!("{source:?}").contains("second"));
        for broken in [&b""[..], b"two words", b"\xff\xfe"] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(source.current().await, ApiKey::new("rpa_second"));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(source.current().await, ApiKey::new("rpa_second"));
    }
}
