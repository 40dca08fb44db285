//! One connection: TLS, then HTTP/2 or HTTP/1.1, with limits on everything that a guest could let grow.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Shared;
use super::answer::Body;
use super::handle;
use super::session::{Session, lock};
use crate::clock;
use crate::tunnel::ByteStream;

const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(30);
/// An HTTP/2 connection that does not answer a ping is dead.
const PING: Duration = Duration::from_secs(30);
/// client-go puts everything on one connection; Go's own servers allow 250.
const STREAMS: u32 = 256;
/// A kubelet's requests have a few hundred bytes of headers.
const HEADER_BYTES: u32 = 16 << 10;

/// The tasks of one connection: they end with it.
#[derive(Clone, Debug)]
pub(crate) struct Tasks(Arc<Mutex<Option<JoinSet<()>>>>);

/// Serves one connection until it ends.
pub(crate) async fn connection(shared: Arc<Shared>, session: Arc<Session>, stream: ByteStream) {
    let config = match shared.serving.config(clock::now()) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "the gateway has no certificate");
            return;
        }
    };
    let instance = session.guest.instance_id.clone();
    let stream = match timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(instance.id = instance, %error, "a guest's TLS handshake with the gateway failed");
            return;
        }
        Err(_elapsed) => {
            tracing::info!(instance.id = instance, "a guest's TLS handshake with the gateway took too long");
            return;
        }
    };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let tasks = Tasks::new();
    let _ended_with_us = EndOnDrop(tasks.clone());
    let service = {
        let tasks = tasks.clone();
        service_fn(move |request: Request<Incoming>| {
            let (shared, session, tasks) = (shared.clone(), session.clone(), tasks.clone());
            async move {
                let response: Response<Body> = handle::answer(&shared, &session, &tasks, request).await;
                Ok::<_, Infallible>(response)
            }
        })
    };
    let mut builder = auto::Builder::new(tasks);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS).max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    // By what was agreed on in the handshake, not by what comes first.
    let builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(instance.id = instance, %error, "a guest's connection to the gateway broke");
    }
}

impl Tasks {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(JoinSet::new()))))
    }

    /// Runs `task` until it or the connection ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(tasks) = lock(&self.0).as_mut() {
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }
}

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        self.spawn(async {
            task.await;
        });
    }
}

/// The tasks hold the set that holds them, so it is emptied by hand.
struct EndOnDrop(Tasks);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        // Dropped after the lock is released: a task's own drop may come back here.
        let tasks = lock(&self.0.0).take();
        drop(tasks);
    }
}
