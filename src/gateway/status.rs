//! What a guest may say about its pod: its status, with addresses of its own machine, and nothing else.
//!
//! The API server restores spec, owners and deletionTimestamp from such a patch but would let annotations
//! and finalizers pass, so the patch is cut down here. Pure.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::denied::{Denied, Rule};

/// The largest patch, in bytes. The API server's limit for a whole object is 1.5 MiB.
pub(crate) const LARGEST: usize = 1 << 20;

/// Whose patch it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Author<'a> {
    pub pod_uid: &'a str,
    /// The machine's primary address and the pod's.
    pub addresses: [IpAddr; 2],
}

/// Checks a strategic merge patch of `pods/status`. What goes upstream is what was read here, written anew.
pub(crate) fn check(patch: &[u8], author: Author<'_>) -> Result<Value, Denied> {
    if patch.len() > LARGEST {
        return Err(refuse(format!("the patch has {} bytes, expected at most {LARGEST}", patch.len())));
    }
    let patch: Map<String, Value> = serde_json::from_slice(patch)
        .map_err(|error| Denied::new(Rule::Body, format!("the patch is no JSON object: {error}")))?;
    if let Some(key) = patch.keys().find(|key| !matches!(key.as_str(), "metadata" | "status")) {
        return Err(refuse(format!("the patch holds `{key}`, expected `metadata` and `status` alone")));
    }
    let metadata = patch.get("metadata").and_then(Value::as_object);
    match metadata.map(|metadata| (metadata.len(), metadata.get("uid").and_then(Value::as_str))) {
        Some((1, Some(uid))) if uid == author.pod_uid => {}
        _ => return Err(refuse("the patch's metadata must be the pod's uid alone")),
    }
    if let Some(status) = patch.get("status") {
        let status = status.as_object().ok_or_else(|| refuse("the patch's status is no object"))?;
        check_addresses(status, author.addresses)?;
    }
    Ok(Value::Object(patch))
}

/// Addresses are what other pods, Services and network policies believe about this pod.
fn check_addresses(status: &Map<String, Value>, own: [IpAddr; 2]) -> Result<(), Denied> {
    let allowed = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => {
            text.is_empty() || text.parse().is_ok_and(|found: IpAddr| own.contains(&found))
        }
        _ => false,
    };
    for (key, value) in status {
        let plain = key.strip_prefix("$setElementOrder/").unwrap_or(key);
        let fine = match plain {
            "podIP" | "hostIP" => allowed(value),
            "podIPs" | "hostIPs" => match value {
                Value::Null => true,
                Value::Array(entries) => entries.iter().all(|entry| match entry.as_object() {
                    // Taking an address away is always allowed.
                    Some(entry) if entry.get("$patch").is_some_and(|directive| directive == "delete") => true,
                    Some(entry) => entry.get("ip").is_none_or(allowed),
                    None => false,
                }),
                _ => false,
            },
            _ => {
                // Readers of JSON that do not mind the case must find nothing here either.
                !["podip", "podips", "hostip", "hostips"].contains(&key.to_ascii_lowercase().as_str())
                    // `$retainKeys`, `$deleteFromPrimitiveList` and a `$patch` of the whole status have no use here.
                    && !plain.starts_with("$retainKeys")
                    && !plain.starts_with("$deleteFromPrimitiveList")
                    && plain != "$patch"
            }
        };
        if !fine {
            return Err(refuse(format!("status.{key} is `{value}`, expected this machine's own addresses")));
        }
    }
    Ok(())
}

fn refuse(message: impl Into<String>) -> Denied {
    Denied::new(Rule::PodStatus, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const UID: &str = "6a1";

    fn author() -> Author<'static> {
        Author { pod_uid: UID, addresses: ["10.0.0.5".parse().unwrap(), "10.0.0.6".parse().unwrap()] }
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
    fn status(status: Value) -> Result<Value, Denied> {
        check(
            &serde_json::to_vec(&json!({ "metadata": { "uid": UID }, "status": status })).unwrap(),
            author(),
        )
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
    fn refused(patch: Value) -> Rule {
        check(&serde_json::to_vec(&patch).unwrap(), author()).unwrap_err().rule
    }

    #[test]
    fn what_a_kubelet_sends_passes_unchanged() {
        let sent = json!({
            "$setElementOrder/conditions": [{ "type": "Ready" }, { "type": "PodScheduled" }],
            "$setElementOrder/podIPs": [{ "ip": "10.0.0.6" }],
            "conditions": [{ "type": "Ready", "status": "True" }, { "$patch": "delete", "type": "Old" }],
            "containerStatuses": [{ "name": "c", "ready": true }],
            "hostIP": "10.0.0.5",
            "hostIPs": [{ "ip": "10.0.0.5" }],
            "phase": "Running",
            "podIP": "10.0.0.6",
            "podIPs": [{ "ip": "10.0.0.6" }],
            "startTime": "2026-11-21T08:00:00Z",
        });
        assert_eq!(status(sent.clone()).unwrap()["status"], sent);
    }

    #[test]
    fn a_host_network_pod_has_the_machines_address() {
        assert!(status(json!({ "podIP": "10.0.0.5", "podIPs": [{ "ip": "10.0.0.5" }] })).is_ok());
    }

    #[test]
    fn a_terminal_phase_passes() {
        assert!(status(json!({ "phase": "Succeeded", "podIP": null, "podIPs": null })).is_ok());
        assert!(status(json!({ "phase": "Failed", "reason": "Evicted" })).is_ok());
    }

    #[test]
    fn addresses_of_others_are_refused() {
        for patch in [
            json!({ "podIP": "10.0.0.7" }),
            json!({ "hostIP": "10.0.0.7" }),
            json!({ "podIPs": [{ "ip": "10.0.0.6" }, { "ip": "10.0.0.7" }] }),
            json!({ "hostIPs": [{ "ip": "10.0.0.7" }] }),
            json!({ "$setElementOrder/podIPs": [{ "ip": "10.0.0.7" }] }),
            json!({ "podIP": "10.0.0.6 " }),
            json!({ "podIP": "010.0.0.6" }),
            json!({ "podIP": 1 }),
            json!({ "podIPs": ["10.0.0.7"] }),
            json!({ "podIPs": { "ip": "10.0.0.7" } }),
            json!({ "podip": "10.0.0.7" }),
            json!({ "PodIPs": [{ "ip": "10.0.0.7" }] }),
            json!({ "$patch": "replace" }),
            json!({ "$retainKeys": ["phase"] }),
        ] {
            assert_eq!(status(patch.clone()).unwrap_err().rule, Rule::PodStatus, "{patch}");
        }
    }

    #[test]
    fn an_address_may_be_taken_away() {
        assert!(status(json!({ "podIPs": [{ "$patch": "delete", "ip": "10.0.0.9" }] })).is_ok());
    }

    #[test]
    fn anything_beside_uid_and_status_is_refused() {
        for patch in [
            json!({ "metadata": { "uid": UID, "annotations": { "a": "b" } }, "status": {} }),
            json!({ "metadata": { "uid": UID, "finalizers": [] }, "status": {} }),
            json!({ "metadata": { "uid": UID, "labels": null }, "status": {} }),
            json!({ "metadata": { "uid": UID, "$patch": "replace" } }),
            json!({ "metadata": { "uid": UID }, "spec": {} }),
            json!({ "metadata": { "uid": UID }, "$patch": "replace" }),
            json!({ "metadata": { "uid": UID }, "Status": {} }),
            json!({ "metadata": { "uid": UID }, "status": [] }),
        ] {
            assert_eq!(refused(patch.clone()), Rule::PodStatus, "{patch}");
        }
    }

    #[test]
    fn the_uid_is_required_and_must_be_the_pods_own() {
        for patch in [
            json!({ "status": {} }),
            json!({ "metadata": {}, "status": {} }),
            json!({ "metadata": null, "status": {} }),
            json!({ "metadata": { "uid": "other" }, "status": {} }),
            json!({ "metadata": { "uid": null }, "status": {} }),
        ] {
            assert_eq!(refused(patch.clone()), Rule::PodStatus, "{patch}");
        }
    }

    #[test]
    fn a_doubled_key_cannot_hide_another() {
        let patch = format!(
            r#"{{"metadata":{{"uid":"{UID}","annotations":{{"a":"b"}}}},"metadata":{{"uid":"{UID}"}},"status":{{}}}}"#
        );
        assert_eq!(
            check(patch.as_bytes(), author()).unwrap(),
            json!({ "metadata": { "uid": UID }, "status": {} })
        );
    }

    #[test]
    fn other_patch_shapes_and_sizes_are_refused() {
        assert_eq!(
            refused(json!([{ "op": "add", "path": "/metadata/annotations/a", "value": "b" }])),
            Rule::Body
        );
        let large = json!({ "metadata": { "uid": UID }, "status": { "message": "x".repeat(LARGEST) } });
        assert_eq!(refused(large), Rule::PodStatus);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_checked_or_refused_but_never_panic(bytes: Vec<u8>, text in "[{}\\[\\]:,\"a-z0-9]{0,80}") {
            drop(check(&bytes, author()));
            drop(check(text.as_bytes(), author()));
            drop(check(format!("{{\"status\":{text}}}").as_bytes(), author()));
        }
    }
}
