//! The Lease: every ten seconds, "this process lives". It waits for nobody and knows nobody.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Error};
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::clock;
use crate::failpoint::{self, Write};

const NAMESPACE: &str = "kube-node-lease";
/// As kubelets have it: the node is lost when nobody renews for this long.
const DURATION_SECONDS: i32 = 40;
const EVERY: Duration = Duration::from_secs(10);
/// An attempt must end well before the next is due.
const PATIENCE: Duration = Duration::from_secs(5);
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// Renews the Lease until it is dropped. `uid` is that of the Node, once it is known: it owns the Lease.
pub(super) async fn keep(
    client: Client,
    node: String,
    uid: watch::Receiver<Option<String>>,
    renewed: Gauge,
) -> anyhow::Result<()> {
    let api: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let mut latest = None;
    let mut due = interval(EVERY);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        for attempt in 1..=ATTEMPTS {
            let owner = uid.borrow().clone();
            let call = renew(&api, &node, owner, latest.take());
            let failure = match timeout(PATIENCE, failpoint::around(Write::NodeLease, call)).await {
                Ok(Ok(lease)) => {
                    latest = Some(lease);
                    renewed.set(clock::now().as_second());
                    break;
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {PATIENCE:?}"),
            };
            if attempt == ATTEMPTS {
                tracing::warn!(node, error = failure, "the node's lease is not renewed");
            } else {
                tracing::debug!(node, attempt, error = failure, "renewing the node's lease failed, again");
            }
            sleep(PAUSE).await;
        }
    }
}

/// Writes the Lease as it was last seen with a new time; reads it when it was never seen or has changed meanwhile.
async fn renew(
    api: &Api<Lease>,
    node: &str,
    owner: Option<String>,
    latest: Option<Lease>,
) -> Result<Lease, Error> {
    let existing = match latest {
        Some(lease) => Some(lease),
        None => api.get_opt(node).await?,
    };
    let Some(existing) = existing else {
        return api.create(&PostParams::default(), &fresh(node, owner, None)).await;
    };
    match api.replace(node, &PostParams::default(), &fresh(node, owner.clone(), Some(existing))).await {
        Err(Error::Api(status)) if status.is_conflict() => {
            let existing = api.get(node).await?;
            api.replace(node, &PostParams::default(), &fresh(node, owner, Some(existing))).await
        }
        Err(Error::Api(status)) if status.is_not_found() => {
            api.create(&PostParams::default(), &fresh(node, owner, None)).await
        }
        other => other,
    }
}

/// The Lease, renewed now; what else is in an existing one stays.
fn fresh(node: &str, owner: Option<String>, existing: Option<Lease>) -> Lease {
    let mut lease = existing.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(node.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    if let Some(uid) = owner {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: node.to_owned(),
            uid,
            ..OwnerReference::default()
        }]);
    }
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(node.to_owned()),
        lease_duration_seconds: Some(DURATION_SECONDS),
        renew_time: Some(MicroTime(clock::now())),
        ..lease.spec.unwrap_or_default()
    });
    lease
}
