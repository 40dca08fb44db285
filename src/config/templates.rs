//! `instances.defaults` and `instances.templates`: layers of wishes that the operator writes, checked at start.

use std::collections::BTreeMap;

use super::raw::{Reader, Settings};
use super::{Instances, instances, values};
use crate::pod::layers::Layer;
use crate::pod::wishes;

const TEMPLATES: &str = "instances.templates";
const DEFAULT_TYPE: &str = "instances.defaultInstanceType";

/// A template as typed.
struct Template {
    layer: Layer,
    extends: Option<String>,
}

/// Reads both into `instances`, which has everything that they are checked against.
pub(super) fn read(read: &mut Reader, instances: &mut Instances) {
    let typed: BTreeMap<String, Template> = read
        .settings_by_name(TEMPLATES)
        .into_iter()
        .map(|(name, settings)| (name.clone(), template(read, &name, settings)))
        .collect();
    for name in typed.keys() {
        if let Some(chain) = chain(read, &typed, name) {
            let layer = checked(read, &chain, instances);
            instances.templates.insert(name.clone(), layer);
        }
    }
    let settings = read.settings(instances::DEFAULTS);
    let defaults = Layer {
        origin: instances::DEFAULTS.to_owned(),
        values: current(read, instances::DEFAULTS, settings),
    };
    instances.defaults = checked(read, &[&defaults], instances);
    if let Some(name) = defaults.values.get("template").filter(|name| !typed.contains_key(*name)) {
        let path = defaults.path("template");
        read.problem(&path, format!("{path} is `{name}`, expected one of the names in {TEMPLATES}"));
    }
    default_type(read, instances);
}

/// `instances.defaultInstanceType` into the defaults.
fn default_type(read: &mut Reader, instances: &mut Instances) {
    let Some(name) = read.text(DEFAULT_TYPE, values::text_if(values::is_instance_type)) else { return };
    let named = ["instance-type", "instance-types"];
    if let Some(other) = named.into_iter().find(|key| instances.defaults.values.contains_key(*key)) {
        let other = instances.defaults.path(other);
        read.problem(
            DEFAULT_TYPE,
            format!("{DEFAULT_TYPE} is set beside {other}, expected only one of them"),
        );
        return;
    }
    if let Some(allowed) = instances.allowed_instance_types.as_ref().filter(|_| !instances.allows(&name)) {
        let allowed = allowed.join(", ");
        let text = format!(
            "{DEFAULT_TYPE} is `{name}`, expected one that instances.allowedInstanceTypes ({allowed}) allows"
        );
        read.problem(DEFAULT_TYPE, text);
    }
    instances.defaults.values.insert("instance-type".to_owned(), name);
}

fn template(read: &mut Reader, name: &str, settings: Settings) -> Template {
    let origin = format!("{TEMPLATES}.{name}");
    if !values::is_template_name(name) {
        let text = format!("{origin} is not a name, expected letters, digits, `-`, `_` and `.`, 63 at most");
        read.problem(&origin, text);
    }
    let mut values = current(read, &origin, settings);
    let extends = values.remove("extends");
    for key in ["template", "workload-template"] {
        if values.remove(key).is_some() {
            let path = format!("{origin}.{key}");
            read.problem(&path, format!("{path} is for pods, expected {origin}.extends"));
        }
    }
    Template { layer: Layer { origin, values }, extends }
}

/// The settings with today's spelling: ORCA once wrote `instanceType` for `instance-type`.
fn current(read: &mut Reader, origin: &str, settings: Settings) -> Settings {
    let mut current = Settings::new();
    for (name, text) in settings {
        let path = format!("{origin}.{name}");
        let name = match wishes::older_spelling(&name) {
            Some(key) => {
                read.warning(&path, format!("{path} is an older spelling, use {origin}.{key}"));
                key.to_owned()
            }
            None => name,
        };
        if current.insert(name.clone(), text).is_some() {
            let text = format!("{path} is an older spelling of {origin}.{name}, expected only one of them");
            read.problem(&path, text);
        }
    }
    current
}

/// The template and those that it extends, nearest first; `None` if the chain has no end.
fn chain<'a>(read: &mut Reader, typed: &'a BTreeMap<String, Template>, name: &str) -> Option<Vec<&'a Layer>> {
    let mut names = vec![name];
    let mut template = typed.get(name)?;
    let mut chain = vec![&template.layer];
    while let Some(parent) = &template.extends {
        let path = template.layer.path("extends");
        if names.contains(&parent.as_str()) {
            // Told once for each template that is part of the loop, not for those that lead to it.
            if parent == name {
                let way = names.join("` → `");
                read.problem(
                    &path,
                    format!("{path} is `{parent}`, which closes a loop: `{way}` → `{parent}`"),
                );
            }
            return None;
        }
        let Some(next) = typed.get(parent) else {
            // Told where it stands, not for those that lead to it.
            if names.len() == 1 {
                let text = format!("{path} is `{parent}`, expected one of the names in {TEMPLATES}");
                read.problem(&path, text);
            }
            return None;
        };
        names.push(parent);
        chain.push(&next.layer);
        template = next;
    }
    Some(chain)
}

/// The chain as one layer, its problems noted. What several templates inherit is told once.
fn checked(read: &mut Reader, chain: &[&Layer], instances: &Instances) -> Layer {
    let (layer, problems) = wishes::flatten(chain, instances);
    for problem in problems {
        read.problem_once(&problem.path, format!("{} {}", problem.path, problem.message));
    }
    layer
}

#[cfg(test)]
mod tests;
