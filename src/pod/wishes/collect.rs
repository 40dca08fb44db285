//! Layers → what is said about each field by the nearest layer that says anything.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::guard::{self, Trust};
use super::keys::{self, Field, Key};
use super::parse::{Value, Wrong};
use crate::config::Instances;
use crate::pod::ask::{PREFIX, Problem};
use crate::pod::intent::WRITTEN;
use crate::pod::layers::Layer;
use crate::pod::reasons;

/// A layer in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) layer: &'a Layer,
    pub(crate) trust: Trust,
    /// The smaller, the nearer to the pod.
    pub(crate) rank: usize,
    /// The same for what says which machine it is to be: a template stands right behind the layer that names it.
    pub(crate) machine_rank: usize,
    /// The same for what narrows a choice of machine: a template is on the level of the layer that names it.
    pub(crate) level: usize,
}

/// One key as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) name: &'static str,
    pub(crate) path: String,
    pub(crate) text: String,
    /// `None` if it could not be read: then nothing farther away counts either.
    pub(crate) value: Option<Value>,
    pub(crate) rank: usize,
    pub(crate) machine_rank: usize,
    pub(crate) level: usize,
}

impl Said {
    /// The text, as messages have it.
    pub(super) fn shown(&self) -> String {
        shown(&self.text)
    }
}

/// A value as messages have it: annotations may be long, and messages end in a pod's status.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// By field, the nearest.
pub(crate) type Nearest = BTreeMap<Field, Said>;

/// Reads all layers, nearest first. Problems of every layer are noted, also of those that do not count.
pub(crate) fn collect(sources: &[Source<'_>], rules: &Instances, problems: &mut Vec<Problem>) -> Nearest {
    let mut nearest = Nearest::new();
    for source in sources {
        for (field, said) in read(source, rules, problems) {
            match nearest.entry(field) {
                Entry::Vacant(entry) => drop(entry.insert(said)),
                Entry::Occupied(mut entry) => merge(entry.get_mut(), said, field),
            }
        }
    }
    nearest
}

fn merge(known: &mut Said, other: Said, field: Field) {
    let is_nearer =
        if is_of_machine(field) { other.machine_rank < known.machine_rank } else { other.rank < known.rank };
    if is_nearer {
        *known = other;
    } else if let (Some(Value::RootVolume(near)), Some(Value::RootVolume(far))) =
        (&mut known.value, &other.value)
    {
        near.fill_from(far);
        known.text = near.to_text();
    }
}

/// Fields that together say which machine it is to be.
pub(super) fn is_of_machine(field: Field) -> bool {
    matches!(field, Field::Types | Field::GpuModels | Field::GpuMemory)
}

/// Reads one layer: every key once, and what is wrong with it.
pub(crate) fn read(source: &Source<'_>, rules: &Instances, problems: &mut Vec<Problem>) -> Nearest {
    let mut found = Nearest::new();
    for (name, text) in &source.layer.values {
        let path = source.layer.path(name);
        let Some(key) = keys::find(name) else {
            if !(source.layer.is_annotations()
                && WRITTEN.iter().any(|it| it.strip_prefix(PREFIX) == Some(name)))
            {
                problems.push(unknown(source.layer, name, path));
            }
            continue;
        };
        let said = said(source, key, path, text, rules, problems);
        match found.entry(key.field) {
            Entry::Vacant(entry) => drop(entry.insert(said)),
            Entry::Occupied(entry) => {
                let other: &Said = entry.get();
                if said.value.is_some() && other.value.is_some() && said.value != other.value {
                    problems.push(Problem {
                        reason: reasons::CONFLICTING_ANNOTATIONS,
                        message: format!(
                            "is `{}`, and {} is `{}`: expected only one of them",
                            shown(text),
                            other.path,
                            other.shown()
                        ),
                        path: said.path,
                    });
                }
            }
        }
    }
    found
}

fn said(
    source: &Source<'_>,
    key: &'static Key,
    path: String,
    text: &str,
    rules: &Instances,
    problems: &mut Vec<Problem>,
) -> Said {
    let value = match (key.parse)(text) {
        Ok(value) => Some(value),
        Err(wrong) => {
            let message = match wrong {
                Wrong::Shape => format!("is `{}`, expected {}", shown(text), key.expected),
                Wrong::Because(why) => format!("is `{}`, {why}", shown(text)),
            };
            problems.push(Problem { reason: reasons::INVALID_ANNOTATION, path: path.clone(), message });
            None
        }
    };
    if let Some(value) = &value {
        for denied in guard::check(value, key, source.trust, rules) {
            let message = format!("is `{}`, {}", shown(text), denied.message);
            problems.push(Problem { reason: denied.reason, path: path.clone(), message });
        }
    }
    Said {
        name: key.name,
        path,
        text: text.to_owned(),
        value,
        rank: source.rank,
        machine_rank: source.machine_rank,
        level: source.level,
    }
}

fn unknown(layer: &Layer, name: &str, path: String) -> Problem {
    if let Some(sentence) = keys::refused(name) {
        return Problem { reason: reasons::INVALID_ANNOTATION, path, message: sentence.to_owned() };
    }
    let what = if layer.is_annotations() { "is not an annotation of ORCA" } else { "is not a key" };
    let message = match keys::nearest(name) {
        Some(near) if layer.is_annotations() => format!("{what}, did you mean `{PREFIX}{near}`?"),
        Some(near) => format!("{what}, did you mean `{near}`?"),
        None => what.to_owned(),
    };
    Problem { reason: reasons::UNKNOWN_ANNOTATION, path, message }
}
