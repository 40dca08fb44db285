use serde_json::json;

use super::*;
use crate::runpod::testing::{mk_pod, with};

fn order(changes: Value) -> Result<Order, Problem> {
    Body::read("CreatePodRequest", with(mk_pod(), changes), Api::October)?.order()
}

fn refusal(changes: Value) -> String {
    let problem = order(changes).unwrap_err();
    if problem.errors.is_empty() {
        problem.to_string()
    } else {
        format!("422: {}", problem.errors.join("; "))
    }
}

#[test]
fn a_body_that_breaks_a_rule_is_refused_with_a_sentence() {
    for (changes, expected) in [
        (json!({"name": null}), "422: $: missing property 'name'"),
        (json!({"image": null}), "422: $: missing property 'image'"),
        (json!({"interruptible": true}), "422: $: additional properties 'interruptible' not allowed"),
        (json!({"image": " "}), "400: image must not be empty"),
        (json!({"name": "x".repeat(192)}), "400: name must be at most 191 characters"),
        (json!({"gpu": null}), "400: exactly one of gpu or cpu must be set"),
        (json!({"cpu": {"id": "cpu5c", "vcpuCount": 2}}), "400: exactly one of gpu or cpu must be set"),
        (json!({"gpu": {"id": "NVIDIA Nothing"}}), "400: gpu type 'NVIDIA Nothing' does not exist"),
        (
            json!({"gpu": null, "cpu": {"id": "cpu1", "vcpuCount": 2}}),
            "400: cpu flavor 'cpu1' does not exist",
        ),
        (
            json!({"gpu": null, "cpu": {"id": "cpu5c", "vcpuCount": 6}}),
            "400: cpu.vcpuCount must be a power of two from 2 to 32",
        ),
        (
            json!({"gpu": {"id": "NVIDIA L4", "allowedCudaVersions": ["12.4"], "minCudaVersion": "12.4"}}),
            "400: gpu.allowedCudaVersions and gpu.minCudaVersion are mutually exclusive",
        ),
        (
            json!({"ports": ["22"]}),
            "400: invalid port '22', expected a port and tcp or http, such as 8888/http",
        ),
        (
            json!({"ports": ["0/tcp"]}),
            "400: invalid port '0/tcp', expected a port and tcp or http, such as 8888/http",
        ),
        (
            json!({"ports": ["53/udp"]}),
            "400: invalid port '53/udp', expected a port and tcp or http, such as 8888/http",
        ),
        (
            json!({"ports": ["70000/http"]}),
            "400: invalid port '70000/http', expected a port and tcp or http, such as 8888/http",
        ),
        (json!({"ports": ["22/tcp", "22/tcp"]}), "400: a port is exposed twice"),
        (
            json!({"ports": (1..12).map(|n| format!("{n}/http")).collect::<Vec<_>>()}),
            "400: at most 10 http ports can be exposed",
        ),
        (
            json!({"mounts": {"persistent": {"size": 10, "path": "/a"}, "network": [{"volumeId": "v", "path": "/b"}]}}),
            "400: mounts.persistent and mounts.network are mutually exclusive",
        ),
        (json!({"mounts": {"network": []}}), "400: mounts.network must not be empty"),
        (
            json!({"mounts": {"persistent": {"size": 10, "path": "a"}}}),
            "400: mount path 'a' must be absolute",
        ),
        (
            json!({"mounts": {"persistent": {"size": 10, "path": "/a/../b"}}}),
            "400: mount path '/a/../b' must be absolute",
        ),
        (
            json!({"mounts": {"persistent": {"size": 9, "path": "/a"}}}),
            "422: $.mounts.persistent.size: minimum: got 9, want 10",
        ),
        (
            json!({"gpu": null, "cpu": {"id": "cpu5c", "vcpuCount": 2}, "mounts": {"persistent": {"size": 10, "path": "/a"}}}),
            "400: mounts.persistent is not supported on CPU pods",
        ),
        (
            json!({"cloud": "COMMUNITY", "mounts": {"network": [{"volumeId": "v", "path": "/b"}]}}),
            "400: network volumes are only available on SECURE cloud",
        ),
        (
            json!({"gpu": {"id": "AMD Instinct MI300X OAM"}, "globalNetworking": true}),
            "400: globalNetworking requires an NVIDIA GPU",
        ),
        (json!({"env": {"A=B": "c"}}), "400: invalid environment variable name 'A=B'"),
        (json!({"env": {"": "c"}}), "400: invalid environment variable name ''"),
        (json!({"templateId": "t"}), "404: template 't' not found"),
        (json!({"args": "a", "cmd": ["b"]}), "400: args and entrypoint/cmd describe different commands"),
    ] {
        assert_eq!(refusal(changes.clone()), expected, "{changes}");
    }
}

#[test]
fn a_command_is_given_in_any_form_and_the_older_server_knows_one_alone() {
    let command = |changes: Value| {
        let order = order(with(changes, json!({}))).unwrap();
        (order.args, order.command.entrypoint.join(" "), order.command.cmd.join(" "))
    };
    let of =
        |args: &str, entrypoint: &str, cmd: &str| (args.to_owned(), entrypoint.to_owned(), cmd.to_owned());
    assert_eq!(command(json!({"args": "sleep 'a b'"})), of("sleep 'a b'", "", "sleep a b"));
    let both = r#"{"cmd":["b"],"entrypoint":["/a"]}"#;
    assert_eq!(command(json!({"args": both})), of(both, "/a", "b"));
    assert_eq!(command(json!({"args": both, "entrypoint": ["/a"], "cmd": ["b"]})), of(both, "/a", "b"));
    let listed = order(json!({"args": null, "entrypoint": ["/a"]})).unwrap();
    assert_eq!(listed.args, r#"{"entrypoint":["/a"]}"#);
    let old = Body::read("CreatePodRequest", with(mk_pod(), json!({"cmd": ["b"]})), Api::August).unwrap_err();
    assert_eq!(old.errors, ["$: additional properties 'cmd' not allowed"]);
}

#[test]
fn what_is_not_given_has_a_default() {
    let order = order(json!({"disk": null, "ports": null, "env": null, "args": null})).unwrap();
    assert_eq!((order.disk, order.cloud, order.ports.len(), order.env.len()), (50, Cloud::Secure, 0, 0));
    assert_eq!(order.compute.takes(), ("NVIDIA GeForce RTX 4090", 1));
    let symmetric = Port::parse("70001/tcp").unwrap();
    assert!(symmetric.is_symmetric() && !Port::parse("22/tcp").unwrap().is_symmetric());
}
