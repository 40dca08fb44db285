//! What every state means, in words: for `docs/states.md` and whoever reads the code.

use super::State;

/// What there is to know of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What is true in it.
    pub what: &'static str,
    /// Who writes the pod's status.
    pub writer: &'static str,
    /// What ends it, and what bounds it.
    pub left: &'static str,
}

impl State {
    /// What there is to know of it.
    #[must_use]
    pub fn facts(self) -> Facts {
        let (what, writer, left) = match self {
            Self::Unread => (
                "Pods and instances have not both been listed since the process started: nothing is concluded, and nothing done.",
                "nobody",
                "Both lists are read; looked at every second.",
            ),
            Self::Ignored => ("The mirror of a static pod: not ORCA's to run.", "nobody", "Its object goes."),
            Self::Held => (
                "A DaemonSet's pod: it gets no machine (`node.daemonSets`).",
                "nobody",
                "It is deleted, or refused by another configuration.",
            ),
            Self::Rejected => (
                "Its spec or its wishes ask for what no machine here can give. No machine was, or will be, launched.",
                "ORCA: Failed, with the field's path",
                "Its object goes.",
            ),
            Self::Waiting => (
                "No machine, and none to be had now: capacity, quota, limit, budget, no way to any machine, or back-off.",
                "ORCA: Pending, and the condition `orca.research/Capacity`",
                "The back-off ends (five minutes at most), what it waits for is there again, `orca stuck --retry`, or `capacity-wait` ends.",
            ),
            Self::Launching => (
                "A machine is asked for, or was asked for and is not seen yet. The intent is in the pod's annotation.",
                "ORCA: Pending",
                "The cloud answers or shows it; without a definite answer the same call is repeated with the same token.",
            ),
            Self::Booting => (
                "There is a machine, and no kubelet on it that was shown the pod.",
                "ORCA: Pending, with the machine",
                "Its kubelet has the pod; or `limits.bootDeadline`, less the time in which no machine can be reached: the machine is replaced, five times at most.",
            ),
            Self::Attached => (
                "The machine's kubelet has the pod and talks to the gateway.",
                "the kubelet",
                "Contact breaks, the pod ends, or it is deleted.",
            ),
            Self::Detached => (
                "The kubelet has the pod and runs it, and there is no contact with the machine.",
                "nobody; after a minute ORCA: Ready=False",
                "Contact is back; or the machine ends itself after `limits.maxLostContact`.",
            ),
            Self::Rebooted => (
                "The kubelet had the pod, and the machine is being bootstrapped again.",
                "nobody; after a minute ORCA: Ready=False",
                "The kubelet is back, or the machine ends.",
            ),
            Self::Finished => (
                "The kubelet (or somebody else) reported Succeeded or Failed.",
                "nobody: the phase is final",
                "The machine ends once the logs are archived (`logs.drainDeadline` bounds that) and `limits.keepFinished` is over; the state, when the object goes.",
            ),
            Self::Deleting => (
                "Deletion was asked for, and the pod has not ended yet: its kubelet ends it, with its grace.",
                "the kubelet; ORCA where none has the pod, or its machine is gone: Failed",
                "The kubelet's final DELETE. One minute after the grace a silent machine is ended, after five one that answers; then the cloud must say that it is gone, is asked again every quarter of an hour, and then ORCA deletes the object.",
            ),
            Self::Ending => (
                "The machine is on its way down, and containers may still run on it.",
                "the kubelet, as long as it can",
                "The cloud says that it is terminated; it is asked again every quarter of an hour.",
            ),
            Self::Lost => (
                "The machine is gone, and the pod with it.",
                "ORCA: Failed with `DisruptionTarget`; exits that were recorded stay",
                "Its object goes.",
            ),
            Self::Vanished => (
                "The pod's object is gone, by force or with its namespace, and its machine is not.",
                "nobody",
                "Its kubelet says that nothing runs, or the last grace and half a minute are over: the machine is ended, and awaited until it is terminated.",
            ),
            Self::Gone => (
                "Neither the pod nor a machine exists.",
                "nobody",
                "It is forgotten; a launch that turns up late makes it Vanished.",
            ),
        };
        Facts { what, writer, left }
    }
}
