//! The node as the cluster sees it: its object, its Lease, and who is let in at its own port.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::world::{Namespace, condition, eventually, http, text};

pub(crate) const TOGETHER: &[crate::Test] = &[("node::its_port_asks_who_comes_and_what_they_may", port)];

/// The node is everybody's: what is done to it here holds others up.
pub(crate) const ALONE: &[crate::Test] =
    &[("node::what_others_write_on_it_stays_and_once_deleted_it_comes_back", kept)];

const NODE: &str = "/api/v1/nodes/orca";

fn port(ns: &Namespace<'_>) -> Result<()> {
    let token = ns.run(&["create", "token", "default"])?;
    let authorization = format!("authorization: Bearer {}", token.trim());
    let ask = |method: &str, path: &str, header: &str| -> Result<(String, String)> {
        let url = format!("https://10.88.0.10:10250/{path}/{}/none/main", ns.name);
        let output = Command::new("curl")
            .args(["-sSk", "-m", "10", "-X", method, "-w", "\n%{http_code}", "-H", header, &url])
            .output()?;
        let seen = text(&output.stdout);
        let (body, code) = seen.rsplit_once('\n').with_context(|| text(&output.stderr))?;
        Ok((code.to_owned(), body.trim().to_owned()))
    };
    for header in ["x-nothing: ", "authorization: Bearer nonsense"] {
        let (code, body) = ask("GET", "containerLogs", header)?;
        ensure!((code.as_str(), body.as_str()) == ("401", "Unauthorized"), "{header}: {code} {body}");
    }
    for (method, path, verb) in [("GET", "containerLogs", "get"), ("POST", "exec", "create")] {
        let (code, body) = ask(method, path, &authorization)?;
        let expected = format!(
            "Forbidden (user=system:serviceaccount:{}:default, verb={verb}, resource=nodes,",
            ns.name
        );
        ensure!(code == "403" && body.starts_with(&expected), "{method} {path}: {code} {body}");
    }
    Ok(())
}

fn kept(ns: &Namespace<'_>) -> Result<()> {
    let before = orca::clock::now();
    ns.ready_pod(
        "steady",
        "containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity]}]",
    )?;
    let foreign = r#"{"status":{"conditions":[{"type":"example.com/Fancy","status":"True"},{"type":"CloudReachable","status":"Unknown"}]}}"#;
    ns.run(&["taint", "node", "orca", "example.com/soft=yes:PreferNoSchedule"])?;
    ns.run(&["patch", "node", "orca", "--subresource=status", "-p", foreign])?;
    ns.run(&["label", "node", "orca", "example.com/colour=blue", "type-"])?;
    let node = await_node(ns, "to be put right", |node| {
        node["metadata"]["labels"]["type"] == "virtual-kubelet"
            && condition(node, "CloudReachable") == Some("True")
    })?;
    ensure!(node["metadata"]["labels"]["example.com/colour"] == "blue", "{}", node["metadata"]["labels"]);
    ensure!(condition(&node, "example.com/Fancy") == Some("True"), "{}", node["status"]["conditions"]);
    let taints = node["spec"]["taints"].as_array().context("taints")?;
    for key in ["example.com/soft", "virtual-kubelet.io/provider"] {
        ensure!(taints.iter().any(|taint| taint["key"] == key), "{key} is not among {taints:?}");
    }
    cloud_trouble(ns)?;
    renewed(ns, &before)?;

    ns.run(&["delete", "node", "orca"])?;
    let again = await_node(ns, "to be there again", |node| {
        node["metadata"]["uid"].is_string() && condition(node, "Ready") == Some("True")
    })?;
    ensure!(again["metadata"]["uid"] != node["metadata"]["uid"], "it was not deleted");
    ensure!(again["spec"]["providerID"] == node["spec"]["providerID"], "{}", again["spec"]);
    eventually("the Lease to be the new node's", Duration::from_secs(40), || {
        let lease = ns.world.get("/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/orca")?;
        let lease = lease.unwrap_or_default();
        let owner = lease["metadata"]["ownerReferences"][0]["uid"].clone();
        Ok(if owner == again["metadata"]["uid"] { Ok(()) } else { Err(owner) })
    })?;
    ns.exec_works("steady")?;
    ensure!(ns.restarts("steady")? == 0, "the container was touched");
    Ok(())
}

/// Of which the node tells, and stays Ready.
fn cloud_trouble(ns: &Namespace<'_>) -> Result<()> {
    let denied = json!({"action": "DescribeInstances", "times": 1000, "then": "refuse", "code": "UnauthorizedOperation", "status": 403});
    http("POST", "/_local/faults", Some(&denied))?;
    let node =
        await_node(ns, "to tell of the cloud", |node| condition(node, "CloudReachable") == Some("False"));
    http("DELETE", "/_local/faults", None)?;
    ensure!(condition(&node?, "Ready") == Some("True"), "the node is not Ready for the cloud's trouble");
    await_node(ns, "to tell that the cloud is back", |node| {
        condition(node, "CloudReachable") == Some("True")
    })?;
    let about = "involvedObject.kind=Node,involvedObject.name=orca";
    let events = ns.run(&["get", "events", "-n", "default", "--field-selector", about])?;
    ensure!(events.contains("Cloud") && events.contains("UnauthorizedOperation"), "{events}");
    Ok(())
}

fn await_node(ns: &Namespace<'_>, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(&format!("the node {what}"), Duration::from_secs(30), || {
        let node = ns.world.get(NODE)?.unwrap_or_default();
        Ok(if wanted(&node) { Ok(node) } else { Err(node["status"]["conditions"].clone()) })
    })
}

/// By the API server's record, the Lease was renewed every ten seconds since then.
fn renewed(ns: &Namespace<'_>, since: &jiff::Timestamp) -> Result<()> {
    let gaps = eventually("three renewals of the Lease", Duration::from_secs(40), || {
        let entries = crate::record::entries(ns.world)?;
        // Not that of the election.
        let renewals = entries
            .iter()
            .filter(|one| one["objectRef"]["namespace"] == "kube-node-lease" && one["verb"] == "update");
        let times: Vec<jiff::Timestamp> = renewals
            .filter_map(|one| one["requestReceivedTimestamp"].as_str()?.parse().ok())
            .filter(|at| at > since)
            .collect();
        let gaps: Vec<f64> = times
            .windows(2)
            .map(|two| (two[1] - two[0]).total(jiff::Unit::Second))
            .collect::<Result<_, _>>()?;
        Ok(if gaps.len() >= 2 { Ok(gaps) } else { Err(times) })
    })?;
    ensure!(gaps.iter().all(|gap| (8.0..12.0).contains(gap)), "seconds between renewals: {gaps:?}");
    Ok(())
}
