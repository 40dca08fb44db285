//! May they: one SubjectAccessReview per caller, verb and subresource, as the kubelet asks (cmd/kubelet/app/auth.go).
//!
//! Stricter than the kubelet in one place: exec, attach, port-forward and run need `create`, whatever the method, so
//! that a monitoring role with `get nodes/proxy` cannot run commands over a WebSocket.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use tokio::time::Instant;

use super::authn::User;
use super::error::ApiError;
use super::route::Route;

/// How long an answer is believed, as in the kubelet.
const ALLOW_TTL: Duration = Duration::from_mins(5);
const DENY_TTL: Duration = Duration::from_secs(30);
/// Answers remembered at most.
const ANSWERS: usize = 2048;
/// How long the API server may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// One question to the API server.
type Question = (User, &'static str, &'static str);

/// Authorizes requests.
#[derive(Debug)]
pub struct Authorizer {
    reviews: Api<SubjectAccessReview>,
    node: String,
    answers: Mutex<HashMap<Question, (bool, Instant)>>,
}

impl Authorizer {
    /// With the client whose identity may create SubjectAccessReviews, for the node of that name.
    #[must_use]
    pub fn new(client: kube::Client, node: String) -> Self {
        Self { reviews: Api::all(client), node, answers: Mutex::default() }
    }

    /// Nothing, or 403 with the kubelet's wording.
    pub async fn authorize(&self, user: &User, method: &Method, route: &Route) -> Result<(), ApiError> {
        let verb = verb(method, route);
        let subresources = subresources(route);
        for subresource in subresources {
            if self.allowed((user.clone(), verb, subresource)).await? {
                return Ok(());
            }
        }
        Err(ApiError::forbidden(&user.name, verb, subresources))
    }

    async fn allowed(&self, question: Question) -> Result<bool, ApiError> {
        if let Some(answer) = self.remembered(&question) {
            return Ok(answer);
        }
        let (user, verb, subresource) = &question;
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: user.uid.clone(),
                groups: Some(user.groups.clone()),
                extra: Some(user.extra.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some((*verb).to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some((*subresource).to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                non_resource_attributes: None,
            },
            ..SubjectAccessReview::default()
        };
        let answer = tokio::time::timeout(DEADLINE, self.reviews.create(&PostParams::default(), &review))
            .await
            .map_err(|late| ApiError::internal("reviewing access", &late))?
            .map_err(|error| ApiError::internal("reviewing access", &error))?;
        let allowed = answer.status.is_some_and(|status| status.allowed && status.denied != Some(true));
        self.remember(question, allowed);
        Ok(allowed)
    }

    fn remembered(&self, question: &Question) -> Option<bool> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers
            .get(question)
            .filter(|(allowed, at)| at.elapsed() < ttl(*allowed))
            .map(|(allowed, _)| *allowed)
    }

    fn remember(&self, question: Question, allowed: bool) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= ANSWERS {
            answers.retain(|_, (allowed, at)| at.elapsed() < ttl(*allowed));
        }
        if answers.len() >= ANSWERS {
            answers.clear();
        }
        answers.insert(question, (allowed, Instant::now()));
    }
}

fn ttl(allowed: bool) -> Duration {
    if allowed { ALLOW_TTL } else { DENY_TTL }
}

fn verb(method: &Method, route: &Route) -> &'static str {
    if matches!(route, Route::Stream { .. }) {
        return "create";
    }
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// Any of these is enough.
fn subresources(route: &Route) -> &'static [&'static str] {
    match route {
        Route::Healthz => &["healthz", "proxy"],
        Route::Pods => &["pods", "proxy"],
        Route::Metrics { .. } => &["metrics"],
        Route::Stats { .. } => &["stats"],
        Route::ContainerLogs { .. } | Route::Stream { .. } | Route::Other => &["proxy"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_need_create_whatever_the_method() {
        let exec = Route::parse("/exec/ns/p/c").unwrap();
        assert_eq!(verb(&Method::GET, &exec), "create");
        assert_eq!(verb(&Method::POST, &exec), "create");
        assert_eq!(verb(&Method::GET, &Route::parse("/containerLogs/ns/p/c").unwrap()), "get");
        assert_eq!(subresources(&exec), ["proxy"]);
    }

    #[test]
    fn monitoring_has_subresources_of_its_own() {
        for (path, expected) in [
            ("/metrics/resource", &["metrics"][..]),
            ("/stats/summary", &["stats"]),
            ("/pods", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/run/ns/p/c", &["proxy"]),
        ] {
            assert_eq!(subresources(&Route::parse(path).unwrap()), expected, "{path}");
        }
    }
}
