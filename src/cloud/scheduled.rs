//! What the cloud has announced to do to a machine.

use jiff::Timestamp;

/// A scheduled event of a machine, as the cloud tells it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledEvent {
    /// Such as `instance-event-0d59937288b749b32`; it stays the same when the time changes.
    pub id: String,
    pub instance_id: String,
    pub kind: EventKind,
    /// The cloud's own words.
    pub description: String,
    /// It does not begin before.
    pub not_before: Option<Timestamp>,
    /// It is over by then, if that is known.
    pub not_after: Option<Timestamp>,
    pub progress: EventProgress,
}

/// EC2's event codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventKind {
    InstanceReboot,
    SystemReboot,
    SystemMaintenance,
    InstanceRetirement,
    InstanceStop,
}

/// How far an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventProgress {
    /// It is to come, or under way.
    Scheduled,
    Completed,
    Canceled,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::InstanceReboot,
        Self::SystemReboot,
        Self::SystemMaintenance,
        Self::InstanceRetirement,
        Self::InstanceStop,
    ];

    /// EC2's word for it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::InstanceReboot => "instance-reboot",
            Self::SystemReboot => "system-reboot",
            Self::SystemMaintenance => "system-maintenance",
            Self::InstanceRetirement => "instance-retirement",
            Self::InstanceStop => "instance-stop",
        }
    }

    /// The kind with this code.
    #[must_use]
    pub fn of_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// Whether the machine is gone afterwards: one that is stopped is not started again by anybody.
    #[must_use]
    pub fn takes_the_machine(self) -> bool {
        match self {
            Self::InstanceRetirement | Self::InstanceStop => true,
            Self::InstanceReboot | Self::SystemReboot | Self::SystemMaintenance => false,
        }
    }
}

impl EventProgress {
    /// As EC2 says it: by the beginning of the description.
    #[must_use]
    pub fn of_description(description: &str) -> Self {
        if description.starts_with("[Completed]") {
            Self::Completed
        } else if ["[Canceled]", "[Cancelled]"].iter().any(|start| description.starts_with(start)) {
            Self::Canceled
        } else {
            Self::Scheduled
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_the_beginnings_of_descriptions_are_ec2s() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::of_code(kind.code()), Some(kind));
        }
        assert_eq!(EventKind::of_code("instance-upgrade"), None);
        for (description, expected) in [
            ("The instance is running on degraded hardware", EventProgress::Scheduled),
            ("[Completed] The instance is running on degraded hardware", EventProgress::Completed),
            ("[Canceled] scheduled reboot", EventProgress::Canceled),
            ("a reboot, not [Completed]", EventProgress::Scheduled),
            ("", EventProgress::Scheduled),
        ] {
            assert_eq!(EventProgress::of_description(description), expected, "{description}");
        }
    }
}
