//! The store in CloudWatch Logs.
//!
//! Calls are made once: the SDK's own retries would hide from the archive how long it waits, and for what.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::config::http::HttpResponse;
use aws_sdk_cloudwatchlogs::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_cloudwatchlogs::types::{InputLogEvent, LogGroup, OutputLogEvent};

use super::{Found, From, Page, Store, StoreError};
use crate::cloud::ec2::fenced::Fenced;
use crate::failpoint::{self, Write};
use crate::leader::Fence;
use crate::logs::batch::{Event, Refused};

/// For one call. A call of PutLogEvents carries 1 MiB at most.
const DEADLINE: Duration = Duration::from_secs(15);
/// Streams of a page of DescribeLogStreams, at most.
const STREAMS: i32 = 50;
/// Pages of DescribeLogStreams for one answer, at most: containers restart, but a list must end.
const STREAM_PAGES: usize = 40;

/// What the group is to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: String,
    /// `None`: events are kept for ever.
    pub retention_days: Option<u32>,
    /// ARN of a KMS key; `None`: the service's own.
    pub kms_key: Option<String>,
    pub tags: BTreeMap<String, String>,
}

/// A group of CloudWatch Logs.
#[derive(Clone, Debug)]
pub struct CloudWatch {
    client: Client,
    group: Group,
}

type Failure<E> = SdkError<E, HttpResponse>;

impl CloudWatch {
    /// The group is not looked at yet.
    #[must_use]
    pub fn new(sdk: &SdkConfig, group: Group) -> Self {
        let config = aws_sdk_cloudwatchlogs::config::Builder::from(sdk)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(DEADLINE).build())
            .build();
        Self { client: Client::from_conf(config), group }
    }

    /// The same, which writes nothing while the fence is closed.
    #[must_use]
    pub fn behind(self, fence: &Fence) -> Self {
        let Self { client: open, group } = self;
        let config = open.config().to_builder().interceptor(Fenced::by(fence)).build();
        Self { client: Client::from_conf(config), group }
    }

    async fn find(&self) -> Result<Option<LogGroup>, StoreError> {
        let found = self.client.describe_log_groups().log_group_name_prefix(&self.group.name).send().await;
        let groups = found.map_err(|error| translate(&error))?.log_groups.unwrap_or_default();
        // The shortest name comes first.
        Ok(groups.into_iter().find(|group| group.log_group_name() == Some(&self.group.name)))
    }

    async fn create(&self) -> Result<(), StoreError> {
        let Group { name, kms_key, tags, .. } = &self.group;
        let tags = (!tags.is_empty()).then(|| tags.clone().into_iter().collect());
        let call = self.client.create_log_group().log_group_name(name).set_kms_key_id(kms_key.clone());
        match failpoint::around(Write::LogGroup, call.set_tags(tags).send()).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ResourceAlreadyExistsException") => Ok(()),
            Err(error) => Err(translate(&error)),
        }
    }

    async fn retain(&self, present: Option<i32>) -> Result<(), StoreError> {
        // A limit that somebody else set on a group that we keep for ever is his.
        let Some(wanted) = self.group.retention_days else { return Ok(()) };
        let wanted = i32::try_from(wanted).unwrap_or(i32::MAX);
        if present == Some(wanted) {
            return Ok(());
        }
        let call = self.client.put_retention_policy().log_group_name(&self.group.name);
        let call = call.retention_in_days(wanted).send();
        let put = failpoint::around(Write::LogRetention, call).await;
        let put = put.map(drop).map_err(|error| translate(&error));
        self.record("PutRetentionPolicy", "the configuration has another retention", &put);
        put
    }

    /// A line of the audit record, as [`crate::cloud::audit`] writes them for machines.
    fn record(&self, action: &'static str, why: &'static str, done: &Result<(), StoreError>) {
        let (result, error) = match done {
            Ok(()) => ("ok", None),
            Err(error) => ("failed", Some(tracing::field::display(error))),
        };
        tracing::info!(target: "orca::audit", action, group = self.group.name, why, result, error);
    }
}

#[async_trait]
impl Store for CloudWatch {
    async fn prepare(&self) -> Result<(), StoreError> {
        let present = match self.find().await {
            Ok(Some(group)) => group.retention_in_days(),
            Ok(None) => {
                let made = self.create().await;
                self.record("CreateLogGroup", "there is none for this cluster's logs", &made);
                made?;
                None
            }
            Err(error) => return Err(error),
        };
        self.retain(present).await
    }

    async fn create_stream(&self, stream: &str) -> Result<(), StoreError> {
        let call = self.client.create_log_stream().log_group_name(&self.group.name).log_stream_name(stream);
        match failpoint::around(Write::LogStream, call.send()).await {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("ResourceAlreadyExistsException") => Ok(()),
            Err(error) => Err(translate(&error)),
        }
    }

    async fn put(&self, stream: &str, events: &[Event]) -> Result<Refused, StoreError> {
        let events = events.iter().map(|event| {
            let built = InputLogEvent::builder().timestamp(event.millisecond).message(&event.message).build();
            built.map_err(|error| StoreError::Invalid(error.to_string()))
        });
        let events = events.collect::<Result<Vec<_>, _>>()?;
        let call = self.client.put_log_events().log_group_name(&self.group.name).log_stream_name(stream);
        let call = call.set_log_events(Some(events)).send();
        let done = failpoint::around(Write::LogPut, call).await.map_err(|error| translate(&error))?;
        let index = |index: Option<i32>| index.and_then(|index| usize::try_from(index).ok());
        Ok(done.rejected_log_events_info().map_or_else(Refused::default, |info| Refused {
            too_new_from: index(info.too_new_log_event_start_index()),
            too_old_before: index(info.too_old_log_event_end_index()),
            expired_before: index(info.expired_log_event_end_index()),
        }))
    }

    async fn page(&self, stream: &str, from: &From) -> Result<Page, StoreError> {
        let call = self.client.get_log_events().log_group_name(&self.group.name).log_stream_name(stream);
        let call = match from {
            From::Head { since } => {
                // Negative times are none to CloudWatch.
                let since = since.map(|since| since.as_millisecond().max(0));
                call.start_from_head(true).set_start_time(since)
            }
            From::Tail => call.start_from_head(false),
            From::Token(token) => call.next_token(token).start_from_head(!token.starts_with("b/")),
        };
        let page = call.send().await.map_err(|error| translate(&error))?;
        let (forward, backward) = (page.next_forward_token, page.next_backward_token);
        Ok(Page {
            events: page.events.unwrap_or_default().into_iter().map(found).collect(),
            forward: forward.unwrap_or_default(),
            backward: backward.unwrap_or_default(),
        })
    }

    async fn streams(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        let mut token = None;
        for _ in 0..STREAM_PAGES {
            let call = self.client.describe_log_streams().log_group_name(&self.group.name);
            let call = call.log_stream_name_prefix(prefix).limit(STREAMS).set_next_token(token);
            let page = match call.send().await.map_err(|error| translate(&error)) {
                Ok(page) => page,
                Err(StoreError::NotFound) => break,
                Err(error) => return Err(error),
            };
            let streams = page.log_streams.unwrap_or_default();
            names.extend(streams.into_iter().filter_map(|stream| stream.log_stream_name));
            token = page.next_token;
            if token.is_none() {
                break;
            }
        }
        names.sort();
        Ok(names)
    }
}

fn found(event: OutputLogEvent) -> Found {
    Found { timestamp_ms: event.timestamp.unwrap_or_default(), message: event.message.unwrap_or_default() }
}

/// What a failed call means to the archive. Codes are those of the API reference's common errors and of the calls above.
fn translate<E>(error: &Failure<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let status = error.raw_response().map_or(0, |response| response.status().as_u16());
    let Some(code) = error.code() else {
        return match error {
            SdkError::ConstructionFailure(_) => StoreError::Invalid(DisplayErrorContext(error).to_string()),
            _ if status == 429 => StoreError::Throttled("HTTP status 429".to_owned()),
            _ if matches!(status, 401 | 403) => StoreError::Denied(format!("HTTP status {status}")),
            _ => StoreError::Unreachable(DisplayErrorContext(error).to_string()),
        };
    };
    classify(code, error.message().unwrap_or_default(), status)
}

fn classify(code: &str, message: &str, status: u16) -> StoreError {
    let text = format!("{code}: {message}");
    match code {
        "ResourceNotFoundException" => StoreError::NotFound,
        "ThrottlingException"
        | "Throttling"
        | "LimitExceededException"
        | "RequestLimitExceeded"
        | "TooManyRequestsException" => StoreError::Throttled(text),
        // Of a KMS key, or of the caller.
        "AccessDeniedException"
        | "AccessDenied"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "OptInRequired" => StoreError::Denied(text),
        "ServiceUnavailableException"
        | "ServiceUnavailable"
        | "InternalFailure"
        | "InternalServerError"
        | "RequestExpired"
        | "OperationAbortedException" => StoreError::Unreachable(text),
        _ if status == 429 => StoreError::Throttled(text),
        _ if status >= 500 => StoreError::Unreachable(text),
        _ if matches!(status, 401 | 403) => StoreError::Denied(text),
        _ => StoreError::Invalid(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_what_passes() {
        for (code, status, passes) in [
            ("ThrottlingException", 400, true),
            ("ServiceUnavailableException", 503, true),
            ("SomethingNew", 500, true),
            ("AccessDeniedException", 400, false),
            ("InvalidParameterException", 400, false),
            ("ResourceNotFoundException", 400, false),
        ] {
            assert_eq!(classify(code, "", status).passes(), passes, "{code}");
        }
    }
}
