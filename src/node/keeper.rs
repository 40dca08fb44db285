//! The loop that keeps the Node: read, compare, write what differs, create it when it is gone.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::core::v1::Node;
use kube::Error;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Deps, Health, events, reconcile, render};
use crate::clock;
use crate::failpoint::{self, Write};

/// As kubelets have it (`nodeStatusUpdateFrequency`).
const EVERY: Duration = Duration::from_secs(10);
/// One pass is three requests at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps the Node, and tells its UID. Returns only when the Node belongs to something else.
pub(super) async fn keep(mut deps: Deps, uid: watch::Sender<Option<String>>) -> anyhow::Result<()> {
    let mut keeper =
        Keeper { api: Api::all(deps.client.clone()), uid, told: Health::default(), dropped: BTreeSet::new() };
    let mut due = interval(EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut cloud_lives, mut logs_live, mut links_live) = (true, true, true);
    loop {
        tokio::select! {
            _ = due.tick() => {}
            changed = deps.cloud.changed(), if cloud_lives => cloud_lives = changed.is_ok(),
            changed = deps.logs.changed(), if logs_live => logs_live = changed.is_ok(),
            changed = deps.machines.changed(), if links_live => links_live = changed.is_ok(),
        }
        let health = Health {
            cloud: deps.cloud.borrow_and_update().clone(),
            logs: deps.logs.borrow_and_update().clone(),
            machines: deps.machines.borrow_and_update().clone(),
        };
        match timeout(PATIENCE, keeper.pass(&deps, &health)).await {
            Ok(Ok(())) => {}
            Ok(Err(Failure::Foreign(whose))) => bail!(whose),
            Ok(Err(Failure::Api(error))) if is_race(&error) => {
                tracing::debug!(error = %error, "the node changed meanwhile, looking again");
            }
            Ok(Err(Failure::Api(error))) => {
                tracing::warn!(node = deps.settings.name, error = %error, "keeping the node failed, trying again");
            }
            Err(_) => {
                tracing::warn!(
                    node = deps.settings.name,
                    "keeping the node took over {PATIENCE:?}, trying again"
                );
            }
        }
    }
}

struct Keeper {
    api: Api<Node>,
    uid: watch::Sender<Option<String>>,
    /// What the last events said.
    told: Health,
    /// Features that the API server does not keep (its gate is off): not sent again and again.
    dropped: BTreeSet<String>,
}

enum Failure {
    Foreign(String),
    Api(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Api(error)
    }
}

impl Keeper {
    async fn pass(&mut self, deps: &Deps, health: &Health) -> Result<(), Failure> {
        let name = &deps.settings.name;
        let mut features = (deps.features)();
        if features == self.dropped {
            features.clear();
        }
        let now = clock::now();
        let wanted = render::node(&deps.settings, health, &features, &(deps.ceilings)(), now);
        let node = match self.api.get_opt(name).await? {
            None => {
                let mut node = wanted.clone();
                reconcile::remember(&mut node);
                let params = PostParams::default();
                let call = self.api.create(&params, &node);
                let created = failpoint::around(Write::NodeCreate, call).await?;
                tracing::info!(node = name, "registered the node");
                created
            }
            Some(existing) => {
                reconcile::check_ours(&existing).map_err(Failure::Foreign)?;
                self.write(name, existing, &wanted).await?
            }
        };
        if kept_features(&node).is_empty() && !kept_features(&wanted).is_empty() {
            self.dropped = features;
        }
        self.uid.send_if_modified(|known| {
            let is_new = *known != node.metadata.uid;
            known.clone_from(&node.metadata.uid);
            is_new
        });
        let told = [
            events::about_cloud(&self.told.cloud, &health.cloud),
            events::about_machines(&self.told.machines, &health.machines),
            events::about_logs(&self.told.logs, &health.logs),
        ];
        self.told = health.clone();
        for event in told.into_iter().flatten() {
            if let Err(error) = events::send(&deps.client, name, &event, now).await {
                // The condition says the same; an event is told once or not at all.
                tracing::warn!(node = name, error = %error, "an event about the node was not taken");
            }
        }
        Ok(())
    }

    async fn write(&self, name: &str, mut node: Node, wanted: &Node) -> Result<Node, Error> {
        let params = PatchParams::default();
        if let Some(patch) = reconcile::metadata(&node, wanted) {
            let patch = Patch::<Value>::Merge(patch);
            let call = self.api.patch(name, &params, &patch);
            node = failpoint::around(Write::NodeMetadata, call).await?;
        }
        if let Some(patch) = reconcile::status(&node, wanted, clock::now()) {
            let patch = Patch::<Value>::Merge(patch);
            let call = self.api.patch_status(name, &params, &patch);
            node = failpoint::around(Write::NodeStatus, call).await?;
        }
        Ok(node)
    }
}

fn kept_features(node: &Node) -> &[String] {
    node.status.as_ref().and_then(|status| status.declared_features.as_deref()).unwrap_or_default()
}

/// Somebody else wrote, created or deleted it between our reading and our writing.
fn is_race(error: &Error) -> bool {
    matches!(error, Error::Api(status) if status.is_conflict() || status.is_already_exists() || status.is_not_found())
}

#[cfg(test)]
mod tests;
