//! Numbers: the pages of the node, `kubectl top` through a real metrics-server, and an autoscaler that acts on them.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::world::{Namespace, START, condition, eventually, indent};

pub(crate) const TESTS: &[crate::Test] =
    &[("stats::kubectl_top_shows_what_a_pod_uses_and_an_autoscaler_acts_on_it", numbers)];

/// metrics-server needs two readings, 15 s apart, of numbers that a kubelet renews every 10 to 15 s.
const READINGS: Duration = Duration::from_secs(120);
/// The autoscaler asks every 15 s, and believes the numbers of a pod that has been Ready for a while.
const SCALED: Duration = Duration::from_secs(240);

/// Busy for a part of the time: enough to be seen, and the host has other tests.
const BUSY: &str = "\
containers:
- name: main
  image: busybox:stable
  command: [sh, -c, 'while :; do n=0; while [ $n -lt 20000 ]; do n=$((n+1)); done; sleep 0.3; done']
  readinessProbe: {exec: {command: ['true']}, periodSeconds: 5}
  resources: {requests: {cpu: 5m}}
- name: idle
  image: busybox:stable
  command: [sleep, infinity]
  resources: {requests: {cpu: 5m}}
terminationGracePeriodSeconds: 1
nodeSelector: {type: virtual-kubelet}
tolerations: [{key: virtual-kubelet.io/provider, operator: Exists}]";

const SCALER: &str = "
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: busy}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: busy}
  minReplicas: 1
  maxReplicas: 2
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
";

fn numbers(ns: &Namespace<'_>) -> Result<()> {
    ns.world.script(&["metrics-server"])?;
    ns.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: busy}}\nspec:\n  selector: {{matchLabels: {{app: busy}}}}\n  \
         template:\n    metadata: {{labels: {{app: busy}}}}\n    spec:\n{}",
        indent(BUSY, 6)
    ))?;
    let pod = eventually("a pod to be Ready", START, || {
        let pods = pods(ns)?;
        let ready = pods.iter().find(|pod| condition(pod, "Ready") == Some("True"));
        Ok(ready
            .and_then(|pod| pod["metadata"]["name"].as_str())
            .map(str::to_owned)
            .ok_or_else(|| pods.clone()))
    })?;
    let used = rate(ns, &pod)?;
    ensure!((0.005..1.5).contains(&used), "{used} cores in use by {pod}");
    top(ns, &pod, used)?;
    pages(ns, &pod)?;
    scaled(ns)?;
    ns.run(&["delete", "horizontalpodautoscaler,deployment", "busy"])?;
    eventually("the numbers of pods that are gone to be gone", START, || {
        let page = raw(ns, "metrics/resource")?;
        Ok(if page.contains(&ns.name) { Err(page) } else { Ok(()) })
    })
}

fn pods(ns: &Namespace<'_>) -> Result<Vec<Value>> {
    let list = ns.world.get(&format!("/api/v1/namespaces/{}/pods", ns.name))?.unwrap_or_default();
    list["items"].as_array().cloned().context("a list of pods")
}

/// A page of the node, by the API server's proxy.
fn raw(ns: &Namespace<'_>, page: &str) -> Result<String> {
    ns.run(&["get", "--raw", &format!("/api/v1/nodes/orca/proxy/{page}")])
}

/// Value and milliseconds of a series of `/metrics/resource`.
fn sample(page: &str, series: &str) -> Option<(f64, i64)> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    let (value, at) = line.split_once(' ')?;
    Some((value.parse().ok()?, at.parse().ok()?))
}

/// CPU cores that the busy container uses, by two samples with different times.
#[expect(clippy::cast_precision_loss, reason = "a minute in milliseconds")]
fn rate(ns: &Namespace<'_>, pod: &str) -> Result<f64> {
    let busy = format!(
        "container_cpu_usage_seconds_total{{container=\"main\",namespace=\"{}\",pod=\"{pod}\"}}",
        ns.name
    );
    let mut first = None;
    eventually("two samples of the pod", READINGS, || {
        let page = raw(ns, "metrics/resource")?;
        let Some(now) = sample(&page, &busy).filter(|(used, _)| *used > 0.0) else { return Ok(Err(page)) };
        let before = *first.get_or_insert(now);
        Ok(if now.1 > before.1 {
            Ok((now.0 - before.0) / ((now.1 - before.1) as f64 / 1000.0))
        } else {
            Err(page)
        })
    })
}

/// What `kubectl top` says of a pod and of the node.
fn top(ns: &Namespace<'_>, pod: &str, used: f64) -> Result<()> {
    let row = |arguments: &[&str]| {
        eventually("kubectl top to know it", READINGS, || {
            let (code, out, error) = ns.exit(arguments)?;
            Ok(if code == 0 && !out.trim().is_empty() { Ok(out) } else { Err((out, error)) })
        })
    };
    let containers = row(&["top", "pod", pod, "--containers", "--no-headers"])?;
    let names: BTreeSet<&str> =
        containers.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    ensure!(names == BTreeSet::from(["main", "idle"]), "{containers}");
    let all = row(&["top", "pod", pod, "--no-headers"])?;
    let [_, cpu, memory] = all.split_whitespace().collect::<Vec<_>>()[..] else { anyhow::bail!("{all}") };
    let cores = number(cpu, "m")? / 1000.0;
    ensure!((used / 4.0..used * 4.0).contains(&cores), "{all} where {used} cores are in use");
    ensure!((0.0..200.0).contains(&number(memory, "Mi")?), "{all}");
    let node = row(&["top", "node", "orca", "--no-headers"])?;
    // The machine of the pod does more than the pod, and other tests have machines.
    let fields: Vec<&str> = node.split_whitespace().collect();
    ensure!(fields.len() == 5 && fields[0] == "orca", "{node}");
    let (cpu, memory) = (number(fields[1], "m")?, number(fields[3], "Mi")?);
    ensure!(cpu > 0.0 && cpu < 20_000.0 && memory > 10.0, "{node}");
    Ok(())
}

fn number(text: &str, unit: &str) -> Result<f64> {
    let number =
        text.strip_suffix(unit).with_context(|| format!("`{text}`, expected a number of `{unit}`"))?;
    number.parse().with_context(|| format!("`{text}`"))
}

/// Every page of the node is what its readers expect.
fn pages(ns: &Namespace<'_>, pod: &str) -> Result<()> {
    for (page, names) in [
        ("metrics/resource", ["container_memory_working_set_bytes", "pod_cpu_usage_seconds_total"]),
        ("metrics/cadvisor", ["container_network_receive_bytes_total", "container_memory_rss"]),
        ("metrics/probes", ["prober_probe_total", "prober_probe_duration_seconds_bucket"]),
    ] {
        let text = raw(ns, page)?;
        for name in names {
            let (start, label) = (format!("{name}{{"), format!("pod=\"{pod}\""));
            let is_there = |line: &str| line.starts_with(&start) && line.contains(&label);
            ensure!(text.lines().any(is_there), "{page} has no {name} of {pod}:\n{text}");
        }
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let series = line.split_once("} ").or_else(|| line.split_once(' ')).context("a sample")?.0;
            ensure!(seen.insert(series), "twice on {page}: {line}");
        }
    }
    let summary: Value = serde_json::from_str(&raw(ns, "stats/summary")?)?;
    let pods = summary["pods"].as_array().context("pods")?;
    let own = pods.iter().find(|one| one["podRef"]["name"] == pod).context("the pod's summary")?;
    ensure!(own["cpu"]["usageNanoCores"].as_u64().is_some_and(|used| used > 0), "{own:#}");
    let in_use = |of: &Value| of["memory"]["workingSetBytes"].as_u64();
    ensure!(in_use(&summary["node"]) > in_use(own), "{summary:#}");
    let process = raw(ns, "metrics")?;
    let asked = "orca_machine_scrapes_total{result=\"ok\"} ";
    let asked = process.lines().find_map(|line| line.strip_prefix(asked)).context("a count")?;
    ensure!(asked.parse::<u64>()? > 0, "{process}");
    Ok(())
}

/// The pod uses many times what it asked for, and half of that is wanted.
fn scaled(ns: &Namespace<'_>) -> Result<()> {
    ns.apply(SCALER)?;
    let path = format!("/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers/busy", ns.name);
    eventually("the autoscaler to ask for a second pod", SCALED, || {
        let mut scaler = ns.world.get(&path)?.unwrap_or_default();
        let bound = pods(ns)?.iter().filter(|pod| pod["spec"]["nodeName"] == "orca").count();
        let is_done = scaler["status"]["desiredReplicas"] == 2 && bound == 2;
        Ok(if is_done { Ok(()) } else { Err(scaler["status"].take()) })
    })
}
