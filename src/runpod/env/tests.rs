//! The kubelet's rules for environments.

use serde_json::json;

use super::*;

fn mk_pod() -> Pod {
    let pod = json!({
        "metadata": {
            "name": "train", "namespace": "ml", "uid": "u-1",
            "labels": {"app.kubernetes.io/name": "gpt"}, "annotations": {"note": "hi"}
        },
        "spec": {
            "nodeName": "orca", "serviceAccountName": "default",
            "containers": [{
                "name": "main",
                "resources": {"limits": {"cpu": "1500m", "memory": "3Gi"}, "requests": {"memory": "1Gi"}}
            }]
        }
    });
    serde_json::from_value(pod).unwrap()
}

fn mk_objects() -> Objects {
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let secret = [("token".to_owned(), b"s3cret".to_vec()), ("raw".to_owned(), vec![0xff])];
    Objects {
        config_maps: [("settings".to_owned(), text(&[("RATE", "0.1"), ("a=b", "no name")]))].into(),
        secrets: [("keys".to_owned(), secret.into())].into(),
    }
}

fn value(name: &str, value: &str) -> Source {
    Source::One(Variable::Value { name: name.to_owned(), value: value.to_owned() })
}

fn lines(sources: &[Source]) -> Result<Vec<String>, String> {
    let env = resolve(sources, &mk_pod(), &mk_objects());
    env.map(|env| env.iter().map(|(name, value)| format!("{name}={value}")).collect())
        .map_err(|missing| missing.to_string())
}

#[test]
fn later_variables_see_and_replace_earlier_ones() {
    let map =
        Source::ConfigMap { prefix: "CFG_".to_owned(), name: "settings".to_owned(), is_optional: false };
    let sources = [
        map,
        value("RATE", "$(CFG_RATE)$(UNKNOWN)$$(RATE)"),
        value("TWICE", "$(RATE) $(RATE"),
        value("RATE", "$5 $"),
    ];
    assert_eq!(lines(&sources).unwrap(), ["CFG_RATE=0.1", "RATE=$5 $", "TWICE=0.1$(UNKNOWN)$(RATE) $(RATE"]);
}

#[test]
fn what_the_pod_knows_of_itself() {
    let field = |name: &str, path: &str| {
        Source::One(Variable::Field { name: name.to_owned(), field: FieldRef::parse(path).unwrap() })
    };
    let resource = |name: &str, resource: &str, divisor_milli| {
        Source::One(Variable::Resource {
            name: name.to_owned(),
            resource: resource.to_owned(),
            divisor_milli,
        })
    };
    let sources = [
        field("A", "metadata.name"),
        field("B", "metadata.namespace"),
        field("C", "metadata.uid"),
        field("D", "metadata.labels['app.kubernetes.io/name']"),
        field("E", "metadata.annotations['note']"),
        field("F", "spec.nodeName"),
        field("G", "spec.serviceAccountName"),
        field("H", "metadata.labels['none']"),
        resource("I", "limits.cpu", 1_000),
        resource("J", "limits.cpu", 1),
        resource("K", "requests.memory", 1_048_576_000),
        resource("L", "requests.cpu", 1_000),
    ];
    let expected = [
        "A=train",
        "B=ml",
        "C=u-1",
        "D=gpt",
        "E=hi",
        "F=orca",
        "G=default",
        "H=",
        "I=2",
        "J=1500",
        "K=1024",
        "L=2",
    ];
    assert_eq!(lines(&sources).unwrap(), expected);
    for unknown in ["status.podIP", "status.hostIP", "metadata.labels", "spec.restartPolicy"] {
        assert_eq!(FieldRef::parse(unknown), None, "{unknown}");
    }
    let unknown = lines(&[resource("X", "limits.ephemeral-storage", 1)]).unwrap_err();
    assert!(unknown.contains("limits.ephemeral-storage"), "{unknown}");
}

#[test]
fn what_is_missing_is_told_as_a_kubelet_does_unless_it_may_be() {
    let map_key = |map: &str, key: &str, is_optional| {
        Source::One(Variable::ConfigMapKey {
            name: "X".to_owned(),
            map: map.to_owned(),
            key: key.to_owned(),
            is_optional,
        })
    };
    let secret_key = |secret: &str, key: &str, is_optional| {
        Source::One(Variable::SecretKey {
            name: "X".to_owned(),
            secret: secret.to_owned(),
            key: key.to_owned(),
            is_optional,
        })
    };
    let all_of = |name: &str, is_optional| Source::Secret {
        prefix: String::new(),
        name: name.to_owned(),
        is_optional,
    };
    for (source, expected) in [
        (map_key("none", "k", false), "configmap \"none\" not found"),
        (map_key("settings", "k", false), "couldn't find key k in ConfigMap settings"),
        (secret_key("none", "k", false), "secret \"none\" not found"),
        (secret_key("keys", "k", false), "couldn't find key k in Secret keys"),
        (secret_key("keys", "raw", false), "key raw of Secret keys is not UTF-8"),
        (all_of("none", false), "secret \"none\" not found"),
    ] {
        assert_eq!(lines(&[source]).unwrap_err(), expected);
    }
    let optional = [map_key("none", "k", true), secret_key("keys", "k", true), all_of("none", true)];
    assert!(lines(&optional).unwrap().is_empty());
    assert_eq!(lines(&[secret_key("keys", "token", false)]).unwrap(), ["X=s3cret"]);
    assert!(!format!("{:?}", mk_objects()).contains("s3cret"));
}

#[test]
fn it_is_known_what_has_to_be_read() {
    let needs = needs(&[
        value("A", "b"),
        Source::Secret { prefix: String::new(), name: "keys".to_owned(), is_optional: true },
        Source::ConfigMap { prefix: String::new(), name: "settings".to_owned(), is_optional: false },
    ]);
    assert_eq!(needs.config_maps, BTreeSet::from(["settings".to_owned()]));
    assert_eq!(needs.secrets, BTreeSet::from(["keys".to_owned()]));
}
