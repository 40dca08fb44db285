//! The endpoint's certificate by CertificateSigningRequest, before an API server that verifies kubelets.
//! This restarts ORCA and the API server, so it runs alone.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::world::{Namespace, eventually};

pub(crate) const TESTS: &[crate::Test] = &[(
    "certificate::an_api_server_that_verifies_kubelets_trusts_orca_once_its_request_is_approved",
    approved,
)];

const TALK: &str =
    "containers: [{name: main, image: 'busybox:stable', command: [sh, -c, 'echo here; sleep infinity']}]";

fn approved(ns: &Namespace<'_>) -> Result<()> {
    let file = ns.world.file("orca.yaml");
    let config = std::fs::read_to_string(&file)?;
    let listen = "  listen: 10.88.0.10:10250\n";
    ensure!(config.contains(listen), "the world's configuration is another");
    ns.ready_pod("talker", TALK)?;
    let result = (|| {
        std::fs::write(&file, config.replace(listen, &format!("{listen}  tls: {{mode: csr}}\n")))?;
        restart(ns, "--kubelet-certificate-authority=ca.crt")?;
        approval_helps(ns)
    })();
    std::fs::write(&file, config)?;
    restart(ns, "")?;
    eventually("logs without verification", Duration::from_secs(60), || logs(ns))?;
    result
}

fn restart(ns: &Namespace<'_>, flags: &str) -> Result<()> {
    ns.world.script(&["orca-stop"])?;
    ns.world.script(&["apiserver-stop"])?;
    ns.world.script_with(&["apiserver-start"], &[("ORCA_APISERVER_FLAGS", flags)])?;
    ns.world.script(&["orca-start"])
}

fn approval_helps(ns: &Namespace<'_>) -> Result<()> {
    let request = eventually("a request for a certificate", Duration::from_secs(60), || {
        let all: Value = serde_json::from_str(&ns.run(&["get", "csr", "-o", "json"])?)?;
        let mut items = all["items"].as_array().cloned().unwrap_or_default();
        items.retain(|item| item["status"].as_object().is_none_or(serde_json::Map::is_empty));
        Ok(items.pop().ok_or(all))
    })?;
    ensure!(request["spec"]["username"] == "system:node:orca", "{request}");
    ensure!(request["spec"]["signerName"] == "kubernetes.io/kubelet-serving", "{request}");
    let refused = eventually("logs to be refused", Duration::from_secs(60), || {
        let (code, _, error) = ns.exit(&["logs", "talker"])?;
        Ok(if code != 0 && error.contains("x509") { Ok(error) } else { Err(error) })
    })?;
    ensure!(refused.contains("certificate signed by unknown authority"), "{refused}");

    let name = request["metadata"]["name"].as_str().context("name")?;
    let told = ns.run(&[
        "get",
        "events",
        "-n",
        "default",
        "--field-selector",
        "reason=ServingCertificatePending",
        "-o",
        "json",
    ])?;
    ensure!(told.contains(&format!("kubectl certificate approve {name}")), "{told}");
    ns.run(&["certificate", "approve", name])?;
    eventually("logs of an API server that verifies", Duration::from_secs(60), || logs(ns))?;
    eventually("exec", Duration::from_secs(60), || {
        let (code, out, error) = ns.exit(&["exec", "talker", "--", "echo", "inside"])?;
        Ok(if code == 0 && out == "inside\n" { Ok(()) } else { Err(error) })
    })
}

fn logs(ns: &Namespace<'_>) -> Result<Result<(), String>> {
    let (code, out, error) = ns.exit(&["logs", "talker"])?;
    Ok(if code == 0 && out == "here\n" { Ok(()) } else { Err(error) })
}
