//! The file as it is typed: a reader over the YAML document that never stops at the first problem.
//!
//! Each getter names one key of the table in `keys`, applies its default, and notes a problem when the value is
//! missing or not what the table expects. It knows nothing of what values mean together.
//! This is the only file that knows the YAML library.

mod settings;

pub(super) use settings::Settings;

use std::collections::BTreeMap;

use serde_yaml::Value;

use super::keys::{self, Key, Need};
use super::spelling::edits;
use super::{Problem, Problems, Warning};
use crate::capacity::money::MicroUsd;

/// A document, and what was found to be wrong with it so far.
#[derive(Debug)]
pub(super) struct Reader {
    root: Value,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

/// One value as typed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Typed<'a> {
    Text(&'a str),
    /// An integer or a fraction, as text.
    Number(&'a str),
    Flag(bool),
}

impl Reader {
    /// Parses the text, and notes every key that does not exist.
    pub(super) fn new(text: &str) -> Result<Self, Problems> {
        let root: Value = serde_yaml::from_str(text).map_err(|error| {
            Problems(vec![Problem { path: String::new(), text: format!("the file is not YAML: {error}") }])
        })?;
        let mut reader = Self { root: Value::Null, problems: Vec::new(), warnings: Vec::new() };
        reader.check_shape(&root, "", "");
        reader.root = root;
        Ok(reader)
    }

    /// What was found; no problems means that every getter gave what its key promises.
    pub(super) fn finish(self) -> (Vec<Problem>, Vec<Warning>) {
        (self.problems, self.warnings)
    }

    /// Notes something that is wrong with the value at `path`.
    pub(super) fn problem(&mut self, path: &str, text: impl Into<String>) {
        self.problems.push(Problem { path: path.to_owned(), text: text.into() });
    }

    /// The same, unless it was noted before.
    pub(super) fn problem_once(&mut self, path: &str, text: String) {
        let problem = Problem { path: path.to_owned(), text };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Notes something that is accepted, and should be changed.
    pub(super) fn warning(&mut self, path: &str, text: impl Into<String>) {
        self.warnings.push(Warning { path: path.to_owned(), text: text.into() });
    }

    /// Whether the key was typed (with a value other than null).
    pub(super) fn is_set(&self, path: &str) -> bool {
        self.at(path).is_some()
    }

    /// Whether the older spelling was typed: warns then, and objects when both were.
    pub(super) fn is_older(&mut self, old: &str) -> bool {
        let Need::OlderSpelling(new) = key_of(old).need else { return false };
        if !self.is_set(old) {
            return false;
        }
        if self.is_set(new) {
            self.problem(old, format!("{old} is an older spelling of {new}, expected only one of them"));
        }
        self.warning(old, format!("{old} is an older spelling, use {new}"));
        true
    }

    /// A value that `parse` accepts.
    pub(super) fn value<T>(&mut self, path: &str, parse: impl Fn(Typed<'_>) -> Option<T>) -> Option<T> {
        let value = self.wanted(path)?;
        let parsed = with_typed(&value, parse);
        if parsed.is_none() {
            self.unexpected(path, &value);
        }
        parsed
    }

    /// A string that `parse` accepts.
    pub(super) fn text<T>(&mut self, path: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.value(path, |typed| match typed {
            Typed::Text(text) => parse(text),
            Typed::Number(_) | Typed::Flag(_) => None,
        })
    }

    /// An amount of money above nothing, typed as a number or in quotes.
    pub(super) fn money(&mut self, path: &str) -> Option<MicroUsd> {
        self.value(path, |typed| match typed {
            Typed::Text(text) | Typed::Number(text) => {
                text.parse().ok().filter(|amount| *amount > MicroUsd::default())
            }
            Typed::Flag(_) => None,
        })
    }

    /// A whole number in a range.
    pub(super) fn integer(&mut self, path: &str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
        self.value(path, |typed| match typed {
            Typed::Number(text) => text.parse().ok().filter(|number| range.contains(number)),
            Typed::Text(_) | Typed::Flag(_) => None,
        })
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, path: &str) -> Option<bool> {
        self.value(path, |typed| match typed {
            Typed::Flag(flag) => Some(flag),
            Typed::Text(_) | Typed::Number(_) => None,
        })
    }

    /// A list of strings, each accepted by `accept`; problems name the element.
    pub(super) fn texts(
        &mut self,
        path: &str,
        length: std::ops::RangeInclusive<usize>,
        accept: impl Fn(&str) -> bool,
    ) -> Option<Vec<String>> {
        let value = self.wanted(path)?;
        let Value::Sequence(items) = &value else {
            self.unexpected(path, &value);
            return None;
        };
        if !length.contains(&items.len()) {
            self.unexpected(path, &value);
            return None;
        }
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match item {
                Value::String(text) if accept(text) && !texts.contains(text) => texts.push(text.clone()),
                Value::String(text) if accept(text) => {
                    self.problem(path, format!("{path}[{index}] is `{text}` a second time"));
                }
                other => {
                    let expected = key_of(path).expected;
                    let text =
                        format!("{path}[{index}] is {}, expected an element of {expected}", quoted(other));
                    self.problem(path, text);
                }
            }
        }
        Some(texts)
    }

    /// A mapping of strings to strings; `accept` says what is wrong with an entry.
    pub(super) fn pairs(
        &mut self,
        path: &str,
        accept: impl Fn(&str, &str) -> Result<(), String>,
    ) -> Option<BTreeMap<String, String>> {
        let value = self.wanted(path)?;
        let Value::Mapping(entries) = &value else {
            self.unexpected(path, &value);
            return None;
        };
        let mut pairs = BTreeMap::new();
        for (name, entry) in entries {
            let name = shown(name);
            match entry {
                Value::String(text) => match accept(&name, text) {
                    Ok(()) => drop(pairs.insert(name, text.clone())),
                    Err(wrong) => self.problem(path, format!("{path}: {wrong}")),
                },
                other => self.problem(
                    path,
                    format!("{path}: `{name}` is {}, expected a string (in quotes)", quoted(other)),
                ),
            }
        }
        Some(pairs)
    }

    /// How many elements a list of mappings has. Their values are read by paths such as `node.taints[0].key`.
    pub(super) fn length(&mut self, path: &str) -> usize {
        match self.wanted(path) {
            Some(Value::Sequence(items)) => {
                if !self.is_set(path) {
                    self.set_default(path, Value::Sequence(items.clone()));
                }
                items.len()
            }
            Some(other) => {
                self.unexpected(path, &other);
                0
            }
            None => 0,
        }
    }

    /// The value at a path or its default; a missing one that is required is a problem.
    fn wanted(&mut self, path: &str) -> Option<Value> {
        if let Some(value) = self.at(path) {
            return Some(value.clone());
        }
        let key = key_of(path);
        match key.need {
            Need::Required | Need::RequiredInSection => {
                self.problem(path, format!("{path} is missing, expected {}", key.expected));
                None
            }
            Need::Optional | Need::OlderSpelling(_) => None,
            Need::Default(yaml) => {
                Some(serde_yaml::from_str(yaml).expect("a test parses every default of the table"))
            }
        }
    }

    fn at(&self, path: &str) -> Option<&Value> {
        let mut value = &self.root;
        for step in path.split('.') {
            let (name, index) = match step.split_once('[') {
                Some((name, index)) => (name, index.trim_end_matches(']').parse::<usize>().ok()),
                None => (step, None),
            };
            value = value.get(name)?;
            if let Some(index) = index {
                value = value.get(index)?;
            }
        }
        Some(value).filter(|value| !value.is_null())
    }

    /// Puts a default list where its elements are read like typed ones. Only for keys of depth two.
    fn set_default(&mut self, path: &str, value: Value) {
        let Some((section, name)) = path.split_once('.') else { return };
        if !self.root.is_mapping() {
            self.root = Value::Mapping(serde_yaml::Mapping::new());
        }
        if let Some(root) = self.root.as_mapping_mut() {
            let entry = root.entry(Value::from(section)).or_insert(Value::Null);
            if !entry.is_mapping() {
                *entry = Value::Mapping(serde_yaml::Mapping::new());
            }
            if let Some(section) = entry.as_mapping_mut() {
                section.insert(Value::from(name), value);
            }
        }
    }

    fn unexpected(&mut self, path: &str, value: &Value) {
        let expected = key_of(path).expected;
        self.problem(path, format!("{path} is {}, expected {expected}", quoted(value)));
    }

    /// Notes sections that are no mappings, and keys that the table does not have. `path` is as typed, `name`
    /// is as in the table.
    fn check_shape(&mut self, value: &Value, path: &str, name: &str) {
        let is_leaf = keys::find(name).is_some() && !keys::is_section(&format!("{name}[]"));
        match value {
            _ if is_leaf => {}
            Value::Null => {}
            Value::Mapping(entries) if keys::find(name).is_none() => {
                for (entry, value) in entries {
                    let entry = shown(entry);
                    let path = join(path, &entry);
                    let name = join(name, &entry);
                    // A path typed as one key is not that path.
                    let is_path = entry.contains(['.', '[']);
                    if !is_path && (keys::find(&name).is_some() || keys::is_section(&name)) {
                        self.check_shape(value, &path, &name);
                    } else {
                        self.unknown(&path, &name);
                    }
                }
            }
            Value::Sequence(items) if keys::find(name).is_some() => {
                for (index, item) in items.iter().enumerate() {
                    self.check_shape(item, &format!("{path}[{index}]"), &format!("{name}[]"));
                }
            }
            // A leaf-like list of the wrong kind is what its getter reports.
            _ if keys::find(name).is_some() => {}
            other if path.is_empty() => {
                self.problem("", format!("the file is {}, expected a mapping", quoted(other)));
            }
            other => self.problem(path, format!("{path} is {}, expected a mapping", quoted(other))),
        }
    }

    fn unknown(&mut self, path: &str, name: &str) {
        let text = match nearest(name) {
            Some(near) => format!("{path} is not a key, did you mean `{near}`?"),
            None => format!("{path} is not a key"),
        };
        self.problem(path, text);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn key_of(path: &str) -> &'static Key {
    let name: String = match (path.find('['), path.find(']')) {
        (Some(open), Some(close)) => format!("{}[]{}", &path[..open], &path[close + 1..]),
        _ => path.to_owned(),
    };
    keys::find(&name).expect("a test reads every path that this program asks for")
}

fn with_typed<T>(value: &Value, parse: impl Fn(Typed<'_>) -> Option<T>) -> Option<T> {
    match value {
        Value::String(text) => parse(Typed::Text(text)),
        Value::Number(number) => parse(Typed::Number(&number.to_string())),
        Value::Bool(flag) => parse(Typed::Flag(*flag)),
        Value::Null | Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => None,
    }
}

/// A scalar as it was typed, or what it is.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Sequence(items) if items.is_empty() => "an empty list".to_owned(),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Tagged(tagged) => format!("a value tagged {}", tagged.tag),
    }
}

fn quoted(value: &Value) -> String {
    match value {
        Value::Sequence(_) | Value::Mapping(_) | Value::Tagged(_) => shown(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => format!("`{}`", shown(value)),
    }
}

/// The key that was probably meant: near in spelling, or of the same name in another section.
fn nearest(name: &str) -> Option<&'static str> {
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let section =
        |path: &str| path.rsplit_once('.').map(|(section, _)| section.to_owned()).unwrap_or_default();
    keys::KEYS
        .iter()
        .filter(|key| !matches!(key.need, Need::OlderSpelling(_)))
        .flat_map(|key| [key.path, key.path.split('.').next().unwrap_or_default()])
        .map(|path| {
            let elsewhere = usize::from(section(path) != section(name));
            (edits(&last(path), &last(name)) * 2 + elsewhere, path)
        })
        // Two typing errors, or one and another section.
        .filter(|(distance, path)| *distance <= 4.min(last(path).len()))
        .min()
        .map(|(_, path)| path)
}
