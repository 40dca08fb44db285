//! Launching a machine: write the intent, call RunInstances with its token, write the id.
//!
//! A crash at any point leads to the same instance or to none. What follows from an answer is in `answer`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::act::Failure;
use super::answer::{Tried, bought};
use super::fleet::{Booking, Full, Seat};
use super::plan::{Outcome, Try, attempt_of};
use super::{Core, Slot, deadline, metrics};
use crate::capacity::candidate::Candidate;
use crate::capacity::money::MicroUsd;
use crate::capacity::planner::Selection;
use crate::capacity::spend::Budget;
use crate::clock;
use crate::cloud::audit::Deed;
use crate::cloud::both::Provider;
use crate::cloud::{
    CloudError, Image, Instance, LaunchSpec, TAG_CLUSTER, TAG_EPOCH, TAG_NODE, TAG_POD_NAME,
    TAG_POD_NAMESPACE, TAG_POD_UID,
};
use crate::failpoint::{self, Write};
use crate::market::Place;
use crate::pod::ask::Ask;
use crate::pod::decide::{Launch, NoteKind};
use crate::pod::intent::Intent;
use crate::pod::reasons;

/// How long one pass goes on trying candidates; the next pass goes on where it left off.
const ROUND: Duration = Duration::from_secs(60);
/// How often a launch that waits for its turn looks whether its pod is still there.
const GLANCE: Duration = Duration::from_secs(1);

/// What a launch takes of what others want too, while it is asked for.
pub(super) struct Held<'a> {
    seat: Seat<'a>,
    place: Place<'a>,
}

impl Held<'_> {
    /// The machine is there, and counts by itself.
    pub(super) fn landed(self) {
        drop(self.seat);
        self.place.landed();
    }
}

/// The launch of a pod that has no machine yet, as far as it has come.
struct Progress {
    pod: Arc<Pod>,
    epoch: u32,
    failed_boots: u32,
}

impl Core {
    /// Launches, or asks again; says when to look again.
    pub(super) async fn launch(
        &self,
        uid: &str,
        pod: Arc<Pod>,
        launch: Launch,
        slot: &mut Slot,
    ) -> Result<Duration, Failure> {
        if let Some(wait) = self.health.waits() {
            return Ok(self.wait_with_all(uid, &pod, wait));
        }
        if let Err(wait) = self.sight.admit(uid) {
            return Ok(self.wait_with_all(uid, &pod, wait));
        }
        match launch {
            Launch::Repeat(intent) => {
                let Some((pod, intent)) = self.claim(uid, pod, *intent).await? else {
                    return Ok(Duration::ZERO);
                };
                // It may be there already, so the budget is not asked again.
                let cost = self.market.snapshot().rates().of_purchase(&intent.purchase, intent.price);
                let Ok(seat) = self.seat(uid, cost, None) else { return Ok(self.no_seat(uid, &pod)) };
                let place = self.market.take_again(&intent.subnet_id, intent.purchase.reservation_id());
                let held = Held { seat, place };
                let why = "the call of an earlier intent again";
                let spec = LaunchSpec { is_repeated: true, ..self.spec(uid, &pod, &intent) };
                let Some(answer) = self.run_instances(uid, &pod, &intent, &spec, why, slot).await else {
                    return Ok(Duration::ZERO);
                };
                match self.answer(uid, &pod, intent, Selection::Cheapest, answer, held).await? {
                    Tried::Done(again) => Ok(again),
                    Tried::Refused | Tried::Taken => Ok(Duration::ZERO),
                }
            }
            Launch::Next { epoch, failed_boots, starved } => {
                if let Some(starved) = starved {
                    self.starved(&starved);
                }
                self.launch_next(uid, Progress { pod, epoch, failed_boots }, slot).await
            }
        }
    }

    /// Makes the intent of another process this one's, by writing it anew: what that process left on its way to the
    /// API server comes too late then. `None` if the pod is gone.
    async fn claim(
        &self,
        uid: &str,
        pod: Arc<Pod>,
        intent: Intent,
    ) -> Result<Option<(Arc<Pod>, Intent)>, Failure> {
        if self.table.get(uid).memory.wrote.as_ref() == Some(&intent.token) {
            return Ok(Some((pod, intent)));
        }
        let intent = intent.written_now(clock::steady());
        let written = self.write_intent(uid, &pod, &intent).await?;
        if written.is_some() {
            self.table.update(uid, |row| row.memory.wrote = Some(intent.token.clone()));
        }
        Ok(written.map(|pod| (pod, intent)))
    }

    async fn launch_next(
        &self,
        uid: &str,
        mut progress: Progress,
        slot: &mut Slot,
    ) -> Result<Duration, Failure> {
        let ask = match self.ask(&progress.pod).await? {
            Ok(ask) => ask,
            Err(rejection) => return Ok(self.refuse(uid, rejection)),
        };
        self.market.want(&ask).await?;
        if self.table.get(uid).holds == 0 {
            self.market.look_for_named(&ask).await?;
        }
        let began = Instant::now();
        loop {
            let tries = match self.plan(&ask) {
                Outcome::Try(tries) => tries,
                Outcome::Refuse(rejection) => return Ok(self.refuse(uid, rejection)),
                Outcome::Wait { reason, message, until } => {
                    return Ok(match self.waited_too_long(&ask, &progress.pod) {
                        Ok(end) => self.hold(uid, &progress.pod, reason, message, earlier(until, end)),
                        Err(rejection) => self.refuse(uid, rejection),
                    });
                }
            };
            for one in tries {
                if began.elapsed() > ROUND {
                    return Ok(Duration::ZERO);
                }
                // What a refusal a moment ago is held against is not asked for: the rest of a family after its quota.
                if self.is_avoided(&one) {
                    continue;
                }
                let candidate = &one.candidate;
                let cost = self.market.snapshot().rates().of_purchase(&candidate.purchase, candidate.price);
                let seat = match self.seat(uid, cost, self.config.limits.max_hourly_cost) {
                    Ok(seat) => seat,
                    Err(Full::Machines) => return Ok(self.no_seat(uid, &progress.pod)),
                    // Others took it since the plan was made.
                    Err(Full::Budget) => break,
                };
                match self.try_one(uid, &mut progress, &ask, one, slot, seat).await? {
                    Tried::Done(again) => return Ok(again),
                    Tried::Refused => progress.epoch = progress.epoch.saturating_add(1),
                    Tried::Taken => break,
                }
            }
        }
    }

    async fn try_one(
        &self,
        uid: &str,
        progress: &mut Progress,
        ask: &Ask,
        one: Try,
        slot: &mut Slot,
        seat: Seat<'_>,
    ) -> Result<Tried, Failure> {
        let image = match self.market.image(&one.shape, ask.wishes.image.as_ref()).await {
            Ok(image) => image,
            Err(error) => {
                drop(seat);
                return Ok(Tried::Done(self.no_image(uid, &progress.pod, ask.wishes.image.as_ref(), &error)));
            }
        };
        let candidate = Candidate { image, ..one.candidate };
        let Some(place) = self.market.take(&candidate.subnet_id, candidate.purchase.reservation_id()) else {
            return Ok(Tried::Taken);
        };
        let held = Held { seat, place };
        let intent = Intent::new(uid, progress.epoch, progress.failed_boots, &candidate, clock::steady());
        let Some(pod) = self.write_intent(uid, &progress.pod, &intent).await? else {
            return Ok(Tried::Done(Duration::ZERO));
        };
        progress.pod = pod;
        let pod = &progress.pod;
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(Tried::Done(Duration::ZERO));
        }
        // A token may come again where the intent was lost, and then nothing is known of its call yet.
        self.table.update(uid, |row| {
            row.memory.wrote = Some(intent.token.clone());
            row.memory.failed = None;
        });
        let why = format!("the pod has no machine: {}", intent.why);
        let spec = self.spec(uid, pod, &intent);
        match self.run_instances(uid, pod, &intent, &spec, &why, slot).await {
            Some(answer) => self.answer(uid, pod, intent, one.selection, answer, held).await,
            None => Ok(Tried::Done(Duration::ZERO)),
        }
    }

    fn is_avoided(&self, one: &Try) -> bool {
        let attempt = attempt_of(&one.candidate, one.selection, &self.config.instances.root_volume.kind);
        self.blocked().until(&attempt, clock::now()).is_some()
    }

    fn seat(&self, uid: &str, cost: MicroUsd, budget: Option<MicroUsd>) -> Result<Seat<'_>, Full> {
        let snapshot = self.market.snapshot();
        self.fleet.seat(&Booking {
            uid,
            cost,
            machines: self.config.limits.max_concurrent_instances,
            budget,
            price: &|machine| snapshot.rates().of_machine(machine),
        })
    }

    /// The operator's budget, if there is one, and what is spent of it now.
    pub(super) fn budget(&self) -> Option<Budget> {
        let limit = self.config.limits.max_hourly_cost?;
        Some(Budget { limit, spent: self.hourly_cost() })
    }

    /// What the machines that run or are being launched add to the bill per hour.
    pub(super) fn hourly_cost(&self) -> MicroUsd {
        let snapshot = self.market.snapshot();
        self.fleet.hourly(&|machine| snapshot.rates().of_machine(machine))
    }

    fn no_seat(&self, uid: &str, pod: &Pod) -> Duration {
        let limit = self.config.limits.max_concurrent_instances;
        let message = format!("{limit} machines run, and `limits.maxConcurrentInstances` is {limit}");
        self.hold(uid, pod, reasons::INSTANCE_LIMIT, message, None)
    }

    /// Waits for its turn and launches; `None` if it is not asked for: the pod goes, or all launches wait.
    async fn run_instances(
        &self,
        uid: &str,
        pod: &Pod,
        intent: &Intent,
        spec: &LaunchSpec,
        why: &str,
        slot: &mut Slot,
    ) -> Option<Result<Instance, CloudError>> {
        let text = format!(
            "launching a {} in {} ({}, {}{}), attempt {}",
            intent.instance_type,
            intent.zone,
            intent.subnet_id,
            bought(&intent.purchase),
            intent.price.map_or_else(String::new, |price| format!(", ${price} per hour")),
            u64::from(intent.epoch) + 1
        );
        self.tell(pod, NoteKind::Normal, reasons::LAUNCHING, text);
        let first_seen = self.table.update(uid, |row| row.first_seen.take());
        let (mut began, mut from) = (Instant::now(), clock::now());
        let call = async {
            let _place = match self.turn(uid, pod, spec).await? {
                Ok(place) => place,
                Err(error) => return Some(Err(error)),
            };
            if let Err(wait) = self.sight.admit(uid).and_then(|()| self.health.admit(uid)) {
                self.wait_with_all(uid, pod, wait);
                return None;
            }
            if let Some(at) = first_seen {
                self.metrics.until_launch.observe(at.elapsed().as_secs_f64());
            }
            let _under_way = self.draining.launching();
            began = Instant::now();
            from = clock::now();
            if let Some(step) = self.table.update(uid, |row| row.journey.request(pod, from)) {
                self.metrics.passed(step.phase, step.seconds());
                self.trace_step(uid, pod, &step, None);
            }
            let call = failpoint::around(Write::RunInstances, self.cloud.launch(spec));
            let answer = deadline("launching an instance", call).await;
            if self.health.launched(uid, answer.as_ref().err()) {
                self.wake(|hold| [reasons::CLOUD_DENIED, reasons::CLOUD_UNAVAILABLE].contains(&hold.reason));
            }
            Some(answer)
        };
        let answer = slot.lend(call).await?;
        self.record(uid, spec, &answer, why);
        self.trace_launch(uid, pod, spec, (from, clock::now()), &answer);
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
        Some(answer)
    }

    /// Waits for a place among the launches under way and for the cloud's rate, which takes minutes in a large
    /// burst; namespaces take turns. `None` if the pod goes meanwhile: who deletes a thousand waiting pods pays for no
    /// machine of theirs.
    async fn turn(
        &self,
        uid: &str,
        pod: &Pod,
        spec: &LaunchSpec,
    ) -> Option<Result<SemaphorePermit<'_>, CloudError>> {
        let namespace = Arc::from(pod.metadata.namespace.as_deref().unwrap_or_default());
        let turn = async {
            let _within = self.gates.of(Provider::of_spec(spec)).enter(&namespace).await;
            let place = self.launches.acquire().await.expect("the semaphore is never closed");
            self.cloud.admit(spec).await.map(|()| place)
        };
        let mut turn = std::pin::pin!(turn);
        loop {
            tokio::select! {
                biased;
                // The next start launches it.
                () = self.draining.asked() => return None,
                turn = &mut turn => return Some(turn),
                () = tokio::time::sleep(GLANCE) => {
                    if self.cached(uid).is_none_or(|pod| pod.metadata.deletion_timestamp.is_some()) {
                        return None;
                    }
                }
            }
        }
    }

    fn record(&self, uid: &str, spec: &LaunchSpec, answer: &Result<Instance, CloudError>, why: &str) {
        let tag = |key: &str| spec.tags.get(key).map(String::as_str).unwrap_or_default();
        let deed = Deed {
            action: "RunInstances",
            pod_uid: uid,
            pod: &format!("{}/{}", tag(TAG_POD_NAMESPACE), tag(TAG_POD_NAME)),
            instance_id: answer.as_ref().map(|instance| instance.id.as_str()).unwrap_or_default(),
            detail: &format!(
                "{} ({}) in {} with token {}",
                spec.instance_type,
                bought(&spec.purchase),
                spec.subnet_id,
                spec.token
            ),
            why,
        };
        deed.record(answer);
    }

    /// Equal intents make equal specs, in every process with this configuration.
    fn spec(&self, uid: &str, pod: &Pod, intent: &Intent) -> LaunchSpec {
        let changes = &intent.changes;
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
            purchase: intent.purchase.clone(),
            placement: intent.placement.clone(),
            image: Image { id: intent.image_id.clone(), root_device_name: intent.root_device_name.clone() },
            subnet_id: intent.subnet_id.clone(),
            security_group_ids: match &*changes.security_group_ids {
                [] => self.config.aws.security_group_ids.clone(),
                others => others.to_vec(),
            },
            instance_profile: changes
                .instance_profile
                .clone()
                .or_else(|| self.config.aws.instance_profile.clone()),
            user_data: self.user_data(changes.max_lifetime_seconds.map(Duration::from_secs)),
            root_volume: changes
                .root_volume
                .clone()
                .unwrap_or_else(|| self.config.instances.root_volume.clone()),
            efa: changes.efa,
            tags,
            runpod: None,
            price: intent.price,
            is_repeated: false,
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
