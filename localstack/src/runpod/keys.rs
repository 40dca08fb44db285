//! API keys, and what each may do.

use std::collections::BTreeMap;

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use super::problem::Problem;

/// The key that every local cloud accepts.
pub const KEY: &str = "rpa_test";

/// One that may only read.
pub const READ_ONLY: &str = "rpa_readonly";

/// What a key may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    All,
    ReadOnly,
    /// What a container finds in `RUNPOD_API_KEY`: its own pod, which it may also stop and end.
    Pod(String),
}

/// What a caller wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

/// All keys; one that is revoked stays, so that it can be told.
#[derive(Clone, Debug)]
pub struct Keys(BTreeMap<String, Key>);

/// A key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub scope: Scope,
    #[serde(default)]
    pub revoked: bool,
}

impl Default for Keys {
    fn default() -> Self {
        let key = |key: &str, scope| (key.to_owned(), Key { scope, revoked: false });
        Self(BTreeMap::from([key(KEY, Scope::All), key(READ_ONLY, Scope::ReadOnly)]))
    }
}

impl Keys {
    pub fn put(&mut self, key: &str, value: Key) {
        self.0.insert(key.to_owned(), value);
    }

    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    #[must_use]
    pub fn all(&self) -> &BTreeMap<String, Key> {
        &self.0
    }

    /// The key of a request, and what it may do.
    pub fn find(&self, headers: &HeaderMap) -> Result<(String, Scope), Problem> {
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(token) = value.and_then(bearer) else {
            return Err(Problem::new(401, "missing bearer token"));
        };
        match self.0.get(token).filter(|key| !key.revoked) {
            Some(key) => Ok((token.to_owned(), key.scope.clone())),
            None => Err(Problem::new(401, "invalid bearer token")),
        }
    }
}

impl Scope {
    /// Whether it may do this, with a pod where one is named.
    pub fn allows(&self, access: Access, pod: Option<&str>) -> Result<(), Problem> {
        let allowed = match self {
            Self::All => true,
            Self::ReadOnly => access == Access::Read,
            Self::Pod(own) => pod == Some(own),
        };
        if allowed { Ok(()) } else { Err(Problem::forbidden()) }
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(keys: &Keys, value: &'static str) -> Result<Scope, String> {
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, http::HeaderValue::from_static(value))]);
        keys.find(&headers).map(|(_, scope)| scope).map_err(|problem| problem.to_string())
    }

    #[test]
    fn keys_that_are_missing_unknown_or_revoked_are_refused() {
        let mut keys = Keys::default();
        assert_eq!(keys.find(&HeaderMap::new()).unwrap_err().detail, "missing bearer token");
        for wrong in ["rpa_test", "Basic rpa_test", "Bearer ", "Bearer"] {
            assert_eq!(find(&keys, wrong), Err("401: missing bearer token".to_owned()), "{wrong}");
        }
        assert_eq!(find(&keys, "Bearer rpa_other"), Err("401: invalid bearer token".to_owned()));
        assert_eq!(find(&keys, "bearer rpa_test"), Ok(Scope::All));
        keys.put(KEY, Key { scope: Scope::All, revoked: true });
        assert_eq!(find(&keys, "Bearer rpa_test"), Err("401: invalid bearer token".to_owned()));
    }

    #[test]
    fn a_key_does_what_its_scope_allows() {
        let denied = |scope: &Scope, access, pod| scope.allows(access, pod).is_err();
        assert!(denied(&Scope::ReadOnly, Access::Write, Some("a")));
        assert!(!denied(&Scope::ReadOnly, Access::Read, Some("a")));
        let own = Scope::Pod("a".to_owned());
        assert!(denied(&own, Access::Read, None) && denied(&own, Access::Write, Some("b")));
        assert!(!denied(&own, Access::Write, Some("a")));
    }
}
