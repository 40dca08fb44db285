//! Our side of russh: the algorithms, the host key, what sshd opens towards us, and how the connection ended.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use russh::client::{ChannelOpenHandle, Config, DisconnectReason, Handler, Msg, Session};
use russh::keys::{Algorithm, PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelOpenFailure, Preferred, SshId, cipher, compression, kex, mac};
use tokio::sync::{mpsc, watch};

use super::super::{ByteStream, TunnelError};
use super::Compression;
use super::stream::SshStream;

/// Also keeps an SSM session from going idle: only input from our side counts there.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// Unanswered ones until the connection is given up, a minute in all: an SSM session may be resumed meanwhile.
const KEEPALIVE_MAX: usize = 3;
/// Above keep-alive times its maximum; ends what never got as far as keep-alives.
const INACTIVITY: Duration = Duration::from_secs(90);

type Place = (String, u16);

/// What the connection and its handler know together.
pub(super) struct Shared {
    pinned: Option<String>,
    proved: OnceLock<PublicKey>,
    listeners: Mutex<HashMap<Place, mpsc::Sender<ByteStream>>>,
    /// Why the connection ended, once it has.
    end: watch::Sender<Option<String>>,
}

impl Shared {
    pub(super) fn new(pinned: Option<String>) -> Self {
        Self { pinned, proved: OnceLock::new(), listeners: Mutex::default(), end: watch::Sender::new(None) }
    }

    pub(super) fn host_key(&self) -> String {
        self.proved.get().map(openssh).unwrap_or_default()
    }

    pub(super) fn listeners(&self) -> MutexGuard<'_, HashMap<Place, mpsc::Sender<ByteStream>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self) -> bool {
        self.end.borrow().is_none()
    }

    /// The first reason stands.
    pub(super) fn close(&self, why: &str) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert_with(|| why.to_owned());
            first
        });
        // Whoever takes forwarded streams learns of the end too.
        self.listeners().clear();
    }

    pub(super) async fn closed(&self) -> String {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await.map(|why| why.clone().unwrap_or_default());
        ended.unwrap_or_default()
    }

    /// Why the login failed.
    pub(super) fn explain(&self, error: russh::Error) -> TunnelError {
        match (error, &self.pinned) {
            (russh::Error::UnknownKey, Some(pinned)) => {
                TunnelError::HostKey { found: self.host_key(), pinned: pinned.clone() }
            }
            (error, _) => TunnelError::Lost(error.to_string()),
        }
    }

    /// Whether `key` is the pinned one, and the one that was proved before.
    fn accepts(&self, key: &PublicKey) -> bool {
        let first = self.proved.get_or_init(|| key.clone());
        let pinned = self.pinned.as_deref().map(PublicKey::from_openssh);
        let as_pinned = match pinned {
            Some(Ok(pinned)) => pinned.key_data() == key.key_data(),
            Some(Err(_)) => false,
            None => true,
        };
        as_pinned && first.key_data() == key.key_data()
    }
}

/// Without comment.
fn openssh(key: &PublicKey) -> String {
    PublicKey::new(key.key_data().clone(), "").to_openssh().unwrap_or_default()
}

/// The handler of one connection; it ends with russh's task.
pub(super) struct Client {
    shared: Arc<Shared>,
}

impl Client {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Drop for Client {
    /// russh does not always call [`Handler::disconnected`].
    fn drop(&mut self) {
        self.shared.close("the connection ended");
    }
}

impl Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(key.certificate().is_none() && self.shared.accepts(&key.public_key()))
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let place = (connected_address.to_owned(), u16::try_from(connected_port).unwrap_or(0));
        let listener = self.shared.listeners().get(&place).cloned();
        match listener.map(mpsc::Sender::try_reserve_owned) {
            Some(Ok(room)) => {
                // Dropping the reply would refuse the channel.
                reply.accept().await;
                room.send(Box::new(SshStream::new(channel.into_stream(), &self.shared)));
            }
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                reply.reject(ChannelOpenFailure::ResourceShortage).await
            }
            Some(Err(mpsc::error::TrySendError::Closed(_))) | None => {
                reply.reject(ChannelOpenFailure::ConnectFailed).await;
            }
        }
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Self::Error>) -> Result<(), Self::Error> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                self.shared.close(&format!("sshd says `{}`", info.message));
                Ok(())
            }
            DisconnectReason::Error(error) => {
                self.shared.close(&error.to_string());
                Err(error)
            }
        }
    }
}

/// Modern algorithms alone; OpenSSH has had all of them since 2014.
pub(super) fn config(compression: Compression) -> Arc<Config> {
    let preferred = Preferred {
        kex: Cow::Borrowed(&[
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_CLIENT,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        ]),
        key: Cow::Borrowed(&[Algorithm::Ed25519]),
        cipher: Cow::Borrowed(&[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305]),
        mac: Cow::Borrowed(&[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM]),
        compression: match compression {
            Compression::Off => Cow::Borrowed(&[compression::NONE]),
            // The plain `zlib` would compress before the login, and OpenSSH no longer does.
            Compression::Zlib => Cow::Borrowed(&[compression::ZLIB_LEGACY, compression::NONE]),
        },
        ..Preferred::DEFAULT
    };
    Arc::new(Config {
        client_id: SshId::Standard(Cow::Borrowed("SSH-2.0-orca")),
        preferred,
        inactivity_timeout: Some(INACTIVITY),
        keepalive_interval: Some(KEEPALIVE_EVERY),
        keepalive_max: KEEPALIVE_MAX,
        ..Config::default()
    })
}
