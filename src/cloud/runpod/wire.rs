//! RunPod's JSON: an order as it is sent, and what is read of what comes back. Pure.
//!
//! What is sent is strict, and checked here so that a creation is not spent on what can only be refused. What is read
//! is lenient: a field that is missing, or is of another kind, is as if it were not told; only a pod without an id is
//! none.

mod create;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::types::{CloudTier, MARKER_PREFIX, Mapping, PortKind, Sighting, Status};
use crate::capacity::money::MicroUsd;
pub(super) use create::create;

/// A pod, as RunPod shows it.
pub(super) fn sighting(pod: &Value) -> Option<Sighting> {
    let hardware = |key: &str| pod.get(key).filter(|value| value.is_object());
    let (gpu, cpu) = (hardware("gpu"), hardware("cpu"));
    let machine = gpu.or(cpu);
    // `null` and `{}` alike: there is nothing that runs, or nobody says.
    let runtime = pod.get("runtime").unwrap_or(&Value::Null);
    let time = |key: &str| text(pod, key)?.parse::<Timestamp>().ok();
    Some(Sighting {
        id: text(pod, "id").filter(|id| !id.is_empty())?.to_owned(),
        name: text(pod, "name").unwrap_or_default().to_owned(),
        status: status(text(pod, "status").unwrap_or_default()),
        markers: markers(pod),
        hardware_id: machine.and_then(|it| text(it, "id")).unwrap_or_default().to_owned(),
        gpu_count: gpu.map_or(0, |gpu| number(gpu, "count").unwrap_or(1)),
        vcpus: machine.and_then(|it| number(it, "vcpuCount")),
        memory_gb: machine.and_then(|it| number(it, "memory")),
        image: text(pod, "image").unwrap_or_default().to_owned(),
        cloud: match text(pod, "cloud") {
            Some("SECURE") => Some(CloudTier::Secure),
            Some("COMMUNITY") => Some(CloudTier::Community),
            Some(_) | None => None,
        },
        data_center_id: text(pod, "dataCenterId").map(str::to_owned),
        cost: pod.get("cost").and_then(money).unwrap_or_default(),
        uptime: number(runtime, "uptime").map(|seconds| Duration::from_secs(u64::from(seconds))),
        ports: items(runtime, "ports").filter_map(mapping).collect(),
        created_at: time("createdAt"),
        started_at: time("startedAt"),
    })
}

/// Whether the environment is told at all: without it nobody knows whose pod it is.
pub(super) fn tells_env(pod: &Value) -> bool {
    pod.get("env").is_some_and(|env| env.is_object() || env.is_array())
}

/// What comes after a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    End,
    Page(String),
    /// There is more, and no way to it.
    Lost,
}

/// Servers without pages say nothing of it.
pub(super) fn next_cursor(page: &Value) -> Next {
    let Some(pagination) = page.get("pagination").filter(|it| it.is_object()) else { return Next::End };
    let cursor = text(pagination, "nextCursor").filter(|cursor| !cursor.is_empty());
    match (flag(pagination, "hasNextPage"), cursor) {
        (Some(false), _) | (None, None) => Next::End,
        (Some(true) | None, Some(cursor)) => Next::Page(cursor.to_owned()),
        (Some(true), None) => Next::Lost,
    }
}

/// As RunPod calls it.
pub(super) fn tier(cloud: CloudTier) -> &'static str {
    match cloud {
        CloudTier::Secure => "SECURE",
        CloudTier::Community => "COMMUNITY",
    }
}

fn status(word: &str) -> Status {
    match word {
        "PROVISIONING" => Status::Provisioning,
        "STARTING" => Status::Starting,
        "RUNNING" => Status::Running,
        "EXITED" => Status::Exited,
        "ERROR" => Status::Error,
        "TERMINATED" => Status::Terminated,
        other => Status::Other(other.to_owned()),
    }
}

/// A mapping, or a list of `key` and `value` as the older APIs have it.
fn markers(pod: &Value) -> BTreeMap<String, String> {
    let ours = |key: &str, value: Option<&str>| {
        key.starts_with(MARKER_PREFIX).then(|| Some((key.to_owned(), value?.to_owned()))).flatten()
    };
    match pod.get("env") {
        Some(Value::Object(env)) => env.iter().filter_map(|(key, value)| ours(key, value.as_str())).collect(),
        Some(Value::Array(env)) => {
            env.iter().filter_map(|one| ours(text(one, "key")?, text(one, "value"))).collect()
        }
        Some(_) | None => BTreeMap::new(),
    }
}

fn mapping(port: &Value) -> Option<Mapping> {
    let number = |key: &str| number(port, key).and_then(|it| u16::try_from(it).ok());
    Some(Mapping {
        private: number("private")?,
        public: number("public")?,
        kind: match text(port, "type")? {
            "http" => PortKind::Http,
            "tcp" => PortKind::Tcp,
            _ => return None,
        },
        ip: text(port, "ip").and_then(|ip| ip.parse().ok()),
    })
}

pub(super) fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

pub(super) fn flag(value: &Value, key: &str) -> Option<bool> {
    value.get(key)?.as_bool()
}

/// A number that is not negative, without its fraction.
pub(super) fn number(value: &Value, key: &str) -> Option<u32> {
    whole(value.get(key)?.as_f64()?).and_then(|number| u32::try_from(number).ok())
}

/// The elements of a list; none if it is no list.
pub(super) fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

/// A number without its fraction, if it is not negative.
pub(super) fn whole(number: f64) -> Option<u64> {
    (number.is_finite() && number >= 0.0).then(|| format!("{:.0}", number.floor()).parse().ok()).flatten()
}

/// An amount of dollars, to the nearest millionth. What is owed is nothing.
pub(super) fn money(value: &Value) -> Option<MicroUsd> {
    let dollars = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    if !dollars.is_finite() {
        return None;
    }
    format!("{:.6}", dollars.max(0.0)).parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The example of the published schema.
    fn published() -> Value {
        json!({
            "id": "7h9k2m4n6p", "name": "pytorch-training", "image": "runpod/pytorch:1.0.2", "args": "", "disk": 50,
            "ports": ["8888/http", "22/tcp"],
            "env": {"MODEL_NAME": "llama-3", "ORCA_NODE": "burst", "PASSWORD": "hunter2"},
            "registry": null, "status": "RUNNING", "actions": ["stop", "restart", "terminate"],
            "mounts": {"persistent": {"size": 20, "path": "/workspace"}},
            "gpu": {"id": "NVIDIA GeForce RTX 4090", "count": 2, "vcpuCount": 16.5, "memory": 64},
            "cloud": "SECURE", "dataCenterId": "US-KS-2", "cudaVersion": "12.8",
            "ssh": {"proxy": null, "direct": null}, "template": null, "cost": 0.44, "locked": false,
            "globalNetworking": {"enabled": false},
            "runtime": {"uptime": 3600, "ports": [
                {"private": 22, "public": 34446, "type": "tcp", "ip": "195.26.233.3"},
                {"private": 8888, "public": null, "type": "http", "ip": null},
                {"private": 70001, "public": 1, "type": "tcp"}, {"private": 1, "public": 2, "type": "udp"}]},
            "createdAt": "2026-06-01T12:00:00Z", "startedAt": "2026-06-01T12:02:00Z"
        })
    }

    #[test]
    fn a_pod_is_read_and_of_its_environment_only_our_markers() {
        let seen = sighting(&published()).unwrap();
        assert_eq!((seen.id.as_str(), &seen.status, seen.gpu_count), ("7h9k2m4n6p", &Status::Running, 2));
        assert_eq!((seen.vcpus, seen.memory_gb, seen.cost), (Some(16), Some(64), MicroUsd(440_000)));
        assert_eq!(seen.uptime, Some(Duration::from_secs(3600)));
        assert_eq!(seen.ports.len(), 1);
        assert_eq!((seen.ports[0].private, seen.ports[0].public), (22, 34446));
        assert_eq!(seen.markers, BTreeMap::from([("ORCA_NODE".to_owned(), "burst".to_owned())]));
        assert!(!format!("{seen:?}").contains("hunter2"));
        assert!(seen.created_at < seen.started_at);
    }

    #[test]
    fn what_is_missing_odd_or_new_is_as_if_it_were_not_told() {
        for runtime in [json!(null), json!({}), json!([]), json!({"uptime": null}), json!({"uptime": -1})] {
            let mut pod = published();
            pod["runtime"] = runtime;
            let seen = sighting(&pod).unwrap();
            assert_eq!((seen.uptime, seen.ports.len()), (None, 0));
        }
        let bare = sighting(&json!({"id": "a"})).unwrap();
        assert_eq!((bare.status, bare.gpu_count, bare.cost), (Status::Other(String::new()), 0, MicroUsd(0)));
        let mut pod = published();
        for (key, value) in [
            ("status", json!("MIGRATING")),
            ("cost", json!("0.5")),
            ("gpu", json!(null)),
            ("cpu", json!({"id": "cpu5c", "vcpuCount": 4, "memory": 8})),
            ("createdAt", json!("yesterday")),
            ("cloud", json!("MOON")),
            ("tomorrow", json!({"a": [1]})),
        ] {
            pod[key] = value;
        }
        let seen = sighting(&pod).unwrap();
        assert_eq!(seen.status, Status::Other("MIGRATING".to_owned()));
        assert_eq!((seen.hardware_id.as_str(), seen.gpu_count, seen.cloud), ("cpu5c", 0, None));
        assert_eq!((seen.cost, seen.created_at), (MicroUsd(500_000), None));
        for none in [json!({}), json!({"id": ""}), json!({"id": 7}), json!([]), json!("a"), json!(null)] {
            assert_eq!(sighting(&none), None, "{none}");
        }
    }

    #[test]
    fn markers_are_found_in_either_form_of_an_environment() {
        let list = json!({"id": "a", "env": [{"key": "ORCA_NODE", "value": "burst"}, {"key": "X", "value": "y"}, {}]});
        assert_eq!(sighting(&list).unwrap().markers.len(), 1);
        assert!(tells_env(&list) && tells_env(&json!({"env": {}})));
        assert!(!tells_env(&json!({"env": null})) && !tells_env(&json!({})));
    }

    #[test]
    fn a_list_ends_where_it_says_so() {
        for (page, next) in [
            (json!({"pods": []}), Next::End),
            (json!({"pagination": null}), Next::End),
            (json!({"pagination": {"hasNextPage": false, "nextCursor": "x"}}), Next::End),
            (json!({"pagination": {"hasNextPage": true, "nextCursor": "x"}}), Next::Page("x".to_owned())),
            (json!({"pagination": {"nextCursor": "x"}}), Next::Page("x".to_owned())),
            (json!({"pagination": {"hasNextPage": true, "nextCursor": null}}), Next::Lost),
            (json!({"pagination": {"hasNextPage": true, "nextCursor": ""}}), Next::Lost),
        ] {
            assert_eq!(next_cursor(&page), next, "{page}");
        }
    }

    #[test]
    fn money_is_exact_to_the_millionth() {
        for (value, expected) in [
            (json!(0.44), Some(440_000)),
            (json!(1e-7), Some(0)),
            (json!(80), Some(80_000_000)),
            (json!("12.5"), Some(12_500_000)),
            (json!(-3.2), Some(0)),
            (json!(null), None),
            (json!("much"), None),
        ] {
            assert_eq!(money(&value), expected.map(MicroUsd), "{value}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_json_makes_it_panic(text in "[\\[\\]{}\",:a-z0-9.]{0,60}", id in "[a-z]{1,4}") {
            let any: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
            let mut pod = serde_json::json!({"id": id});
            for key in ["runtime", "gpu", "env", "cost", "pagination", "createdAt"] {
                pod[key] = any.clone();
            }
            proptest::prop_assert!(sighting(&pod).is_some());
            next_cursor(&pod);
        }
    }
}
