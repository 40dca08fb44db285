//! The world of the tests: `tests/cluster/world.sh` starts it and takes it down.

// Named by path, since the benchmarks include this file from another folder.
#[path = "world/clients.rs"]
pub(crate) mod clients;
#[path = "world/cluster.rs"]
mod cluster;
#[path = "world/namespace.rs"]
pub(crate) mod namespace;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use cluster::Cluster;
pub(crate) use namespace::Namespace;

/// How long a pod may take to its first container: boot, bootstrap, kubelet and pull, beside four others on two cores.
pub(crate) const START: Duration = Duration::from_secs(120);
/// The local cloud.
pub(crate) const CLOUD: &str = "http://127.0.0.1:4566";
const METRICS: &str = "http://127.0.0.1:9090/metrics";
/// The image registry beside it.
pub(crate) const REGISTRY: &str = "127.0.0.1:5000";
/// What the names of the tests' namespaces begin with.
const PREFIX: &str = "e2e-";

/// A control plane, the local cloud and ORCA.
pub(crate) struct World {
    top: PathBuf,
    state: PathBuf,
    kubectl: PathBuf,
    cluster: Cluster,
    count: AtomicU32,
}

impl World {
    /// Starts it; a world that is up already is used as it is, and left up.
    pub(crate) fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts it, with variables for `world.sh`.
    pub(crate) fn start_with(variables: &[(&str, &str)]) -> Result<Self> {
        let top = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let state = top.join("target/local");
        if !kept(&state) {
            script(&top, &["up"], variables)?;
        }
        let cluster = Cluster::new(&state.join("kubeconfig"))?;
        let kubectl = cache().join("bin/kubernetes/kubectl");
        Ok(Self { top, state, kubectl, cluster, count: AtomicU32::new(0) })
    }

    /// Ends it. A namespace, an instance, or a volume or network interface without one that is left is a failure: every
    /// test has its namespace deleted, machines follow their pods, and what they have goes with them.
    pub(crate) fn stop(&self) -> Result<()> {
        let left = eventually("the last namespace and instance to end", Duration::from_secs(90), || {
            let instances = self.instances(|_| true)?;
            let namespaces = self.cluster.get("/api/v1/namespaces")?.unwrap_or_default()["items"].take();
            let names =
                namespaces.as_array().into_iter().flatten().filter_map(|it| it["metadata"]["name"].as_str());
            let names: Vec<String> =
                names.filter(|name| name.starts_with(PREFIX)).map(str::to_owned).collect();
            let devices = http("GET", "/_local/left", None)?;
            let is_clean = instances.is_empty() && names.is_empty() && devices == json!([]);
            Ok(if is_clean { Ok(()) } else { Err((instances, names, devices)) })
        });
        if !kept(&self.state) {
            self.script(&["down"])?;
        }
        left
    }

    /// `world.sh` with arguments.
    pub(crate) fn script(&self, arguments: &[&str]) -> Result<()> {
        self.script_with(arguments, &[])
    }

    /// The same, with variables for it.
    pub(crate) fn script_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
        script(&self.top, arguments, variables)
    }

    /// Runs a test in a namespace of its own, which is deleted afterwards; on failure everything about it is shown.
    pub(crate) fn in_namespace(&self, test: impl FnOnce(&Namespace<'_>) -> Result<()>) -> Result<()> {
        let name = format!("{PREFIX}{}-{}", std::process::id(), self.count.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace { world: self, name };
        namespace.create()?;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&namespace)));
        if !matches!(result, Ok(Ok(()))) {
            namespace.dump();
        }
        // Its machines go while other tests go on; that they do is looked at in the end.
        let deleted = namespace.delete();
        match result {
            Ok(result) => result.and(deleted),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Instances that are not terminated, as the local cloud's control endpoint lists them, narrowed by `keep`.
    pub(crate) fn instances(&self, keep: impl Fn(&Value) -> bool) -> Result<Vec<Value>> {
        let all = http("GET", "/_local/instances", None)?;
        let all = all.as_array().cloned().context("the local cloud's list of instances")?;
        Ok(all.into_iter().filter(|instance| instance["state"] != "terminated").filter(keep).collect())
    }

    /// The object at a path of the API; `None` if there is none.
    pub(crate) fn get(&self, path: &str) -> Result<Option<Value>> {
        self.cluster.get(path)
    }

    /// The kubeconfig of the cluster's administrator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.file("kubeconfig")
    }

    /// A file of the world's state.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// A file of the world's state: logs, and the API server's record of what ORCA asked it for.
    pub(crate) fn log(&self, name: &str) -> Result<String> {
        let path = self.file(name);
        std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    }
}

/// `make up` was there before us.
fn kept(state: &Path) -> bool {
    state.join("up").exists() && std::env::var_os("ORCA_KEEP_WORLD").is_some()
}

fn script(top: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<()> {
    let script = top.join("tests/cluster/world.sh");
    let programs = Path::new(env!("CARGO_BIN_EXE_orca")).parent().context("programs folder")?.to_owned();
    let status = Command::new(script)
        .args(arguments)
        .env("ORCA_PROGRAMS", programs)
        .envs(variables.iter().copied())
        .status()?;
    ensure!(status.success(), "world.sh {arguments:?} ended with {status}");
    Ok(())
}

/// A pod for the virtual node, with a short grace period unless the spec says otherwise.
pub(crate) fn pod(name: &str, spec: &str) -> String {
    let grace = if spec.contains("terminationGracePeriodSeconds") {
        ""
    } else {
        "\n  terminationGracePeriodSeconds: 1"
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec:\n{}{grace}\n  \
         nodeSelector: {{type: virtual-kubelet}}\n  tolerations: [{{key: virtual-kubelet.io/provider, operator: Exists}}]\n",
        indent(spec, 2)
    )
}

/// Indents every line.
pub(crate) fn indent(text: &str, by: usize) -> String {
    let prefix = " ".repeat(by);
    text.trim_matches('\n').lines().map(|line| format!("{prefix}{line}")).collect::<Vec<_>>().join("\n")
}

/// The status of a pod's condition.
pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a str> {
    let all = pod["status"]["conditions"].as_array()?;
    all.iter().find(|condition| condition["type"] == kind)?["status"].as_str()
}

/// The status of a container, init and ephemeral ones too.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"]
        .iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten()
        .find(|status| status["name"] == name)
}

/// The exit code of a container that ended.
pub(crate) fn exit_code(pod: &Value, name: &str) -> Option<i64> {
    container(pod, name)?["state"]["terminated"]["exitCode"].as_i64()
}

/// The pod's address.
pub(crate) fn pod_ip(pod: &Value) -> Result<Ipv4Addr> {
    pod["status"]["podIP"].as_str().context("status.podIP")?.parse().context("status.podIP")
}

/// Asks again and again until there is an answer; the last thing seen instead is told.
pub(crate) fn eventually<T, S: std::fmt::Debug>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> Result<Result<T, S>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        match ask()? {
            Ok(answer) => return Ok(answer),
            Err(seen) if start.elapsed() > deadline => {
                bail!("waited {deadline:?} for {what}; last seen: {seen:#?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(200)),
        }
    }
}

/// One request to the local cloud's control endpoint.
pub(crate) fn http(method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let url = format!("{CLOUD}{path}");
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail-with-body", "-m", "30", "-X", method, &url]);
    if let Some(body) = body {
        command.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
    }
    let output = command.output()?;
    ensure!(output.status.success(), "{method} {path}: {}{}", text(&output.stdout), text(&output.stderr));
    Ok(if output.stdout.is_empty() { Value::Null } else { serde_json::from_slice(&output.stdout)? })
}

/// The running ORCA's page of metrics.
pub(crate) fn metrics() -> Result<String> {
    let output = Command::new("curl").args(["-sS", "--fail", "-m", "10", METRICS]).output()?;
    ensure!(output.status.success(), "{METRICS}: {}", text(&output.stderr));
    Ok(text(&output.stdout))
}

/// One series of it, named with its labels as it is there.
pub(crate) fn metric(series: &str) -> Result<f64> {
    let page = metrics()?;
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.with_context(|| format!("no metric `{series}`"))?.parse().context("a number")
}

/// Where programs and images are cached, as in the Makefile.
pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into()));
    let shared = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home().join(".cache"), PathBuf::from);
    std::env::var_os("ORCA_CACHE").map_or_else(|| shared.join("orca"), PathBuf::from)
}

/// Bytes as text.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
