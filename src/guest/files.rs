//! The files of a machine, whole: what is rendered here replaces what an image may have in its place.

pub(super) mod containerd;
pub(super) mod kubelet;
pub(super) mod logs;
pub(super) mod network;

/// Our folder on the machine's disk: nothing secret.
pub(super) const ETC: &str = "/etc/orca";
/// Secrets, in memory alone.
pub(super) const KEYS: &str = "/run/orca/keys";
/// The image of every pod's sandbox: pre-cached on EKS-optimized images under this name.
pub(super) const PAUSE_IMAGE: &str = "localhost/kubernetes/pause:latest";
/// Where CNI configuration is, ours alone: the first file of a shared folder would win.
pub(super) const CNI_CONF_DIR: &str = "/etc/orca/cni";
/// Per registry, where its images are asked for first.
pub(super) const REGISTRY_HOSTS: &str = "/etc/containerd/certs.d";
