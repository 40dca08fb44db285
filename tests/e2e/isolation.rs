//! What a machine may not see of other machines' pods, with its own token through its own tunnel.
//!
//! The intruder is a pod with the machine's file system and network: whoever may run such a pod can do what is tried here.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::world::{Namespace, text};

pub(crate) const TESTS: &[crate::Test] =
    &[("isolation::a_machine_reaches_nothing_but_its_own_pods_business", intruder)];

/// Speaks to the gateway from the machine: standard input is this program, and arguments are a list of requests;
/// prints the list of answers.
const PROGRAM: &str = r#"
import json, re, ssl, sys, urllib.error, urllib.request
token = re.search(r'token"?: *"?([^"\s]+)', open('/host/run/orca/keys/kubeconfig').read()).group(1)
context = ssl._create_unverified_context()
answers = []
for method, path, kind, body, other in json.loads(sys.argv[1]):
    headers = {'Authorization': 'Bearer ' + (other or token), 'Content-Type': kind or 'application/json'}
    data = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request('https://127.0.0.1:6443' + path, method=method, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            answers.append([answer.status, answer.read(20000).decode()])
    except urllib.error.HTTPError as error:
        answers.append([error.code, error.read(20000).decode()])
print(json.dumps([token, answers]))
"#;

const INTRUDER: &str = r#"
hostNetwork: true
volumes: [{name: host, hostPath: {path: /}}, {name: own, secret: {secretName: own}}]
containers:
- name: main
  image: python:3
  command: [sleep, infinity]
  securityContext: {privileged: true}
  volumeMounts: [{name: host, mountPath: /host}, {name: own, mountPath: /own}]
"#;

fn ask(ns: &Namespace<'_>, pod: &str, requests: &Value) -> Result<(String, Vec<(u64, String)>)> {
    let output =
        ns.pipe(&["exec", "-i", pod, "--", "python3", "-", &requests.to_string()], PROGRAM.as_bytes())?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    let (token, answers) = serde_json::from_slice(&output.stdout).with_context(|| text(&output.stdout))?;
    Ok((token, answers))
}

fn intruder(ns: &Namespace<'_>) -> Result<()> {
    ns.run(&["create", "secret", "generic", "own", "--from-literal=word=mine"])?;
    ns.run(&["create", "secret", "generic", "foreign", "--from-literal=word=theirs"])?;
    ns.pod(
        "victim",
        r#"
volumes: [{name: foreign, secret: {secretName: foreign}}]
containers: [{name: main, image: 'busybox:stable', command: [sleep, infinity], volumeMounts: [{name: foreign, mountPath: /foreign}]}]
"#,
    )?;
    ns.pod("intruder2", INTRUDER)?;
    ns.ready_pod("intruder", INTRUDER)?;
    ns.run(&["wait", "pod/victim", "pod/intruder2", "--for=condition=Ready", "--timeout=120s"])?;
    let own = ns.get_pod("intruder")?["metadata"]["uid"].clone();
    let victim = ns.get_pod("victim")?["metadata"]["uid"].clone();
    let here = format!("/api/v1/namespaces/{}", ns.name);
    let merge = "application/strategic-merge-patch+json";
    let status = |uid: &Value, status: Value| json!({"metadata": {"uid": uid}, "status": status});
    let request = |method: &str, path: &str| json!([method, format!("{here}{path}"), null, null, null]);
    let patch =
        |pod: &str, body: Value| json!(["PATCH", format!("{here}/pods/{pod}/status"), merge, body, null]);

    let allowed = json!([
        request("GET", "/pods/intruder"),
        request("GET", "/secrets?fieldSelector=metadata.name%3Down"),
        request("GET", "/secrets/own"),
        ["GET", "/api/v1/nodes/orca", null, null, null],
        ["GET", "/api/v1/pods?fieldSelector=spec.nodeName%3Dorca", null, null, null],
    ]);
    let (_, answers) = ask(ns, "intruder", &allowed)?;
    for (request, (code, body)) in allowed.as_array().context("a list")?.iter().zip(&answers) {
        ensure!(*code == 200, "{request} was answered {code} {body}, expected 200");
        ensure!(!body.contains("victim") && !body.contains("foreign"), "{request} shows another pod: {body}");
    }

    let audience = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": ["vault"], "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "intruder", "uid": own}}});
    let for_victim = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "victim", "uid": victim}}});
    let unbound = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let token_path = format!("{here}/serviceaccounts/default/token");
    let denied = json!([
        request("GET", "/secrets/foreign"),
        request("GET", "/secrets?fieldSelector=metadata.name%3Dforeign"),
        request("GET", "/secrets"),
        ["GET", "/api/v1/secrets", null, null, null],
        ["GET", "/api/v1/secrets?fieldSelector=metadata.name%3Down", null, null, null],
        request("GET", "/secrets?fieldSelector=metadata.name%3Down&fieldSelector=metadata.name%3Dforeign"),
        request("GET", "/configmaps"),
        ["GET", format!("{here}/pods/../secrets/foreign"), null, null, null],
        request("GET", "/pods%2Fvictim"),
        request("DELETE", "/pods/victim"),
        ["GET", "/api/v1/nodes", null, null, null],
        ["GET", "/api/v1/nodes/other", null, null, null],
        ["GET", "/api/v1/namespaces", null, null, null],
        ["POST", format!("{here}/pods"), null, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "new"}, "spec": {}}, null],
        ["POST", token_path, null, audience, null],
        ["POST", token_path, null, for_victim, null],
        ["POST", token_path, null, unbound, null],
        patch("victim", status(&victim, json!({"phase": "Failed"}))),
        patch("intruder", json!({"metadata": {"uid": own, "annotations": {"a": "b"}}, "status": {"phase": "Running"}})),
        patch("intruder", status(&own, json!({"podIP": "10.88.9.9", "podIPs": [{"ip": "10.88.9.9"}]}))),
        patch("intruder", status(&own, json!({"hostIP": "10.88.9.9"}))),
        ["PATCH", format!("{here}/pods/intruder"), merge, {"metadata": {"labels": {"app": "victim"}}}, null],
    ]);
    let (_, answers) = ask(ns, "intruder", &denied)?;
    let mut open = Vec::new();
    for (request, (code, body)) in denied.as_array().context("a list")?.iter().zip(&answers) {
        if *code != 403 {
            open.push(format!("{request}: {code} {body}"));
        }
        ensure!(!body.contains("dGhlaXJz"), "{request} gave the other pod's Secret away");
    }
    ensure!(open.is_empty(), "holes:\n{}", open.join("\n"));

    let (token, _) = ask(ns, "intruder", &json!([]))?;
    let stolen = json!([["GET", format!("{here}/secrets/own"), null, null, token]]);
    let (_, answers) = ask(ns, "intruder2", &stolen)?;
    ensure!(
        answers.iter().all(|(code, _)| matches!(code, 401 | 403)),
        "another machine's token works: {answers:?}"
    );
    Ok(())
}
