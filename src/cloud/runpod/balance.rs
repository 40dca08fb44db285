//! What money the account has. Only the GraphQL API tells, which RunPod means to retire in 2027: whoever asks lives with
//! no answer, since a creation that cannot be paid for is refused anyway.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Uri};
use serde_json::Value;
use tokio::time::Instant;

use super::errors::{self, Kind, Refusal};
use super::http::{Http, Message};
use super::key::KeySource;
use super::wire::money;
use crate::capacity::money::MicroUsd;
use crate::cloud::CloudError;
use crate::telemetry::CloudCalls;

/// The account's money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Credits; nothing where something is owed.
    pub credits: MicroUsd,
    /// What the account spends per hour now, whoever started it.
    pub spend: MicroUsd,
    /// What it may spend per hour, where that is told.
    pub limit: Option<MicroUsd>,
}

/// Whoever knows the balance.
#[async_trait]
pub trait BalanceSource: Send + Sync + fmt::Debug {
    /// The balance of now.
    async fn balance(&self) -> Result<Balance, CloudError>;
}

const QUERY: &str = r#"{"query":"query { myself { clientBalance currentSpendPerHr spendLimit } }"}"#;
const DEADLINE: Duration = Duration::from_secs(10);
const ACTION: &str = "GetBalance";

/// The balance by GraphQL.
#[derive(Debug)]
pub struct GraphQl {
    http: Http,
    endpoint: String,
    key: KeySource,
    calls: CloudCalls,
}

impl GraphQl {
    /// By this endpoint, such as `https://api.runpod.io/graphql`. The key goes in a header and never in the URL, which
    /// others log.
    #[must_use]
    pub fn new(endpoint: &str, key: KeySource, calls: CloudCalls) -> Self {
        Self { http: Http::new(), endpoint: endpoint.to_owned(), key, calls }
    }

    async fn ask(&self) -> Result<Balance, Refusal> {
        let key = self.key.current().await.map_err(|error| Refusal::new(Kind::NoKey, error.to_string()))?;
        let uri: Uri = self
            .endpoint
            .parse()
            .map_err(|error| Refusal::new(Kind::Schema, format!("the endpoint: {error}")))?;
        let message = Message {
            method: Method::POST,
            uri,
            body: Bytes::from_static(QUERY.as_bytes()),
            headers: Vec::new(),
            deadline: DEADLINE,
        };
        let scrub = |refusal: Refusal| Refusal { detail: key.scrub(&refusal.detail), ..refusal };
        let answer = self.http.exchange(&key, &message).await.map_err(looks_only).map_err(scrub)?;
        let status = answer.status.as_u16();
        if !answer.status.is_success() {
            let detail = errors::detail_of(&answer.body);
            // A query is a POST that only looks.
            return Err(scrub(errors::classify(&Method::GET, status, &detail, None)));
        }
        read(&answer.body).map_err(scrub)
    }
}

#[async_trait]
impl BalanceSource for GraphQl {
    async fn balance(&self) -> Result<Balance, CloudError> {
        let began = Instant::now();
        let result = self.ask().await.map_err(Refusal::into_error);
        self.calls.observe(ACTION, result.as_ref().map_or_else(CloudError::kind, |_| "ok"), began.elapsed());
        result
    }
}

/// Nothing was meant to change.
fn looks_only(refusal: Refusal) -> Refusal {
    if refusal.is_ambiguous() { Refusal { kind: Kind::Timeout, ..refusal } } else { refusal }
}

/// GraphQL says with status 200 what is wrong.
fn read(body: &[u8]) -> Result<Balance, Refusal> {
    let unreadable = |text: String| Refusal::new(Kind::Unreadable, text);
    let answer: Value = serde_json::from_slice(body)
        .map_err(|error| unreadable(format!("the answer is not the JSON that it must be: {error}")))?;
    let myself = answer.pointer("/data/myself");
    let amount = |key: &str| myself.and_then(|it| it.get(key)).and_then(money);
    if let Some(first) = answer.get("errors").and_then(Value::as_array).and_then(|errors| errors.first()) {
        let text = errors::detail_of(first.to_string().as_bytes());
        let is_about_key = ["unauthorized", "not authenticated", "forbidden", "api key"]
            .iter()
            .any(|words| text.to_lowercase().contains(words));
        return Err(Refusal::new(if is_about_key { Kind::Key } else { Kind::Server }, text));
    }
    match (amount("clientBalance"), amount("currentSpendPerHr")) {
        (Some(credits), Some(spend)) => {
            let limit = amount("spendLimit").filter(|limit| *limit > MicroUsd::default());
            Ok(Balance { credits, spend, limit })
        }
        _ => Err(unreadable("the answer has no balance".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(body: &str) -> String {
        let error = read(body.as_bytes()).unwrap_err().into_error();
        format!("{} {}", error.kind(), error.code())
    }

    #[test]
    fn a_balance_is_read_and_what_is_owed_is_nothing() {
        let body = r#"{"data":{"myself":{"clientBalance":12.3456789,"currentSpendPerHr":0.44,"spendLimit":80,"more":1}}}"#;
        let expected = Balance {
            credits: MicroUsd(12_345_679),
            spend: MicroUsd(440_000),
            limit: Some(MicroUsd(80_000_000)),
        };
        assert_eq!(read(body.as_bytes()), Ok(expected));
        let owed = r#"{"data":{"myself":{"clientBalance":-1.5,"currentSpendPerHr":0,"spendLimit":null}}}"#;
        let nothing = Balance { credits: MicroUsd(0), spend: MicroUsd(0), limit: None };
        assert_eq!(read(owed.as_bytes()), Ok(nothing));
    }

    #[test]
    fn an_error_that_comes_with_status_200_is_one() {
        assert_eq!(code(r#"{"errors":[{"message":"Unauthorized"}],"data":null}"#), "denied InvalidApiKey");
        assert_eq!(code(r#"{"errors":[{"message":"Something went wrong"}]}"#), "transient ServerError");
        let part =
            r#"{"errors":[{"message":"x"}],"data":{"myself":{"clientBalance":1,"currentSpendPerHr":0}}}"#;
        assert_eq!(code(part), "transient ServerError", "what is there beside an error may be anything");
        for broken in
            ["", "{", "[]", r#"{"data":{"myself":null}}"#, r#"{"data":{"myself":{"clientBalance":"x"}}}"#]
        {
            assert_eq!(code(broken), "transient UnreadableAnswer", "{broken}");
        }
    }
}
