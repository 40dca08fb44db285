//! Where wishes are written: annotations of a pod, its owner and its namespace, templates and node defaults.
//!
//! All speak the same keys; a [`Layer`] is one such place with the keys as `wishes` reads them.

use std::collections::BTreeMap;

use super::ask::PREFIX;
use super::intent::WRITTEN;

/// What annotations of a pod are called in messages.
pub const POD: &str = "metadata.annotations";

/// One place and the keys that it sets, without prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// As messages name it: `metadata.annotations`, `Namespace ml metadata.annotations`, `instances.templates.gpu`.
    pub origin: String,
    pub values: BTreeMap<String, String>,
}

impl Layer {
    /// The annotations with our prefix, less those that ORCA writes itself.
    #[must_use]
    pub fn of_annotations(origin: &str, annotations: Option<&BTreeMap<String, String>>) -> Self {
        let ours = annotations.into_iter().flatten().filter(|(key, _)| !WRITTEN.contains(&key.as_str()));
        let values =
            ours.filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), value.clone())));
        Self { origin: origin.to_owned(), values: values.collect() }
    }

    /// Keys without prefix, as the configuration has them.
    #[must_use]
    pub fn of_settings(origin: &str, settings: &[(&str, &str)]) -> Self {
        let values = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self { origin: origin.to_owned(), values: values.collect() }
    }

    /// How messages name one of the keys: `metadata.annotations[orca.research/x]`, `instances.templates.gpu.x`.
    #[must_use]
    pub fn path(&self, key: &str) -> String {
        if self.is_annotations() {
            format!("{}[{PREFIX}{key}]", self.origin)
        } else {
            format!("{}.{key}", self.origin)
        }
    }

    /// Whether these are annotations of an object, which any user may write, and not the operator's configuration.
    #[must_use]
    pub fn is_annotations(&self) -> bool {
        self.origin.ends_with(POD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_annotations_with_our_prefix_count_and_paths_say_where_they_are() {
        let annotations =
            [("orca.research/zones", "a"), ("example.com/zones", "b"), ("orca.researchzones", "c")];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let layer = Layer::of_annotations("Namespace ml metadata.annotations", Some(&annotations));
        assert_eq!(layer.values, [("zones".to_owned(), "a".to_owned())].into());
        assert_eq!(layer.path("zones"), "Namespace ml metadata.annotations[orca.research/zones]");
        let template = Layer::of_settings("instances.templates.gpu", &[("zones", "a")]);
        assert_eq!(template.path("zones"), "instances.templates.gpu.zones");
    }
}
