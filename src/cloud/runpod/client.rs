//! A typed client of the REST API v2: every call waits for its turn, has a deadline, is counted, is repeated where that
//! is safe, and is never sent behind a closed fence if it changes anything.
//!
//! What is sent is what the published schema of August 2026 has and nothing else, since servers refuse what they do not
//! know; what is read may have more, or less: <https://docs.runpod.io/api-reference-v2/overview>.

mod account;
mod catalog;
mod pods;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde_json::Value;
use tokio::time::Instant;

use super::errors::{self, Kind, Refusal};
use super::governor::{self, Class, Governor};
use super::http::{Answer, Http, Message};
use super::key::{ApiKey, KeySource};
use crate::leader::Fence;
use crate::telemetry::CloudCalls;
pub use account::{Bill, BillingQuery, NetworkVolume, Registry};
pub use catalog::{CpuOffer, DataCenter, GpuOffer, GpuQuery, Level, Place};
pub use pods::Listed;
pub(super) use pods::Read;

/// A call that only looks, or that may be repeated.
const DEADLINE: Duration = Duration::from_secs(20);
/// So often a call that may be repeated is made when it has no definite answer.
const TRIES: u32 = 3;
/// A refusal for rate was not looked at, so it is repeated more often; the governor spreads it.
const THROTTLED_TRIES: u32 = 5;
/// Between tries without a definite answer; doubled, with jitter.
const PAUSE: Duration = Duration::from_millis(300);
/// Whoever calls has a minute; a turn that comes later is told at once as what it is.
const PATIENCE: Duration = Duration::from_secs(30);

/// The client. Clones share everything.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
    fence: Fence,
}

#[derive(Debug)]
struct Shared {
    http: Http,
    /// Without a slash at its end.
    endpoint: String,
    key: KeySource,
    governor: Governor,
    calls: CloudCalls,
}

/// One call.
pub(super) struct Call<'a> {
    /// The API's own name for it, for metrics.
    pub(super) action: &'static str,
    pub(super) class: Class,
    pub(super) method: Method,
    /// Below the endpoint, with the query, encoded.
    pub(super) path: String,
    pub(super) body: Bytes,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) deadline: Duration,
    /// The governor has admitted it already.
    pub(super) is_admitted: bool,
    /// What the body holds that nobody may read in an error, beside the key.
    pub(super) secrets: Vec<&'a str>,
}

impl Call<'_> {
    /// A call that only looks.
    pub(super) fn look(action: &'static str, path: String) -> Self {
        Self {
            action,
            class: Class::Read,
            method: Method::GET,
            path,
            body: Bytes::new(),
            headers: Vec::new(),
            deadline: DEADLINE,
            is_admitted: false,
            secrets: Vec::new(),
        }
    }
}

impl Client {
    /// A client of this endpoint, such as `https://api.runpod.io/v2`. Nothing is sent yet.
    #[must_use]
    pub fn new(endpoint: &str, key: KeySource, calls: CloudCalls) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let shared = Shared { http: Http::new(), endpoint, key, governor: Governor::new(), calls };
        Self { shared: Arc::new(shared), fence: Fence::open() }
    }

    /// The same, whose calls that change something are not sent while the fence is closed.
    #[must_use]
    pub fn behind(self, fence: &Fence) -> Self {
        Self { fence: fence.clone(), ..self }
    }

    pub(super) fn governor(&self) -> &Governor {
        &self.shared.governor
    }

    pub(super) async fn key(&self) -> Result<ApiKey, Refusal> {
        self.shared.key.current().await.map_err(|error| Refusal::new(Kind::NoKey, error.to_string()))
    }

    /// Waits for the turn of a creation, as long as that takes within `patience`.
    pub(super) async fn admit(&self, patience: Duration) -> Result<(), Refusal> {
        self.turn(Class::Create, patience).await
    }

    /// Makes the call and answers with JSON.
    pub(super) async fn json(&self, call: Call<'_>) -> Result<Value, Refusal> {
        let unread = if call.method == Method::POST { Kind::Unknown } else { Kind::Unreadable };
        self.repeat(call, |answer| {
            serde_json::from_slice(&answer.body).map_err(|error| {
                Refusal::new(unread, format!("the answer is not the JSON that it must be: {error}"))
            })
        })
        .await
    }

    /// Makes the call, whose answer has no body.
    pub(super) async fn done(&self, call: Call<'_>) -> Result<(), Refusal> {
        self.repeat(call, |_| Ok(())).await
    }

    /// Repeats what may be repeated, each time in its turn.
    async fn repeat<T>(
        &self,
        mut call: Call<'_>,
        read: impl Fn(&Answer) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let (mut tries, mut throttled, mut has_new_key) = (1, 1, false);
        loop {
            let key = self.key().await?;
            if !std::mem::take(&mut call.is_admitted) {
                self.turn(call.class, PATIENCE).await?;
            }
            let refusal = match self.once(&call, &key, &read).await {
                Ok(read) => return Ok(read),
                Err(refusal) => refusal,
            };
            match refusal.kind {
                // It was not looked at, whatever it is.
                Kind::Throttled(_) if throttled < THROTTLED_TRIES => throttled += 1,
                // The key was exchanged while this was on its way.
                Kind::Key if !has_new_key && self.key().await.is_ok_and(|now| now != key) => {
                    has_new_key = true
                }
                Kind::Server | Kind::Timeout | Kind::Unreadable | Kind::Unreachable if tries < TRIES => {
                    let pause = PAUSE * 2u32.pow(tries - 1);
                    tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                    tries += 1;
                }
                _ => return Err(refusal),
            }
        }
    }

    /// One try; counted by its result.
    async fn once<T>(
        &self,
        call: &Call<'_>,
        key: &ApiKey,
        read: impl Fn(&Answer) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let began = Instant::now();
        let result = self.sent(call, key).await.and_then(|answer| read(&answer)).map_err(|refusal| {
            let detail = call
                .secrets
                .iter()
                .fold(key.scrub(&refusal.detail), |text, secret| text.replace(secret, "…"));
            Refusal { detail, ..refusal }
        });
        self.count(call.action, &result, began);
        result
    }

    async fn sent(&self, call: &Call<'_>, key: &ApiKey) -> Result<Answer, Refusal> {
        let message = self.message(call)?;
        let under_way = self.shared.governor.send();
        let answer = self.shared.http.exchange(key, &message).await?;
        self.shared.governor.told(&answer.headers);
        drop(under_way);
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(self.refused(&call.method, answer.status.as_u16(), &answer.headers, &answer.body))
    }

    /// What another status than 2xx means; the governor hears of a refusal for rate.
    pub(super) fn refused(
        &self,
        method: &Method,
        status: u16,
        headers: &http::HeaderMap,
        body: &[u8],
    ) -> Refusal {
        let retry_after = governor::retry_after(headers);
        let mut refusal = errors::classify(method, status, &errors::detail_of(body), retry_after);
        // Whoever stands between says many things; only RunPod says that a pod is not there.
        if errors::needs_a_problem(status) && !errors::is_problem(body) {
            refusal.kind = if *method == Method::POST { Kind::Unknown } else { Kind::Unreadable };
        }
        if let Kind::Throttled(after) = refusal.kind {
            self.shared.governor.refused(after);
        }
        refusal
    }

    /// The request itself; the last look at the fence is here, when everything that a call waits for lies behind it.
    pub(super) fn message(&self, call: &Call<'_>) -> Result<Message, Refusal> {
        if call.method != Method::GET {
            self.fence.check().map_err(|fenced| Refusal::new(Kind::Fenced, fenced.to_string()))?;
        }
        let uri = format!("{}{}", self.shared.endpoint, call.path);
        let uri: Uri = uri
            .parse()
            .map_err(|error| Refusal::new(Kind::Schema, format!("the path of the call: {error}")))?;
        Ok(Message {
            method: call.method.clone(),
            uri,
            body: call.body.clone(),
            headers: call.headers.clone(),
            deadline: call.deadline,
        })
    }

    pub(super) async fn turn(&self, class: Class, patience: Duration) -> Result<(), Refusal> {
        let began = Instant::now();
        let turn = self.shared.governor.turn(class, patience).await;
        let late = |late: governor::TooLate| {
            let text = format!("RunPod's rate leaves no request for {}s", late.wait.as_secs().max(1));
            Refusal::new(Kind::Throttled(late.wait), text)
        };
        turn.map_err(late)?;
        self.shared.calls.waited("runpod", began.elapsed());
        Ok(())
    }

    pub(super) fn http(&self) -> &Http {
        &self.shared.http
    }

    pub(super) fn count<T>(&self, action: &'static str, result: &Result<T, Refusal>, began: Instant) {
        let kind = match result {
            Ok(_) => "ok",
            Err(refusal) => {
                tracing::debug!(action, kind = ?refusal.kind, detail = refusal.detail, "RunPod refused a call");
                refusal.clone().into_error().kind()
            }
        };
        self.shared.calls.observe(action, kind, began.elapsed());
    }
}

/// A segment of a path, or a value of a query: everything but what needs no encoding anywhere is encoded.
pub(super) fn encoded(text: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(DIGITS[usize::from(byte >> 4)]));
            out.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    out
}

/// A path with a query of these pairs, encoded.
pub(super) fn path_with(path: &str, query: &[(&str, String)]) -> String {
    let pairs: Vec<String> = query.iter().map(|(key, value)| format!("{key}={}", encoded(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_gpus_are_encoded_wherever_they_stand() {
        assert_eq!(encoded("NVIDIA A100 80GB PCIe"), "NVIDIA%20A100%2080GB%20PCIe");
        assert_eq!(encoded("AMD/MI300X?#&=%ä"), "AMD%2FMI300X%3F%23%26%3D%25%C3%A4");
        assert_eq!(
            path_with(
                "/catalog/gpus",
                &[("cloud", "SECURE".to_owned()), ("minCudaVersion", "12.8".to_owned())]
            ),
            "/catalog/gpus?cloud=SECURE&minCudaVersion=12.8"
        );
        assert_eq!(path_with("/pods", &[]), "/pods");
    }
}
