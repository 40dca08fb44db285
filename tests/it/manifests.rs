//! Every manifest and example is applied as it stands, so each must parse into the type it names.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding};
use orca::config::{Config, Facts};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Beside the manifests, and not for the API server.
const NOT_OBJECTS: [&str; 2] = ["kustomization.yaml", "config.yaml"];

fn text(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn documents(folder: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_object = !NOT_OBJECTS.iter().any(|name| path.ends_with(name));
        if is_object && path.extension().is_some_and(|extension| extension == "yaml") {
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
    for (path, value) in [
        documents("manifests"),
        documents("manifests/monitoring"),
        documents("examples"),
        documents("examples/capacity"),
    ]
    .concat()
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
            Some("PodDisruptionBudget") => parse::<PodDisruptionBudget>(&path, &value),
            Some("Service") => parse::<Service>(&path, &value),
            Some("Pod") => parse::<Pod>(&path, &value),
            // Of the Prometheus Operator; `monitoring` looks into the rules.
            Some("ServiceMonitor" | "PrometheusRule") => {
                assert_eq!(value["apiVersion"], "monitoring.coreos.com/v1", "{path}");
            }
            Some("Job") => parse::<Job>(&path, &value),
            // A configuration of ORCA, which `annotations` reads.
            None if value.get("aws").is_some() => {}
            other => panic!("{path}: kind {other:?} is not expected here"),
        }
    }
}

#[test]
fn kustomization_names_every_manifest_and_the_configuration_beside_them_is_accepted() {
    let kustomization: Value = serde_yaml::from_str(&text("manifests/kustomization.yaml")).unwrap();
    let mut named: Vec<_> = kustomization["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap().to_owned())
        .collect();
    let mut there: Vec<_> = documents("manifests")
        .into_iter()
        .map(|(path, _)| path.rsplit('/').next().unwrap().to_owned())
        .collect();
    named.sort();
    there.sort();
    there.dedup();
    assert_eq!(named, there);
    let facts = Facts { pod_ip: Some([10, 0, 0, 7].into()), ..Facts::default() };
    let (config, warnings) = Config::resolve(&text("manifests/config.yaml"), &facts).unwrap();
    assert_eq!(warnings, []);
    // The names and ports that the manifests speak of.
    assert_eq!(config.node.name, "orca");
    assert_eq!((config.kubelet.listen.port(), config.metrics.listen.unwrap().port()), (10250, 9464));
}

#[test]
fn the_deployment_runs_without_privileges_twice_and_never_on_its_own_node() {
    let deployment = documents("manifests").into_iter().find(|(_, it)| it["kind"] == "Deployment").unwrap().1;
    let deployment: Deployment = serde_json::from_value(deployment).unwrap();
    let spec = deployment.spec.unwrap();
    assert_eq!(spec.replicas, Some(2));
    let pod = spec.template.spec.unwrap();
    let facts = Facts { pod_ip: Some([10, 0, 0, 7].into()), ..Facts::default() };
    let (config, _) = Config::resolve(&text("manifests/config.yaml"), &facts).unwrap();
    let grace = u64::try_from(pod.termination_grace_period_seconds.unwrap()).unwrap();
    assert!(config.leader_election.is_some() && grace > config.shutdown.deadline.as_secs() + 5);
    assert!(pod.security_context.clone().unwrap().run_as_non_root.unwrap());
    assert_eq!((pod.host_network, pod.host_pid), (None, None));
    let [container] = pod.containers.as_slice() else { panic!("one container was expected") };
    let security = container.security_context.clone().unwrap();
    assert_eq!(security.allow_privilege_escalation, Some(false));
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(security.capabilities.unwrap().drop.unwrap(), ["ALL"]);
    let named: Vec<_> = container.env.iter().flatten().map(|one| one.name.as_str()).collect();
    assert!(["POD_IP", "POD_NAME", "POD_NAMESPACE"].iter().all(|name| named.contains(name)), "{named:?}");
    assert!(
        container.startup_probe.is_some()
            && container.liveness_probe.is_some()
            && container.readiness_probe.is_some()
    );
    let affinity = serde_json::to_string(&pod.affinity).unwrap();
    assert!(
        affinity.contains(r#"{"key":"type","operator":"NotIn","values":["virtual-kubelet"]}"#),
        "{affinity}"
    );
}

#[test]
fn the_image_is_built_with_the_compilers_that_the_repository_names_and_has_the_plugins_where_orca_looks() {
    let containerfile = text("manifests/Containerfile");
    let version = |file: &str, key: &str| {
        let text = text(file);
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim_matches([' ', '=', '"']).to_owned()
    };
    assert!(containerfile.contains(&format!("rust:{}-", version("Cargo.toml", "rust-version"))));
    assert!(containerfile.contains(&format!("golang:{}-", version("tests/cluster/cni/go.mod", "go "))));
    let facts = Facts { pod_ip: Some([10, 0, 0, 7].into()), ..Facts::default() };
    let (config, _) = Config::resolve(&text("manifests/config.yaml"), &facts).unwrap();
    let plugins = config.guest.cni_plugins_dir.display().to_string();
    assert!(containerfile.contains(&format!("COPY --from=cni /out {plugins}\n")), "{plugins}");
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
