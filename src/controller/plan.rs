//! From a pod to the launches that are worth trying: its wishes, the market as it is known, and the plan over both.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Core;
use super::act::Failure;
use crate::capacity::avoid::Attempt;
use crate::capacity::candidate::{Candidate, Changes};
use crate::capacity::planner::{Choice, Planned, Rejected, Selection, Verdict, plan};
use crate::clock;
use crate::cloud::InstanceType;
use crate::pod::ask::{self, Ask, Rejection};
use crate::pod::reasons;

/// Candidates that one plan gives at most: what comes after them is planned again, without what failed.
const ROUND: usize = 16;
/// Rules that are told of when nothing is to be had.
const TOLD: usize = 4;

/// What is to be done about a machine.
#[derive(Debug)]
pub(super) enum Outcome {
    /// In this order; never empty.
    Try(Vec<Try>),
    Refuse(Rejection),
    Wait {
        reason: &'static str,
        message: String,
        until: Option<Timestamp>,
    },
}

/// One launch that may be tried.
#[derive(Clone, Debug)]
pub(super) struct Try {
    pub(super) shape: InstanceType,
    /// Without its image, which is looked up when it is its turn.
    pub(super) candidate: Candidate,
    pub(super) selection: Selection,
}

/// The call that a candidate stands for.
pub(super) fn attempt_of<'a>(
    candidate: &'a Candidate,
    selection: Selection,
    volume_kind: &'a str,
) -> Attempt<'a> {
    Attempt {
        purchase: &candidate.purchase,
        selection,
        instance_type: &candidate.instance_type,
        zone: &candidate.zone,
        subnet_id: &candidate.subnet_id,
        volume_kind: candidate.changes.root_volume.as_ref().map_or(volume_kind, |volume| &volume.kind),
        placement_group: candidate.placement.group.as_deref(),
    }
}

impl Core {
    /// What the pod asks for, by all its layers.
    pub(super) async fn ask(&self, pod: &Pod) -> Result<Result<Ask, Rejection>, Failure> {
        let layers = self.owners.layers(&self.client, pod).await?;
        Ok(ask::ask(pod, &layers, &self.rules.gpu_resource, &self.config.instances))
    }

    /// The plan for a pod, by what is known of the market now.
    pub(super) fn plan(&self, ask: &Ask) -> Outcome {
        let snapshot = self.market.snapshot();
        let blocked = self.blocked();
        let world = snapshot.world(clock::now(), &self.config.instances, &blocked, self.budget());
        let Planned { choices, rejected, verdict } = plan(ask, &world);
        tracing::debug!(
            pod.uid = ask.uid,
            choices = choices.len(),
            rejected = told(&rejected, usize::MAX),
            "planned"
        );
        match verdict {
            Verdict::Launch => {
                Outcome::Try(choices.iter().take(ROUND).map(|choice| a_try(ask, choice)).collect())
            }
            Verdict::Refuse(rejection) => Outcome::Refuse(rejection),
            Verdict::Wait { reason, message, until } => Outcome::Wait { reason, message, until },
        }
    }

    /// After waiting so long for capacity, the pod fails; since when it waits is the pod's own `PodScheduled`.
    pub(super) fn waited_too_long(&self, ask: &Ask, pod: &Pod) -> Result<Option<Timestamp>, Rejection> {
        let Some(limit) = ask.wishes.capacity_wait.filter(|limit| !limit.is_zero()) else { return Ok(None) };
        let Some(since) = scheduled_at(pod) else { return Ok(None) };
        let end = since.checked_add(limit).unwrap_or(Timestamp::MAX);
        if clock::now() < end {
            return Ok(Some(end));
        }
        let message = format!("is {limit:?}, and no machine was to be had in that time");
        Err(Rejection::single(reasons::CAPACITY_WAIT_EXCEEDED, "orca.research/capacity-wait", message))
    }
}

fn a_try(ask: &Ask, choice: &Choice<'_>) -> Try {
    let wishes = &ask.wishes;
    let candidate = Candidate {
        instance_type: choice.offer.shape.name.clone(),
        subnet_id: choice.subnet.id.clone(),
        zone: choice.subnet.zone.clone(),
        purchase: choice.purchase.clone(),
        placement: choice.placement.clone(),
        image: crate::cloud::Image::default(),
        changes: Changes {
            instance_profile: wishes.instance_profile.clone(),
            security_group_ids: wishes.security_group_ids.clone(),
            root_volume: wishes.root_volume.clone(),
            max_lifetime_seconds: wishes.max_lifetime.as_ref().map(Duration::as_secs),
            efa: wishes.efa,
        },
        price: if choice.purchase.market() == "spot" { choice.price.marginal } else { choice.price.list },
        why: format!("{}, {}", choice.why.selection.name(), choice.why.ranked_by.name()),
    };
    Try { shape: choice.offer.shape.clone(), candidate, selection: choice.why.selection }
}

/// What the rules took out, in a line.
fn told(rejected: &[Rejected], most: usize) -> String {
    let mut text = String::new();
    for one in rejected.iter().take(most.min(TOLD)) {
        let separator = if text.is_empty() { "" } else { ", " };
        // Writing to a String cannot fail.
        write!(text, "{separator}{} {} ({})", one.count, one.rule.name(), one.example).ok();
    }
    text
}

fn scheduled_at(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let scheduled = conditions.filter(|one| one.type_ == "PodScheduled" && one.status == "True");
    let since = scheduled.filter_map(|one| one.last_transition_time.as_ref()).next();
    // Whoever names the node in the spec needs no scheduler, and has no such condition.
    since.or(pod.metadata.creation_timestamp.as_ref()).map(|time| time.0)
}
