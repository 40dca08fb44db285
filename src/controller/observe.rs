//! Puts together what is known of one pod UID: from the caches for a first look, live before anything is destroyed.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::Api;

use super::act::Failure;
use super::{Core, deadline, table};
use crate::capacity::planner::drain_time;
use crate::capacity::world::Usable;
use crate::clock;
use crate::cloud::{Instance, InstanceState, Lifecycle, TAG_POD_NAME, TAG_POD_NAMESPACE};
use crate::link::LinkStatus;
use crate::logs::archiver::Progress;
use crate::pod::decide::{Blind, Drain, Ending, Lists, Logs, Memory, Observed, Rules};
use crate::pod::intent::Intent;

/// What is known of one pod UID.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) pod: Option<Arc<Pod>>,
    pub(super) instances: Vec<Instance>,
    pub(super) link: Option<LinkStatus>,
    pub(super) memory: Memory,
    pub(super) drain: Option<Drain>,
    blind: Blind,
    /// Namespace and name, as long as anything tells them.
    pub(super) name: Option<(String, String)>,
    lists: Lists,
    logs: Logs,
    now: Timestamp,
}

impl Seen {
    /// As the pure core wants it.
    pub(super) fn observed<'a>(&'a self, uid: &'a str, rules: &'a Rules) -> Observed<'a> {
        Observed {
            uid,
            pod: self.pod.as_deref(),
            instances: &self.instances,
            link: self.link.as_ref(),
            memory: &self.memory,
            drain: self.drain.as_ref(),
            blind: &self.blind,
            lists: self.lists,
            logs: self.logs,
            rules,
            now: self.now,
        }
    }

    /// Whether the machine's kubelet can be spoken to.
    pub(super) fn is_attached(&self) -> bool {
        self.link.as_ref().is_some_and(LinkStatus::is_attached)
    }

    /// What the kubelet that runs the pod said of its machine, and that machine's type.
    fn learned(&self) -> Option<(&str, Usable)> {
        let link = self.link.as_ref().filter(|_| self.is_attached())?;
        let machine = self.instances.iter().find(|one| one.id == link.instance_id)?;
        Some((&machine.instance_type, link.usable?))
    }

    /// How long its containers may take to end.
    pub(super) fn grace(&self) -> Duration {
        self.pod.as_deref().map_or(table::GRACE, table::spec_grace)
    }

    /// The pod, for its events.
    pub(super) fn reference(&self, uid: &str) -> Option<ObjectReference> {
        let (namespace, name) = self.name.clone()?;
        Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(namespace),
            name: Some(name),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        })
    }
}

impl Core {
    /// What the caches say.
    pub(super) fn observe(&self, uid: &str) -> Seen {
        let instances = self.fleet.of(uid);
        let cached = self.cached(uid);
        let now = clock::steady();
        let lists = self.lists();
        let (pod, name, memory) = self.table.update(uid, |row| {
            let pod = row.look(cached, lists, now);
            row.mind_ending(&instances, now);
            (pod, row.latest.as_deref().and_then(name_of), row.memory.clone())
        });
        let name = name.or_else(|| instances.iter().find_map(name_by_tags));
        let seen = Seen {
            drain: self.drain(&instances, pod.as_deref().map_or(table::GRACE, table::spec_grace)),
            pod,
            blind: self.sight.blind(),
            instances,
            link: self.links.status(uid),
            memory,
            name,
            lists,
            logs: self.logs_of(uid),
            now,
        };
        if let Some((instance_type, usable)) = seen.learned() {
            self.market.learn(instance_type, usable);
        }
        seen
    }

    fn logs_of(&self, uid: &str) -> Logs {
        match self.logs.as_ref().map(|logs| logs.progress(uid)) {
            None | Some(Progress::Drained) => Logs::Archived,
            Some(Progress::Behind) => Logs::Behind,
        }
    }

    /// Which of the machines will be gone first, and when it has to be left.
    fn drain(&self, instances: &[Instance], grace: Duration) -> Option<Drain> {
        let all = [self.block_drain(instances), self.event_drain(instances, grace)];
        all.into_iter().flatten().min_by_key(|drain| drain.at)
    }

    /// When the Capacity Block ends that one of the machines is in.
    fn block_drain(&self, instances: &[Instance]) -> Option<Drain> {
        let in_block = instances
            .iter()
            .find(|one| one.state.may_run() && one.bought.lifecycle == Lifecycle::CapacityBlock)?;
        let id = in_block.bought.reservation_id.as_deref()?;
        let snapshot = self.market.snapshot();
        let ends_at = snapshot.reservations.iter().find(|one| one.id == id)?.ends_at?;
        Some(Drain {
            instance_id: in_block.id.clone(),
            at: steadily(drain_time(&in_block.instance_type, ends_at)),
            ends_at,
            why: Ending::Purchase(format!("Capacity Block {id}")),
        })
    }

    /// What the API server and the cloud say now.
    pub(super) async fn observe_live(&self, uid: &str, seen: Seen) -> Result<Seen, Failure> {
        if let Some((namespace, name)) = &seen.name {
            let pod = self.read_pod(uid, namespace, name).await?;
            self.table.update(uid, |row| match pod {
                Some(pod) => {
                    // A watch that has not seen it yet does not make it absent.
                    row.newest(Some(Arc::new(pod)));
                }
                None => row.gone = true,
            });
        }
        let latest = self.table.get(uid).latest;
        let ids = to_read(&seen.instances, latest.as_deref());
        for id in ids {
            match deadline("reading an instance", self.cloud.instance(&id)).await? {
                Some(instance) => self.fleet.put(instance, clock::steady()),
                None => {
                    self.fleet.missed(&id, clock::steady());
                }
            }
        }
        let mut fresh = self.observe(uid);
        if fresh.pod.is_none() && !self.table.get(uid).gone {
            // Not in the watch; the live read has the last word.
            fresh.pod = self.table.get(uid).latest.filter(|_| fresh.name.is_some());
        }
        Ok(fresh)
    }

    /// The pod as the API server has it now; `None` if it does not exist, or only under another UID.
    pub(super) async fn read_pod(
        &self,
        uid: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Pod>, kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod = deadline("reading a pod", api.get_opt(name)).await?;
        Ok(pod.filter(|pod| pod.metadata.uid.as_deref() == Some(uid)))
    }

    /// The pod as the watch has it.
    pub(super) fn cached(&self, uid: &str) -> Option<Arc<Pod>> {
        let name = self.table.get(uid).latest.as_deref().and_then(name_of);
        match name {
            Some((namespace, name)) => {
                self.pods.get(&namespace, &name).filter(|pod| pod.metadata.uid.as_deref() == Some(uid))
            }
            None => self.pods.by_uid(uid),
        }
    }
}

/// The cloud's time by our steady clock, however far they are apart.
pub(super) fn steadily(at: Timestamp) -> Timestamp {
    clock::steady().saturating_add(at.duration_since(clock::now())).unwrap_or(at)
}

/// The machines that are read live. The pod names the one that matters, whatever the caches lack.
pub(super) fn to_read(instances: &[Instance], latest: Option<&Pod>) -> Vec<String> {
    let intent = latest.and_then(|pod| Intent::read(pod).ok().flatten());
    let running = instances.iter().filter(|one| one.state != InstanceState::Terminated);
    let mut ids: Vec<String> =
        running.map(|one| one.id.clone()).chain(intent.and_then(|intent| intent.instance_id)).collect();
    ids.sort();
    ids.dedup();
    ids
}

fn name_of(pod: &Pod) -> Option<(String, String)> {
    Some((pod.metadata.namespace.clone()?, pod.metadata.name.clone()?))
}

fn name_by_tags(instance: &Instance) -> Option<(String, String)> {
    let tag = |key: &str| instance.tags.get(key).cloned();
    Some((tag(TAG_POD_NAMESPACE)?, tag(TAG_POD_NAME)?))
}
