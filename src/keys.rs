//! ORCA's durable secrets: the SSH client key, the certificate authorities and the key of machine tokens.
//!
//! They live in one Kubernetes Secret, so that a restarted ORCA can re-attach to its machines.
//! They must never reach user data, tags, logs or events.

/// The secrets. Loaded once at start.
#[derive(Clone)]
pub struct Keys {
    /// OpenSSH private key (ed25519), PEM.
    pub ssh_private: String,
    /// `ssh-ed25519 AAAA…`, without comment: goes into user data.
    pub ssh_public: String,
    /// Certificate authority that signs the gateway's and the guest kubelets' serving certificates, PEM.
    pub serving_ca_cert: String,
    /// Its key, PEM.
    pub serving_ca_key: String,
    /// Certificate authority of the clients that guest kubelets accept: ORCA alone, PEM.
    pub client_ca_cert: String,
    /// Its key, PEM.
    pub client_ca_key: String,
    /// Key of the HMAC that makes machine tokens.
    pub token_key: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("ssh_public", &self.ssh_public).finish_non_exhaustive()
    }
}
