//! The world of the tests: `tests/cluster/world.sh` starts it and takes it down.

use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// How long a pod may take to its first container: boot, bootstrap, kubelet and pull, beside four others on two cores.
pub(crate) const START: Duration = Duration::from_secs(120);
/// The local cloud.
pub(crate) const CLOUD: &str = "http://127.0.0.1:4566";

/// A control plane, the local cloud and ORCA.
pub(crate) struct World {
    top: PathBuf,
    state: PathBuf,
    kubectl: PathBuf,
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
        let world =
            Self { state, kubectl: cache().join("bin/kubernetes/kubectl"), top, count: AtomicU32::new(0) };
        if !world.kept() {
            world.script_with(&["up"], variables)?;
        }
        Ok(world)
    }

    /// `make up` was there before us.
    fn kept(&self) -> bool {
        self.state.join("up").exists() && std::env::var_os("ORCA_KEEP_WORLD").is_some()
    }

    /// Ends it. An instance that is left is a failure: every test deletes its namespace, and machines follow their pods.
    pub(crate) fn stop(&self) -> Result<()> {
        let left = eventually("the last instance to end", Duration::from_secs(90), || {
            let left = self.instances(|_| true)?;
            Ok(left.is_empty().then_some(()).ok_or(left))
        });
        if !self.kept() {
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
        let script = self.top.join("tests/cluster/world.sh");
        let programs = Path::new(env!("CARGO_BIN_EXE_orca")).parent().context("programs folder")?.to_owned();
        let status = Command::new(script)
            .args(arguments)
            .env("ORCA_PROGRAMS", programs)
            .envs(variables.iter().copied())
            .status()?;
        ensure!(status.success(), "world.sh {arguments:?} ended with {status}");
        Ok(())
    }

    /// Runs a test in a namespace of its own, which is deleted afterwards; on failure everything about it is shown.
    pub(crate) fn in_namespace(&self, test: impl FnOnce(&Namespace<'_>) -> Result<()>) -> Result<()> {
        let name = format!("e2e-{}-{}", std::process::id(), self.count.fetch_add(1, Ordering::Relaxed));
        let namespace = Namespace { world: self, name };
        namespace.create()?;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&namespace)));
        if !matches!(result, Ok(Ok(()))) {
            namespace.dump();
        }
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

/// A namespace of one test.
pub(crate) struct Namespace<'a> {
    pub(crate) world: &'a World,
    pub(crate) name: String,
}

impl Namespace<'_> {
    fn create(&self) -> Result<()> {
        self.run(&["create", "namespace", &self.name])?;
        eventually("the default service account", Duration::from_secs(30), || {
            let output = self.output(&["get", "serviceaccount", "default"])?;
            Ok(output.status.success().then_some(()).ok_or_else(|| text(&output.stderr)))
        })
    }

    fn delete(&self) -> Result<()> {
        self.run(&["delete", "namespace", &self.name, "--ignore-not-found", "--timeout=120s"])?;
        Ok(())
    }

    /// `kubectl -n NAMESPACE …`, ready to run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.world.kubectl);
        command.arg("--kubeconfig").arg(self.world.kubeconfig()).args(["-n", &self.name]).args(arguments);
        command
    }

    /// Its output, whatever the exit code.
    pub(crate) fn output(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).stdin(Stdio::null()).output().context("running kubectl")
    }

    /// Its standard output; another exit code than 0 is an error.
    pub(crate) fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments)?;
        ensure!(
            output.status.success(),
            "kubectl {arguments:?} ended with {}: {}",
            output.status,
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// Its exit code, standard output and standard error.
    pub(crate) fn exit(&self, arguments: &[&str]) -> Result<(i32, String, String)> {
        let output = self.output(arguments)?;
        Ok((output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr)))
    }

    /// With bytes on its standard input.
    pub(crate) fn pipe(&self, arguments: &[&str], input: &[u8]) -> Result<Output> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        std::thread::scope(|scope| {
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().context("running kubectl")
        })
    }

    /// In the background; ended when the answer is dropped.
    pub(crate) fn background(&self, arguments: &[&str]) -> Result<Background> {
        let child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Background(child))
    }

    /// Applies manifests.
    pub(crate) fn apply(&self, manifests: &str) -> Result<()> {
        let output = self.pipe(&["apply", "-f", "-"], manifests.as_bytes())?;
        ensure!(output.status.success(), "kubectl apply: {}\n{manifests}", text(&output.stderr));
        Ok(())
    }

    /// Applies a pod whose spec is `spec` (YAML, not indented).
    pub(crate) fn pod(&self, name: &str, spec: &str) -> Result<()> {
        self.apply(&pod(name, spec))
    }

    /// Applies a pod and waits until it is Ready.
    pub(crate) fn ready_pod(&self, name: &str, spec: &str) -> Result<()> {
        self.pod(name, spec)?;
        self.await_pod(name, "to be Ready", START, |pod| condition(pod, "Ready") == Some("True"))?;
        Ok(())
    }

    /// The object, as JSON.
    pub(crate) fn get(&self, kind: &str, name: &str) -> Result<Value> {
        serde_json::from_str(&self.run(&["get", kind, name, "-o", "json"])?).context("kubectl's JSON")
    }

    /// Waits until the pod is as wanted, and returns it.
    pub(crate) fn await_pod(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        eventually(&format!("pod {name} {what}"), deadline, || {
            let pod = self.get("pod", name)?;
            Ok(if wanted(&pod) { Ok(pod) } else { Err(pod["status"].clone()) })
        })
    }

    /// Waits for a phase, and returns the pod.
    pub(crate) fn await_phase(&self, name: &str, phase: &str) -> Result<Value> {
        self.await_pod(name, &format!("to be {phase}"), START, |pod| pod["status"]["phase"] == phase)
    }

    /// Waits until there is no such pod.
    pub(crate) fn await_gone(&self, name: &str, deadline: Duration) -> Result<()> {
        eventually(&format!("pod {name} to be gone"), deadline, || {
            let output = self.output(&["get", "pod", name, "-o", "jsonpath={.status.phase}"])?;
            let gone = text(&output.stderr).contains("NotFound");
            Ok(gone.then_some(()).ok_or_else(|| text(&output.stdout)))
        })
    }

    /// Instances of this namespace's pods that may still run.
    pub(crate) fn instances(&self) -> Result<Vec<Value>> {
        self.world.instances(|instance| instance["tags"]["orca.research/pod-namespace"] == self.name.as_str())
    }

    /// Waits until no instance of this namespace is left.
    pub(crate) fn await_no_instance(&self, deadline: Duration) -> Result<()> {
        eventually("no instance to be left", deadline, || {
            let left = self.instances()?;
            Ok(left.is_empty().then_some(()).ok_or(left))
        })
    }

    /// The one instance of this namespace.
    pub(crate) fn instance(&self) -> Result<Value> {
        let mut all = self.instances()?;
        ensure!(all.len() == 1, "{} instances where one was expected: {all:?}", all.len());
        all.pop().context("one instance")
    }

    /// Reasons and messages of the events about an object.
    pub(crate) fn events(&self, name: &str) -> Result<String> {
        let selector = format!("involvedObject.name={name}");
        let format = "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}";
        self.run(&["get", "events", "--field-selector", &selector, "-o", format])
    }

    fn dump(&self) {
        eprintln!("--- namespace {} ---", self.name);
        for arguments in [&["get", "pods", "-o", "yaml"][..], &["get", "events", "--sort-by=.lastTimestamp"]]
        {
            match self.output(arguments) {
                Ok(output) => eprintln!("{}{}", text(&output.stdout), text(&output.stderr)),
                Err(error) => eprintln!("{error:#}"),
            }
        }
        eprintln!("instances: {:#?}", self.instances().unwrap_or_default());
        let log = self.world.log("orca.log").unwrap_or_default();
        let about: Vec<&str> = log.lines().filter(|line| line.contains(&self.name)).collect();
        eprintln!("orca: {}", about[about.len().saturating_sub(60)..].join("\n"));
    }
}

/// A kubectl in the background.
pub(crate) struct Background(pub(crate) Child);

impl Drop for Background {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
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
