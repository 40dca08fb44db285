//! What a machine needs to run our pod: rendering only, data in and text out.
//!
//! Nothing here does I/O or knows a cloud; no secret may reach [`user_data`].

use std::time::Duration;

/// The port of our own sshd on every machine. With `ssm` it listens on loopback alone.
pub const SSH_PORT: u16 = 2222;
/// Where the gateway is reached on the machine (SSH remote forward).
pub const GATEWAY_PORT: u16 = 6443;
/// Where the kubelet listens on the machine, on loopback.
pub const KUBELET_PORT: u16 = 10250;

/// What user data is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserData {
    /// ORCA's public key, `ssh-ed25519 AAAA…`.
    pub ssh_public: String,
    /// `true` when the tunnel dials the private address directly, so that sshd must listen there.
    pub listen: Listen,
    /// The machine ends itself at this age.
    pub max_lifetime: Duration,
    /// The machine ends itself when it was not contacted for so long.
    pub max_lost_contact: Duration,
}

/// Where our sshd listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    Loopback,
    AllAddresses,
}

/// User data: one `#cloud-boothook`, idempotent, under 16 KiB, without secrets.
#[must_use]
pub fn user_data(_input: &UserData) -> String {
    String::new()
}
