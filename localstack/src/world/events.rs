//! Scheduled events: what is announced for an instance, and what happens when the time has come. Pure.

use jiff::Timestamp;

use super::instance::{Instance, Reason};
use super::state::Cloud;

/// A scheduled event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `instance-event-` and 17 hexadecimal digits.
    pub id: String,
    pub code: EventCode,
    /// Without what EC2 puts before it.
    pub words: String,
    pub not_before: Timestamp,
    pub not_after: Option<Timestamp>,
    pub progress: Progress,
}

/// EC2's codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventCode {
    InstanceReboot,
    SystemReboot,
    SystemMaintenance,
    InstanceRetirement,
    InstanceStop,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    Scheduled,
    Completed,
    Canceled,
}

impl EventCode {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InstanceReboot => "instance-reboot",
            Self::SystemReboot => "system-reboot",
            Self::SystemMaintenance => "system-maintenance",
            Self::InstanceRetirement => "instance-retirement",
            Self::InstanceStop => "instance-stop",
        }
    }

    /// What EC2 says of such an event.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::InstanceReboot | Self::SystemReboot => "scheduled reboot",
            Self::SystemMaintenance => "scheduled maintenance of the network",
            Self::InstanceRetirement | Self::InstanceStop => "The instance is running on degraded hardware",
        }
    }
}

impl Event {
    /// As it is described: over by its first word.
    #[must_use]
    pub fn description(&self) -> String {
        let start = match self.progress {
            Progress::Scheduled => "",
            Progress::Completed => "[Completed] ",
            Progress::Canceled => "[Canceled] ",
        };
        format!("{start}{}", self.words)
    }
}

impl Instance {
    /// The event that has this id.
    pub fn event(&mut self, id: &str) -> Option<&mut Event> {
        self.events.iter_mut().find(|event| event.id == id)
    }

    /// When the next of its events begins.
    #[must_use]
    pub fn next_event(&self) -> Option<Timestamp> {
        let open = self.events.iter().filter(|event| event.progress == Progress::Scheduled);
        open.map(|event| event.not_before).min()
    }

    /// Has happen what is due. Root volumes here are EBS volumes, so who is retired is stopped.
    fn have_happen(&mut self, now: Timestamp) {
        let mut due = Vec::new();
        for event in &mut self.events {
            if event.progress == Progress::Scheduled && event.not_before <= now {
                event.progress = Progress::Completed;
                due.push((event.code, event.not_before));
            }
        }
        for (code, at) in due {
            tracing::info!(instance.id = %self.id, code = code.name(), "a scheduled event begins");
            match code {
                EventCode::InstanceReboot | EventCode::SystemReboot => self.reboots = true,
                EventCode::SystemMaintenance => {}
                EventCode::InstanceRetirement | EventCode::InstanceStop => {
                    self.stop(Reason::new("Server.ScheduledStop"), at);
                }
            }
        }
    }
}

impl Cloud {
    /// Begins the events whose time has come.
    pub(super) fn settle_events(&mut self, now: Timestamp) {
        self.instances.values_mut().for_each(|instance| instance.have_happen(now));
    }
}
