//! Machines that pretend: links that come up after a while, and kubelets that run, report and end their pods.
//!
//! Links belong to one ORCA process and die with it; kubelets belong to their machine and do not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use orca::capacity::world::Usable;
use orca::clock;
use orca::cloud::memory::MemoryCloud;
use orca::cloud::{Cloud as _, InstanceState, TAG_HOST_KEY};
use orca::link::{LinkState, LinkStatus, Links, Machine, Prober, Reach};
use orca::tunnel::{ByteStream, TunnelError};
use serde_json::json;
use tokio::sync::{broadcast, watch};

use super::api::ApiServer;

const TICK: Duration = Duration::from_millis(250);
/// From the first dial to an attached kubelet.
const REACH: Duration = Duration::from_secs(4);
/// From SIGTERM to the end of the containers.
const KILL: Duration = Duration::from_secs(2);

/// All machines and their links.
pub(crate) struct Guests {
    api: Arc<ApiServer>,
    cloud: Arc<MemoryCloud>,
    state: Mutex<State>,
    reach: watch::Sender<Reach>,
}

#[derive(Debug, Default)]
struct State {
    links: BTreeMap<String, Link>,
    kubelets: BTreeMap<String, Kubelet>,
    subscribers: Vec<broadcast::Sender<String>>,
    /// What kubelets say a pod can have of their machines.
    usable: Option<Usable>,
    unreachable: u32,
    cut: bool,
    violations: Vec<String>,
    /// Instances that were told to.
    switched_off: std::collections::BTreeSet<String>,
}

#[derive(Debug)]
struct Link {
    machine: Machine,
    since: Timestamp,
    status: LinkStatus,
    revoked: bool,
    unreachable: bool,
}

/// What the kubelet of one machine does with its pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kubelet {
    Runs,
    Ending(Timestamp),
    Ended,
}

impl std::fmt::Debug for Guests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.state().fmt(f)
    }
}

impl Guests {
    pub(crate) fn new(api: Arc<ApiServer>, cloud: Arc<MemoryCloud>) -> Arc<Self> {
        Arc::new(Self { api, cloud, state: Mutex::default(), reach: watch::Sender::new(Reach::Works) })
    }

    /// The next machines that are dialled never answer.
    pub(crate) fn never_reach(&self, machines: u32) {
        self.state().unreachable = machines;
    }

    /// No machine is reached from now on, or all are again.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.state().cut = is_cut;
    }

    /// Sessions are refused to everybody from now on, but those that there are go on.
    pub(crate) fn refuse_sessions(&self, probe: Prober) {
        let message = "access denied: AccessDeniedException: no".to_owned();
        self.reach.send_replace(Reach::Fails { reason: "AccessDenied", message, probe });
    }

    /// They are given again.
    pub(crate) fn give_sessions(&self) {
        self.reach.send_replace(Reach::Works);
    }

    /// What kubelets that attach from now on give to pods.
    pub(crate) fn set_usable(&self, usable: Usable) {
        self.state().usable = Some(usable);
    }

    /// The containers of the pod exit by themselves.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        let uid = self.api.pod(name).unwrap().metadata.uid.unwrap();
        self.finish(&uid, phase, code);
        self.state().kubelets.insert(uid, Kubelet::Ended);
    }

    /// The machine of the pod switches itself off: its kubelet ends the pod, then it is gone.
    fn shut_down(&self, uid: &str) {
        let mut state = self.state();
        let Some(id) = state.links.get(uid).map(|link| link.machine.instance_id.clone()) else { return };
        if state.switched_off.insert(id.clone()) && state.kubelets.contains_key(uid) {
            state.kubelets.insert(uid.to_owned(), Kubelet::Ended);
            drop(state);
            self.finish(uid, "Failed", 143);
        } else {
            drop(state);
        }
        self.cloud.end(&id, "Client.InstanceInitiatedShutdown");
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.state().violations.clone()
    }

    pub(crate) fn has_link(&self, uid: &str) -> bool {
        self.state().links.contains_key(uid)
    }

    /// The process that had the links is gone.
    pub(crate) fn forget_links(&self) {
        let mut state = self.state();
        state.links.clear();
        state.subscribers.clear();
    }

    pub(crate) async fn run(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            self.tick().await;
        }
    }

    async fn tick(&self) {
        let all = self.cloud.alive().into_iter().filter(|one| one.state != InstanceState::Stopped);
        let alive: Vec<String> = all.map(|one| one.id).collect();
        let uids: Vec<String> = self.state().links.keys().cloned().collect();
        for uid in uids {
            self.dial(&uid, &alive).await;
            self.kubelet(&uid);
        }
    }

    async fn dial(&self, uid: &str, alive: &[String]) {
        let now = clock::now();
        let is_refused = matches!(*self.reach.borrow(), Reach::Fails { .. });
        let pin = {
            let mut state = self.state();
            let (is_cut, usable) = (state.cut, state.usable);
            let Some(link) = state.links.get_mut(uid) else { return };
            let id = link.machine.instance_id.clone();
            let was_up = matches!(link.status.state, LinkState::Attached { .. });
            let is_dialed = was_up || !is_refused && now >= link.since + REACH;
            let is_up = alive.contains(&id) && !is_cut && !link.unreachable && is_dialed;
            if is_up == was_up {
                return;
            }
            if is_up {
                link.status.state = LinkState::Attached { since: now, boot_id: id.clone() };
                link.status.reached.get_or_insert(now);
                link.status.attached.get_or_insert(now);
                link.status.usable = usable;
            } else {
                link.status.state = LinkState::Dialing { since: now, error: None, was_attached: true };
            }
            state.tell(uid);
            is_up.then_some(id)
        };
        if let Some(id) = pin {
            let tags = [(TAG_HOST_KEY.to_owned(), "ssh-ed25519 BBBB".to_owned())].into();
            drop(self.cloud.tag(&id, &tags).await);
        }
    }

    /// One look of the kubelet at its pod, if the gateway lets it.
    fn kubelet(&self, uid: &str) {
        let id = {
            let mut state = self.state();
            let Some(link) = state.links.get_mut(uid) else { return };
            if link.revoked || !matches!(link.status.state, LinkState::Attached { .. }) {
                return;
            }
            link.machine.instance_id.clone()
        };
        let now = clock::now();
        let pod = self.api.by_uid(uid);
        let kubelet = self.state().kubelets.get(uid).cloned();
        let is_terminal = pod.as_ref().is_some_and(orca::pod::status::is_terminal);
        let is_deleted = pod.as_ref().is_none_or(|pod| pod.metadata.deletion_timestamp.is_some());
        let name = pod.as_ref().and_then(|pod| pod.metadata.name.clone());
        match (kubelet, &name) {
            (None, Some(name)) if !is_terminal => {
                let mut state = self.state();
                if let Some(link) = state.links.get_mut(uid) {
                    link.status.shown = true;
                }
                state.kubelets.insert(uid.to_owned(), Kubelet::Runs);
                drop(state);
                self.start(name, &id);
            }
            (Some(Kubelet::Runs), _) if is_deleted || is_terminal => {
                self.state().kubelets.insert(uid.to_owned(), Kubelet::Ending(now + KILL));
            }
            (Some(Kubelet::Ending(at)), _) if now >= at => {
                self.state().kubelets.insert(uid.to_owned(), Kubelet::Ended);
                if !is_terminal {
                    self.finish(uid, "Failed", 143);
                }
            }
            (Some(Kubelet::Ended), Some(name)) if is_deleted => self.api.delete(name, 0),
            (None | Some(Kubelet::Runs | Kubelet::Ending(_) | Kubelet::Ended), _) => {}
        }
    }

    fn start(&self, name: &str, id: &str) {
        let now = clock::now().round(k8s_openapi::jiff::Unit::Second).unwrap().to_string();
        let already = self.api.pod(name).is_some_and(|pod| orca::pod::status::is_kubelets(&pod));
        if already {
            self.state().violations.push(format!("{name} was started twice, now on {id}"));
        }
        self.api.change(name, |pod| {
            let status = pod["status"].as_object_mut().unwrap();
            status.insert("phase".to_owned(), json!("Running"));
            status.insert("startTime".to_owned(), json!(now));
            status.insert("podIP".to_owned(), json!("10.0.0.9"));
            let container = json!({"name": "c", "image": "busybox", "imageID": "x", "ready": true, "started": true,
                "restartCount": 0, "containerID": format!("containerd://{id}"), "state": {"running": {"startedAt": now}}});
            status.insert("containerStatuses".to_owned(), json!([container]));
            let mut all = status.get("conditions").and_then(|all| all.as_array()).cloned().unwrap_or_default();
            all.retain(|one| one["type"] != "Ready");
            all.push(json!({"type": "Ready", "status": "True", "lastTransitionTime": now}));
            status.insert("conditions".to_owned(), json!(all));
        });
    }

    fn finish(&self, uid: &str, phase: &str, code: i32) {
        let Some(name) = self.api.by_uid(uid).and_then(|pod| pod.metadata.name) else { return };
        let now = clock::now().round(k8s_openapi::jiff::Unit::Second).unwrap().to_string();
        self.api.change(&name, |pod| {
            pod["status"]["phase"] = json!(phase);
            pod["status"]["containerStatuses"][0]["state"] =
                json!({"terminated": {"exitCode": code, "finishedAt": now}});
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn tell(&self, uid: &str) {
        for subscriber in &self.subscribers {
            drop(subscriber.send(uid.to_owned()));
        }
    }
}

/// The links of one ORCA process.
#[derive(Debug)]
pub(crate) struct FakeLinks {
    guests: Arc<Guests>,
    changes: broadcast::Sender<String>,
}

impl FakeLinks {
    pub(crate) fn new(guests: Arc<Guests>) -> Arc<Self> {
        let (changes, _) = broadcast::channel(1024);
        guests.state().subscribers.push(changes.clone());
        Arc::new(Self { guests, changes })
    }
}

#[async_trait]
impl Links for FakeLinks {
    fn ensure(&self, machine: Machine) {
        let mut state = self.guests.state();
        let uid = machine.pod_uid.clone();
        if state.links.get(&uid).is_some_and(|link| link.machine.instance_id == machine.instance_id) {
            return;
        }
        let since = clock::now();
        let unreachable = state.unreachable > 0;
        state.unreachable = state.unreachable.saturating_sub(1);
        let status = LinkStatus {
            instance_id: machine.instance_id.clone(),
            state: LinkState::Dialing { since, error: None, was_attached: false },
            shown: false,
            reached: None,
            attached: None,
            notice: None,
            usable: None,
            has_nvidia: false,
        };
        state.links.insert(uid, Link { machine, since, status, revoked: false, unreachable });
    }

    fn status(&self, pod_uid: &str) -> Option<LinkStatus> {
        self.guests.state().links.get(pod_uid).map(|link| link.status.clone())
    }

    fn revoke(&self, pod_uid: &str) -> bool {
        self.guests.state().links.get_mut(pod_uid).is_some_and(|link| {
            link.revoked = true;
            link.status.shown
        })
    }

    fn shut_down(&self, pod_uid: &str) {
        self.guests.shut_down(pod_uid);
    }

    fn is_ending(&self, pod_uid: &str) -> bool {
        self.guests.state().links.get(pod_uid).is_some_and(|link| link.revoked)
    }

    fn remove(&self, pod_uid: &str) {
        self.guests.state().links.remove(pod_uid);
    }

    fn uids(&self) -> Vec<String> {
        self.guests.state().links.keys().cloned().collect()
    }

    fn pod(&self, pod_uid: &str) -> Option<(String, String)> {
        let state = self.guests.state();
        let machine = &state.links.get(pod_uid)?.machine;
        Some((machine.pod_namespace.clone(), machine.pod_name.clone()))
    }

    fn reach(&self) -> watch::Receiver<Reach> {
        self.guests.reach.subscribe()
    }

    fn subscribe(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }

    async fn kubelet_stream(&self, _pod_uid: &str, _deadline: Duration) -> Result<ByteStream, TunnelError> {
        Err(TunnelError::NotYet("only pretends".to_owned()))
    }

    async fn command(&self, _: &str, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        Err(TunnelError::NotYet("only pretends".to_owned()))
    }
    async fn scrape_stream(&self, pod_uid: &str, deadline: Duration) -> Result<ByteStream, TunnelError> {
        self.kubelet_stream(pod_uid, deadline).await
    }
    fn kubelet_tls(&self, _pod_uid: &str) -> Option<Arc<rustls::ClientConfig>> {
        None
    }
}
