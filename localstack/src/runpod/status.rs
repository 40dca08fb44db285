//! A pod's status, what may be asked of a pod in it, and whether it is billed for hardware.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// What RunPod says of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Hardware is being allocated; it is billed already.
    Provisioning,
    /// Its image is being pulled.
    Starting,
    /// It has its hardware and its image. Whether its container runs is another question.
    Running,
    /// Stopped: no hardware, no container, its persistent volume alone.
    Exited,
    Error,
    /// Ended by RunPod itself, and shown for a while.
    Terminated,
}

impl Status {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Provisioning => "PROVISIONING",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Exited => "EXITED",
            Self::Error => "ERROR",
            Self::Terminated => "TERMINATED",
        }
    }

    /// What may be asked of a pod.
    #[must_use]
    pub fn actions(self) -> &'static [&'static str] {
        match self {
            Self::Provisioning | Self::Starting => &["stop", "terminate"],
            Self::Running => &["stop", "restart", "terminate"],
            Self::Exited | Self::Error => &["start", "terminate"],
            Self::Terminated => &[],
        }
    }

    /// Whether it has hardware, which is billed.
    #[must_use]
    pub fn holds(self) -> bool {
        match self {
            Self::Provisioning | Self::Starting | Self::Running | Self::Error => true,
            Self::Exited | Self::Terminated => false,
        }
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A status that it came into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    pub status: Status,
    pub at: Timestamp,
}
