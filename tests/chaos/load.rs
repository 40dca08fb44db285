//! What is asked of the cluster: pods, Jobs and Deployments that come and go, one after the other in each place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::api::Api;
use crate::check::records::EXIT;
use crate::seed::{End, Load, Tenant};

/// Between two looks at an object.
const LOOK: Duration = Duration::from_secs(1);

/// One place, until it is told to stop; what is there then stays.
pub(crate) struct Place<'a> {
    pub(crate) api: &'a Api,
    pub(crate) namespace: &'a str,
    pub(crate) number: u64,
    pub(crate) stop: &'a AtomicBool,
}

impl Place<'_> {
    /// Lets one tenant in after the other.
    pub(crate) fn run(&self, load: Load) -> Result<()> {
        for (count, (pause, tenant)) in load.enumerate() {
            if !self.sleep(pause) {
                break;
            }
            self.host(&format!("p{}-{count}", self.number), &tenant)?;
        }
        Ok(())
    }

    fn host(&self, name: &str, tenant: &Tenant) -> Result<()> {
        match tenant {
            Tenant::Pod { runs, exit } => {
                let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta(name, Some(*exit)),
                                 "spec": spec(&ends(*runs, *exit), "Never")});
                self.api.create(&self.core("pods", ""), &pod)?;
                self.until(&self.core("pods", name), is_over)?;
                self.remove(&self.core("pods", name), &json!({}))
            }
            Tenant::Job { runs, exit } => {
                let template =
                    json!({"metadata": meta(name, Some(*exit)), "spec": spec(&ends(*runs, *exit), "Never")});
                // A pod that was lost with its machine is made again; one that failed by itself is not.
                let backs_off = if *exit == 0 { 20 } else { 0 };
                let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
                                 "spec": {"backoffLimit": backs_off, "template": template}});
                let all = format!("/apis/batch/v1/namespaces/{}/jobs", self.namespace);
                self.api.create(&all, &job)?;
                let path = format!("{all}/{name}");
                self.until(&path, |job| {
                    let conditions = job["status"]["conditions"].as_array();
                    conditions
                        .into_iter()
                        .flatten()
                        .any(|one| ["Complete", "Failed"].contains(&one["type"].as_str().unwrap_or_default()))
                })?;
                self.remove(&path, &json!({"propagationPolicy": "Background"}))
            }
            Tenant::Deployment { stays } => {
                let template = json!({"metadata": meta(name, None), "spec": spec(SERVE, "Always")});
                let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
                    "spec": {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}});
                let all = format!("/apis/apps/v1/namespaces/{}/deployments", self.namespace);
                self.api.create(&all, &deployment)?;
                let path = format!("{all}/{name}");
                self.until(&path, |it| it["status"]["availableReplicas"] == 1)?;
                if !self.sleep(*stays) {
                    return Ok(());
                }
                self.remove(&path, &json!({"propagationPolicy": "Background"}))
            }
            Tenant::Doomed { after, end } => {
                let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta(name, None),
                                 "spec": spec(SERVE, "Always")});
                self.api.create(&self.core("pods", ""), &pod)?;
                if !self.sleep(*after) {
                    return Ok(());
                }
                let options = match end {
                    End::Graceful => json!({}),
                    End::Forced => json!({"gracePeriodSeconds": 0}),
                };
                self.remove(&self.core("pods", name), &options)
            }
        }
    }

    /// Deletes it, and waits until it is gone.
    fn remove(&self, path: &str, options: &Value) -> Result<()> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.api.delete(path, options)?;
        while self.api.get(path)?.is_some() && self.sleep(LOOK) {}
        Ok(())
    }

    /// Waits until it is as wanted, gone, or all is stopped.
    fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        while self.api.get(path)?.is_some_and(|it| !wanted(&it)) && self.sleep(LOOK) {}
        Ok(())
    }

    /// False when all is stopped.
    fn sleep(&self, time: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < time && !self.stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50).min(time));
        }
        !self.stop.load(Ordering::Relaxed)
    }

    fn core(&self, plural: &str, name: &str) -> String {
        let path = format!("/api/v1/namespaces/{}/{plural}/{name}", self.namespace);
        path.trim_end_matches('/').to_owned()
    }
}

/// Whether a pod's phase is final.
pub(crate) fn is_over(pod: &Value) -> bool {
    ["Succeeded", "Failed"].contains(&pod["status"]["phase"].as_str().unwrap_or_default())
}

const SERVE: &str = "trap 'exit 0' TERM; while :; do echo here; sleep 3 & wait $!; done";

fn ends(runs: Duration, exit: i32) -> String {
    format!("trap 'exit 143' TERM; echo begin; sleep {} & wait $!; echo end; exit {exit}", runs.as_secs())
}

fn meta(name: &str, exit: Option<i32>) -> Value {
    let mut meta = json!({"name": name, "labels": {"app": name}});
    if let Some(exit) = exit {
        meta["annotations"] = json!({EXIT: exit.to_string()});
    }
    meta
}

fn spec(script: &str, restarts: &str) -> Value {
    json!({
        "restartPolicy": restarts, "terminationGracePeriodSeconds": 5,
        "nodeSelector": {"type": "virtual-kubelet"},
        "tolerations": [{"key": "virtual-kubelet.io/provider", "operator": "Exists"}],
        "containers": [{"name": "main", "image": "busybox:stable", "command": ["sh", "-c", script]}],
    })
}
