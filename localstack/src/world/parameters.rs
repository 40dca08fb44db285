//! SSM parameters.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

/// All parameters by name.
#[derive(Debug, Default)]
pub struct Parameters(Mutex<BTreeMap<String, Parameter>>);

/// A parameter of type `String`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    pub value: String,
    /// From 1, one more with every change.
    pub version: u64,
    pub modified: Timestamp,
}

impl Parameters {
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Parameter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Adds or replaces a parameter.
    pub fn put(&self, name: &str, value: &str, modified: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let version = all.get(name).map_or(1, |parameter| parameter.version + 1);
        let (name, value) = (name.to_owned(), value.to_owned());
        all.insert(name.clone(), Parameter { name, value, version, modified });
    }
}
