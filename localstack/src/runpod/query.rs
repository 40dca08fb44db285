//! Parameters in a request's query string, strict: each is known, given once, and has a form.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::problem::Problem;
use crate::aws::encoding::{Plus, decode};

/// The parameters of a request that its path knows.
#[derive(Clone, Debug, Default)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Refuses parameters that are not among `known`, or that come twice.
    pub fn parse(text: &str, known: &[&str]) -> Result<Self, Problem> {
        let mut found = BTreeMap::new();
        let mut errors = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decoded(name), decoded(value)) else {
                return Err(Problem::rule(format!("malformed query parameter '{pair}'")));
            };
            if !known.contains(&name.as_str()) {
                errors.push(format!("query: parameter '{name}' not allowed"));
            } else if found.insert(name.clone(), value).is_some() {
                errors.push(format!("query.{name}: given more than once"));
            }
        }
        if errors.is_empty() { Ok(Self(found)) } else { Err(Problem::invalid(errors)) }
    }

    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A value of a type that JSON writes as a bare word or a number.
    pub fn one<T: DeserializeOwned>(&self, name: &str, expected: &str) -> Result<Option<T>, Problem> {
        self.text(name).map(|text| parsed(name, text, expected)).transpose()
    }

    /// Values between commas; empty where there is none.
    pub fn list<T: DeserializeOwned>(&self, name: &str, expected: &str) -> Result<Vec<T>, Problem> {
        let values = self.text(name).into_iter().flat_map(|text| text.split(','));
        values.map(|text| parsed(name, text, expected)).collect()
    }
}

fn parsed<T: DeserializeOwned>(name: &str, text: &str, expected: &str) -> Result<T, Problem> {
    let number_or_flag = serde_json::from_str::<T>(text).ok();
    number_or_flag
        .or_else(|| serde_json::from_value(Value::String(text.to_owned())).ok())
        .ok_or_else(|| invalid(name, text, expected))
}

/// A parameter's value is not of its form.
#[must_use]
pub fn invalid(name: &str, value: &str, expected: &str) -> Problem {
    Problem::invalid(vec![format!("query.{name}: got '{value}', want {expected}")])
}

fn decoded(text: &str) -> Option<String> {
    String::from_utf8(decode(text, Plus::Space)?).ok()
}

/// The segments of a path, each decoded by itself: an encoded slash is no separator.
#[must_use]
pub fn segments(path: &str) -> Option<Vec<String>> {
    path.trim_start_matches('/')
        .split('/')
        .map(|segment| String::from_utf8(decode(segment, Plus::Literal)?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_does_not_know_is_refused_by_name() {
        let errors = |text: &str| Query::parse(text, &["tail", "source"]).unwrap_err();
        assert_eq!(errors("tail=1&bogus=2").errors, ["query: parameter 'bogus' not allowed"]);
        assert_eq!(errors("tail=1&tail=2").errors, ["query.tail: given more than once"]);
        assert_eq!(errors("tail=%zz").status, 400);
        let query = Query::parse("tail=x&source=a,b", &["tail", "source"]).unwrap();
        let wrong = query.one::<u32>("tail", "an integer").unwrap_err();
        assert_eq!(wrong.errors, ["query.tail: got 'x', want an integer"]);
        assert_eq!(query.list::<String>("source", "a name").unwrap(), ["a", "b"]);
        assert_eq!(query.one::<bool>("none", "").unwrap(), None);
    }

    #[test]
    fn an_encoded_slash_is_part_of_its_segment() {
        let path = "/v2/catalog/gpus/NVIDIA%20Max-Q%2FWorkstation+x";
        assert_eq!(segments(path).unwrap()[3], "NVIDIA Max-Q/Workstation+x");
        assert_eq!(segments("/v2/%"), None);
    }
}
