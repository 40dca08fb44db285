//! All layers → [`Wishes`], or everything that is wrong with them at once.

use std::time::Duration;

use super::collect::{Nearest, Source, collect};
use super::guard::Trust;
use super::keys::{self, Field};
use super::parse::Value;
use super::settle::{is_bound, settle};
use super::{Wishes, fill, volume};
use crate::config::{Instances, SelectionMode};
use crate::pod::ask::{Problem, Rejection};
use crate::pod::layers::{Layer, POD};
use crate::pod::reasons;

/// Reads the layers of the pod, its owner and its namespace, in this order, over the operator's.
pub(super) fn read(
    layers: &[Layer],
    rules: &Instances,
    deadline: Option<Duration>,
) -> Result<Wishes, Rejection> {
    let mut problems = Vec::new();
    let users = layers.iter().enumerate().map(|(at, layer)| Source {
        layer,
        trust: Trust::User,
        rank: 2 * at,
        machine_rank: 2 * at,
        level: 2 * at,
    });
    let mut sources: Vec<Source<'_>> = users.collect();
    let last = 2 * layers.len();
    let named = template(&sources, rules, &mut problems);
    if let Some((template, rank)) = named {
        // A template that the node's defaults name stands before those.
        let machine_rank = rank.map_or(last, |rank| rank + 1);
        let level = rank.unwrap_or(last);
        sources.push(Source { layer: template, trust: Trust::Operator, rank: last, machine_rank, level });
    }
    let defaults = last + 2;
    sources.push(Source {
        layer: &rules.defaults,
        trust: Trust::Operator,
        rank: defaults,
        machine_rank: defaults,
        level: defaults,
    });
    let mut said = collect(&sources, rules, &mut problems);
    settle(&mut said, rules, deadline, &mut problems);
    volume::check(&said, rules, &mut problems);
    mode(&said, layers, rules, &mut problems);
    match Rejection::of(problems) {
        Some(rejection) => Err(rejection),
        None => Ok(fill::fill(&said, rules)),
    }
}

/// The template of the nearest layer that names one, and that layer's rank; `None` for the node's defaults.
fn template<'a>(
    users: &[Source<'_>],
    rules: &'a Instances,
    problems: &mut Vec<Problem>,
) -> Option<(&'a Layer, Option<usize>)> {
    let key = keys::row("template");
    let names = std::iter::once(&key.name).chain(key.aliases);
    let users = users.iter().map(|source| (source.layer, Some(source.rank)));
    let layers = users.chain(std::iter::once((&rules.defaults, None)));
    let mut named = layers.filter_map(|(layer, rank)| {
        let (alias, name) = names.clone().find_map(|alias| Some((alias, layer.values.get(*alias)?)))?;
        Some((layer.path(alias), name, rank))
    });
    let (path, name, rank) = named.next()?;
    if let Some(layer) = rules.templates.get(name) {
        return Some((layer, rank));
    }
    if matches!((key.parse)(name), Ok(Value::Template(_))) && rules.selection_mode != SelectionMode::Explicit
    {
        let known: Vec<&str> = rules.templates.keys().map(String::as_str).collect();
        let expected = if known.is_empty() {
            "but `instances.templates` has none".to_owned()
        } else {
            format!("expected one of `instances.templates`: `{}`", known.join("`, `"))
        };
        let message = format!("is `{name}`, {expected}");
        problems.push(Problem { reason: reasons::UNKNOWN_TEMPLATE, path, message });
    }
    None
}

/// Whether what is said suffices where ORCA may not choose by itself.
fn mode(said: &Nearest, layers: &[Layer], rules: &Instances, problems: &mut Vec<Problem>) {
    let has = |field: Field| said.contains_key(&field);
    let names_reservation = (has(Field::ReservationIds) || has(Field::Block)) && is_bound(said);
    let (is_enough, expected) = match rules.selection_mode {
        SelectionMode::Auto => return,
        SelectionMode::Template => {
            (has(Field::Template), "an instance type, a reservation that is `required`, or a template")
        }
        SelectionMode::Explicit => (false, "an instance type, or a reservation that is `required`"),
    };
    if is_enough || has(Field::Types) || names_reservation {
        return;
    }
    let origin = layers.first().map_or(POD, |layer| &layer.origin);
    problems.push(Problem {
        reason: reasons::SELECTION_NOT_ALLOWED,
        path: Layer { origin: origin.to_owned(), ..Layer::default() }.path("instance-types"),
        message: format!(
            "is missing, expected {expected}, as `instances.selectionMode` is `{}`",
            rules.selection_mode.name()
        ),
    });
}
