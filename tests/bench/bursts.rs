//! From a pod that is bound to the call that launches its machine. The machines are states only.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};

use crate::configured::Configured;
use crate::gauge::{millis, now};
use crate::table::{Sample, Table};
use crate::world::{Namespace, World, eventually};

/// By UID: how long the POST of a pod took, and when it was answered (ms).
pub(crate) type Bound = BTreeMap<String, (f64, f64)>;

/// ORCA's.
pub(crate) const NODE: &str = "orca";
/// As many launches at once as can be configured: for what ORCA itself takes.
pub(crate) const UNLIMITED: (&str, &str) =
    ("limits:\n", "limits:\n  launchRate: { burst: 1000, perSecond: 1000 }\n");

/// For the machines of a burst.
const LIMIT: Duration = Duration::from_secs(150);

pub(crate) fn measure(table: &mut Table) -> Result<()> {
    let config = Configured::new(&[UNLIMITED])?;
    let world = World::start_with(&[("ORCA_MACHINES", "none"), ("ORCA_CONFIG", config.path()?)])?;
    let result = world.in_namespace(|ns| {
        for (size, rounds) in [(1, 20), (50, 1), (200, 1)] {
            let (mut waits, mut posts) = (Vec::new(), Vec::new());
            for round in 0..rounds {
                let bound = create(ns, NODE, &format!("burst-{size}-{round}"), size, &json!({}))?;
                posts.extend(bound.values().map(|(post, _)| *post));
                waits.extend(launches(ns, &bound, LIMIT)?);
            }
            let name = format!("bound → RunInstances sent, burst of {size}");
            let ours = Sample { name: &name, values: &waits };
            table.compare("ms", ours, Sample { name: "POST of the pod", values: &posts });
            ns.run(&["delete", "pods", "--all", "--force", "--grace-period=0", "--wait=false"])?;
            ns.await_no_instance(Duration::from_secs(120))?;
        }
        Ok(())
    });
    world.stop().and(result)
}

/// Creates pods that are bound to `node` already, sixteen at a time, with these annotations.
pub(crate) fn create(
    ns: &Namespace<'_>,
    node: &str,
    name: &str,
    size: usize,
    annotations: &Value,
) -> Result<Bound> {
    let file = kube::config::Kubeconfig::read_from(ns.world.kubeconfig())?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let config =
            kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default()).await?;
        let pods: Api<Pod> = Api::namespaced(kube::Client::try_from(config)?, &ns.name);
        // The connection is not what is measured.
        pods.list(&ListParams::default().limit(1)).await?;
        let one = async |index: usize| -> Result<(String, (f64, f64))> {
            let pod = serde_json::from_value(json!({
                "metadata": {"name": format!("{name}-{index}"), "annotations": annotations},
                "spec": {"nodeName": node, "tolerations": [{"operator": "Exists"}],
                         "containers": [{"name": "main", "image": "busybox:stable"}]},
            }))?;
            let begin = now();
            let answer = pods.create(&PostParams::default(), &pod).await?;
            let end = now();
            Ok((answer.metadata.uid.context("uid")?, (end - begin, end)))
        };
        futures::stream::iter(0..size).map(one).buffer_unordered(16).try_collect().await
    })
}

/// Milliseconds from each pod's binding to its launch. A launch that overtook the answer to the POST counts as 0.
pub(crate) fn launches(ns: &Namespace<'_>, bound: &Bound, limit: Duration) -> Result<Vec<f64>> {
    let all = eventually("every instance", limit, || {
        let mut all = ns.instances()?;
        all.retain(|instance| {
            let uid = instance["tags"]["orca.research/pod-uid"].as_str();
            uid.is_some_and(|uid| bound.contains_key(uid))
        });
        if all.len() == bound.len() {
            return Ok(Ok(all));
        }
        // A list of a thousand is work for the cloud whose answers are measured.
        std::thread::sleep(Duration::from_millis(10) * u32::try_from(bound.len()).unwrap_or(u32::MAX));
        Ok(Err(all.len()))
    })?;
    all.iter()
        .map(|instance| {
            let uid = instance["tags"]["orca.research/pod-uid"].as_str().context("uid")?;
            let (_, at) = bound.get(uid).context("an instance of another pod")?;
            let launched = instance["launched_at"].as_str().context("launched_at")?;
            Ok((millis(launched)? - at).max(0.0))
        })
        .collect()
}
