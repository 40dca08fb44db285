//! Launching a machine: write the intent, call RunInstances with its token, write the id.
//!
//! A crash at any point leads to the same instance or to none; every error says what is done next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;

use super::act::Failure;
use super::fleet::Seat;
use super::market::Shelf;
use super::{Core, Slot, back_off, deadline, metrics};
use crate::capacity::plan::{Candidate, Offers, Plan, plan, unknown_type, wanted_type};
use crate::clock;
use crate::cloud::audit::Deed;
use crate::cloud::{
    CloudError, Image, Instance, LaunchSpec, TAG_CLUSTER, TAG_EPOCH, TAG_NODE, TAG_POD_NAME,
    TAG_POD_NAMESPACE, TAG_POD_UID,
};
use crate::pod::ask::{self, Rejection};
use crate::pod::decide::{Hold, Launch, Note, NoteKind, Starved};
use crate::pod::intent::Intent;
use crate::pod::reasons;

/// Between rounds in which nothing was to be had.
const HOLD: Duration = Duration::from_secs(15);
const HOLD_CAP: Duration = Duration::from_secs(300);
/// Before the same call again.
const REPEAT: Duration = Duration::from_secs(1);
const REPEAT_CAP: Duration = Duration::from_secs(60);
/// Candidates that are tried in one round.
const ROUND: usize = 16;

impl Core {
    /// Launches, or asks again; says when to look again.
    pub(super) async fn launch(
        &self,
        uid: &str,
        pod: Arc<Pod>,
        launch: Launch,
        slot: &mut Slot,
    ) -> Result<Duration, Failure> {
        let Some(seat) = self.fleet.seat(uid, self.config.limits.max_concurrent_instances) else {
            let limit = self.config.limits.max_concurrent_instances;
            let message = format!("{limit} machines run, and `limits.maxConcurrentInstances` is {limit}");
            return Ok(self.hold(uid, &pod, reasons::INSTANCE_LIMIT, message, None));
        };
        match launch {
            Launch::Repeat(intent) => {
                let why = "the call of an earlier intent again";
                let answer = self.run_instances(uid, &pod, &intent, why, slot).await;
                self.answer(uid, &pod, intent, answer, seat).await
            }
            Launch::Next { epoch, failed_boots, starved } => {
                if let Some(Starved { code, instance_type, zone, subnet_id }) = starved {
                    self.block(&code, &instance_type, zone, subnet_id).await?;
                }
                self.launch_next(uid, pod, epoch, failed_boots, slot, seat).await
            }
        }
    }

    async fn launch_next(
        &self,
        uid: &str,
        mut pod: Arc<Pod>,
        epoch: u32,
        failed_boots: u32,
        slot: &mut Slot,
        seat: Seat<'_>,
    ) -> Result<Duration, Failure> {
        let candidates = match self.candidates(&pod).await {
            Ok(Choice::Candidates(candidates)) => candidates,
            Ok(Choice::Refuse(rejection)) => {
                self.table.update(uid, |row| row.memory.refused = Some(rejection));
                return Ok(Duration::ZERO);
            }
            Ok(Choice::Wait { reason, message, until }) => {
                drop(seat);
                return Ok(self.hold(uid, &pod, reason, message, until));
            }
            Err(error) => {
                drop(seat);
                return Ok(self.failed(uid, &pod, None, &error));
            }
        };
        let mut lacking = String::new();
        for (candidate, epoch) in candidates.iter().take(ROUND).zip(epoch..) {
            let intent = Intent::new(uid, epoch, failed_boots, &candidate.into(), clock::now());
            let Some(written) = self.write_intent(uid, &pod, &intent).await? else {
                return Ok(Duration::ZERO);
            };
            pod = written;
            if pod.metadata.deletion_timestamp.is_some() {
                return Ok(Duration::ZERO);
            }
            self.table.update(uid, |row| row.memory.wrote = Some(intent.token.clone()));
            match self.run_instances(uid, &pod, &intent, "the pod has no machine", slot).await {
                Err(error @ CloudError::NoCapacity { .. }) => {
                    self.table.update(uid, |row| row.memory.failed = Some(intent.token.clone()));
                    if let CloudError::NoCapacity { code, .. } = &error {
                        self.blocked().note(code, candidate, clock::now());
                    }
                    lacking = format!("{} in {}: {error}", intent.instance_type, intent.zone);
                    self.tell(&pod, NoteKind::Warning, reasons::NO_CAPACITY, lacking.clone());
                }
                answer => return self.answer(uid, &pod, intent, answer, seat).await,
            }
        }
        drop(seat);
        Ok(self.hold(uid, &pod, reasons::NO_CAPACITY, lacking, None))
    }

    /// What may be launched for a pod, by what the market has now.
    async fn candidates(&self, pod: &Pod) -> Result<Choice, CloudError> {
        let ask = match ask::ask(pod, &[], &self.rules.gpu_resource, &self.rules.instances) {
            Ok(ask) => ask,
            Err(rejection) => return Ok(Choice::Refuse(rejection)),
        };
        let wanted = match wanted_type(&ask) {
            Ok(wanted) => wanted,
            Err(rejection) => return Ok(Choice::Refuse(rejection)),
        };
        let (shelf, subnets) = tokio::join!(self.market.shelf(wanted), self.market.subnets());
        let Some(shelf) = shelf? else {
            let is_default = self.config.instances.default_instance_type() == Some(wanted);
            return Ok(if is_default {
                // Not the pod's fault.
                Choice::Wait {
                    reason: reasons::LAUNCH_REFUSED,
                    message: format!(
                        "`instances.defaultInstanceType` is `{wanted}`, which the cloud does not know"
                    ),
                    until: None,
                }
            } else {
                Choice::Refuse(unknown_type(wanted))
            });
        };
        let Shelf { instance_type, zones, image } = &*shelf;
        let root_volume_gib = self.config.instances.root_volume.size_gib;
        let offers = Offers { instance_type, zones, subnets: &subnets?, image, root_volume_gib };
        Ok(match plan(&ask, &offers, &self.blocked(), clock::now()) {
            Plan::Candidates(candidates) => Choice::Candidates(candidates),
            Plan::Refuse(rejection) => Choice::Refuse(rejection),
            Plan::Wait { message, until } => Choice::Wait { reason: reasons::NO_CAPACITY, message, until },
        })
    }

    async fn run_instances(
        &self,
        uid: &str,
        pod: &Pod,
        intent: &Intent,
        why: &str,
        slot: &mut Slot,
    ) -> Result<Instance, CloudError> {
        let spec = self.spec(uid, pod, intent);
        let text = format!(
            "launching a {} in {} ({}), attempt {}",
            intent.instance_type,
            intent.zone,
            intent.subnet_id,
            u64::from(intent.epoch) + 1
        );
        self.tell(pod, NoteKind::Normal, reasons::LAUNCHING, text);
        let first_seen = self.table.update(uid, |row| row.first_seen.take());
        let call = async {
            let _place = self.launches.acquire().await;
            if let Some(at) = first_seen {
                self.metrics.until_launch.observe(at.elapsed().as_secs_f64());
            }
            deadline("launching an instance", self.cloud.launch(&spec)).await
        };
        let began = Instant::now();
        let answer = slot.lend(call).await;
        self.record(uid, &spec, &answer, why);
        let outcome = answer.as_ref().map_or_else(CloudError::kind, |_| "ok");
        self.metrics.launches.get_or_create(&metrics::Result_ { result: outcome }).inc();
        if let Ok(instance) = &answer {
            let text = format!(
                "instance {} ({} in {}) launched in {:.1}s",
                instance.id,
                instance.instance_type,
                instance.zone,
                began.elapsed().as_secs_f64()
            );
            self.tell(pod, NoteKind::Normal, reasons::LAUNCHED, text);
        }
        answer
    }

    fn record(&self, uid: &str, spec: &LaunchSpec, answer: &Result<Instance, CloudError>, why: &str) {
        let tag = |key: &str| spec.tags.get(key).map(String::as_str).unwrap_or_default();
        let deed = Deed {
            action: "RunInstances",
            pod_uid: uid,
            pod: &format!("{}/{}", tag(TAG_POD_NAMESPACE), tag(TAG_POD_NAME)),
            instance_id: answer.as_ref().map(|instance| instance.id.as_str()).unwrap_or_default(),
            detail: &format!("{} in {} with token {}", spec.instance_type, spec.subnet_id, spec.token),
            why,
        };
        deed.record(answer);
    }

    /// What follows from the cloud's answer.
    async fn answer(
        &self,
        uid: &str,
        pod: &Pod,
        intent: Intent,
        answer: Result<Instance, CloudError>,
        seat: Seat<'_>,
    ) -> Result<Duration, Failure> {
        let error = match answer {
            Ok(instance) => {
                self.health.launched();
                self.blocked().clear(&intent.instance_type, &intent.zone, &intent.subnet_id);
                self.market.took(&intent.subnet_id);
                let id = instance.id.clone();
                self.fleet.launched(instance, clock::now());
                drop(seat);
                self.table.update(uid, |row| {
                    row.holds = 0;
                    row.memory.hold = None;
                });
                self.write_intent(uid, pod, &Intent { instance_id: Some(id), ..intent }).await?;
                return Ok(Duration::ZERO);
            }
            Err(error) => error,
        };
        drop(seat);
        if let CloudError::NoCapacity { code, .. } = &error {
            self.block(code, &intent.instance_type, intent.zone.clone(), intent.subnet_id.clone()).await?;
        }
        if matches!(error, CloudError::TokenMismatch { .. } | CloudError::TokenSpent { .. }) {
            // Whatever that token made is found by its tags; if nothing of it lives, the next epoch begins.
            let list = deadline("listing the instances", self.cloud.instances()).await?;
            self.take_list(list);
        }
        Ok(self.failed(uid, pod, Some(&intent), &error))
    }

    /// Notes a launch that did not work; says when to look again.
    fn failed(&self, uid: &str, pod: &Pod, intent: Option<&Intent>, error: &CloudError) -> Duration {
        let is_definite = match error {
            CloudError::NoCapacity { .. }
            | CloudError::Quota { .. }
            | CloudError::Denied { .. }
            | CloudError::NotFound { .. }
            | CloudError::Invalid { .. }
            | CloudError::TokenMismatch { .. }
            | CloudError::TokenSpent { .. } => true,
            CloudError::Throttled { .. } | CloudError::Transient { .. } => false,
        };
        if let Some(intent) = intent.filter(|_| is_definite) {
            self.table.update(uid, |row| row.memory.failed = Some(intent.token.clone()));
        }
        let reason = match error {
            CloudError::NoCapacity { .. } => reasons::NO_CAPACITY,
            CloudError::Quota { .. } => reasons::QUOTA,
            CloudError::Denied { .. } => {
                self.health.denied(error);
                reasons::CLOUD_DENIED
            }
            CloudError::NotFound { .. } | CloudError::Invalid { .. } => reasons::LAUNCH_REFUSED,
            CloudError::Throttled { .. }
            | CloudError::Transient { .. }
            | CloudError::TokenMismatch { .. }
            | CloudError::TokenSpent { .. } => reasons::CLOUD_UNAVAILABLE,
        };
        if reason == reasons::CLOUD_UNAVAILABLE {
            // Nothing is missing: the same call, or the next epoch, soon.
            let holds = self.next_hold(uid);
            return self.held(uid, pod, reason, error.to_string(), back_off(REPEAT, REPEAT_CAP, holds));
        }
        self.hold(uid, pod, reason, error.to_string(), None)
    }

    /// Nothing is launched for this pod for a while, or before `until`, if that is sooner.
    fn hold(
        &self,
        uid: &str,
        pod: &Pod,
        reason: &'static str,
        message: String,
        until: Option<Timestamp>,
    ) -> Duration {
        let delay = back_off(HOLD, HOLD_CAP, self.next_hold(uid));
        let known = until.and_then(|at| Duration::try_from(at.duration_since(clock::now())).ok());
        let delay = known.map_or(delay, |known| delay.min(known.max(REPEAT)));
        self.held(uid, pod, reason, message, delay)
    }

    fn held(&self, uid: &str, pod: &Pod, reason: &'static str, message: String, delay: Duration) -> Duration {
        let until = clock::now().checked_add(delay).unwrap_or(Timestamp::MAX);
        self.tell(
            pod,
            NoteKind::Warning,
            reason,
            format!("{message}; next attempt in {}s", delay.as_secs().max(1)),
        );
        self.table.update(uid, |row| row.memory.hold = Some(Hold { reason, message, until }));
        // At once: the next pass writes it into the status.
        Duration::ZERO
    }

    fn next_hold(&self, uid: &str) -> u32 {
        self.table.update(uid, |row| {
            row.holds = row.holds.saturating_add(1);
            row.holds
        })
    }

    async fn block(&self, code: &str, name: &str, zone: String, subnet_id: String) -> Result<(), Failure> {
        if let Some(shelf) = self.market.shelf(name).await? {
            let candidate = Candidate {
                instance_type: shelf.instance_type.clone(),
                subnet_id,
                zone,
                image: shelf.image.clone(),
            };
            self.blocked().note(code, &candidate, clock::now());
        }
        Ok(())
    }

    fn tell(&self, pod: &Pod, kind: NoteKind, reason: &'static str, text: String) {
        use kube::Resource as _;
        self.story.tell(pod.object_ref(&()), Note { kind, reason, text });
    }

    /// Equal intents make equal specs, in every process with this configuration.
    fn spec(&self, uid: &str, pod: &Pod, intent: &Intent) -> LaunchSpec {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let mut tags: BTreeMap<String, String> = self.config.aws.tags.clone();
        tags.entry("Name".to_owned()).or_insert_with(|| format!("{namespace}/{name}"));
        let own = [
            (TAG_CLUSTER, self.cluster_id.clone()),
            (TAG_NODE, self.config.node.name.clone()),
            (TAG_POD_UID, uid.to_owned()),
            (TAG_POD_NAMESPACE, namespace),
            (TAG_POD_NAME, name),
            (TAG_EPOCH, intent.epoch.to_string()),
        ];
        tags.extend(own.map(|(key, value)| (key.to_owned(), value)));
        LaunchSpec {
            token: intent.token.clone(),
            instance_type: intent.instance_type.clone(),
            image: Image { id: intent.image_id.clone(), root_device_name: intent.root_device_name.clone() },
            subnet_id: intent.subnet_id.clone(),
            purchase: crate::cloud::Purchase::default(),
            placement: crate::cloud::Placement::default(),
            security_group_ids: self.config.aws.security_group_ids.clone(),
            instance_profile: self.config.aws.instance_profile.clone(),
            user_data: self.user_data.clone(),
            root_volume: self.config.instances.root_volume.clone(),
            tags,
        }
    }
}

/// What to do about a machine.
enum Choice {
    Candidates(Vec<Candidate>),
    Refuse(Rejection),
    Wait { reason: &'static str, message: String, until: Option<Timestamp> },
}
