//! What becomes of each field of a Pod on RunPod.
//!
//! A field that is in neither table is refused, so that one which Kubernetes adds is never ignored in silence.

/// Fields that are honoured, or that mean nothing once the pod has its place.
const SPEC: &[&str] = &[
    // Placement: the scheduler's business, and done.
    "affinity",
    "nodeName",
    "nodeSelector",
    "preemptionPolicy",
    "priority",
    "priorityClassName",
    "schedulerName",
    "schedulingGates",
    "tolerations",
    "topologySpreadConstraints",
    // Honoured.
    "activeDeadlineSeconds",
    "containers",
    "imagePullSecrets",
    "restartPolicy",
    "terminationGracePeriodSeconds",
    "volumes",
    // An account without its token: see `sketch`.
    "automountServiceAccountToken",
    "serviceAccount",
    "serviceAccountName",
    // There are no Services to be told of: RunPod's network is another.
    "enableServiceLinks",
];

/// The same for the fields of the container.
const CONTAINER: &[&str] = &[
    "args",
    "command",
    "env",
    "envFrom",
    "image",
    "imagePullPolicy",
    "name",
    "ports",
    "resources",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeMounts",
    "workingDir",
];

/// Values that the API server writes by itself, or that ask for what is so anyway: `(field, value)`.
const HARMLESS: &[(&str, &str)] = &[
    ("spec.dnsPolicy", "\"ClusterFirst\""),
    ("spec.dnsPolicy", "\"Default\""),
    ("spec.hostIPC", "false"),
    ("spec.hostNetwork", "false"),
    ("spec.hostPID", "false"),
    ("spec.os", "{\"name\":\"linux\"}"),
    ("spec.securityContext", "{}"),
    ("spec.setHostnameAsFQDN", "false"),
    ("spec.shareProcessNamespace", "false"),
    ("spec.containers[0].securityContext", "{}"),
    ("spec.containers[0].stdin", "false"),
    ("spec.containers[0].stdinOnce", "false"),
    ("spec.containers[0].tty", "false"),
];

/// Whether `field` of the spec is honoured whatever its value.
pub(super) fn is_known_of_spec(field: &str) -> bool {
    SPEC.contains(&field)
}

/// Whether `field` of the container is honoured whatever its value.
pub(super) fn is_known_of_container(field: &str) -> bool {
    CONTAINER.contains(&field)
}

/// Whether the value at `path` (JSON, without spaces) asks for nothing.
pub(super) fn is_harmless(path: &str, value: &str) -> bool {
    HARMLESS.contains(&(path, value)) || matches!(value, "null" | "[]")
}
