//! Startup, readiness and liveness probes, each of every kind, in two containers of one pod.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::world::{Namespace, REGISTRY, START, condition, container};

pub(crate) const TESTS: &[crate::Test] =
    &[("pod::startup_readiness_and_liveness_probes_are_kept_by_exec_http_tcp_and_grpc", probes)];

const PODS: &str = r#"
containers:
- name: web
  image: python:3
  command: [sh, -c, 'mkdir -p /www && cd /www && touch index.html && sleep 2 && exec python3 -m http.server 8080']
  startupProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 60}
  readinessProbe: {httpGet: {path: /ready, port: 8080}, periodSeconds: 1}
  livenessProbe: {exec: {command: [test, '!', -e, /www/sick]}, periodSeconds: 1, failureThreshold: 1}
- name: health
  image: registry.k8s.io/e2e-test-images/agnhost:2.63.0
  command: [/agnhost, grpc-health-checking, --port=5000, --http-port=8081]
  startupProbe: {grpc: {port: 5000}, periodSeconds: 1, failureThreshold: 60}
  readinessProbe: {grpc: {port: 5000}, periodSeconds: 1, failureThreshold: 1}
  livenessProbe: {grpc: {port: 5000}, periodSeconds: 1, failureThreshold: 5}
"#;

fn probes(ns: &Namespace<'_>) -> Result<()> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/agnhost.sh");
    let pushed = Command::new(script).arg(REGISTRY).status()?;
    ensure!(pushed.success(), "agnhost.sh ended with {pushed}");
    ns.pod("probed", PODS)?;
    let is = |pod: &serde_json::Value, name: &str, key: &str| {
        container(pod, name).is_some_and(|it| it[key] == true)
    };
    let started = ns.await_pod("probed", "to have started", START, |pod| {
        is(pod, "web", "started") && is(pod, "health", "ready")
    })?;
    ensure!(condition(&started, "Ready") == Some("False"), "ready before its page is there");
    ns.run(&["exec", "probed", "-c", "web", "--", "touch", "/www/ready"])?;
    let minute = Duration::from_secs(60);
    ns.await_pod("probed", "to be Ready", minute, |pod| condition(pod, "Ready") == Some("True"))?;
    let both = "import urllib.request as u; u.urlopen('http://127.0.0.1:8081/make-not-serving'); open('/www/sick', 'w')";
    ns.run(&["exec", "probed", "-c", "web", "--", "python3", "-c", both])?;
    ns.await_pod("probed", "to be unready by its gRPC probe", minute, |pod| {
        container(pod, "health").is_some_and(|it| it["ready"] == false && it["restartCount"] == 0)
    })?;
    for name in ["web", "health"] {
        ns.await_pod("probed", &format!("to have {name} restarted by its liveness probe"), minute, |pod| {
            container(pod, name).is_some_and(|it| it["restartCount"] == 1)
        })?;
    }
    ns.await_pod("probed", "to have gRPC serve again", minute, |pod| is(pod, "health", "ready"))?;
    let events = ns.events("probed")?;
    for told in ["Unhealthy: Liveness probe failed", "service unhealthy (responded with \"NOT_SERVING\")"] {
        ensure!(events.contains(told), "`{told}` is not in {events}");
    }
    Ok(())
}
