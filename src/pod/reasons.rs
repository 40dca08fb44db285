//! Every `reason` that ORCA writes: into pod status, into conditions and into events.
//!
//! Where the kubelet has a word for it, it is the kubelet's word.

/// Failed: a volume that no machine here can mount.
pub const UNSUPPORTED_VOLUME: &str = "UnsupportedVolume";
/// Failed: not a Linux pod (the kubelet's word).
pub const UNSUPPORTED_OS: &str = "PodOSNotSupported";
/// Failed: dynamic resource allocation.
pub const UNSUPPORTED_CLAIM: &str = "UnsupportedResourceClaim";
/// Failed: the cloud knows no such instance type.
pub const UNKNOWN_INSTANCE_TYPE: &str = "UnknownInstanceType";
/// Failed: the operator does not allow this instance type.
pub const INSTANCE_TYPE_NOT_ALLOWED: &str = "InstanceTypeNotAllowed";
/// Failed: more GPUs than the instance type has.
pub const OUT_OF_GPU: &str = "OutOfGPU";
/// Failed: more CPU than the instance type has (the kubelet's word).
pub const OUT_OF_CPU: &str = "OutOfcpu";
/// Failed: more memory than the instance type has (the kubelet's word).
pub const OUT_OF_MEMORY: &str = "OutOfmemory";
/// Failed: more ephemeral storage than the root volume has (the kubelet's word).
pub const OUT_OF_STORAGE: &str = "OutOfephemeral-storage";
/// Failed: no instance type is what the pod asks for.
pub const NO_INSTANCE_TYPE: &str = "NoInstanceType";
/// Failed: the market is not allowed, or does not sell the type.
pub const MARKET_NOT_AVAILABLE: &str = "MarketNotAvailable";
/// Failed: no subnet of ours is where the pod wants to be, or where its type is offered.
pub const NO_ZONE: &str = "NoUsableZone";
/// Failed: the reservation or block that the pod names can never be used for it.
pub const RESERVATION_NOT_USABLE: &str = "ReservationNotUsable";
/// Failed: an annotation with our prefix that means nothing.
pub const UNKNOWN_ANNOTATION: &str = "UnknownAnnotation";
/// Failed: an annotation of ours with a value that means nothing.
pub const INVALID_ANNOTATION: &str = "InvalidAnnotation";
/// Failed: annotations, or an annotation and the configuration, that exclude each other.
pub const CONFLICTING_ANNOTATIONS: &str = "ConflictingAnnotations";
/// Failed: a value that only the operator may choose.
pub const ANNOTATION_NOT_ALLOWED: &str = "AnnotationNotAllowed";
/// Failed: ORCA would have to choose by itself what `instances.selectionMode` does not let it choose.
pub const SELECTION_NOT_ALLOWED: &str = "SelectionNotAllowed";
/// Failed: no template of this name.
pub const UNKNOWN_TEMPLATE: &str = "UnknownTemplate";
/// Failed: an architecture that no machine here has.
pub const UNSUPPORTED_ARCHITECTURE: &str = "UnsupportedArchitecture";
/// Failed: a resource amount that cannot be read.
pub const INVALID_QUANTITY: &str = "InvalidQuantity";
/// Failed: RunPod cannot give what a field asks for.
pub const UNSUPPORTED_ON_RUNPOD: &str = "UnsupportedOnRunPod";
/// Failed, or held: DaemonSet pods get no machine.
pub const DAEMON_SET: &str = "DaemonSetNotSupported";

/// Event: a machine was ended before its logs were archived.
pub const LOGS_INCOMPLETE: &str = "LogsIncomplete";
/// Event of the node: container logs are not archived.
pub const LOG_ARCHIVE_FAILS: &str = "LogArchiveFails";
/// Event of the node: container logs are archived again.
pub const LOG_ARCHIVE_WORKS: &str = "LogArchiveWorks";

/// Event of the node: a machine has no pod.
pub const ORPHAN: &str = "OrphanedInstance";

/// Event of the node: volumes have outlived their machines.
pub const ORPHANED_VOLUME: &str = "OrphanedVolume";
/// Event of the node: network interfaces have outlived their machines.
pub const ORPHANED_INTERFACE: &str = "OrphanedNetworkInterface";
/// Event of the node: what outlives its machine may not be listed or deleted.
pub const LEFTOVERS_DENIED: &str = "LeftoversNotSwept";

/// Failed: the spot market took the machine.
pub const SPOT_INTERRUPTED: &str = "SpotInterrupted";
/// Failed: the machine switched itself off (its own timers, or `poweroff`).
pub const INSTANCE_SHUT_DOWN: &str = "InstanceShutDown";
/// Failed: somebody, or ORCA, ended the machine.
pub const INSTANCE_TERMINATED: &str = "InstanceTerminated";
/// Failed: the hardware or the cloud failed.
pub const HOST_FAILED: &str = "HostFailed";
/// Failed: RunPod stopped the pod: an empty balance, its host, or somebody's hand.
pub const PROVIDER_STOPPED: &str = "ProviderStopped";
/// Failed: RunPod started the container again, and nobody saw how it ended.
pub const CONTAINER_RESTARTED: &str = "ContainerRestarted";
/// Failed: the cloud no longer knows the machine.
pub const INSTANCE_LOST: &str = "InstanceLost";
/// Failed: machine after machine did not become reachable.
pub const BOOT_FAILED: &str = "InstanceBootFailed";
/// Failed: deleted before a container ever ran.
pub const DELETED_BEFORE_START: &str = "DeletedBeforeStart";

/// Waiting: nothing of that kind to be had now.
pub const NO_CAPACITY: &str = "NoCapacity";
/// Waiting: the reservation is full, has not begun, or is not seen.
pub const RESERVATION_UNAVAILABLE: &str = "ReservationUnavailable";
/// Waiting: what could be had costs more than the limit, or nobody knows what it costs.
pub const PRICE_LIMIT: &str = "PriceLimit";
/// Waiting: a quota of the account.
pub const QUOTA: &str = "QuotaExceeded";
/// Waiting: `limits.maxConcurrentInstances`.
pub const INSTANCE_LIMIT: &str = "InstanceLimitReached";
/// Waiting: `limits.maxHourlyCost`.
pub const BUDGET: &str = "BudgetExceeded";
/// Waiting: credentials or permissions.
pub const CLOUD_DENIED: &str = "CloudAccessDenied";
/// Waiting: the cloud gives no definite answer.
pub const CLOUD_UNAVAILABLE: &str = "CloudUnavailable";
/// Waiting: no machine can be reached, whichever it is, so none is launched. Also the event of the Node about that.
pub const MACHINES_UNREACHABLE: &str = "MachinesUnreachable";
/// Waiting: the cloud refuses the request as it is, by the operator's configuration.
pub const LAUNCH_REFUSED: &str = "LaunchRefused";

/// Whether a pod waits for more than the account or the operator allows, so that the node should offer no more.
#[must_use]
pub fn is_over_a_bound(reason: &str) -> bool {
    [QUOTA, BUDGET].contains(&reason)
}

/// Whether another look at the market may give a waiting pod its machine.
#[must_use]
pub fn waits_for_market(reason: &str) -> bool {
    [NO_CAPACITY, RESERVATION_UNAVAILABLE, PRICE_LIMIT, QUOTA, BUDGET].contains(&reason)
}

/// Condition of the pod while no machine can be had for it, and after.
pub const CONDITION_CAPACITY: &str = "orca.research/Capacity";
/// That condition, once there is a machine.
pub const CAPACITY_FOUND: &str = "InstanceLaunched";

/// Ready=False: no contact with the machine.
pub const MACHINE_UNREACHABLE: &str = "MachineUnreachable";
/// `DisruptionTarget`: the kubelet's word, which Job policies are written for.
pub const DISRUPTION: &str = "TerminationByKubelet";
/// A container whose end nobody saw (the kubelet's word).
pub const CONTAINER_STATUS_UNKNOWN: &str = "ContainerStatusUnknown";
/// Ready=False once the pod has failed (the kubelet's word).
pub const POD_FAILED: &str = "PodFailed";
/// A container that waits for its machine (the kubelet's word).
pub const CONTAINER_CREATING: &str = "ContainerCreating";
/// The same, in a pod with init containers (the kubelet's word).
pub const POD_INITIALIZING: &str = "PodInitializing";

/// Event: RunInstances is about to be called.
pub const LAUNCHING: &str = "Launching";
/// Event: there is a machine.
pub const LAUNCHED: &str = "Launched";
/// Event: the machine runs and is being dialled.
pub const BOOTING: &str = "Booting";
/// Event: the kubelet of the machine has the pod.
pub const ATTACHED: &str = "Attached";
/// Event: contact is lost.
pub const DETACHED: &str = "Detached";
/// Event: contact is back.
pub const REATTACHED: &str = "Reattached";
/// Event: the machine's files are pushed again.
pub const REBOOTED: &str = "Bootstrapping";
/// Event: the machine is given up for another.
pub const REPLACING: &str = "ReplacingInstance";
/// Event: what is to be done for the pod fails again and again; it is tried again (the kubelet's word).
pub const FAILED_SYNC: &str = "FailedSync";
/// Event: the cloud does not say that a machine which was ended is gone.
pub const TERMINATION_UNCONFIRMED: &str = "TerminationUnconfirmed";
/// Event: so many attempts failed that a person should look.
pub const STUCK: &str = "Stuck";
/// Event: the machine is being ended.
pub const TERMINATING: &str = "TerminatingInstance";
/// Event: the cloud announces what it will do to the machine: a reboot, maintenance, its end.
pub const SCHEDULED_MAINTENANCE: &str = "ScheduledMaintenance";
/// Event: the pod is ended because the cloud is about to take the machine, as it announced.
pub const MACHINE_RETIRING: &str = "MachineRetiring";
/// Event: the machine was stopped; it is ended.
pub const INSTANCE_STOPPED: &str = "InstanceStopped";
/// Event of the Node: what the cloud announces for machines is not told to ORCA.
pub const EVENTS_UNKNOWN: &str = "ScheduledEventsUnknown";
/// Event: the Capacity Block of the machine ends.
pub const CAPACITY_BLOCK_ENDING: &str = "CapacityBlockEnding";
/// Failed: no machine was to be had within the pod's `orca.research/capacity-wait`.
pub const CAPACITY_WAIT_EXCEEDED: &str = "CapacityWaitExceeded";
/// Event: the machine is not in the reservation that it was launched for, or in one that nobody asked for.
pub const RESERVATION_MISMATCH: &str = "ReservationMismatch";
/// Event: two machines for one pod.
pub const DUPLICATE: &str = "DuplicateInstance";
/// Event: the annotation with the launch intent is of no use.
pub const INVALID_INTENT: &str = "InvalidLaunchIntent";

/// Event: the driver says that a GPU is sick.
pub const GPU_UNHEALTHY: &str = "GPUUnhealthy";
/// Event: the driver reports an error of a GPU that says nothing bad of the GPU.
pub const GPU_ERROR: &str = "GPUError";

/// Event of the Node: the cloud does not answer.
pub const CLOUD_UNREACHABLE: &str = "CloudUnreachable";
/// Event of the Node: it answers again. Also the condition of the Node that says whether it does.
pub const CLOUD_REACHABLE: &str = "CloudReachable";
/// Event of the Node: machines can be reached again. Also the condition of the Node that says whether they can.
pub const MACHINES_REACHABLE: &str = "MachinesReachable";
/// Event of the Node: another process acts for it now.
pub const LEADER_ELECTED: &str = "LeaderElected";
/// Event of the Node: the endpoint's serving certificate is waited for.
pub const CERTIFICATE_PENDING: &str = "ServingCertificatePending";
/// Event of the Node: it was issued, and is in use.
pub const CERTIFICATE_ISSUED: &str = "ServingCertificateIssued";
/// Event of the Node: it was refused.
pub const CERTIFICATE_REFUSED: &str = "ServingCertificateRefused";

/// Whether a pod that failed with this reason was refused before it had a machine.
#[must_use]
pub fn is_rejection(reason: &str) -> bool {
    [
        UNSUPPORTED_VOLUME,
        UNSUPPORTED_OS,
        UNSUPPORTED_CLAIM,
        UNSUPPORTED_ON_RUNPOD,
        UNKNOWN_INSTANCE_TYPE,
        INSTANCE_TYPE_NOT_ALLOWED,
        OUT_OF_GPU,
        OUT_OF_CPU,
        OUT_OF_MEMORY,
        OUT_OF_STORAGE,
        NO_INSTANCE_TYPE,
        MARKET_NOT_AVAILABLE,
        NO_ZONE,
        RESERVATION_NOT_USABLE,
        UNKNOWN_ANNOTATION,
        INVALID_ANNOTATION,
        CONFLICTING_ANNOTATIONS,
        ANNOTATION_NOT_ALLOWED,
        SELECTION_NOT_ALLOWED,
        UNKNOWN_TEMPLATE,
        UNSUPPORTED_ARCHITECTURE,
        INVALID_QUANTITY,
        DAEMON_SET,
        CAPACITY_WAIT_EXCEEDED,
    ]
    .contains(&reason)
}

/// Whether a pod that failed with this reason lost its machine, or never got a good one.
#[must_use]
pub fn is_loss(reason: &str) -> bool {
    [
        SPOT_INTERRUPTED,
        INSTANCE_SHUT_DOWN,
        INSTANCE_TERMINATED,
        HOST_FAILED,
        INSTANCE_LOST,
        BOOT_FAILED,
        DELETED_BEFORE_START,
        PROVIDER_STOPPED,
        CONTAINER_RESTARTED,
    ]
    .contains(&reason)
}
