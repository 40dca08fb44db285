//! What the SSM service does for a session: start it, resume it, end it, and take our WebSocket.
//!
//! Every call has a deadline. Errors are sorted by what the caller does next.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_ssm::Client;
use aws_sdk_ssm::config::http::HttpResponse;
use aws_sdk_ssm::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use futures::SinkExt;
use http::Uri;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use uuid::Uuid;

use super::super::{ByteStream, Refusal, Target, TunnelError};
use super::rate::Bucket;
use super::signing::{is_presigned, sign_upgrade};
use super::wire::OpenDataChannel;
use crate::clock;
use crate::cloud::ec2::fenced::Fenced;
use crate::cloud::ec2::{chain, is_about_credentials};
use crate::failpoint::{self, Write};
use crate::leader::Fence;
use crate::trust;

/// A raw port session: no `type` parameter, so the agent does not multiplex.
const DOCUMENT: &str = "AWS-StartSSHSession";
const CALL_DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long nobody calls after the service asked for less.
const THROTTLE_PAUSE: Duration = Duration::from_secs(1);
/// Quotas are not published; this is what a single-digit one leaves room for.
const STARTS_EVERY: Duration = Duration::from_millis(333);
const STARTS_BURST: u32 = 3;
/// Above anything an agent sends: its control messages end at 142 000 bytes.
const MAX_MESSAGE: usize = 256 * 1024;

/// A data channel's connection.
pub(super) type WebSocket = WebSocketStream<ByteStream>;

/// The permission to connect to one session.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) session_id: String,
    token: String,
    url: String,
}

/// One account and region's SSM, shared by all sessions.
#[derive(Debug)]
pub(super) struct Service {
    client: Client,
    credentials: Option<SharedCredentialsProvider>,
    region: String,
    /// Whether the endpoint is ours to name, so that `ws://` may be trusted too.
    local: bool,
    starts: Bucket,
    resumes: Bucket,
    tls: OnceLock<Arc<rustls::ClientConfig>>,
}

impl Service {
    pub(super) fn new(sdk: &SdkConfig) -> Self {
        Self {
            client: Client::new(sdk),
            credentials: sdk.credentials_provider(),
            region: sdk.region().map(ToString::to_string).unwrap_or_default(),
            local: sdk.endpoint_url().is_some(),
            starts: Bucket::new(STARTS_EVERY, STARTS_BURST),
            resumes: Bucket::new(STARTS_EVERY, STARTS_BURST),
            tls: OnceLock::new(),
        }
    }

    /// The same behind a fence; nobody has used this one yet.
    pub(super) fn behind(&self, fence: &Fence) -> Self {
        let config = self.client.config().to_builder().interceptor(Fenced::by(fence)).build();
        Self {
            client: Client::from_conf(config),
            credentials: self.credentials.clone(),
            region: self.region.clone(),
            local: self.local,
            starts: Bucket::new(STARTS_EVERY, STARTS_BURST),
            resumes: Bucket::new(STARTS_EVERY, STARTS_BURST),
            tls: OnceLock::new(),
        }
    }

    /// Waits for the turn of one more [`Service::start`]; refuses at once when it would come after `until`.
    pub(super) async fn turn(&self, until: Instant) -> Result<(), TunnelError> {
        self.starts
            .take(until)
            .await
            .map_err(|wait| TunnelError::Throttled(format!("the next StartSession is due in {wait:?}")))
    }

    /// Starts a session to the port of `target`. When throttled, everybody's next turn comes later.
    pub(super) async fn start(&self, target: &Target) -> Result<Grant, TunnelError> {
        let call = self
            .client
            .start_session()
            .target(&target.instance_id)
            .document_name(DOCUMENT)
            .parameters("portNumber", vec![target.port.to_string()])
            .reason("orca")
            .send();
        let call = failpoint::around(Write::Session, call);
        let answer =
            within(CALL_DEADLINE, "starting an SSM session", call).await?.map_err(|error| sort(&error));
        if let Err(TunnelError::Refused(Refusal::Throttled(_))) = answer {
            self.starts.penalize(THROTTLE_PAUSE);
        }
        let answer = answer?;
        match (answer.session_id, answer.token_value, answer.stream_url) {
            (Some(session_id), Some(token), Some(url)) => Ok(Grant { session_id, token, url }),
            _ => Err(Refusal::Unavailable("StartSession answered without a session".to_owned()).into()),
        }
    }

    /// A new permission for a session whose connection broke. `Ok(None)`: the session is gone.
    pub(super) async fn resume(&self, grant: &Grant, until: Instant) -> Result<Option<Grant>, TunnelError> {
        if let Err(wait) = self.resumes.take(until).await {
            return Err(TunnelError::Throttled(format!("the next ResumeSession is due in {wait:?}")));
        }
        let call = self.client.resume_session().session_id(&grant.session_id).send();
        let answer = match within(CALL_DEADLINE, "resuming an SSM session", call).await? {
            Ok(answer) => answer,
            Err(error) if error.code() == Some("DoesNotExistException") => return Ok(None),
            Err(error) => {
                let error = sort(&error);
                if let TunnelError::Refused(Refusal::Throttled(_)) = error {
                    self.resumes.penalize(THROTTLE_PAUSE);
                }
                return Err(error);
            }
        };
        let token = answer.token_value.filter(|token| !token.is_empty());
        let url = answer.stream_url.filter(|url| !url.is_empty()).unwrap_or_else(|| grant.url.clone());
        Ok(token.map(|token| Grant { session_id: grant.session_id.clone(), token, url }))
    }

    /// Ends a session; it would end by itself when idle, so a failure is only told to the log.
    pub(super) async fn terminate(&self, session_id: &str) {
        let call = self.client.terminate_session().session_id(session_id).send();
        match timeout(CALL_DEADLINE, call).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::debug!(session.id = session_id, error = %DisplayErrorContext(error), "session not terminated");
            }
            Err(_) => tracing::debug!(session.id = session_id, "TerminateSession was not answered"),
        }
    }

    /// A connection to the session's data channel, opened with its token.
    pub(super) async fn connect(&self, grant: &Grant, client_id: Uuid) -> Result<WebSocket, TunnelError> {
        within(CONNECT_DEADLINE, "connecting to the data channel", self.connect_now(grant, client_id)).await?
    }

    async fn connect_now(&self, grant: &Grant, client_id: Uuid) -> Result<WebSocket, TunnelError> {
        let mut request =
            grant.url.as_str().into_client_request().map_err(|error| refused(&grant.url, &error))?;
        if !is_presigned(request.uri()) {
            let time = clock::now().into();
            let credentials = self.credentials().await?;
            sign_upgrade(&mut request, credentials, &self.region, time).map_err(|error| {
                TunnelError::Lost(format!("cannot sign `{}`: {error}", place(&grant.url)))
            })?;
        }
        let stream = self.dial(request.uri()).await?;
        let config =
            WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE)).max_frame_size(Some(MAX_MESSAGE));
        let (mut socket, _) = client_async_with_config(request, stream, Some(config))
            .await
            .map_err(|error| refused(&grant.url, &error))?;
        let open = serde_json::to_string(&OpenDataChannel::new(&grant.token, client_id))
            .expect("a struct of strings is always JSON");
        socket.send(Message::text(open)).await.map_err(|error| TunnelError::Lost(error.to_string()))?;
        Ok(socket)
    }

    async fn credentials(&self) -> Result<aws_credential_types::Credentials, TunnelError> {
        let Some(provider) = &self.credentials else {
            return Err(Refusal::Credentials("there are none of AWS".to_owned()).into());
        };
        provider.provide_credentials().await.map_err(|error| Refusal::Credentials(chain(&error)).into())
    }

    async fn dial(&self, url: &Uri) -> Result<ByteStream, TunnelError> {
        let text = url.to_string();
        let shown = place(&text);
        let away = |error: std::io::Error| Refusal::Unavailable(format!("cannot reach `{shown}`: {error}"));
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let (tls, default_port) = match url.scheme_str() {
            Some("wss") => (true, 443),
            Some("ws") if self.local => (false, 80),
            _ => return Err(Refusal::Denied(format!("stream URL is `{shown}`, expected wss://")).into()),
        };
        let stream =
            TcpStream::connect((host, url.port_u16().unwrap_or(default_port))).await.map_err(away)?;
        stream.set_nodelay(true).map_err(away)?;
        if !tls {
            return Ok(Box::new(stream));
        }
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| Refusal::Denied(format!("host of `{shown}`: {error}")))?;
        let connector = TlsConnector::from(self.tls.get_or_init(trust::system).clone());
        Ok(Box::new(connector.connect(name, stream).await.map_err(away)?))
    }
}

async fn within<F: Future>(limit: Duration, what: &'static str, future: F) -> Result<F::Output, TunnelError> {
    let late = |_| Refusal::Unavailable(format!("no answer within {limit:?} while {what}"));
    Ok(timeout(limit, future).await.map_err(late)?)
}

/// A URL without its query, which may be signed: whoever reads an error must not be able to use it.
fn place(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

/// Why the upgrade failed.
fn refused(url: &str, error: &WsError) -> TunnelError {
    let text = format!("`{}`: {error}", place(url));
    match error {
        WsError::Http(response) => sort_code(response.status().as_str(), response.status().as_u16(), text),
        _ => Refusal::Unavailable(text).into(),
    }
}

fn sort<E>(error: &SdkError<E, HttpResponse>) -> TunnelError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let code = error.code().unwrap_or_default();
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    match error {
        SdkError::TimeoutError(_) => {
            Refusal::Unavailable(format!("no answer within {CALL_DEADLINE:?} while calling SSM")).into()
        }
        SdkError::ServiceError(service) => {
            let message = service.err().message().unwrap_or("no message");
            sort_code(code, status, format!("{code}: {message}"))
        }
        _ if is_about_credentials(error) => Refusal::Credentials(chain(error)).into(),
        _ => Refusal::Unavailable(chain(error)).into(),
    }
}

/// The service's codes, and HTTP's of the upgrade. What is not known and no server's error is the session's.
fn sort_code(code: &str, status: u16, text: String) -> TunnelError {
    match code {
        "TargetNotConnected" => TunnelError::NotYet(text),
        "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "SlowDown"
        | "429"
        | "503" => Refusal::Throttled(text).into(),
        "ExpiredToken"
        | "ExpiredTokenException"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "OptInRequired" => Refusal::Credentials(text).into(),
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "InvalidDocument"
        | "401"
        | "403" => Refusal::Denied(text).into(),
        "InternalServerError" | "InternalFailure" | "ServiceUnavailable" => Refusal::Unavailable(text).into(),
        _ if status >= 500 => Refusal::Unavailable(text).into(),
        _ => TunnelError::Lost(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_says_what_to_do_next() {
        let kind = |code: &str, status| sort_code(code, status, "why".to_owned()).to_string();
        for (code, status, expected) in [
            ("TargetNotConnected", 400, "not reachable yet"),
            ("ThrottlingException", 400, "throttled"),
            ("429", 429, "throttled"),
            ("503", 503, "throttled"),
            ("AccessDeniedException", 400, "access denied"),
            ("403", 403, "access denied"),
            ("ExpiredTokenException", 400, "credentials are not taken"),
            ("InternalServerError", 500, "service unavailable"),
            ("500", 500, "service unavailable"),
            ("SomethingNew", 500, "service unavailable"),
            ("SomethingNew", 400, "connection lost"),
            ("404", 404, "connection lost"),
        ] {
            assert_eq!(kind(code, status), format!("{expected}: why"), "{code} with {status}");
        }
    }

    fn service(endpoint: Option<&str>) -> Service {
        let mut sdk = SdkConfig::builder().behavior_version(aws_config::BehaviorVersion::latest());
        sdk.set_endpoint_url(endpoint.map(str::to_owned));
        Service::new(&sdk.build())
    }

    #[tokio::test]
    async fn an_unencrypted_stream_is_refused_unless_the_endpoint_is_ours() {
        let url: Uri = "ws://127.0.0.1:1/v1?X-Amz-Signature=secret".parse().unwrap();
        let refusal = async |endpoint| match service(endpoint).dial(&url).await {
            Err(TunnelError::Refused(refusal)) => refusal,
            Ok(_) => panic!("it was dialed"),
            Err(error) => panic!("{error}"),
        };
        let (denied, away) = (refusal(None).await, refusal(Some("http://127.0.0.1:1")).await);
        assert!(matches!(denied, Refusal::Denied(_)) && matches!(away, Refusal::Unavailable(_)));
        assert!(!format!("{denied} {away}").contains("secret"), "{denied} {away}");
    }
}
