//! Machines that the cloud is about to take away: their pods end in good order first.

use jiff::Timestamp;

use super::{Action, Decision, NoteKind, Observed, until};
use crate::cloud::Instance;
use crate::link::LinkStatus;
use crate::pod::reasons;

/// When a machine has to be switched off, since it will be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The instance that it is about.
    pub instance_id: String,
    /// When its pod is to be ended.
    pub at: Timestamp,
    /// When the cloud ends the machine.
    pub ends_at: Timestamp,
    pub why: Ending,
}

/// Why a machine will be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// What it was bought with ends, such as `Capacity Block cr-0123`.
    Purchase(String),
    /// A scheduled event of the cloud, with its code.
    Event { id: String, code: &'static str },
}

/// Adds to the decision about a living machine what its near end asks for.
pub(super) fn before_the_end(
    seen: &Observed<'_>,
    link: Option<&LinkStatus>,
    instance: &Instance,
    decision: Decision,
) -> Decision {
    let notice = link.and_then(|link| link.notice.as_ref());
    let drain = seen.drain.filter(|drain| drain.instance_id == instance.id);
    let (reason, text) = match (notice, drain) {
        (Some(notice), _) => {
            let text = format!(
                "EC2 takes instance {} back ({}) at {}; its containers are asked to end",
                instance.id, notice.action, notice.time
            );
            (reasons::SPOT_INTERRUPTED, text)
        }
        (None, Some(drain)) if drain.at <= seen.now => {
            let (id, ends_at) = (&instance.id, drain.ends_at);
            let (reason, why) = match &drain.why {
                Ending::Purchase(what) => (
                    reasons::CAPACITY_BLOCK_ENDING,
                    format!("{what} ends, and instance {id} with it, by {ends_at}"),
                ),
                Ending::Event { id: event, code } => (
                    reasons::MACHINE_RETIRING,
                    format!("EC2 takes instance {id} at {ends_at} ({code}, {event})"),
                ),
            };
            (reason, format!("{why}; its containers are asked to end"))
        }
        (None, Some(drain)) => return decision.again(until(seen.now, drain.at)),
        (None, None) => return decision,
    };
    let is_told = seen.memory.draining.as_deref() == Some(&instance.id);
    let decision = if is_told { decision } else { decision.note(NoteKind::Warning, reason, text) };
    decision.act(Action::ShutDown { instance_id: instance.id.clone() })
}
