//! Every manifest and example is applied as it stands, so each must parse into the type it names.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn documents(folder: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let text = std::fs::read_to_string(&path).unwrap();
            for document in serde_yaml::Deserializer::from_str(&text) {
                let value = Value::deserialize(document).unwrap();
                if !value.is_null() {
                    found.push((path.display().to_string(), value));
                }
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn parse<T: DeserializeOwned + serde::Serialize>(path: &str, value: &Value) {
    let parsed: T = serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{path}: {error}"));
    // What the type does not know would be dropped on the way.
    assert_subset(path, value, &serde_json::to_value(parsed).unwrap());
}

fn assert_subset(path: &str, part: &Value, whole: &Value) {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            for (key, value) in part {
                let found = whole.get(key).unwrap_or_else(|| panic!("{path}: unknown field `{key}`"));
                assert_subset(path, value, found);
            }
        }
        (Value::Array(part), Value::Array(whole)) => {
            part.iter().zip(whole).for_each(|(part, whole)| assert_subset(path, part, whole));
        }
        // A quantity may be written as a number.
        (Value::Number(part), Value::String(whole)) => assert_eq!(&part.to_string(), whole, "{path}"),
        _ => assert_eq!(part, whole, "{path}"),
    }
}

#[test]
fn manifests_and_examples_parse_into_the_types_they_name() {
    for (path, value) in
        [documents("manifests"), documents("examples"), documents("examples/capacity")].concat()
    {
        match value["kind"].as_str() {
            Some("Namespace") => parse::<Namespace>(&path, &value),
            Some("ServiceAccount") => parse::<ServiceAccount>(&path, &value),
            Some("ClusterRole") => parse::<ClusterRole>(&path, &value),
            Some("ClusterRoleBinding") => parse::<ClusterRoleBinding>(&path, &value),
            Some("Role") => parse::<Role>(&path, &value),
            Some("RoleBinding") => parse::<RoleBinding>(&path, &value),
            Some("ConfigMap") => parse::<ConfigMap>(&path, &value),
            Some("Deployment") => parse::<Deployment>(&path, &value),
            Some("Pod") => parse::<Pod>(&path, &value),
            Some("Job") => parse::<Job>(&path, &value),
            // A configuration of ORCA, which `annotations` reads.
            None if value.get("aws").is_some() => {}
            other => panic!("{path}: kind {other:?} is not expected here"),
        }
    }
}

#[test]
fn permissions_have_no_wildcard_no_cluster_wide_secrets_and_only_our_identity() {
    let mut impersonated = Vec::new();
    for (path, value) in documents("manifests") {
        let Ok(rules) = serde_json::from_value::<Vec<PolicyRule>>(value["rules"].clone()) else { continue };
        for rule in rules {
            let all = [rule.api_groups.clone(), rule.resources.clone(), Some(rule.verbs.clone())];
            assert!(
                !all.into_iter().flatten().flatten().any(|word| word.contains('*')),
                "{path}: a wildcard in {rule:?}"
            );
            let on = |resource: &str| rule.resources.iter().flatten().any(|it| it == resource);
            assert!(!(value["kind"] == "ClusterRole" && on("secrets")), "{path}: cluster-wide Secrets");
            if rule.verbs.iter().any(|verb| verb == "impersonate") {
                impersonated.extend(rule.resource_names.expect("impersonation needs names"));
            }
        }
    }
    assert_eq!(impersonated, ["system:node:orca", "system:nodes"]);
}
