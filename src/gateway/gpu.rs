//! GPUs without a device plugin: one pod owns the machine, so its containers are told their shares.
//!
//! Every container gets `NVIDIA_VISIBLE_DEVICES`, its own indices or `void`, whatever its image or its
//! manifest says: images commonly set `all`. Pure, on JSON, so that fields we do not know survive.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// What NVIDIA's container runtime reads.
const VARIABLE: &str = "NVIDIA_VISIBLE_DEVICES";

/// Gives each container of `pod` its share of the machine's GPUs, which `resource` stands for.
///
/// Sidecars and regular containers run side by side, so their shares follow one another; an ordinary init
/// container has ended before the regular ones start and uses what the sidecars before it left.
pub(crate) fn share(pod: &mut Value, resource: &str) {
    let Some(spec) = pod.get_mut("spec") else { return };
    let mut taken = 0;
    for container in containers(spec, "initContainers") {
        let count = asked(container, resource);
        give(container, taken, count);
        if container["restartPolicy"] == "Always" {
            taken += count;
        }
    }
    for container in containers(spec, "containers") {
        let count = asked(container, resource);
        give(container, taken, count);
        taken += count;
    }
    for container in containers(spec, "ephemeralContainers") {
        give(container, 0, 0);
    }
}

/// Which container has the GPU of an index. Where an ordinary init container had it before, the one that has it after.
pub(crate) fn holders(pod: &Pod, resource: &str) -> BTreeMap<u32, String> {
    let Ok(mut pod) = serde_json::to_value(pod) else { return BTreeMap::new() };
    share(&mut pod, resource);
    let mut holders = BTreeMap::new();
    for key in ["initContainers", "containers"] {
        for container in containers(&mut pod["spec"], key) {
            let Some(name) = container["name"].as_str() else { continue };
            let indices = container["env"][0]["value"].as_str().unwrap_or_default().split(',');
            holders.extend(indices.filter_map(|index| Some((index.parse().ok()?, name.to_owned()))));
        }
    }
    holders
}

fn containers<'a>(spec: &'a mut Value, key: &str) -> impl Iterator<Item = &'a mut Value> {
    spec.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Extended resources are whole numbers, and their limits equal their requests.
fn asked(container: &Value, resource: &str) -> u32 {
    let quantity = |kind: &str| container["resources"][kind][resource].as_str()?.parse().ok();
    quantity("limits").or_else(|| quantity("requests")).unwrap_or(0)
}

/// The variable goes first, so that a later one may refer to it; whatever had the name before goes.
fn give(container: &mut Value, first: u32, count: u32) {
    let devices = match count {
        0 => "void".to_owned(),
        _ => (first..first + count).map(|index| index.to_string()).collect::<Vec<_>>().join(","),
    };
    let Some(container) = container.as_object_mut() else { return };
    let mut env = vec![json!({ "name": VARIABLE, "value": devices })];
    if let Some(Value::Array(before)) = container.remove("env") {
        env.extend(before.into_iter().filter(|variable| variable["name"] != VARIABLE));
    }
    container.insert("env".to_owned(), Value::Array(env));
}

#[cfg(test)]
mod tests {
    use super::*;

    const GPU: &str = "nvidia.com/gpu";

    fn asks(name: &str, count: u32) -> Value {
        json!({ "name": name, "resources": { "limits": { GPU: count.to_string() } } })
    }

    fn sidecar(name: &str, count: u32) -> Value {
        let mut container = asks(name, count);
        container["restartPolicy"] = json!("Always");
        container
    }

    /// `name=devices` of every container, in order.
    #[expect(clippy::needless_pass_by_value, reason = "callers write json! in place")]
    fn shares(spec: Value) -> String {
        let mut pod = json!({ "spec": spec });
        share(&mut pod, GPU);
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|key| pod["spec"][key].as_array().cloned().unwrap_or_default())
            .map(|c| format!("{}={}", c["name"].as_str().unwrap(), c["env"][0]["value"].as_str().unwrap()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn shares_follow_one_another() {
        let spec = json!({ "containers": [asks("a", 1), { "name": "log" }, asks("b", 2)] });
        assert_eq!(shares(spec), "a=0 log=void b=1,2");
    }

    #[test]
    fn sidecars_keep_theirs_and_init_containers_lend_theirs() {
        let spec = json!({
            "initContainers": [asks("warm", 2), sidecar("watch", 1), asks("check", 2), { "name": "fetch" }],
            "containers": [asks("train", 3)],
        });
        assert_eq!(shares(spec), "warm=0,1 watch=0 check=1,2 fetch=void train=1,2,3");
    }

    #[test]
    fn a_container_without_gpus_sees_none_even_if_it_asks_by_variable() {
        let spec = json!({
            "containers": [{ "name": "sly", "env": [{ "name": VARIABLE, "value": "all" }] }],
            "ephemeralContainers": [{ "name": "debug" }],
        });
        assert_eq!(shares(spec), "sly=void debug=void");
    }

    #[test]
    fn the_holder_of_a_gpu_is_the_container_that_runs_with_it_in_the_end() {
        let pod = serde_json::from_value(json!({ "spec": {
            "initContainers": [asks("warm", 2), sidecar("watch", 1), asks("check", 2)],
            "containers": [asks("train", 2), { "name": "log" }],
        } }));
        let holders = holders(&pod.unwrap(), GPU);
        let holders: Vec<_> = holders.iter().map(|(index, name)| format!("{index}={name}")).collect();
        assert_eq!(holders.join(" "), "0=watch 1=train 2=train");
    }

    #[test]
    fn every_former_variable_of_that_name_goes_and_others_stay() {
        let mut pod = json!({ "spec": { "containers": [{
            "name": "a",
            "resources": { "requests": { GPU: "1" } },
            "env": [
                { "name": "A", "value": "1" },
                { "name": VARIABLE, "value": "all" },
                { "name": "B", "value": "2" },
                { "name": VARIABLE, "valueFrom": { "fieldRef": { "fieldPath": "metadata.annotations['gpus']" } } },
            ],
        }] } });
        share(&mut pod, GPU);
        assert_eq!(
            pod["spec"]["containers"][0]["env"],
            json!([
                { "name": VARIABLE, "value": "0" },
                { "name": "A", "value": "1" },
                { "name": "B", "value": "2" },
            ])
        );
    }

    #[test]
    fn another_vendors_resource_is_not_counted() {
        let spec =
            json!({ "containers": [{ "name": "a", "resources": { "limits": { "amd.com/gpu": "1" } } }] });
        assert_eq!(shares(spec), "a=void");
    }
}
