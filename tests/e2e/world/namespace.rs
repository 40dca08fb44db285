//! A namespace of one test, and kubectl in it.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{START, World, condition, container, eventually, pod, text};

/// A namespace of one test.
pub(crate) struct Namespace<'a> {
    pub(crate) world: &'a World,
    pub(crate) name: String,
}

impl Namespace<'_> {
    pub(super) fn create(&self) -> Result<()> {
        self.run(&["create", "namespace", &self.name])?;
        eventually("the default service account", Duration::from_secs(30), || {
            Ok(self.object("serviceaccounts", "default")?.map(drop).ok_or("none"))
        })
    }

    pub(super) fn delete(&self) -> Result<()> {
        self.run(&["delete", "namespace", &self.name, "--ignore-not-found", "--wait=false"])?;
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

    /// An object of the core API group; `plural` is its kind in a path.
    fn object(&self, plural: &str, name: &str) -> Result<Option<Value>> {
        self.world.cluster.get(&format!("/api/v1/namespaces/{}/{plural}/{name}", self.name))
    }

    /// The pod, as it is now.
    pub(crate) fn get_pod(&self, name: &str) -> Result<Value> {
        self.object("pods", name)?.with_context(|| format!("there is no pod {name}"))
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
            let pod = self.get_pod(name)?;
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
            Ok(self.object("pods", name)?.map_or(Ok(()), |mut pod| Err(pod["status"].take())))
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

    /// The instance of one pod of several.
    pub(crate) fn instance_of(&self, pod: &str) -> Result<Value> {
        let all = self.instances()?;
        let own = all.iter().find(|instance| instance["tags"]["orca.research/pod-name"] == pod).cloned();
        own.with_context(|| format!("pod {pod} has no instance among {all:?}"))
    }

    /// How often the container `main` of a pod was started again.
    pub(crate) fn restarts(&self, pod: &str) -> Result<i64> {
        let pod = self.get_pod(pod)?;
        container(&pod, "main").and_then(|main| main["restartCount"].as_i64()).context("restartCount")
    }

    /// Waits until a command can be run in a pod.
    pub(crate) fn exec_works(&self, pod: &str) -> Result<()> {
        eventually("exec to work again", Duration::from_secs(90), || {
            let (code, out, error) = self.exit(&["exec", pod, "--", "echo", "here"])?;
            Ok(if code == 0 && out == "here\n" { Ok(()) } else { Err(error) })
        })
    }

    /// Reasons and messages of the events about an object.
    pub(crate) fn events(&self, name: &str) -> Result<String> {
        let selector = format!("involvedObject.name={name}");
        let format = "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}";
        self.run(&["get", "events", "--field-selector", &selector, "-o", format])
    }

    pub(super) fn dump(&self) {
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
