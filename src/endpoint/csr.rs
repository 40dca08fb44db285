//! A serving certificate from the cluster itself, by CertificateSigningRequest, as kubelets ask for theirs.
//!
//! Nobody approves such a request by default, and nothing here waits for it: the endpoint serves a self-signed
//! certificate until the first one is issued, and the old one until the next. The key is made for each request and
//! never leaves the process, so a restart asks anew. When to do what is `decide`; this is the loop around it.

mod decide;
mod request;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Client;
use kube::api::{Api, PostParams};
use prometheus_client::metrics::gauge::Gauge;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

pub use self::request::Subject;

use self::decide::{Asked, Lifetime, Seen, Step, Verdict, decide, tell};
use self::request::{accept, read, render};
use crate::clock;
use crate::failpoint::{self, Write};
use crate::node::events::{self, Told};
use crate::pod::reasons;
use crate::telemetry::Registry;

/// How long the API server may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// After a failure of the API server: doubled each time, up to the last.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LAST_PAUSE: Duration = Duration::from_mins(5);

/// A certificate that the cluster signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The endpoint's own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS #8, DER.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("chain", &self.chain.len()).finish_non_exhaustive()
    }
}

/// What is measured.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    expiry: Gauge,
}

impl Metrics {
    /// When the certificate ends, in seconds since 1970; 0 if the cluster issued none.
    #[must_use]
    pub fn expiry(&self) -> Gauge {
        self.expiry.clone()
    }

    /// Adds them to the registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "endpoint_certificate_expiry_timestamp_seconds",
            "When the serving certificate that the cluster issued ends, in seconds since 1970; 0 without one",
            self.expiry.clone(),
        );
    }
}

/// Who asks, and for what.
pub struct Requester {
    /// Speaks as the node: approvers expect a node to ask for its own certificate, and the Node authorizer allows it.
    pub node: Client,
    /// Speaks as ORCA, for events.
    pub own: Client,
    pub subject: Subject,
    pub metrics: Metrics,
}

impl std::fmt::Debug for Requester {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requester").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// The request under way.
struct Pending {
    name: String,
    since: Timestamp,
    key: KeyPair,
}

/// What lasts from look to look.
#[derive(Default)]
struct State {
    serving: Option<Lifetime>,
    pending: Option<Pending>,
    rest_until: Option<Timestamp>,
    told: Option<(Told, Timestamp)>,
}

impl Requester {
    /// Asks for a certificate and renews it; each goes to `issued`. Never ends.
    pub async fn run(self, issued: &watch::Sender<Option<Arc<Issued>>>) {
        let mut state = State::default();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.pass(&mut state, issued).await {
                Ok(wait) => {
                    pause = FIRST_PAUSE;
                    sleep(wait).await;
                }
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "asking for a serving certificate failed, trying again"
                    );
                    sleep(pause.mul_f64(0.8 + 0.4 * rand::random::<f64>())).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// One look and one step; the time until the next.
    async fn pass(
        &self,
        state: &mut State,
        issued: &watch::Sender<Option<Arc<Issued>>>,
    ) -> anyhow::Result<Duration> {
        let object = match &state.pending {
            Some(pending) => deadline(self.requests().get_opt(&pending.name)).await?,
            None => None,
        };
        let mut verdict = read(object.as_ref());
        let now = clock::now();
        let mut accepted = None;
        if let (Verdict::Issued, Some(object), Some(pending)) = (&verdict, &object, &state.pending) {
            match accept(&self.subject, object, &pending.key, now, rand::random()) {
                Ok(good) => accepted = Some(good),
                Err(why) => verdict = Verdict::Refused(why),
            }
        }
        let asked =
            state.pending.as_ref().map(|it| Asked { name: &it.name, since: it.since, verdict: &verdict });
        let seen = Seen { now, serving: state.serving, asked, rest_until: state.rest_until };
        let before = state.told.as_ref().map(|(told, at)| (told, *at));
        let news = tell(&seen, &self.subject.signer, before);
        let step = decide(&seen);
        if let Some(told) = news {
            self.say(&told, now).await;
            state.told = Some((told, now));
        }
        match step {
            Step::Wait(wait) => return Ok(wait),
            Step::Ask => state.pending = Some(self.ask(now).await?),
            Step::Forget(rest) => {
                state.pending = None;
                state.rest_until = now.checked_add(rest).ok();
            }
            Step::Take => {
                if let Some((certificate, lifetime)) = accepted {
                    self.metrics.expiry.set(lifetime.not_after.as_second());
                    issued.send_replace(Some(Arc::new(certificate)));
                    let told = Told {
                        kind: "Normal",
                        reason: reasons::CERTIFICATE_ISSUED,
                        message: format!(
                            "the endpoint serves a certificate of the cluster until {}",
                            lifetime.not_after
                        ),
                    };
                    self.say(&told, now).await;
                    *state = State { serving: Some(lifetime), ..State::default() };
                }
            }
        }
        Ok(Duration::ZERO)
    }

    async fn ask(&self, now: Timestamp) -> anyhow::Result<Pending> {
        let key = KeyPair::generate()?;
        let request = render(&self.subject, &key)?;
        let (requests, params) = (self.requests(), PostParams::default());
        let made =
            deadline(failpoint::around(Write::Certificate, requests.create(&params, &request))).await?;
        let name = made.metadata.name.unwrap_or_default();
        tracing::info!(request = name, signer = self.subject.signer, "asked for a serving certificate");
        Ok(Pending { name, since: now, key })
    }

    /// To the log, and as an event of the Node. An event is told once or not at all: the log has it, too.
    async fn say(&self, told: &Told, now: Timestamp) {
        if told.kind == "Normal" {
            tracing::info!(reason = told.reason, "{}", told.message);
        } else {
            tracing::warn!(reason = told.reason, "{}", told.message);
        }
        let sent = timeout(DEADLINE, events::send(&self.own, &self.subject.node, told, now)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!(reason = told.reason, "an event about the node was not taken");
        }
    }

    fn requests(&self) -> Api<CertificateSigningRequest> {
        Api::all(self.node.clone())
    }
}

async fn deadline<T>(call: impl Future<Output = Result<T, kube::Error>>) -> anyhow::Result<T> {
    Ok(timeout(DEADLINE, call)
        .await
        .map_err(|_| anyhow::anyhow!("no answer of the API server in {DEADLINE:?}"))??)
}
