//! The examples of `docs/annotations.md`, `docs/capacity.md` and of `examples/capacity` are read as ORCA would read them.

use std::path::Path;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use orca::config::{Config, Facts, Instances};
use orca::pod::ask::{Ask, Rejection, ask};
use orca::pod::intent::WRITTEN;
use orca::pod::layers::Layer;
use serde::Deserialize;
use serde_json::{Value, json};

const AWS: &str = "
aws:
  region: us-east-1
  vpcID: vpc-0a1b2c3d
  subnetIDs: [subnet-0a1b2c3d]
  securityGroupIDs: [sg-0a1b2c3d]
";

fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn resolve(file: &str) -> Instances {
    let facts = Facts { outward_ip: Some([10, 0, 0, 1].into()), ..Facts::default() };
    let (config, warnings) =
        Config::resolve(file, &facts).unwrap_or_else(|problems| panic!("{problems}\n{file}"));
    assert_eq!(warnings, [], "{file}");
    config.instances
}

/// Asks for every pod and Job of some YAML, with the annotations of the Namespace before them.
fn ask_all(yaml: &str, rules: &Instances) -> Vec<(String, Result<Ask, Rejection>)> {
    let mut rules = rules.clone();
    let mut namespace = Vec::new();
    let mut asked = Vec::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = Value::deserialize(document).unwrap();
        let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let annotations = |origin: &str, value: Option<&_>| {
            Layer::of_annotations(&format!("{origin} metadata.annotations"), value)
        };
        match value["kind"].as_str() {
            Some("Namespace") => {
                let object: Namespace = serde_json::from_value(value).unwrap();
                namespace =
                    vec![annotations(&format!("Namespace {name}"), object.metadata.annotations.as_ref())];
            }
            Some("Pod") => {
                let pod: Pod = serde_json::from_value(value).unwrap();
                asked.push((name, ask(&pod, &namespace, "nvidia.com/gpu", &rules)));
            }
            Some("Job") => {
                let object: Job = serde_json::from_value(value).unwrap();
                let template = object.spec.unwrap().template;
                let pod: Pod = serde_json::from_value(json!({
                    "metadata": template.metadata.unwrap_or_default(), "spec": template.spec
                }))
                .unwrap();
                let owner = annotations(&format!("Job {name}"), object.metadata.annotations.as_ref());
                let others = [vec![owner], namespace.clone()].concat();
                asked.push((name, ask(&pod, &others, "nvidia.com/gpu", &rules)));
            }
            None if value.get("instances").is_some() => {
                rules = resolve(&format!("{AWS}{}", serde_yaml::to_string(&value).unwrap()));
            }
            other => panic!("{other:?} in {yaml}"),
        }
    }
    asked
}

#[test]
fn every_example_of_the_pages_gives_what_it_says() {
    let pages = text("docs/annotations.md") + &text("docs/capacity.md");
    let mut asked = Vec::new();
    for block in pages.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let refused = block.strip_prefix("# refused: ").map(|rest| rest.lines().next().unwrap());
        for (name, answer) in ask_all(block, &resolve(AWS)) {
            match (&answer, refused) {
                (Ok(_), None) => {}
                (Err(rejection), Some(reason)) => assert_eq!(rejection.reason(), reason, "{block}"),
                _ => panic!("{answer:?}\n{block}"),
            }
            asked.push((name, answer));
        }
    }
    let wishes = |name: &str| {
        let (_, answer) = asked.iter().find(|(known, _)| known == name).unwrap();
        answer.as_ref().unwrap().wishes.clone()
    };
    let volume = wishes("rule-part-by-part").root_volume.unwrap();
    assert_eq!(
        (volume.size_gib, volume.iops, volume.kms_key_id.as_deref()),
        (200, Some(6000), Some("alias/ml"))
    );
    assert_eq!(
        (wishes("rule-types").instance_types, wishes("rule-types").gpu_models),
        (vec!["g6.xlarge".to_owned()], vec![])
    );
    assert!(wishes("rule-models").instance_types.is_empty());
    assert_eq!(wishes("rule-narrow").instance_types.len(), 2);
    assert_eq!(wishes("rule-fence").type_patterns, ["g6*"]);
    assert_eq!(wishes("rule-template").instance_types, ["p5.48xlarge"]);
    assert_eq!(wishes("rule-template").max_price.unwrap().to_string(), "60.00");
    assert!(wishes("rule-reservation").instance_types.is_empty());
    assert!(wishes("rule-gives-way").reservation.ids.is_empty());
}

#[test]
fn the_page_has_every_annotation_that_orca_writes() {
    let page = text("docs/annotations.md");
    for annotation in WRITTEN {
        assert!(page.contains(&format!("| `{annotation}` |")), "{annotation}");
    }
}

#[test]
fn every_example_of_capacity_is_accepted_by_its_configuration() {
    let rules = resolve(&text("examples/capacity/configuration.yaml"));
    let mut names = Vec::new();
    for file in ["template", "reservation", "spot"] {
        for (name, answer) in ask_all(&text(&format!("examples/capacity/{file}.yaml")), &rules) {
            let ask = answer.unwrap_or_else(|rejection| panic!("{name}: {rejection}"));
            assert!(ask.gpus > 0 && ask.wishes.capacity_wait.is_some());
            names.push(name);
        }
    }
    assert_eq!(names, ["by-template", "in-reservation", "reservation-preferred", "spot"]);
}
