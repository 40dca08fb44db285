//! What only the leader does: it registers the node, serves its port, launches machines and speaks to them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::net::TcpSocket;
use tokio::time::timeout;

use super::archive::Archive;
use super::parts::{Pages, Parts};
use super::tasks::Tasks;
use super::traced;
use crate::clock;
use crate::controller::{Controller, Deps, Draining};
use crate::endpoint::authn::Authenticator;
use crate::endpoint::authz::Authorizer;
use crate::endpoint::{Endpoint, Streams, server};
use crate::gpu;
use crate::link::Links as _;
use crate::logs::answer;
use crate::logs::archiver::{Archiver, Drain};
use crate::node;
use crate::node::events::{self, Told};
use crate::pod::reasons;
use crate::stats::Stats;
use crate::stats::collect::Collector;
use crate::telemetry::Exporter;

/// How long the event about a new leader may take.
const EVENT: Duration = Duration::from_secs(10);

/// What a shutdown has to speak to.
pub(super) struct Acting {
    pub(super) controller: Draining,
    pub(super) archiver: Option<Arc<Archiver>>,
    pub(super) streams: Streams,
}

/// Starts all of it. What is known of pods must be no older than the beginning of this leadership.
pub(super) fn act(
    parts: &Parts,
    tasks: &mut Tasks,
    socket: TcpSocket,
    before: Option<String>,
) -> Result<Acting> {
    let Parts { config, cluster, meters, links, pods, client, .. } = parts;
    let views = (links, pods);
    let archive = Archive::new(config, &parts.sdk, &cluster.id, &parts.fence, views, meters.logs.clone())?;
    let (traces, exporter) = traced::traces(config, &cluster.id, meters.traces.clone())?;
    let controller = Controller::new(Deps {
        client: client.clone(),
        pods: pods.clone(),
        cloud: parts.cloud.clone(),
        market: parts.market.clone(),
        links: links.clone(),
        logs: archive.archiver.clone().map(|archiver| -> Arc<dyn Drain> { archiver }),
        ssh_public: parts.keys.ssh_public.clone(),
        config: config.clone(),
        cluster_id: cluster.id.clone(),
        metrics: meters.controller.clone(),
        traces,
    });
    show(&controller, &parts.pages);

    let stats = Arc::new(Stats::new(config.node.name.clone(), Arc::new(meters.gpus.clone())));
    let streams = Streams::default();
    serve(parts, tasks, socket, &archive, (stats.clone(), streams.clone()))?;
    tasks.spawn("the node", node::run(node(parts, &controller, &archive)));
    watch_machines(parts, tasks, stats, &controller);
    let archiver = archive.archiver.clone();
    fill(tasks, archive.archiver, exporter);
    tell(parts, tasks, before);
    let draining = controller.draining();
    tasks.keep("the controller", async move { controller.run().await });
    Ok(Acting { controller: draining, archiver, streams })
}

/// Shows what only a leader knows.
fn show(controller: &Controller, pages: &Pages) {
    let (live, stuck) = (controller.live(), controller.stuck());
    let capacity = move || serde_json::to_value(live()).expect("a page has only texts and numbers");
    let stuck = move || serde_json::to_value(stuck()).expect("a page has only texts and numbers");
    // An error is that there is one: nobody leads twice.
    drop((pages.capacity.set(Box::new(capacity)), pages.stuck.set(Box::new(stuck))));
}

fn serve(
    parts: &Parts,
    tasks: &mut Tasks,
    socket: TcpSocket,
    archive: &Archive,
    (stats, streams): (Arc<Stats>, Streams),
) -> Result<()> {
    let Parts { config, pods, links, client, telemetry, meters, .. } = parts;
    let endpoint = Endpoint {
        pods: pods.clone(),
        links: links.clone(),
        archive: archive.store.clone().map(answer::Archive::new),
        authenticator: Authenticator::new(client.clone()),
        authorizer: Authorizer::new(client.clone(), config.node.name.clone()),
        stats,
        telemetry: telemetry.clone(),
        streams,
        metrics: meters.endpoint.clone(),
    };
    let listener = server::listen(socket)?;
    let tls = parts.tls.clone();
    tasks.keep("the endpoint", async move { server::serve(Arc::new(endpoint), listener, tls).await });
    Ok(())
}

fn node(parts: &Parts, controller: &Controller, archive: &Archive) -> node::Deps {
    let gateway = parts.gateway.clone();
    node::Deps {
        client: parts.client.clone(),
        settings: node::Settings::new(&parts.config, &parts.cluster.id, &parts.cluster.version),
        cloud: controller.cloud_health(),
        logs: archive.health(),
        machines: parts.links.reach(),
        features: Arc::new(move || gateway.declared_features()),
        ceilings: controller.ceilings(),
        metrics: parts.meters.node.clone(),
    }
}

/// What asks machines for numbers.
fn watch_machines(parts: &Parts, tasks: &mut Tasks, stats: Arc<Stats>, controller: &Controller) {
    let collector = Collector { stats, links: parts.links.clone(), metrics: parts.meters.scrapes.clone() };
    tasks.keep("the collector of numbers", async move { collector.run().await });
    let watch = gpu::Watch {
        gpus: parts.meters.gpus.clone(),
        links: parts.links.clone(),
        pods: parts.pods.clone(),
        tell: controller.teller(),
        gpu_resource: parts.config.node.gpu.resource.clone(),
    };
    tasks.keep("the watch of GPUs", async move { watch.run().await });
}

/// What fills other people's stores.
fn fill(tasks: &mut Tasks, archiver: Option<Arc<Archiver>>, exporter: Option<Exporter>) {
    if let Some(archiver) = archiver {
        tasks.keep("the archive of logs", async move { archiver.run().await });
    }
    if let Some(exporter) = exporter {
        // It ends with the controller, which tells it what to send.
        tasks.keep("the export of traces", async move { exporter.run().await });
    }
}

/// An event of the Node about its new leader; once, or not at all.
fn tell(parts: &Parts, tasks: &mut Tasks, before: Option<String>) {
    if parts.config.leader_election.is_none() {
        return;
    }
    let (client, node, identity) =
        (parts.client.clone(), parts.config.node.name.clone(), parts.identity.clone());
    let before = match before {
        Some(before) if before == identity => "it led before, too".to_owned(),
        Some(before) => format!("`{before}` did before, and its Lease ran out"),
        None => "nobody did".to_owned(),
    };
    let told = Told {
        kind: "Normal",
        reason: reasons::LEADER_ELECTED,
        message: format!("`{identity}` leads now; {before}"),
    };
    tasks.keep("the event about the leader", async move {
        let written = timeout(EVENT, events::send(&client, &node, &told, clock::now())).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!(node, "an event about the leader was not taken");
        }
        std::future::pending().await
    });
}
