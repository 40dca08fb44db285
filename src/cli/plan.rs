//! `orca plan`: which machines a pod would get, in which order, and what was not chosen by which rule.
//!
//! The same `ask` and `plan` as in `orca run`, over the market as it is now and what the running ORCA knows of it, or
//! (`--offline`) over what ORCA ships.
//! Exit codes: 0 every pod has a candidate, 1 one has none or something could not be read, 2 what was typed is wrong.

mod offline;
mod online;
mod render;
mod report;
pub(super) mod summary;
#[cfg(test)]
mod tests;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::ValueEnum;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::Pod;

use self::online::{Cluster, unread};
use self::render::Width;
use self::report::{Report, Subject};
use super::running::Running;
use super::{Trouble, ec2, print, read_config};
use crate::capacity::live::{self, Live};
use crate::capacity::money::MicroUsd;
use crate::capacity::planner::plan;
use crate::capacity::spend::Budget;
use crate::clock;
use crate::config::documents::{complaint, documents};
use crate::config::{DaemonSetPolicy, Instances, is_region};
use crate::market::{MarketCache, Snapshot};
use crate::pod::ask::{self, Ask};
use crate::pod::layers::Layer;
use crate::pod::manifest::{Malformed, Manifest};

const GPU: &str = "nvidia.com/gpu";

/// Flags of `orca plan`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Plan {
    /// A pod of the cluster, instead of a file
    #[arg(value_name = "POD", conflicts_with = "offline", required_unless_present = "file")]
    pod: Option<String>,
    /// Pods, and objects that make some (Job, Deployment, …), as YAML or JSON; - is standard input
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "pod")]
    file: Option<PathBuf>,
    /// Namespace of the pod, and of those in the file that name none
    #[arg(short, long, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// The configuration: its rules, and where the market is read
    #[arg(long, value_name = "FILE", required_unless_present = "offline")]
    config: Option<PathBuf>,
    /// Answer from the types and prices that ORCA ships: no credentials, no network, no cluster
    #[arg(long)]
    offline: bool,
    /// The region, where no configuration says it
    #[arg(long, value_name = "REGION", requires = "offline", required_unless_present = "config")]
    region: Option<String>,
    /// How to reach the API server; else $KUBECONFIG, ~/.kube/config or the pod's service account
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
    kubeconfig: Option<PathBuf>,
    /// The running ORCA, for what it avoids and spends; else what metrics.listen of the configuration says
    #[arg(long, value_name = "http://HOST:PORT", conflicts_with = "offline")]
    server: Option<String>,
    /// How to print it
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The first candidates of each pod
    Table,
    /// All of them, with the size of their machines
    Wide,
    /// One JSON object for each pod
    Json,
}

pub(super) async fn run(args: Plan) -> ExitCode {
    match reports(&args).await {
        Ok(reports) => {
            for (index, report) in reports.iter().enumerate() {
                print(&show(report, args.output, index));
            }
            let found = reports.iter().all(|report| !report.candidates.is_empty());
            if found { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(trouble) => trouble.tell(),
    }
}

fn show(report: &Report, format: Format, index: usize) -> String {
    let between = if index == 0 { "" } else { "\n" };
    match format {
        Format::Table => format!("{between}{}", render::table(report, Width::Plain)),
        Format::Wide => format!("{between}{}", render::table(report, Width::Wide)),
        Format::Json => {
            let text = serde_json::to_string_pretty(report).expect("a report has only texts and numbers");
            format!("{text}\n")
        }
    }
}

/// What holds for every pod.
struct Rules {
    instances: Instances,
    gpu_resource: String,
    daemon_sets: DaemonSetPolicy,
    max_hourly_cost: Option<MicroUsd>,
}

/// Where the market is looked up.
enum Source {
    Shipped,
    Cloud { market: Box<MarketCache>, running: Result<Live, String> },
}

impl Source {
    fn live(&self) -> Option<&Live> {
        match self {
            Self::Cloud { running: Ok(live), .. } => Some(live),
            Self::Cloud { running: Err(_), .. } | Self::Shipped => None,
        }
    }
}

/// A pod, and the layers behind its own.
struct Wanted {
    subject: Subject,
    pod: Pod,
    layers: Vec<Layer>,
    notes: Vec<String>,
}

async fn reports(args: &Plan) -> Result<Vec<Report>, Trouble> {
    if let Some(region) = args.region.as_ref().filter(|region| !is_region(region)) {
        let text = format!("--region is `{region}`, expected an AWS region such as `us-east-1`");
        return Err(Trouble::Typed(text));
    }
    let config = args.config.as_deref().map(read_config).transpose()?;
    let mut rules = match &config {
        Some(config) => Rules {
            instances: config.instances.clone(),
            gpu_resource: config.node.gpu.resource.clone(),
            daemon_sets: config.node.daemon_sets,
            max_hourly_cost: config.limits.max_hourly_cost,
        },
        None => Rules {
            instances: Instances::default(),
            gpu_resource: GPU.to_owned(),
            daemon_sets: DaemonSetPolicy::Pending,
            max_hourly_cost: None,
        },
    };
    if let Some(region) = &args.region {
        rules.instances.region.clone_from(region);
    }
    let wanted = match (&args.file, &args.pod) {
        (Some(file), _) => of_file(args, file).await?,
        (None, Some(name)) => vec![live(args, name).await?],
        (None, None) => return Err(Trouble::Typed("expected -f FILE or the name of a pod".to_owned())),
    };
    let source = match &config {
        Some(config) if !args.offline => {
            let running = Running::find(args.server.as_deref(), config.metrics.listen)?;
            let market = Box::new(MarketCache::new(Arc::new(ec2(config).await)));
            Source::Cloud { market, running: running.ask().await }
        }
        Some(_) | None => Source::Shipped,
    };
    let mut reports = Vec::new();
    for one in wanted {
        reports.push(report(&rules, &source, one).await?);
    }
    Ok(reports)
}

/// Asks about one pod, and plans for it.
async fn report(rules: &Rules, source: &Source, wanted: Wanted) -> Result<Report, Trouble> {
    let Wanted { subject, pod, layers, notes } = wanted;
    let region = &rules.instances.region;
    if ask::is_daemon_set_pod(&pod) {
        return Ok(Report::of_daemon_set(subject, region, rules.daemon_sets));
    }
    let ask = match ask::ask(&pod, &layers, &rules.gpu_resource, &rules.instances) {
        Ok(ask) => ask,
        Err(rejection) => return Ok(Report::refused(subject, region, &rejection).noting(notes)),
    };
    let (snapshot, more) = look(source, region, &ask).await?;
    let live = source.live();
    let blocked = live::blocked(live.map_or(&[], |live| &live.avoided));
    let spent = live.map_or_else(MicroUsd::default, |live| live.hourly_micro_usd);
    let budget = rules.max_hourly_cost.map(|limit| Budget { limit, spent });
    let world = snapshot.world(clock::now(), &rules.instances, &blocked, budget);
    let planned = plan(&ask, &world);
    Ok(Report::planned(subject, &ask, &planned, &world).noting(notes.into_iter().chain(more)))
}

/// The market for one pod, and what should be known of it.
async fn look(source: &Source, region: &str, ask: &Ask) -> Result<(Arc<Snapshot>, Vec<String>), Trouble> {
    match source {
        Source::Shipped => Ok((offline::market(region, &ask.wishes).into(), offline::notes(region))),
        Source::Cloud { market, running } => {
            market.want(ask).await.map_err(|error| unread(&error))?;
            let mut notes = Vec::new();
            match running {
                Ok(live) => live.learned.iter().for_each(|one| market.learn(&one.instance_type, one.usable())),
                Err(error) => notes.push(format!(
                    "what is avoided for the moment, learned of types and spent is not counted, as the running \
                     orca cannot be asked: {error}"
                )),
            }
            if let Err(error) = market.want_prices().await {
                notes.push(format!("the price list cannot be read, so shipped prices stand in: {error}"));
            }
            Ok((market.snapshot(), notes))
        }
    }
}

/// The pods of a file, with what the cluster says of their namespaces.
async fn of_file(args: &Plan, file: &Path) -> Result<Vec<Wanted>, Trouble> {
    let shown = if is_stdin(file) { "standard input".to_owned() } else { format!("`{}`", file.display()) };
    let wrong = |what: String| Trouble::Typed(format!("{shown}: {what}"));
    let text = read(file).map_err(|error| wrong(error.to_string()))?;
    let manifest = documents(&text)
        .and_then(|all| Manifest::read(all).map_err(|malformed| explained(&malformed, &text)))
        .map_err(wrong)?;
    if manifest.workloads.is_empty() {
        return Err(wrong("there is no pod in it, and nothing that makes pods".to_owned()));
    }
    let (cluster, mut missing) = match args.offline {
        true => (None, None),
        false => match Cluster::find(args).await {
            Ok(cluster) => (Some(cluster), None),
            Err(error) if args.kubeconfig.is_some() => return Err(Trouble::Failed(error)),
            Err(error) => (None, Some(error)),
        },
    };
    let mut wanted = Vec::new();
    for workload in &manifest.workloads {
        let namespace = workload.namespace.clone().unwrap_or_else(|| args.namespace.clone());
        let mut layers: Vec<Layer> = manifest.layers(workload, &namespace).into_iter().cloned().collect();
        if let Some(cluster) = cluster.as_ref().filter(|_| !manifest.namespaces.contains_key(&namespace)) {
            match cluster.namespace(&namespace).await {
                Ok(layer) => layers.extend(layer),
                Err(error) => missing = Some(error),
            }
        }
        let note = |error: &String| {
            format!(
                "the annotations of namespace {namespace} are not counted, for lack of a cluster: {error}"
            )
        };
        let notes = missing.iter().map(note).collect();
        let subject = Subject { kind: workload.kind.clone(), namespace, name: workload.name.clone() };
        wanted.push(Wanted { subject, pod: workload.pod.clone(), layers, notes });
    }
    Ok(wanted)
}

/// A pod of the cluster.
async fn live(args: &Plan, name: &str) -> Result<Wanted, Trouble> {
    let cluster = Cluster::find(args).await.map_err(Trouble::Failed)?;
    let (pod, layers) = cluster.pod(&args.namespace, name).await?;
    let annotations = pod.metadata.annotations.as_ref();
    let instance = annotations.and_then(|all| all.get("orca.research/instance-id"));
    let notes =
        instance.map(|id| format!("the pod has {id} already: this is the plan for another machine, now"));
    Ok(Wanted {
        subject: Subject { kind: "Pod".to_owned(), namespace: args.namespace.clone(), name: name.to_owned() },
        pod,
        layers,
        notes: notes.into_iter().collect(),
    })
}

/// With path and line, where the YAML library knows them.
fn explained(malformed: &Malformed, text: &str) -> String {
    let at = malformed.document;
    let complaint = match malformed.kind.as_str() {
        "Pod" => complaint::<Pod>(text, at),
        "Job" => complaint::<Job>(text, at),
        "CronJob" => complaint::<CronJob>(text, at),
        "Deployment" => complaint::<Deployment>(text, at),
        "ReplicaSet" => complaint::<ReplicaSet>(text, at),
        "StatefulSet" => complaint::<StatefulSet>(text, at),
        "DaemonSet" => complaint::<DaemonSet>(text, at),
        _ => None,
    };
    complaint.map_or_else(|| malformed.to_string(), |complaint| format!("{}: {complaint}", malformed.what))
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn read(file: &Path) -> std::io::Result<String> {
    if !is_stdin(file) {
        return std::fs::read_to_string(file);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}
