//! What a machine needs to run our pod: rendering only, data in and text out.
//!
//! Nothing here does I/O or knows a cloud; no secret may reach [`user_data()`].

mod archive;
mod bootstrap;
mod capacity;
mod facts;
mod files;
mod gpu;
mod holder;
mod notice;
mod user_data;

pub use archive::{end, part};
pub use bootstrap::{CONTACT, Inputs, KeepLogs, Snat, bootstrap, receive, serve_logs};
pub use capacity::{MAX_PODS, capacity};
pub use facts::{CNI_PLUGINS, Cgroup, FactsError, GuestFacts, OomScore, PROBE};
pub use gpu::watch_gpus;
pub use holder::Holder;
pub use notice::{AWAIT_NOTICE, Notice, SHUT_DOWN};
pub use user_data::{host_key_on_console, user_data};

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

/// A file, with its name in an archive.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    pub name: String,
    /// Permission bits.
    pub mode: u32,
    pub content: Vec<u8>,
}

impl std::fmt::Debug for File {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The content may be a secret.
        f.debug_struct("File").field("name", &self.name).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// A script with each `@name@` replaced by its value.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(template.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}
