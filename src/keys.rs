//! ORCA's durable secrets: the SSH client key, the certificate authorities and the key of machine tokens.
//!
//! They live in one Kubernetes Secret, so that a restarted ORCA can re-attach to its machines.
//! They must never reach user data, tags, logs or events.

mod pki;
mod secret;

pub use pki::{CertKey, SERVING_NAME};
pub use secret::SECRET_NAME;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};

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

/// Why there are no usable keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The Secret exists, but this entry can't be used. Nobody but a person may decide to replace it:
    /// machines that run now accept the old keys alone.
    #[error("secret `{secret}`: entry `{entry}` is damaged: {reason}")]
    Damaged { secret: String, entry: &'static str, reason: String },
    /// Something could not be made from good keys.
    #[error("cannot make {what}: {reason}")]
    Make { what: &'static str, reason: String },
    /// The API server did not give or take the Secret.
    #[error("cannot {verb} secret `{secret}`")]
    Api { verb: &'static str, secret: String, source: kube::Error },
}

impl KeysError {
    fn make(what: &'static str, reason: impl std::fmt::Display) -> Self {
        Self::Make { what, reason: reason.to_string() }
    }
}

impl Keys {
    /// New random keys.
    pub fn generate() -> Result<Self, KeysError> {
        let ssh = Ed25519Keypair::from_seed(&random()?);
        let ssh = PrivateKey::new(KeypairData::Ed25519(ssh), "")
            .map_err(|error| KeysError::make("an SSH key", error))?;
        let ssh_private =
            ssh.to_openssh(LineEnding::LF).map_err(|error| KeysError::make("an SSH key", error))?.to_string();
        let serving = pki::authority(pki::SERVING_CA)?;
        let client = pki::authority(pki::CLIENT_CA)?;
        Ok(Self {
            ssh_public: ssh_public(&ssh).map_err(|reason| KeysError::make("an SSH key", reason))?,
            ssh_private,
            serving_ca_cert: serving.cert_pem,
            serving_ca_key: serving.key_pem,
            client_ca_cert: client.cert_pem,
            client_ca_key: client.key_pem,
            token_key: random()?,
        })
    }
}

/// The public half as it stands in `authorized_keys`, without comment.
fn ssh_public(key: &PrivateKey) -> Result<String, String> {
    let mut public = key.public_key().clone();
    public.set_comment("");
    Ok(public.to_openssh().map_err(|error| error.to_string())?.trim().to_owned())
}

fn random() -> Result<[u8; 32], KeysError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|error| KeysError::make("random bytes", error))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_differ_each_time_and_do_not_show_in_debug_output() {
        let (one, two) = (Keys::generate().unwrap(), Keys::generate().unwrap());
        assert_ne!(one.ssh_public, two.ssh_public);
        assert_ne!(one.token_key, two.token_key);
        assert_ne!(one.serving_ca_key, one.client_ca_key);
        let shown = format!("{one:?}");
        assert!(shown.contains(&one.ssh_public) && !shown.contains("PRIVATE"), "{shown}");
    }

    #[test]
    fn the_public_key_has_two_words_and_no_comment() {
        let keys = Keys::generate().unwrap();
        let words: Vec<_> = keys.ssh_public.split(' ').collect();
        assert_eq!(words.len(), 2, "{}", keys.ssh_public);
        assert_eq!(words[0], "ssh-ed25519");
        assert!(keys.ssh_private.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----\n"));
    }
}
