//! Answers from the archive: which run, and what is said when there is none.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;

use super::Asked;
use super::follow::Follow;
use crate::endpoint::Endpoint;
use crate::endpoint::error::{ApiError, Body, BodyError};
use crate::logs::answer::{Archive, Whole, Written};
use crate::logs::names::StreamName;
use crate::logs::run::{self, Which};
use crate::logs::store::StoreError;

/// Answers from the archive alone, or, what follows, from the machine too once it is back.
pub(super) async fn answer(endpoint: &Endpoint, asked: &Asked) -> Result<Response<Body>, ApiError> {
    let Some(archive) = &endpoint.archive else {
        return Err(asked.refusal().unwrap_or_else(|| not_archived(asked)));
    };
    if let Err(no) = &asked.run
        && no.status == 404
    {
        return Err(ApiError::refused(no.status, no.to_string()));
    }
    let stream = find(archive, asked).await?;
    if asked.options.follow {
        return Follow::archived(endpoint, asked, stream).await;
    }
    let ended = run::has_ended(&asked.pod, &asked.container, stream.restart);
    let written = if ended { Written::Whole } else { Written::SoFar };
    let whole = Whole::open(archive, &stream, &asked.options, written, asked.at)
        .await
        .map_err(|error| unread(asked, &error))?;
    Ok(super::stream(whole, next))
}

async fn next(mut whole: Whole) -> Result<(Bytes, Whole), BodyError> {
    let bytes = whole.next().await?;
    Ok((bytes.into(), whole))
}

/// The stream of the run that the request is about.
async fn find(archive: &Arc<Archive>, asked: &Asked) -> Result<StreamName, ApiError> {
    let named = |restart| name(asked, restart);
    if let (Ok(run), Which::Latest) = (&asked.run, asked.which()) {
        return named(run.restart);
    }
    let archived = archive.restarts(&named(0)?).await;
    let archived = archived.map_err(|error| asked.refusal().unwrap_or_else(|| unread(asked, &error)))?;
    let told = asked.run.as_ref().ok().map(|run| run.restart).filter(|run| archived.contains(run));
    match told.or_else(|| run::among(&archived, &asked.pod, &asked.container, asked.which())) {
        Some(restart) => named(restart),
        None => Err(asked.refusal().unwrap_or_else(|| unread(asked, &StoreError::NotFound))),
    }
}

/// The stream of a run of the container.
pub(super) fn name(asked: &Asked, restart: u32) -> Result<StreamName, ApiError> {
    let namespace = asked.pod.metadata.namespace.as_deref().unwrap_or_default();
    StreamName::new(namespace, asked.name(), asked.uid(), &asked.container, restart)
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

fn not_archived(asked: &Asked) -> ApiError {
    ApiError::bad_request(format!(
        "pod {:?} has no machine that can be asked, and its logs are not archived",
        asked.name()
    ))
}

/// Why the archive does not answer, in a sentence. (Of a 404, kubectl does not show the text.)
pub(super) fn unread(asked: &Asked, error: &StoreError) -> ApiError {
    let (name, container) = (asked.name(), &asked.container);
    match error {
        StoreError::NotFound => ApiError::bad_request(format!(
            "pod {name:?} has no machine that can be asked, and the archive has no log of its container {container:?}"
        )),
        StoreError::Denied(_) | StoreError::Invalid(_) => ApiError::bad_request(format!(
            "pod {name:?} has no machine that can be asked, and its log cannot be read from CloudWatch Logs: {error}"
        )),
        StoreError::Throttled(_) | StoreError::Unreachable(_) => ApiError::unavailable(format!(
            "the log of pod {name:?} cannot be read from CloudWatch Logs now: {error}"
        )),
    }
}
