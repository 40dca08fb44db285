//! One session's life: started at its turn, connected, driven to its end, terminated.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::DuplexStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::{Refusal, Target, TunnelError};
use super::channel::Limits;
use super::driver::Driver;
use super::session::{Grant, Service};

/// Left to wait for the next turn after being throttled; with less, the caller is told.
const WORTH_WAITING: Duration = Duration::from_secs(2);

/// One stream that is asked for.
pub(super) struct Order {
    pub(super) service: Arc<Service>,
    pub(super) target: Target,
    pub(super) until: Instant,
    pub(super) resume_deadline: Duration,
    pub(super) limits: Limits,
    pub(super) local: DuplexStream,
    pub(super) ready: oneshot::Sender<Result<(), TunnelError>>,
    pub(super) gone: oneshot::Receiver<()>,
    /// Why the stream broke, if it did; set before it ends.
    pub(super) fate: Arc<OnceLock<String>>,
}

/// Starts a session, serves it to its end, and ends it with the service.
pub(super) async fn run(mut order: Order) {
    let grant = match start(&mut order).await {
        Ok(grant) => grant,
        Err(error) => return tell(order.ready, Err(error)),
    };
    let session_id = grant.session_id.clone();
    let service = Arc::clone(&order.service);
    let instance = order.target.instance_id.clone();
    tracing::debug!(instance.id = instance, session.id = session_id, "session started");
    let why = serve(order, grant).await;
    tracing::debug!(instance.id = instance, session.id = session_id, why, "session ended");
    service.terminate(&session_id).await;
}

/// Starts a session, at its turn. Once asked for, it is waited for even if nobody wants it any more: an answer that
/// nobody reads would leave a session behind.
async fn start(order: &mut Order) -> Result<Grant, TunnelError> {
    loop {
        tokio::select! {
            turn = order.service.turn(order.until) => turn?,
            _ = &mut order.gone => return Err(TunnelError::Lost("given up before its turn".to_owned())),
        }
        match order.service.start(&order.target).await {
            Err(TunnelError::Refused(Refusal::Throttled(_)))
                if Instant::now() + WORTH_WAITING < order.until => {}
            result => return result,
        }
    }
}

async fn serve(mut order: Order, grant: Grant) -> String {
    let client_id = Uuid::new_v4();
    let connected = tokio::select! {
        connected = order.service.connect(&grant, client_id) => connected,
        _ = &mut order.gone => return "given up while connecting".to_owned(),
    };
    match connected {
        Ok(socket) => Driver::new(order, grant, client_id).serve(socket).await,
        Err(error) => {
            let why = error.to_string();
            tell(order.ready, Err(error));
            why
        }
    }
}

/// Nobody is left to be told when opening was given up meanwhile; then the stream is gone as well.
pub(super) fn tell(ready: oneshot::Sender<Result<(), TunnelError>>, result: Result<(), TunnelError>) {
    drop(ready.send(result));
}
