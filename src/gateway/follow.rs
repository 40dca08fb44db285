//! What the sessions are kept up to date with: the real Node, and this node's pods.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Node;
use kube::api::Api;
use kube::core::DeserializeGuard;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinSet;

use super::Shared;
use super::node::Real;
use super::session::{Look, Session, lock};

/// Between attempts to prove that a pod is gone.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(15);

/// Copies the real Node's name, uid and labels into every session, for ever.
pub(crate) async fn node(shared: Arc<Shared>) {
    let api: Api<DeserializeGuard<Node>> = Api::all(shared.upstream.as_node());
    let config = watcher::Config::default().fields(&format!("metadata.name={}", shared.settings.node));
    let mut events = watcher::watcher(api, config).default_backoff().boxed();
    loop {
        match events.try_next().await {
            Ok(Some(watcher::Event::InitApply(node) | watcher::Event::Apply(node))) => adopt(&shared, node),
            // A Node that was deleted comes back, with another uid; until then the kubelets keep what they know.
            Ok(Some(watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Delete(_))) => {}
            Ok(None) => return,
            Err(error) => tracing::warn!(%error, "watching the node failed, trying again"),
        }
    }
}

fn adopt(shared: &Shared, node: DeserializeGuard<Node>) {
    let metadata = match node.0 {
        Ok(node) => node.metadata,
        Err(error) => error.metadata,
    };
    let real = Real {
        uid: metadata.uid.unwrap_or_default(),
        created: metadata.creation_timestamp.map(|time| time.0.to_string()),
        labels: metadata.labels.unwrap_or_else(BTreeMap::new),
    };
    let mut sessions = lock(&shared.sessions);
    for session in sessions.by_uid.values() {
        session.adopt(&real);
    }
    sessions.real = Some(real);
}

/// Brings sessions up to date when their pods change, and proves absences, for ever.
pub(crate) async fn pods(shared: Arc<Shared>) {
    let mut changes = shared.settings.pods.subscribe();
    let mut proofs: JoinSet<String> = JoinSet::new();
    let mut doubted: HashSet<String> = HashSet::new();
    loop {
        let look_at = tokio::select! {
            change = changes.recv() => match change {
                Ok(change) => shared.session(&change.uid).into_iter().collect(),
                Err(RecvError::Lagged(_)) => shared.all_sessions(),
                Err(RecvError::Closed) => return,
            },
            Some(done) = proofs.join_next(), if !proofs.is_empty() => {
                let Ok(uid) = done else { continue };
                doubted.remove(&uid);
                // The pod may have been in the watch for a moment while the proof was ending.
                shared.session(&uid).into_iter().collect()
            }
        };
        for session in look_at {
            let uid = session.guest.pod_uid.clone();
            if session.look(&shared.settings.pods) == Look::Missing && doubted.insert(uid.clone()) {
                let shared = shared.clone();
                proofs.spawn(async move {
                    prove(&shared, &session).await;
                    uid
                });
            }
        }
    }
}

/// Asks until it is known whether the pod is gone, or nobody wants to know.
async fn prove(shared: &Shared, session: &Session) {
    let mut pause = FIRST_RETRY;
    while session.look(&shared.settings.pods) == Look::Missing {
        if let Err(refusal) = session.prove(&shared.upstream).await {
            tracing::debug!(pod.uid = session.guest.pod_uid, ?refusal, "cannot tell whether the pod is gone");
        }
        tokio::select! {
            () = session.dismissed.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LAST_RETRY);
    }
}
