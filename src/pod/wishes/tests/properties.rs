//! Whatever is written: an answer, and the same one every time.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::support::mk_rules;
use crate::config::Instances;
use crate::pod::ask::ask;
use crate::pod::layers::Layer;
use crate::pod::wishes::flatten;
use crate::pod::wishes::keys::KEYS;
use crate::pod::wishes::{Preference, Wishes};

/// Keys as people write them, with values that are right, nearly right or anything.
fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop_oneof![
        8 => (0..KEYS.len()).prop_map(|at| KEYS[at].name.to_owned()),
        2 => (0..KEYS.len()).prop_map(|at| KEYS[at].aliases.first().unwrap_or(&KEYS[at].name).to_string()),
        1 => "[a-zé./-]{0,20}",
    ];
    let entry = key.prop_flat_map(|key| {
        let good = KEYS.iter().find(|row| row.name == key).map_or("1", |row| row.example);
        let value = prop_oneof![
            4 => Just(good.to_owned()),
            1 => Just(format!("{good},{good}")),
            1 => "(spot|reserved|on-demand|capacity-block|interruptible)(,(spot|reserved|on-demand|capacity-block))?",
            1 => "(required|prefer|none|0s|1h|9d|t|u|true)",
            1 => "\\PC{0,24}",
        ];
        value.prop_map(move |value| (format!("orca.research/{key}"), value))
    });
    proptest::collection::vec(entry, 0..7).prop_map(|entries| entries.into_iter().collect())
}

fn layers() -> impl Strategy<Value = Vec<Layer>> {
    proptest::collection::vec(annotations(), 0..4).prop_map(|all| {
        all.iter()
            .enumerate()
            .map(|(at, one)| Layer::of_annotations(&format!("{at} metadata.annotations"), Some(one)))
            .collect()
    })
}

fn rules() -> impl Strategy<Value = Instances> {
    (annotations(), annotations()).prop_map(|(template, defaults)| {
        let layer = |origin: &str, values| Layer {
            origin: origin.to_owned(),
            ..Layer::of_annotations("metadata.annotations", Some(values))
        };
        Instances {
            defaults: layer("instances.defaults", &defaults),
            templates: [("t".to_owned(), layer("instances.templates.t", &template))].into(),
            ..mk_rules()
        }
    })
}

proptest! {
    #[test]
    fn every_set_of_layers_has_one_answer(layers in layers(), rules in rules()) {
        let answer = Wishes::read(&layers, &rules);
        prop_assert_eq!(&answer, &Wishes::read(&layers, &rules));
        match answer {
            Ok(wishes) => {
                let is_reserved = wishes.reservation.preference == Preference::Required || !wishes.reservation.ids.is_empty();
                let is_spot = wishes.capacity_types.contains(&crate::pod::wishes::CapacityType::Spot);
                prop_assert!(!(is_reserved && is_spot), "{:?}", wishes);
                prop_assert!(wishes.instance_types.is_empty() || wishes.type_patterns.is_empty());
            }
            Err(rejection) => prop_assert!(rejection.problems().iter().all(|problem| !problem.path.is_empty())),
        }
    }

    /// The layers of the pod, its owner and its namespace only ever name their own problems.
    #[test]
    fn a_pod_without_layers_of_its_own_depends_on_the_operator_alone(rules in rules()) {
        let empty = Layer::of_annotations("metadata.annotations", None);
        let alone = Wishes::read(&[], &rules);
        let with_empty = Wishes::read(&[empty.clone(), empty], &rules);
        prop_assert_eq!(alone.is_ok(), with_empty.is_ok());
        prop_assert_eq!(alone.ok(), with_empty.ok());
    }

    /// Flattened again, a template says the same.
    #[test]
    fn a_flat_template_stays_as_it_is(layers in layers()) {
        let chain: Vec<&Layer> = layers.iter().collect();
        let (flat, problems) = flatten(&chain, &mk_rules());
        if problems.is_empty() {
            let (again, problems) = flatten(&[&flat], &mk_rules());
            prop_assert_eq!(problems, vec![]);
            prop_assert_eq!(again, flat);
        }
    }

    #[test]
    fn no_annotation_of_a_pod_makes_it_panic(annotations in annotations(), seconds in any::<Option<i64>>()) {
        let mut pod = k8s_openapi::api::core::v1::Pod::default();
        pod.metadata.annotations = Some(annotations);
        pod.spec = Some(k8s_openapi::api::core::v1::PodSpec { active_deadline_seconds: seconds, ..Default::default() });
        drop(ask(&pod, &[], "nvidia.com/gpu", &mk_rules()));
    }
}
