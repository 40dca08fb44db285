//! Mappings whose keys are not in the table of keys: settings by name, and groups of them by name.

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::{Reader, quoted, shown};

/// Settings as typed, all as text; lists are joined with commas.
pub(in crate::config) type Settings = BTreeMap<String, String>;

impl Reader {
    /// A mapping of names to scalars or lists of scalars.
    pub(in crate::config) fn settings(&mut self, path: &str) -> Settings {
        match self.wanted(path) {
            Some(Value::Mapping(entries)) => self.entries(path, &entries),
            Some(other) => {
                self.unexpected(path, &other);
                Settings::new()
            }
            None => Settings::new(),
        }
    }

    /// A mapping of names to such mappings.
    pub(in crate::config) fn settings_by_name(&mut self, path: &str) -> BTreeMap<String, Settings> {
        let groups = match self.wanted(path) {
            Some(Value::Mapping(groups)) => groups,
            Some(other) => {
                self.unexpected(path, &other);
                return BTreeMap::new();
            }
            None => return BTreeMap::new(),
        };
        let mut found = BTreeMap::new();
        for (name, group) in &groups {
            let name = shown(name);
            let path = format!("{path}.{name}");
            let settings = match group {
                Value::Mapping(entries) => self.entries(&path, entries),
                Value::Null => Settings::new(),
                other => {
                    self.problem(&path, format!("{path} is {}, expected a mapping", quoted(other)));
                    continue;
                }
            };
            found.insert(name, settings);
        }
        found
    }

    fn entries(&mut self, path: &str, entries: &serde_yaml::Mapping) -> Settings {
        let mut settings = Settings::new();
        for (name, value) in entries {
            let name = shown(name);
            let path = format!("{path}.{name}");
            match as_text(value) {
                Some(text) => drop(settings.insert(name, text)),
                None => self.problem(
                    &path,
                    format!("{path} is {}, expected a text, a number, or a list of such", quoted(value)),
                ),
            }
        }
        settings
    }
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Some(shown(value)),
        Value::Sequence(items) if !items.is_empty() => {
            let texts: Option<Vec<String>> = items
                .iter()
                .map(|item| if matches!(item, Value::Sequence(_)) { None } else { as_text(item) })
                .collect();
            Some(texts?.join(","))
        }
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}
