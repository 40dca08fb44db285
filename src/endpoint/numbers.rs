//! The pages of numbers. None of them waits for a machine: what is known is told.

use http::{Method, Request, Response};
use hyper::body::Incoming;

use super::Endpoint;
use super::error::{self, ApiError, Body};
use crate::stats::{Detail, Page};
use crate::telemetry;

/// The Prometheus text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/metrics` and the pages below it.
pub(super) fn metrics(
    endpoint: &Endpoint,
    method: &Method,
    family: &str,
) -> Result<Response<Body>, ApiError> {
    let page = match family {
        "" => None,
        "resource" => Some(Page::Resource),
        "cadvisor" => Some(Page::Cadvisor),
        "probes" => Some(Page::Probes),
        _ => return Err(ApiError::not_found("404 page not found")),
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed());
    }
    let Some(page) = page else { return process(endpoint) };
    Ok(error::pieces(TEXT, endpoint.stats.exposition(page)))
}

/// What a kubelet tells of itself here, this process does.
fn process(endpoint: &Endpoint) -> Result<Response<Body>, ApiError> {
    let text =
        endpoint.telemetry.encode().map_err(|error| ApiError::internal("encoding the metrics", &error))?;
    Ok(error::pieces(telemetry::FORMAT, std::iter::once(text)))
}

/// `/stats/summary`, which is the only one.
pub(super) fn stats(
    endpoint: &Endpoint,
    request: &Request<Incoming>,
    page: &str,
) -> Result<Response<Body>, ApiError> {
    if page != "summary" {
        return Err(ApiError::not_found("404 page not found"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD | Method::POST) {
        return Err(ApiError::method_not_allowed());
    }
    let is_short = |parameter: &str| parameter == "only_cpu_and_memory=true";
    let detail = match request.uri().query().is_some_and(|query| query.split('&').any(is_short)) {
        true => Detail::CpuAndMemory,
        false => Detail::All,
    };
    Ok(error::pieces("application/json", endpoint.stats.summary(detail)))
}
