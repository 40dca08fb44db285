//! A client of the API server that changes nothing while the fence is closed.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::{Method, Request};
use kube::client::{Body, ClientBuilder};
use tower::{BoxError, Layer, Service};

use super::Fence;

/// A client whose requests are refused here while the fence is closed, but for those that only look.
///
/// # Errors
/// The configuration makes no client.
pub fn guarded(config: kube::Config, fence: &Fence) -> Result<kube::Client, kube::Error> {
    Ok(ClientBuilder::try_from(config)?.with_layer(&Guard::by(fence)).build())
}

/// What [`guarded`] puts around a client.
#[derive(Clone, Debug)]
pub struct Guard(Fence);

impl Guard {
    /// By this fence.
    #[must_use]
    pub fn by(fence: &Fence) -> Self {
        Self(fence.clone())
    }
}

impl<S> Layer<S> for Guard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, fence: self.0.clone() }
    }
}

/// A service whose requests that change something pass while the fence is open.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    fence: Fence,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
    S::Response: 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let only_looks = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        if !only_looks && let Err(fenced) = self.fence.check() {
            return Box::pin(async move { Err(fenced.into()) });
        }
        let answer = self.inner.call(request);
        if only_looks {
            return Box::pin(async { answer.await.map_err(Into::into) });
        }
        let guarded = self.fence.clone().guard(answer);
        Box::pin(async { guarded.await?.map_err(Into::into) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use axum::Router;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
    use tower::ServiceExt as _;

    use super::*;
    use crate::clock;

    /// An API server that counts what reaches it, by whether it only looks.
    fn client(fence: &Fence, counts: &Arc<[AtomicU32; 2]>) -> kube::Client {
        let counts = Arc::clone(counts);
        let router = Router::new().fallback(move |request: axum::extract::Request| async move {
            let index = usize::from(*request.method() != Method::GET);
            counts[index].fetch_add(1, Ordering::SeqCst);
            axum::Json(
                serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}),
            )
        });
        let service = router.map_request(|request: Request<Body>| request.map(axum::body::Body::new));
        ClientBuilder::new(service, "default").with_layer(&Guard::by(fence)).build()
    }

    async fn change_everything(api: &Api<ConfigMap>) -> usize {
        let one = ConfigMap {
            metadata: ObjectMeta { name: Some("one".into()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        };
        let patch = Patch::Merge(serde_json::json!({}));
        let answers = [
            api.create(&PostParams::default(), &one).await.is_ok(),
            api.replace("one", &PostParams::default(), &one).await.is_ok(),
            api.patch("one", &PatchParams::default(), &patch).await.is_ok(),
            api.delete("one", &DeleteParams::default()).await.is_ok(),
        ];
        answers.into_iter().filter(|ok| *ok).count()
    }

    #[tokio::test]
    async fn nothing_but_looks_gets_through_a_closed_fence() {
        let (fence, counts) = (Fence::closed(), Arc::default());
        let api: Api<ConfigMap> = Api::default_namespaced(client(&fence, &counts));
        assert_eq!(change_everything(&api).await, 0);
        api.get("one").await.unwrap();
        assert_eq!([&counts[0], &counts[1]].map(|count| count.load(Ordering::SeqCst)), [1, 0]);
        assert_eq!(fence.refused().get(), 4);
        fence.extend(clock::since_boot() + Duration::from_hours(1));
        assert_eq!(change_everything(&api).await, 4);
        assert_eq!(counts[1].load(Ordering::SeqCst), 4);
    }
}
