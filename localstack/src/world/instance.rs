//! An instance: what it was launched as, and the states it goes through. Pure.
//!
//! The state moves when its machine did and the transition's time has passed; nobody has to wake it, because
//! whoever looks at an instance advances it first.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::Timestamp;

use super::devices::{Interface, Leaves, Volume};
use super::estate::{Image, Profile, Subnet};
use super::events::Event;
use super::notices::Notices;
use super::purchase::Purchase;
use crate::clock;
use crate::ec2::catalog::InstanceType;

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    pub id: String,
    pub reservation_id: String,
    /// Position among those of one call.
    pub launch_index: u32,
    /// Position among all ever launched.
    pub sequence: u64,
    pub client_token: Option<String>,
    pub kind: &'static InstanceType,
    pub image: Image,
    pub subnet: Subnet,
    pub groups: Vec<String>,
    pub interface: Interface,
    /// The root volume first.
    pub volumes: Vec<Volume>,
    pub leaves: Leaves,
    pub tags: BTreeMap<String, String>,
    pub on_shutdown: OnShutdown,
    pub metadata: Metadata,
    pub user_data: Vec<u8>,
    pub profile: Option<Profile>,
    pub features: Features,
    pub purchase: Purchase,
    pub launched: Timestamp,
    pub state: State,
    /// When it came into its state.
    pub since: Timestamp,
    /// Every state that it came into after its launch, and when.
    pub history: Vec<(State, Timestamp)>,
    pub reason: Option<Reason>,
    /// `StateTransitionReason`; often empty.
    pub transition: String,
    pub machine: Machine,
    /// When the machine came into its state.
    pub machine_since: Timestamp,
    /// How its end was asked for.
    pub power: Power,
    /// What the console showed before the machine was destroyed.
    pub console: String,
    /// The reason's code of a launch that EC2 accepted and gives up on.
    pub doomed: Option<String>,
    pub notices: Notices,
    /// The notices that its machine has been told.
    pub told: Notices,
    /// What is scheduled for it, and what was.
    pub events: Vec<Event>,
    /// Whether its machine is to be booted anew.
    pub reboots: bool,
}

/// Switches of a launch that change nothing but what is told and allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    pub monitoring: bool,
    pub ebs_optimized: bool,
    /// `DisableApiTermination`.
    pub protected: bool,
}

/// `InstanceInitiatedShutdownBehavior`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShutdown {
    Stop,
    Terminate,
}

/// `MetadataOptions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub tokens_required: bool,
    pub hop_limit: u8,
}

/// EC2's states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
}

impl State {
    /// The low byte of EC2's state code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Running => 16,
            Self::ShuttingDown => 32,
            Self::Terminated => 48,
            Self::Stopping => 64,
            Self::Stopped => 80,
        }
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }

    /// Whether it is at its end or on its way there.
    #[must_use]
    pub fn ending(self) -> bool {
        matches!(self, Self::ShuttingDown | Self::Terminated)
    }
}

/// EC2's `StateReason`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Reason {
    pub code: String,
    pub message: String,
}

impl Reason {
    /// A reason in EC2's words, where the code is known to have some.
    #[must_use]
    pub fn new(code: &str) -> Self {
        let words = match code {
            "Client.UserInitiatedShutdown" => "User initiated shutdown",
            "Client.InstanceInitiatedShutdown" => "Instance initiated shutdown",
            "Client.InternalError" => "Client error on launch",
            "Server.InternalError" => "Internal error",
            "Server.InsufficientInstanceCapacity" => "Insufficient capacity to satisfy instance request",
            "Server.ScheduledStop" => "Stopped due to a scheduled event",
            "Server.SpotInstanceTermination" => "Spot instance termination",
            _ => "The instance was ended",
        };
        Self { code: code.to_owned(), message: format!("{code}: {words}") }
    }
}

/// How far the machine behind an instance is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// Nobody has begun.
    Waiting,
    Booting,
    Up,
    /// Asked to shut down; its power is cut at this time.
    Halting {
        until: Timestamp,
    },
    /// Without power; its files are still there.
    Off,
    Destroying,
    Gone,
}

/// What has to be done with a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Boot,
    ShutDown,
    Reboot,
    Destroy,
}

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Shortest time of a transition.
    pub transition: Duration,
    /// How long terminated instances stay visible.
    pub terminated: Duration,
    /// How long an instance is invisible after its launch.
    pub describe_lag: Duration,
    /// How long a machine may take to shut down before its power is cut.
    pub shutdown_grace: Duration,
    /// How long before an interruption an instance is told.
    pub spot_notice: Duration,
}

impl Instance {
    /// Moves on to the state that it should be in by now.
    pub fn advance(&mut self, now: Timestamp, timing: &Timing) {
        if self.state.ending() && self.machine == Machine::Waiting {
            self.machine_is(Machine::Gone, now);
        }
        if self.state == State::Pending && self.doomed.is_some() {
            return self.give_up(now, timing);
        }
        let next = match (self.state, self.machine) {
            (State::Pending, Machine::Up) => State::Running,
            (State::Stopping, Machine::Off | Machine::Gone) => State::Stopped,
            (State::ShuttingDown, Machine::Gone) => State::Terminated,
            _ => return,
        };
        let due = clock::after(self.since, timing.transition).max(self.machine_since);
        if due <= now {
            self.enter(next, due);
            if next == State::Running {
                self.reason = None;
            }
        }
    }

    /// A launch that failed after it was accepted: from pending to terminated, without a machine ever.
    fn give_up(&mut self, now: Timestamp, timing: &Timing) {
        let due = clock::after(self.since, timing.transition);
        if let Some(code) = self.doomed.take_if(|_| due <= now) {
            self.reason = Some(Reason::new(&code));
            self.transition = code;
            self.machine_is(Machine::Gone, due);
            self.enter(State::Terminated, due);
        }
    }

    /// What its machine needs now. [`Job::ShutDown`] and others are to be acknowledged by [`Self::machine_is`].
    #[must_use]
    pub fn job(&self, now: Timestamp, timing: &Timing) -> Option<Job> {
        match (self.state, self.machine) {
            (State::Pending, Machine::Waiting) if self.doomed.is_none() => Some(Job::Boot),
            (State::Running, Machine::Up) if self.reboots => Some(Job::Reboot),
            (State::ShuttingDown, Machine::Up | Machine::Halting { .. })
                if self.power == Power::Cut || timing.shutdown_grace.is_zero() =>
            {
                Some(Job::Destroy)
            }
            (State::ShuttingDown | State::Stopping, Machine::Up) => Some(Job::ShutDown),
            (State::ShuttingDown | State::Stopping, Machine::Halting { until }) if until <= now => {
                Some(Job::Destroy)
            }
            (State::ShuttingDown, Machine::Off) => Some(Job::Destroy),
            _ => None,
        }
    }

    pub fn machine_is(&mut self, machine: Machine, now: Timestamp) {
        self.machine = machine;
        self.machine_since = now;
    }

    /// Begins its end. One that is ending already keeps its reason, but may still have its power cut.
    pub fn end(&mut self, reason: Reason, transition: String, power: Power, now: Timestamp) {
        if power == Power::Cut {
            self.power = power;
        }
        if self.state.ending() {
            return;
        }
        self.enter(State::ShuttingDown, now);
        self.reason = Some(reason);
        self.transition = transition;
    }

    /// Stops it. Nothing starts a stopped instance here, so its files may go with its power.
    pub fn stop(&mut self, reason: Reason, at: Timestamp) {
        if matches!(self.state, State::Pending | State::Running) {
            self.enter(State::Stopping, at);
            self.reason = Some(reason);
        }
    }

    /// Its machine has no power any more.
    pub fn powered_off(&mut self, now: Timestamp) {
        match self.machine {
            Machine::Destroying | Machine::Gone => return,
            Machine::Waiting | Machine::Booting | Machine::Up | Machine::Halting { .. } | Machine::Off => {}
        }
        self.machine_is(Machine::Off, now);
        let own_will = || Reason::new("Client.InstanceInitiatedShutdown");
        match (self.state, self.on_shutdown) {
            (State::Pending | State::Running, OnShutdown::Terminate) => {
                self.end(own_will(), String::new(), Power::Cut, now);
            }
            (State::Pending | State::Running, OnShutdown::Stop) => {
                self.enter(State::Stopping, now);
                self.reason = Some(own_will());
            }
            (State::ShuttingDown | State::Terminated | State::Stopping | State::Stopped, _) => {}
        }
    }

    /// Whether descriptions show it yet.
    #[must_use]
    pub fn visible(&self, now: Timestamp, timing: &Timing) -> bool {
        clock::after(self.launched, timing.describe_lag) <= now
    }

    /// Whether descriptions show it no more.
    #[must_use]
    pub fn forgotten(&self, now: Timestamp, timing: &Timing) -> bool {
        self.state == State::Terminated && clock::after(self.since, timing.terminated) <= now
    }

    /// Its addresses: the primary first. A terminated instance has none.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let all = std::iter::once(self.interface.primary).chain(self.interface.secondary.iter().copied());
        all.take(if self.state == State::Terminated { 0 } else { usize::MAX })
    }

    fn enter(&mut self, state: State, at: Timestamp) {
        tracing::info!(instance.id = %self.id, from = self.state.name(), to = state.name(), "instance state changed");
        self.state = state;
        self.since = at;
        self.history.push((state, at));
    }
}

/// How a machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Asked to shut down, and given time.
    Button,
    /// Cut at once.
    Cut,
}

#[cfg(test)]
pub mod tests;
