//! The record of who was let into whose containers, and who was not: one line, target `orca::audit`, for each exec,
//! attach and port-forward.
//!
//! What was run is not in it: command lines may hold secrets, and the API server's own audit log has them. That log also
//! says on whose behalf the API server came.

use http::{Response, StatusCode};

use super::Endpoint;
use super::authn::User;
use super::error::{ApiError, Body};
use super::route::{Route, StreamKind};

/// Writes the line, if `path` is such a request.
pub(super) fn record(
    endpoint: &Endpoint,
    path: &str,
    who: Option<&User>,
    answer: &Result<Response<Body>, ApiError>,
) {
    // Anybody could fill the log by being nobody.
    let Some(who) = who else { return };
    let Ok(Route::Stream { kind, namespace, pod, container, .. }) = Route::parse(path) else { return };
    let action = match kind {
        StreamKind::Exec => "exec",
        StreamKind::Attach => "attach",
        StreamKind::PortForward => "port-forward",
    };
    let status = answer.as_ref().map_or_else(ApiError::status, Response::status);
    let result = match status {
        StatusCode::SWITCHING_PROTOCOLS => "ok",
        StatusCode::FORBIDDEN => "forbidden",
        _ => "failed",
    };
    let found = endpoint.pods.get(&namespace, &pod);
    let uid = found.and_then(|pod| pod.metadata.uid.clone()).unwrap_or_default();
    tracing::info!(
        target: "orca::audit",
        action,
        user = who.name,
        groups = who.groups.join(","),
        pod.uid = uid,
        pod = format!("{namespace}/{pod}"),
        container,
        result,
        status = status.as_u16()
    );
}
