//! What follows from the cloud's answer to a launch: the next candidate, the same call again, a pause, or a refusal.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use rand::RngExt as _;

use super::act::Failure;
use super::health::Wait;
use super::launch::Held;
use super::plan::attempt_of;
use super::{Core, back_off, deadline, metrics};
use crate::capacity::avoid::{self, Answer, Class, Next};
use crate::capacity::candidate::Candidate;
use crate::capacity::planner::Selection;
use crate::clock;
use crate::cloud::{CloudError, ImageWish, Instance, Purchase};
use crate::pod::ask::Rejection;
use crate::pod::decide::{Hold, Note, NoteKind, Starved};
use crate::pod::intent::Intent;
use crate::pod::reasons;

/// Between rounds in which nothing was to be had.
const HOLD: Duration = Duration::from_secs(15);
const HOLD_CAP: Duration = Duration::from_secs(300);
/// Before the same call again.
const REPEAT: Duration = Duration::from_secs(1);
const REPEAT_CAP: Duration = Duration::from_secs(60);

/// What became of one candidate.
pub(super) enum Tried {
    /// The pass is over; look again after this.
    Done(Duration),
    /// Not to be had: the next one.
    Refused,
    /// Others took it since the plan was made: a new plan.
    Taken,
}

impl Core {
    /// Takes the answer to the launch of `intent`.
    pub(super) async fn answer(
        &self,
        uid: &str,
        pod: &Pod,
        intent: Intent,
        selection: Selection,
        answer: Result<Instance, CloudError>,
        held: Held<'_>,
    ) -> Result<Tried, Failure> {
        let candidate = intent.candidate();
        let attempt = attempt_of(&candidate, selection, &self.config.instances.root_volume.kind);
        let error = match answer {
            Ok(instance) => {
                self.blocked().clear(&attempt);
                self.check_reservation(pod, &intent.purchase, &instance);
                let id = instance.id.clone();
                self.table.update(uid, |row| row.answered(&instance));
                self.fleet.launched(instance, clock::steady());
                held.landed();
                self.table.update(uid, |row| {
                    row.holds = 0;
                    row.memory.hold = None;
                    row.trouble = None;
                });
                self.write_intent(uid, pod, &Intent { instance_id: Some(id), ..intent }).await?;
                return Ok(Tried::Done(Duration::ZERO));
            }
            Err(error) => error,
        };
        drop(held);
        let Answer { class, next, avoid } = avoid::of_error(&error, &attempt);
        if let Some(avoid) = &avoid {
            self.blocked().note(avoid, clock::now());
        }
        self.metrics.refusals.get_or_create(&metrics::Class { class: class.name() }).inc();
        if next != Next::SameCall {
            self.table.update(uid, |row| row.refused(&intent.token, next));
        }
        match next {
            Next::Candidate => {
                let text = format!(
                    "{} in {} ({}) is not to be had: {error}",
                    intent.instance_type,
                    intent.zone,
                    bought(&intent.purchase)
                );
                self.tell(pod, NoteKind::Warning, event_of(class), text);
                Ok(Tried::Refused)
            }
            Next::FailPod => {
                let message = format!("EC2 refuses what the annotations ask for: {error}");
                let rejection =
                    Rejection::single(reasons::INVALID_ANNOTATION, "metadata.annotations", message);
                Ok(Tried::Done(self.refuse(uid, rejection)))
            }
            Next::LookUp => {
                // Whatever that token made is found by its tags; if nothing of it lives, the next epoch begins.
                let list = deadline("listing the instances", self.cloud.instances()).await?;
                self.take_list(list);
                Ok(Tried::Done(self.failed(uid, pod, &error)))
            }
            Next::SameCall => Ok(Tried::Done(self.again(uid, pod, &error))),
            Next::Wait => Ok(Tried::Done(self.failed(uid, pod, &error))),
        }
    }

    /// A machine that must be in a reservation and is not, or the other way round, is told of: it costs.
    fn check_reservation(&self, pod: &Pod, purchase: &Purchase, instance: &Instance) {
        let found = instance.bought.reservation_id.as_deref();
        let expected = match purchase {
            Purchase::Reservation { id }
            | Purchase::CapacityBlock { id }
            | Purchase::Interruptible { id } => (found != Some(id)).then_some(id.as_str()),
            Purchase::ReservationGroup { .. } | Purchase::OpenReservation => {
                found.is_none().then_some("a reservation")
            }
            Purchase::OnDemand | Purchase::Spot { .. } => found.is_some().then_some("no reservation"),
        };
        if let Some(expected) = expected {
            let found = found.unwrap_or("no reservation");
            let text = format!("instance {} is in {found}, expected in {expected}", instance.id);
            self.tell(pod, NoteKind::Warning, reasons::RESERVATION_MISMATCH, text);
        }
    }

    /// The pod fails at the next pass, which is at once.
    pub(super) fn refuse(&self, uid: &str, rejection: Rejection) -> Duration {
        self.table.update(uid, |row| row.memory.refused = Some(rejection));
        Duration::ZERO
    }

    /// The image of a machine cannot be found.
    pub(super) fn no_image(
        &self,
        uid: &str,
        pod: &Pod,
        wish: Option<&ImageWish>,
        error: &CloudError,
    ) -> Duration {
        let is_wrong = matches!(error, CloudError::NotFound { .. } | CloudError::Invalid { .. });
        let key = match wish {
            Some(ImageWish::Id(_)) if is_wrong => "metadata.annotations[orca.research/ami]",
            Some(ImageWish::Parameter(_)) if is_wrong => {
                "metadata.annotations[orca.research/ami-ssm-parameter]"
            }
            // The configured image, or the cloud's trouble: not the pod's fault.
            Some(_) | None => return self.failed(uid, pod, error),
        };
        self.refuse(uid, Rejection::single(reasons::INVALID_ANNOTATION, key, error.to_string()))
    }

    /// A machine that the cloud promised and did not give.
    pub(super) fn starved(&self, starved: &Starved) {
        let candidate = Candidate {
            instance_type: starved.instance_type.clone(),
            zone: starved.zone.clone(),
            subnet_id: starved.subnet_id.clone(),
            purchase: starved.purchase.clone(),
            ..Candidate::default()
        };
        let attempt = attempt_of(&candidate, Selection::Cheapest, &self.config.instances.root_volume.kind);
        let answer = avoid::of_state_reason(&starved.code, &starved.message, &attempt);
        if let Some(avoid) = answer.and_then(|answer| answer.avoid) {
            self.blocked().note(&avoid, clock::now());
        }
    }

    /// Notes a call that did not work, and will not at once; says when to look again.
    fn failed(&self, uid: &str, pod: &Pod, error: &CloudError) -> Duration {
        let reason = match error {
            CloudError::NoCapacity { .. } => reasons::NO_CAPACITY,
            CloudError::Quota { .. } => reasons::QUOTA,
            CloudError::Denied { .. } => reasons::CLOUD_DENIED,
            CloudError::NotFound { .. } | CloudError::Invalid { .. } => reasons::LAUNCH_REFUSED,
            CloudError::Throttled { .. }
            | CloudError::Transient { .. }
            | CloudError::TokenMismatch { .. }
            | CloudError::TokenSpent { .. } => reasons::CLOUD_UNAVAILABLE,
        };
        if reason == reasons::CLOUD_UNAVAILABLE {
            return self.again(uid, pod, error);
        }
        self.hold(uid, pod, reason, error.to_string(), None)
    }

    /// Nothing is missing: the same call, or the next epoch, soon.
    fn again(&self, uid: &str, pod: &Pod, error: &CloudError) -> Duration {
        let delay = back_off(REPEAT, REPEAT_CAP, self.next_hold(uid));
        self.held(uid, pod, reasons::CLOUD_UNAVAILABLE, error.to_string(), delay)
    }

    /// Nothing is launched for this pod for a while, or before `until`, if that is sooner.
    pub(super) fn hold(
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

    /// Nothing is launched for this pod for so long.
    fn held(&self, uid: &str, pod: &Pod, reason: &'static str, message: String, delay: Duration) -> Duration {
        let until = clock::after(clock::steady(), delay);
        self.tell(
            pod,
            NoteKind::Warning,
            reason,
            format!("{message}; next attempt in {}s", delay.as_secs().max(1)),
        );
        self.struggles(uid, reason, &message, delay);
        let hold = Hold { reason, message, until };
        self.table.update(uid, |row| row.memory.hold = Some(hold));
        // At once: the next pass writes it into the status.
        Duration::ZERO
    }

    /// Launches wait for all pods, and so does this one.
    pub(super) fn wait_with_all(&self, uid: &str, pod: &Pod, wait: Wait) -> Duration {
        // Not all at the same moment: the first of them is the probe.
        let delay = wait.delay.max(REPEAT).mul_f64(rand::rng().random_range(1.0..=1.2));
        self.held(uid, pod, wait.reason, wait.message, delay)
    }

    fn next_hold(&self, uid: &str) -> u32 {
        self.table.update(uid, |row| {
            row.holds = row.holds.saturating_add(1);
            row.holds
        })
    }

    pub(super) fn tell(&self, pod: &Pod, kind: NoteKind, reason: &'static str, text: String) {
        use kube::Resource as _;
        self.story.tell(pod.object_ref(&()), Note { kind, reason, text });
    }
}

/// How it is paid for, with the reservation.
pub(super) fn bought(purchase: &Purchase) -> String {
    match purchase {
        Purchase::ReservationGroup { arn } => format!("reserved in {arn}"),
        other => match other.reservation_id() {
            Some(id) => format!("{} {id}", other.market()),
            None => other.market().to_owned(),
        },
    }
}

fn event_of(class: Class) -> &'static str {
    match class {
        Class::Quota => reasons::QUOTA,
        Class::Capacity
        | Class::Reservation
        | Class::ReservationId
        | Class::SpotPrice
        | Class::SpotRole
        | Class::Subnet
        | Class::Volume
        | Class::Unsupported => reasons::NO_CAPACITY,
        Class::Throttled
        | Class::Transient
        | Class::Denied
        | Class::Operator
        | Class::Pod
        | Class::Token
        | Class::NotFound => reasons::LAUNCH_REFUSED,
    }
}
