//! `orca sweep`: machines of this node that no pod owns, what machines left behind, and the end of both, also where no
//! ORCA runs any more.
//!
//! The running ORCA sweeps by itself. The cloud is listed before the cluster: a pod that is there afterwards may have
//! been there before, one that is not was not launched for in between. Nothing is ended before two looks and an age.
//! Exit codes: 0 nothing is left, 1 something is, or could not be seen, 2 what was typed is wrong.

mod leftovers;

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, ListParams};

use super::table::{cells, columns, or_dash};
use super::{Common, Trouble, print, resolve, say};
use crate::app::{Cluster, kube_config};
use crate::capacity::money::MicroUsd;
use crate::capacity::shipped::shipped;
use crate::capacity::world::Prices;
use crate::clock;
use crate::cloud::audit::Deed;
use crate::cloud::ec2::{Ec2, sdk_config};
use crate::cloud::{Cloud as _, CloudError, Instance, Leftover, TAG_NODE, TAG_POD_NAME, TAG_POD_NAMESPACE};
use crate::config::{Config, Facts};
use crate::pod::decide::ORPHAN_AGE;
use crate::telemetry::CloudCalls;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(10);
/// No answer of the API server takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Flags of `orca sweep`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Sweep {
    #[command(flatten)]
    common: Common,
    /// Only show what would be ended
    #[arg(long)]
    dry_run: bool,
}

/// A machine that no pod owns.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Orphan {
    instance: Instance,
    age: Duration,
}

/// What one look shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Look {
    machines: Vec<Orphan>,
    leftovers: Vec<Leftover>,
    /// What could not be seen, and why.
    unseen: Vec<String>,
}

impl Look {
    fn is_clean(&self) -> bool {
        self.machines.is_empty() && self.leftovers.is_empty()
    }

    /// 0 if there is nothing, and all could be seen.
    fn code(&self) -> ExitCode {
        if self.is_clean() && self.unseen.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

pub(super) async fn run(args: Sweep) -> ExitCode {
    match sweep(&args).await {
        Ok(code) => code,
        Err(trouble) => trouble.tell(),
    }
}

async fn sweep(args: &Sweep) -> Result<ExitCode, Trouble> {
    let facts = Facts { pod_ip: args.common.pod_ip, outward_ip: super::outward_ip() };
    let (config, _) = resolve(&args.common.config, &facts)?;
    let failed = |error: anyhow::Error| Trouble::Failed(format!("{error:#}"));
    let eyes = Eyes::open(&args.common, config).await.map_err(failed)?;
    let first = eyes.look().await.map_err(failed)?;
    print(&shown(&first.machines, &shipped().1));
    print(&leftovers::shown(&first.leftovers, clock::now()));
    first.unseen.iter().for_each(|why| say(format_args!("{why}")));
    if args.dry_run || first.is_clean() {
        return Ok(first.code());
    }
    say(format_args!("looking again in {}s", PAUSE.as_secs()));
    tokio::time::sleep(PAUSE).await;
    let mut second = eyes.look().await.map_err(failed)?;
    let machines = due(&first.machines, &second.machines).into_iter().cloned().collect::<Vec<_>>();
    for Orphan { instance, .. } in machines {
        if told(&instance.id, "ended", &eyes.end(&instance).await) {
            second.machines.retain(|one| one.instance.id != instance.id);
        }
    }
    let leftovers = leftovers::due(&first.leftovers, &second.leftovers, clock::now());
    for one in leftovers.into_iter().cloned().collect::<Vec<_>>() {
        if told(&one.id, "deleted", &eyes.delete(&one).await) {
            second.leftovers.retain(|left| left.id != one.id);
        }
    }
    if !second.is_clean() {
        let left = second.machines.len() + second.leftovers.len();
        say(format_args!("{left} left: too young, or not ended"));
    }
    Ok(second.code())
}

/// Says how it went; whether it went well.
fn told(id: &str, done: &str, result: &Result<(), CloudError>) -> bool {
    match result {
        Ok(()) => say(format_args!("{id} is {done}")),
        Err(error) => say(format_args!("{id} could not be {done}: {error}")),
    }
    result.is_ok()
}

/// Sees the cloud and the cluster.
struct Eyes {
    cluster_id: String,
    node: String,
    ec2: Ec2,
    pods: Api<Pod>,
}

impl Eyes {
    async fn open(common: &Common, config: Config) -> anyhow::Result<Self> {
        let mut kube = kube_config(common.kubeconfig.as_deref()).await?;
        kube.connect_timeout = Some(Duration::from_secs(5));
        kube.read_timeout = Some(PATIENCE);
        let client = Client::try_from(kube)?;
        let cluster = Cluster::ask(&client).await?;
        let sdk = sdk_config(&config.aws).await;
        let ec2 = Ec2::new(&sdk, &config, &cluster.id, cluster.minor, CloudCalls::default());
        Ok(Self { cluster_id: cluster.id, node: config.node.name, ec2, pods: Api::all(client) })
    }

    async fn look(&self) -> anyhow::Result<Look> {
        let found = leftovers::list(&self.ec2).await?;
        let machines = self.ec2.instances().await?;
        let pods = self.pods.list(&ListParams::default()).await?;
        let uids = pods.items.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        Ok(Look {
            leftovers: leftovers::of_node((&self.cluster_id, &self.node), found.left, &machines, &uids),
            machines: orphans(&self.node, machines, &uids, clock::now()),
            unseen: found.unseen,
        })
    }

    async fn delete(&self, one: &Leftover) -> Result<(), CloudError> {
        let done = self.ec2.discard(one.kind, &one.id).await;
        one.deletion(&one.pod(), &format!("{}, {}, orca sweep", one.id, one.brief())).record(&done);
        done
    }

    async fn end(&self, machine: &Instance) -> Result<(), CloudError> {
        let done = self.ec2.terminate(&machine.id).await;
        let deed = Deed {
            action: "TerminateInstances",
            pod_uid: machine.pod_uid().unwrap_or_default(),
            pod: &owner(machine),
            instance_id: &machine.id,
            detail: "orca sweep",
            why: "no pod owns the machine",
        };
        deed.record(&done);
        done
    }
}

/// Machines of the node that run, or may again, and whose pods are not among these.
fn orphans(node: &str, machines: Vec<Instance>, pods: &HashSet<&str>, now: Timestamp) -> Vec<Orphan> {
    let is_orphan = |one: &Instance| {
        one.state.may_run()
            && one.tags.get(TAG_NODE).is_some_and(|name| name == node)
            && one.pod_uid().is_none_or(|uid| !pods.contains(uid))
    };
    let age = |one: &Instance| {
        one.launched_at
            .map_or(Duration::ZERO, |at| Duration::try_from(now.duration_since(at)).unwrap_or_default())
    };
    let found = machines.into_iter().filter(is_orphan);
    found.map(|instance| Orphan { age: age(&instance), instance }).collect()
}

/// What was seen twice and is old enough.
fn due<'a>(first: &[Orphan], second: &'a [Orphan]) -> Vec<&'a Orphan> {
    let before: HashSet<&str> = first.iter().map(|one| one.instance.id.as_str()).collect();
    second.iter().filter(|one| before.contains(one.instance.id.as_str()) && one.age >= ORPHAN_AGE).collect()
}

fn owner(machine: &Instance) -> String {
    let tag = |key: &str| machine.tags.get(key).map(String::as_str).unwrap_or_default();
    format!("{}/{}", tag(TAG_POD_NAMESPACE), tag(TAG_POD_NAME))
}

fn shown(orphans: &[Orphan], prices: &Prices) -> String {
    if orphans.is_empty() {
        return "no machine of this node is without a pod\n".to_owned();
    }
    let price = |one: &Orphan| prices.on_demand.get(&one.instance.instance_type).copied();
    let mut lines = vec![cells(["INSTANCE", "TYPE", "ZONE", "AGE", "POD", "UID", "$/H"])];
    lines.extend(orphans.iter().map(|one| {
        let machine = &one.instance;
        [
            machine.id.clone(),
            machine.instance_type.clone(),
            machine.zone.clone(),
            format!("{}s", one.age.as_secs()),
            owner(machine),
            or_dash(machine.pod_uid()),
            or_dash(price(one).map(|price| price.to_string()).as_deref()),
        ]
    }));
    let sum: MicroUsd = orphans.iter().filter_map(price).sum();
    format!("{}{} without a pod, ${sum} an hour at list price\n", columns("", &lines), orphans.len())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cloud::testing::mk_instance;
    use crate::cloud::{InstanceState, TAG_POD_UID};

    fn mk_machine(id: &str, node: &str, uid: &str, state: InstanceState) -> Instance {
        let tags = [(TAG_NODE, node), (TAG_POD_UID, uid), (TAG_POD_NAMESPACE, "ml"), (TAG_POD_NAME, "train")];
        Instance {
            instance_type: "g5.xlarge".to_owned(),
            zone: "us-east-1a".to_owned(),
            launched_at: Timestamp::from_second(1_000).ok(),
            tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            ..mk_instance(id, state)
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn only_a_machine_of_this_node_that_may_run_and_has_no_pod_is_an_orphan() {
        let machines = vec![
            mk_machine("i-owned", "orca", "there", InstanceState::Running),
            mk_machine("i-orphan", "orca", "gone", InstanceState::Running),
            mk_machine("i-stopped", "orca", "gone", InstanceState::Stopped),
            mk_machine("i-ended", "orca", "gone", InstanceState::Terminated),
            mk_machine("i-other", "another", "gone", InstanceState::Running),
            Instance { tags: BTreeMap::new(), ..mk_machine("i-foreign", "", "", InstanceState::Running) },
        ];
        let found = orphans("orca", machines, &["there"].into(), at(1_090));
        let ids: Vec<_> = found.iter().map(|one| (one.instance.id.as_str(), one.age.as_secs())).collect();
        assert_eq!(ids, [("i-orphan", 90), ("i-stopped", 90)]);
    }

    #[test]
    fn nothing_is_ended_that_was_seen_once_or_is_young() {
        let look = |ids: &[&str], second| {
            let machines = ids.iter().map(|id| mk_machine(id, "orca", "gone", InstanceState::Running));
            orphans("orca", machines.collect(), &HashSet::new(), at(second))
        };
        let ids = |first: &[Orphan], second: &[Orphan]| -> Vec<String> {
            due(first, second).into_iter().map(|one| one.instance.id.clone()).collect()
        };
        assert_eq!(ids(&look(&["a"], 1_100), &look(&["a", "b"], 1_110)), ["a"]);
        assert_eq!(ids(&look(&["a"], 1_010), &look(&["a"], 1_020)), Vec::<String>::new());
    }

    #[test]
    fn it_is_shown_with_what_it_costs() {
        let machines = vec![mk_machine("i-1", "orca", "u-1", InstanceState::Running)];
        let text = shown(&orphans("orca", machines, &HashSet::new(), at(1_061)), &shipped().1);
        insta::assert_snapshot!(text, @"
        INSTANCE  TYPE       ZONE        AGE  POD       UID  $/H
        i-1       g5.xlarge  us-east-1a  61s  ml/train  u-1  1.006
        1 without a pod, $1.006 an hour at list price
        ");
        assert_eq!(shown(&[], &shipped().1), "no machine of this node is without a pod\n");
    }
}
