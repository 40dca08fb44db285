//! The situations a pod can be in, and which may follow which.
//!
//! `docs/states.md` shows both tables to people; a test keeps it so.

mod facts;

pub use facts::Facts;

/// What is true of a pod. Computed on every pass, never stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Pods and instances have not both been listed since the process started: nothing may be concluded.
    Unread,
    /// The image of a static pod: not ours to run.
    Ignored,
    /// A DaemonSet's pod: it gets no machine and stays Pending.
    Held,
    /// Its spec asks for what no machine here can give; Failed.
    Rejected,
    /// No machine, and none to be had now (capacity, quota, limit, back-off).
    Waiting,
    /// A machine is asked for, or was asked for and has not been seen yet.
    Launching,
    /// There is a machine, and no kubelet on it that was shown the pod.
    Booting,
    /// The machine's kubelet runs, talks to the gateway and writes the status.
    Attached,
    /// The kubelet has the pod, and there is no contact with the machine now.
    Detached,
    /// The kubelet had the pod, and the machine is being bootstrapped again.
    Rebooted,
    /// The kubelet reported Succeeded or Failed.
    Finished,
    /// Deletion was asked for and the pod has not ended yet.
    Deleting,
    /// The machine is on its way down; containers may still run on it.
    Ending,
    /// The machine is gone, and the pod with it; Failed by ORCA.
    Lost,
    /// The pod's object is gone and the machine is not.
    Vanished,
    /// Neither the pod nor a machine exists.
    Gone,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 16] = [
        Self::Unread,
        Self::Ignored,
        Self::Held,
        Self::Rejected,
        Self::Waiting,
        Self::Launching,
        Self::Booting,
        Self::Attached,
        Self::Detached,
        Self::Rebooted,
        Self::Finished,
        Self::Deleting,
        Self::Ending,
        Self::Lost,
        Self::Vanished,
        Self::Gone,
    ];

    /// A bounded name, for logs and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unread => "unread",
            Self::Ignored => "ignored",
            Self::Held => "held",
            Self::Rejected => "rejected",
            Self::Waiting => "waiting",
            Self::Launching => "launching",
            Self::Booting => "booting",
            Self::Attached => "attached",
            Self::Detached => "detached",
            Self::Rebooted => "rebooted",
            Self::Finished => "finished",
            Self::Deleting => "deleting",
            Self::Ending => "ending",
            Self::Lost => "lost",
            Self::Vanished => "vanished",
            Self::Gone => "gone",
        }
    }

    /// Whether the pod's phase is final.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Rejected | Self::Finished | Self::Lost => true,
            Self::Unread
            | Self::Ignored
            | Self::Held
            | Self::Waiting
            | Self::Launching
            | Self::Booting
            | Self::Attached
            | Self::Detached
            | Self::Rebooted
            | Self::Deleting
            | Self::Ending
            | Self::Vanished
            | Self::Gone => false,
        }
    }

    /// Whether a machine that has the pod is still to come.
    #[must_use]
    pub fn is_waiting(self) -> bool {
        match self {
            Self::Waiting | Self::Launching | Self::Booting => true,
            Self::Unread
            | Self::Ignored
            | Self::Held
            | Self::Rejected
            | Self::Attached
            | Self::Detached
            | Self::Rebooted
            | Self::Finished
            | Self::Deleting
            | Self::Ending
            | Self::Lost
            | Self::Vanished
            | Self::Gone => false,
        }
    }

    /// Whether `next` may be found after this state: the table of legal transitions.
    #[must_use]
    pub fn may_become(self, next: Self) -> bool {
        self == next || self.followers().contains(&next)
    }

    /// The states that may be found after this one, besides itself.
    ///
    /// Passes may be far apart, so a state that is quickly left may be jumped over; what may never happen is a
    /// way back: from an end to a life, from a deletion to a start, from a kubelet that has the pod to one that
    /// was never shown it.
    #[must_use]
    pub fn followers(self) -> &'static [Self] {
        use State::{
            Attached, Booting, Deleting, Detached, Ending, Finished, Gone, Launching, Lost, Rebooted,
            Rejected, Vanished, Waiting,
        };
        match self {
            Self::Unread => &Self::ALL,
            Self::Ignored => &[Gone],
            Self::Held => &[Rejected, Deleting, Lost, Finished, Gone],
            Self::Rejected => &[Vanished, Gone],
            // A machine that another call made may be found while waiting.
            Self::Waiting => {
                &[Rejected, Launching, Booting, Attached, Deleting, Ending, Lost, Finished, Vanished, Gone]
            }
            Self::Launching => &[
                Rejected, Waiting, Booting, Attached, Detached, Rebooted, Deleting, Ending, Lost, Finished,
                Vanished, Gone,
            ],
            // Back to the start only by way of another machine.
            Self::Booting => &[
                Rejected, Waiting, Launching, Attached, Detached, Rebooted, Deleting, Ending, Lost, Finished,
                Vanished, Gone,
            ],
            Self::Attached => &[Detached, Rebooted, Deleting, Ending, Lost, Finished, Vanished, Gone],
            Self::Detached => &[Attached, Rebooted, Deleting, Ending, Lost, Finished, Vanished, Gone],
            Self::Rebooted => &[Attached, Detached, Deleting, Ending, Lost, Finished, Vanished, Gone],
            Self::Finished => &[Vanished, Gone],
            Self::Deleting => &[Finished, Lost, Vanished, Gone],
            // A machine that was given up while booting is followed by another.
            Self::Ending => {
                &[Rejected, Waiting, Launching, Booting, Deleting, Lost, Finished, Vanished, Gone]
            }
            Self::Lost => &[Vanished, Gone],
            Self::Vanished => &[Gone],
            // A launch whose answer was lost may still turn up, and goes the way of every machine without a pod.
            Self::Gone => &[Vanished],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_states_lead_nowhere_but_to_the_end() {
        for from in State::ALL.into_iter().filter(|state| state.is_terminal()) {
            for to in State::ALL {
                let allowed = from == to || matches!(to, State::Vanished | State::Gone);
                assert_eq!(from.may_become(to), allowed, "{} to {}", from.name(), to.name());
            }
        }
    }

    #[test]
    fn a_kubelet_that_has_the_pod_is_never_followed_by_a_launch() {
        for from in
            [State::Attached, State::Detached, State::Rebooted, State::Deleting, State::Vanished, State::Gone]
        {
            for to in [State::Waiting, State::Launching, State::Booting, State::Rejected, State::Held] {
                assert!(!from.may_become(to), "{} to {}", from.name(), to.name());
            }
        }
    }

    #[test]
    fn everything_ends() {
        for from in State::ALL {
            assert!(from.may_become(State::Gone), "{}", from.name());
        }
    }

    #[test]
    fn names_are_unique() {
        let names: std::collections::HashSet<_> = State::ALL.iter().map(|state| state.name()).collect();
        assert_eq!(names.len(), State::ALL.len());
    }
}
