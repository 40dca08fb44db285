//! The Secret that keeps the keys across restarts.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ObjectMeta, PostParams};
use russh::keys::{Algorithm, PrivateKey};

use super::pki::{CLIENT_CA, CertKey, Half, SERVING_CA, check_authority};
use super::{Keys, KeysError, ssh_public};
use crate::failpoint::{self, Write};

/// Name of the Secret, in ORCA's own namespace.
pub const SECRET_NAME: &str = "orca-keys";

const SSH: &str = "ssh-private-key";
const SERVING_CERT: &str = "serving-ca.crt";
const SERVING_KEY: &str = "serving-ca.key";
const CLIENT_CERT: &str = "client-ca.crt";
const CLIENT_KEY: &str = "client-ca.key";
const TOKEN: &str = "token-key";

impl Keys {
    /// The keys of the named Secret, which is made with new ones where there is none. Of several that start
    /// at once, all end with the same keys.
    pub async fn load_or_create(
        client: &kube::Client,
        namespace: &str,
        name: &str,
    ) -> Result<Self, KeysError> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let failed =
            |verb| move |source| KeysError::Api { verb, secret: format!("{namespace}/{name}"), source };
        if let Some(secret) = api.get_opt(name).await.map_err(failed("get"))? {
            return Self::from_secret(&secret);
        }
        let keys = Self::generate()?;
        let (params, secret) = (PostParams::default(), keys.to_secret(namespace, name));
        match failpoint::around(Write::Keys, api.create(&params, &secret)).await {
            Ok(_) => Ok(keys),
            Err(kube::Error::Api(status)) if status.code == 409 => {
                Self::from_secret(&api.get(name).await.map_err(failed("get"))?)
            }
            Err(error) => Err(failed("create")(error)),
        }
    }

    /// The Secret that keeps these keys.
    #[must_use]
    pub fn to_secret(&self, namespace: &str, name: &str) -> Secret {
        let entries: [(&str, &[u8]); 6] = [
            (SSH, self.ssh_private.as_bytes()),
            (SERVING_CERT, self.serving_ca_cert.as_bytes()),
            (SERVING_KEY, self.serving_ca_key.as_bytes()),
            (CLIENT_CERT, self.client_ca_cert.as_bytes()),
            (CLIENT_KEY, self.client_ca_key.as_bytes()),
            (TOKEN, &self.token_key),
        ];
        Secret {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/name".to_owned(), "orca".to_owned())])),
                ..ObjectMeta::default()
            },
            type_: Some("Opaque".to_owned()),
            data: Some(entries.map(|(entry, value)| (entry.to_owned(), ByteString(value.to_vec()))).into()),
            ..Secret::default()
        }
    }

    /// The keys that a Secret keeps, checked against each other.
    pub fn from_secret(secret: &Secret) -> Result<Self, KeysError> {
        let entries = Entries(secret);
        let ssh_private = entries.text(SSH)?;
        let ssh = PrivateKey::from_openssh(&ssh_private).map_err(|e| entries.damaged(SSH, e))?;
        if ssh.algorithm() != Algorithm::Ed25519 || ssh.is_encrypted() {
            return Err(entries.damaged(SSH, "expected an ed25519 key without a passphrase"));
        }
        let serving = entries.authority(SERVING_CA, SERVING_CERT, SERVING_KEY)?;
        let client = entries.authority(CLIENT_CA, CLIENT_CERT, CLIENT_KEY)?;
        let token = entries.bytes(TOKEN)?;
        let token_key = token
            .try_into()
            .map_err(|_| entries.damaged(TOKEN, format_args!("it has {} bytes, expected 32", token.len())))?;
        Ok(Self {
            ssh_public: ssh_public(&ssh).map_err(|e| entries.damaged(SSH, e))?,
            ssh_private,
            serving_ca_cert: serving.cert_pem,
            serving_ca_key: serving.key_pem,
            client_ca_cert: client.cert_pem,
            client_ca_key: client.key_pem,
            token_key,
        })
    }
}

/// Reads entries of a Secret; its errors name them.
struct Entries<'a>(&'a Secret);

impl<'a> Entries<'a> {
    fn bytes(&self, entry: &'static str) -> Result<&'a [u8], KeysError> {
        let found = self.0.data.as_ref().and_then(|data| data.get(entry));
        found.map(|bytes| bytes.0.as_slice()).ok_or_else(|| self.damaged(entry, "it is missing"))
    }

    fn text(&self, entry: &'static str) -> Result<String, KeysError> {
        let text = std::str::from_utf8(self.bytes(entry)?).map_err(|e| self.damaged(entry, e))?;
        Ok(text.to_owned())
    }

    fn authority(&self, name: &str, cert: &'static str, key: &'static str) -> Result<CertKey, KeysError> {
        let pair = CertKey { cert_pem: self.text(cert)?, key_pem: self.text(key)? };
        match check_authority(name, &pair) {
            Ok(()) => Ok(pair),
            Err((Half::Cert, reason)) => Err(self.damaged(cert, reason)),
            Err((Half::Key, reason)) => Err(self.damaged(key, reason)),
        }
    }

    fn damaged(&self, entry: &'static str, reason: impl std::fmt::Display) -> KeysError {
        let meta = &self.0.metadata;
        let (namespace, name) = (meta.namespace.as_deref(), meta.name.as_deref());
        KeysError::Damaged {
            secret: format!("{}/{}", namespace.unwrap_or_default(), name.unwrap_or_default()),
            entry,
            reason: reason.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::extract::State;
    use axum::http::StatusCode;
    use axum::routing::{get, post};
    use axum::{Json, Router};
    use kube::client::Body;
    use tower::ServiceExt;

    use super::*;

    fn same(one: &Keys, two: &Keys) -> bool {
        one.to_secret("ns", "k") == two.to_secret("ns", "k") && one.ssh_public == two.ssh_public
    }

    #[test]
    fn keys_survive_the_secret() {
        let keys = Keys::generate().unwrap();
        assert!(same(&Keys::from_secret(&keys.to_secret("orca", "orca-keys")).unwrap(), &keys));
    }

    #[test]
    fn a_damaged_entry_is_named() {
        let keys = Keys::generate().unwrap();
        for entry in [SSH, SERVING_CERT, SERVING_KEY, CLIENT_CERT, CLIENT_KEY, TOKEN] {
            for damage in [None, Some(b"x".to_vec())] {
                let mut secret = keys.to_secret("orca", "orca-keys");
                let data = secret.data.as_mut().unwrap();
                match damage {
                    None => drop(data.remove(entry)),
                    Some(bytes) => drop(data.insert(entry.to_owned(), ByteString(bytes))),
                }
                let error = Keys::from_secret(&secret).unwrap_err().to_string();
                assert!(
                    error.starts_with(&format!("secret `orca/orca-keys`: entry `{entry}` is damaged")),
                    "{error}"
                );
            }
        }
    }

    type Store = Arc<Mutex<Option<Secret>>>;

    /// An API server with one Secret; `rival` is stored by somebody else between our get and our create.
    fn client(store: Store, rival: Option<Secret>) -> kube::Client {
        async fn read(
            State((store, _)): State<(Store, Option<Secret>)>,
        ) -> (StatusCode, Json<serde_json::Value>) {
            match store.lock().unwrap().as_ref() {
                Some(secret) => (StatusCode::OK, Json(serde_json::to_value(secret).unwrap())),
                None => status(404, "NotFound"),
            }
        }
        async fn create(
            State((store, rival)): State<(Store, Option<Secret>)>,
            Json(secret): Json<Secret>,
        ) -> (StatusCode, Json<serde_json::Value>) {
            let mut stored = store.lock().unwrap();
            if let Some(rival) = rival {
                stored.get_or_insert(rival);
            }
            if stored.is_some() {
                return status(409, "AlreadyExists");
            }
            (StatusCode::CREATED, Json(serde_json::to_value(stored.insert(secret)).unwrap()))
        }
        fn status(code: u16, reason: &str) -> (StatusCode, Json<serde_json::Value>) {
            let body = serde_json::json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                "message": reason, "reason": reason, "code": code});
            (StatusCode::from_u16(code).unwrap(), Json(body))
        }
        let router = Router::new()
            .route("/api/v1/namespaces/orca/secrets/keys", get(read))
            .route("/api/v1/namespaces/orca/secrets", post(create))
            .with_state((store, rival));
        kube::Client::new(
            router.map_request(|request: http::Request<Body>| request.map(axum::body::Body::new)),
            "orca",
        )
    }

    #[tokio::test]
    async fn the_first_start_makes_keys_and_the_second_finds_them() {
        let client = client(Store::default(), None);
        let first = Keys::load_or_create(&client, "orca", "keys").await.unwrap();
        let second = Keys::load_or_create(&client, "orca", "keys").await.unwrap();
        assert!(same(&first, &second));
    }

    #[tokio::test]
    async fn who_comes_second_takes_the_keys_of_the_first() {
        let rival = Keys::generate().unwrap();
        let client = client(Store::default(), Some(rival.to_secret("orca", "keys")));
        assert!(same(&Keys::load_or_create(&client, "orca", "keys").await.unwrap(), &rival));
    }

    #[tokio::test]
    async fn a_damaged_secret_is_not_replaced() {
        let mut secret = Keys::generate().unwrap().to_secret("orca", "keys");
        secret.data.as_mut().unwrap().remove(TOKEN);
        let store: Store = Arc::new(Mutex::new(Some(secret.clone())));
        let error = Keys::load_or_create(&client(store.clone(), None), "orca", "keys").await.unwrap_err();
        assert!(error.to_string().contains("`token-key` is damaged: it is missing"), "{error}");
        assert_eq!(store.lock().unwrap().as_ref(), Some(&secret));
    }
}
