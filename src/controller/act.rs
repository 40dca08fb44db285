//! Carries out decisions. Every act may be done twice; every one that changes the cloud is told to the audit log.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::{Value, json};

use super::observe::Seen;
use super::{Core, Slot, deadline, metrics};
use crate::clock;
use crate::cloud::audit::Deed;
use crate::cloud::{CloudError, Instance, Lifecycle, Purchase};
use crate::failpoint::{self, Write};
use crate::link::Machine;
use crate::pod::decide::{Action, Decision, Starved};
use crate::pod::intent::Intent;
use crate::pod::state::State;
use crate::pod::status::{self, StatusChange};

/// After an act that changed something, its effect is looked at soon.
pub(super) const SOON: Duration = Duration::from_millis(50);

/// Why a pass could not do what was decided.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the API server: {0}")]
    Kube(#[from] kube::Error),
    #[error("the cloud: {0}")]
    Cloud(#[from] CloudError),
    /// Nothing was written: the pod is not as it was when that was decided.
    #[error("the pod has changed meanwhile")]
    Changed,
}

impl Failure {
    /// A bounded name, for metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Kube(_) => "kube",
            Self::Cloud(error) => error.kind(),
            Self::Changed => "changed",
        }
    }
}

impl Core {
    /// Carries out a decision: revocations, then the status, then the rest in order. Says when to look again.
    pub(super) async fn act(
        &self,
        uid: &str,
        seen: &Seen,
        decision: Decision,
        slot: &mut Slot,
    ) -> Result<Option<Duration>, Failure> {
        if let Some(about) = seen.reference(uid) {
            for note in &decision.notes {
                self.story.tell(about.clone(), note.clone());
            }
        }
        let (state, mut again) = (decision.state, decision.again);
        let steps = decision.into_steps();
        let was_shown = seen.link.as_ref().is_some_and(|link| link.shown);
        let mut is_shown = false;
        for action in &steps.revocations {
            if let Action::Revoke { instance_id } = action {
                is_shown |= self.links.revoke(uid);
                self.table.update(uid, |row| row.memory.revoked = Some(instance_id.clone()));
            }
        }
        if !was_shown && (is_shown || self.links.status(uid).is_some_and(|link| link.shown)) {
            return Ok(Some(SOON));
        }
        if let (Some(pod), Some(change)) = (&seen.pod, &steps.status) {
            self.write_status(uid, pod, change).await?;
        }
        for action in steps.rest {
            match action {
                Action::Revoke { .. } => {}
                Action::Launch(launch) => {
                    if let Some(pod) = &seen.pod {
                        again = self.launch(uid, pod.clone(), launch, slot).await?;
                    }
                }
                Action::Record(intent) | Action::Adopt(intent) => {
                    if let Some(pod) = &seen.pod {
                        self.write_intent(uid, pod, &intent).await?;
                    }
                    again = again.min(SOON);
                }
                Action::EnsureLink { instance_id } => {
                    if let Some(instance) = seen.instances.iter().find(|one| one.id == instance_id) {
                        self.ensure_link(uid, seen, instance).await?;
                    }
                }
                Action::ShutDown { instance_id } => {
                    self.links.shut_down(uid);
                    self.avoid_taken(seen, &instance_id);
                    self.table.update(uid, |row| row.memory.draining = Some(instance_id));
                }
                Action::RemoveLink => self.links.remove(uid),
                Action::LastWords { instance_id } => {
                    self.table.update(uid, |row| row.memory.heard = Some(instance_id.clone()));
                    self.hear(uid, seen, &instance_id).await;
                }
                Action::Terminate { instance_id, why } => {
                    self.terminate(uid, seen, &instance_id, why).await?;
                }
                Action::DeletePod => {
                    if let Some(pod) = &seen.pod {
                        self.delete_pod(uid, pod).await?;
                    }
                    again = again.min(SOON);
                }
            }
        }
        // A watch that still shows the pod must not bring it back to life.
        if state == State::Gone && self.pods.by_uid(uid).is_none() {
            self.table.forget(uid);
            return Ok(None);
        }
        Ok(Some(again))
    }

    /// The pool of a spot machine that is taken back is better not asked for a while.
    fn avoid_taken(&self, seen: &Seen, instance_id: &str) {
        let Some(taken) = seen.instances.iter().find(|one| one.id == instance_id) else { return };
        if taken.bought.lifecycle == Lifecycle::Spot {
            self.starved(&Starved {
                code: "Server.InsufficientInstanceCapacity".to_owned(),
                message: String::new(),
                purchase: Purchase::of(&taken.bought),
                instance_type: taken.instance_type.clone(),
                zone: taken.zone.clone(),
                subnet_id: taken.subnet_id.clone(),
            });
        }
    }

    async fn write_status(&self, uid: &str, pod: &Pod, change: &StatusChange) -> Result<(), Failure> {
        let Some(patch) = status::patch(pod, change, clock::now()) else {
            return Ok(());
        };
        let api = self.api(pod);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let (params, patch) = (PatchParams::default(), Patch::Strategic(patch));
        let call = failpoint::around(Write::Status, api.patch_status(name, &params, &patch));
        let answer = deadline("writing the status of a pod", call).await;
        self.answered(uid, pod, answer).await.map(drop)
    }

    /// Writes an intent into the pod's annotations, in one request, over the pod as it was seen and no other: what a
    /// process that is gone left on its way must not hide what its successor launched. Answers the pod as it is now,
    /// or `None` if it is gone.
    pub(super) async fn write_intent(
        &self,
        uid: &str,
        pod: &Pod,
        intent: &Intent,
    ) -> Result<Option<Arc<Pod>>, Failure> {
        let annotations: Value = intent
            .annotations()
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.map_or(Value::Null, Value::String)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let version = &pod.metadata.resource_version;
        let patch = json!({"metadata": {"uid": uid, "resourceVersion": version, "annotations": annotations}});
        let api = self.api(pod);
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        let write = if intent.instance_id.is_some() { Write::Record } else { Write::Intent };
        let call = failpoint::around(write, api.patch(name, &params, &patch));
        let answer = deadline("writing the launch intent", call).await;
        self.answered(uid, pod, answer).await
    }

    async fn delete_pod(&self, uid: &str, pod: &Pod) -> Result<(), Failure> {
        let api = self.api(pod);
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let call = failpoint::around(Write::DeletePod, api.delete(name, &params));
        let answer = deadline("deleting a pod", call).await;
        match answer {
            // Finalizers of others may hold the object, so its absence is seen and not concluded.
            Ok(_) => Ok(()),
            Err(error) => self.answered(uid, pod, Err(error)).await.map(drop),
        }
    }

    /// Remembers the pod that was answered. An error that may mean "another pod has this name now" is looked into.
    async fn answered(
        &self,
        uid: &str,
        pod: &Pod,
        answer: Result<Pod, kube::Error>,
    ) -> Result<Option<Arc<Pod>>, Failure> {
        match answer {
            Ok(pod) => {
                let pod = Arc::new(pod);
                Ok(self.table.update(uid, |row| row.newest(Some(pod))))
            }
            Err(kube::Error::Api(status)) if [404, 409, 422].contains(&status.code) => {
                let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
                let live =
                    self.read_pod(uid, namespace.unwrap_or_default(), name.unwrap_or_default()).await?;
                let Some(live) = live else {
                    self.table.update(uid, |row| row.gone = true);
                    return Ok(None);
                };
                let is_news = live.metadata.resource_version != pod.metadata.resource_version;
                self.table.update(uid, |row| row.newest(Some(Arc::new(live))));
                Err(if status.code == 409 && is_news {
                    Failure::Changed
                } else {
                    kube::Error::Api(status).into()
                })
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn terminate(
        &self,
        uid: &str,
        seen: &Seen,
        instance_id: &str,
        why: &'static str,
    ) -> Result<(), Failure> {
        let is_own = seen.link.as_ref().is_some_and(|link| link.instance_id == instance_id);
        if is_own && let Some(logs) = &self.logs {
            logs.give_up(uid);
        }
        let call = failpoint::around(Write::Terminate, self.cloud.terminate(instance_id));
        let result = deadline("ending an instance", call).await;
        let pod = seen.name.as_ref().map(|(namespace, name)| format!("{namespace}/{name}"));
        let deed = Deed {
            action: "TerminateInstances",
            pod_uid: uid,
            pod: pod.as_deref().unwrap_or_default(),
            instance_id,
            detail: "",
            why,
        };
        deed.record(&result);
        self.metrics.terminations.get_or_create(&metrics::Why { why }).inc();
        match result {
            Ok(()) => {
                self.fleet.ended(instance_id, clock::steady());
                self.table.update(uid, |row| row.memory.ending = Some(clock::steady()));
            }
            // Of one that was launched a moment ago, that says nothing yet: it is still to be ended.
            Err(CloudError::NotFound { .. }) if self.fleet.missed(instance_id, clock::steady()) => {}
            Err(error) => return Err(error.into()),
        }
        self.wake_limited();
        Ok(())
    }

    async fn ensure_link(&self, uid: &str, seen: &Seen, instance: &Instance) -> Result<(), Failure> {
        let (Some(private_ip), Some(pod_ip), Some((pod_namespace, pod_name))) =
            (instance.private_ip, instance.pod_ip, seen.name.clone())
        else {
            return Ok(());
        };
        let missing = |what: String| CloudError::NotFound { code: "Unknown".to_owned(), message: what };
        self.market.ready().await?;
        if instance.bought.lifecycle == Lifecycle::CapacityBlock {
            self.market.want_reservations().await?;
        }
        let snapshot = self.market.snapshot();
        let offer = snapshot.catalog.types.get(&instance.instance_type);
        let offer = offer.ok_or_else(|| missing(format!("instance type `{}`", instance.instance_type)))?;
        let subnets = &snapshot.subnets;
        let subnet = subnets.iter().find(|subnet| subnet.id == instance.subnet_id);
        let bits = subnet.and_then(|subnet| subnet.cidr.split_once('/')?.1.parse().ok());
        let subnet_bits =
            bits.ok_or_else(|| missing(format!("the size of subnet `{}`", instance.subnet_id)))?;
        self.links.ensure(Machine {
            pod_uid: uid.to_owned(),
            pod_namespace,
            pod_name,
            instance_id: instance.id.clone(),
            instance_type: offer.shape.clone(),
            private_ip,
            pod_ip,
            subnet_bits,
            host_key: instance.tags.get(crate::cloud::TAG_HOST_KEY).cloned(),
            lifecycle: instance.bought.lifecycle,
            grace: seen.grace(),
        });
        Ok(())
    }

    fn api(&self, pod: &Pod) -> Api<Pod> {
        Api::namespaced(self.client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default())
    }
}
