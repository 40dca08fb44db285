//! Situations, made by a few words each.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::*;
use crate::capacity::candidate::Candidate;
use crate::cloud::{StateReason, TAG_EPOCH, TAG_HOST_KEY};
use crate::link::LinkState;
use crate::pod::status::Capacity;

pub(super) const UID: &str = "u-1";

pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

/// One situation; `now` is second 100, the process started at second -1000.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) pod: Option<Pod>,
    pub(super) instances: Vec<Instance>,
    pub(super) link: Option<LinkStatus>,
    pub(super) memory: Memory,
    pub(super) drain: Option<Drain>,
    pub(super) blind: Blind,
    pub(super) lists: Lists,
    pub(super) logs: Logs,
    pub(super) rules: Rules,
    pub(super) now: i64,
}

pub(super) fn world() -> World {
    let pod = json!({
        "metadata": {"name": "p", "namespace": "d", "uid": UID},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": {"phase": "Pending"},
    });
    World {
        pod: Some(serde_json::from_value(pod).unwrap()),
        instances: vec![],
        link: None,
        memory: Memory::default(),
        drain: None,
        blind: Blind::default(),
        lists: Lists::Read,
        logs: Logs::Archived,
        rules: Rules {
            gpu_resource: "nvidia.com/gpu".to_owned(),
            daemon_sets: DaemonSetPolicy::Pending,
            keep_finished: Duration::from_secs(300),
            drain_logs: Duration::from_secs(120),
            boot_deadline: Duration::from_secs(600),
            started: at(-1000),
        },
        now: 100,
    }
}

fn mk_candidate() -> Candidate {
    Candidate {
        instance_type: "g5.xlarge".to_owned(),
        subnet_id: "s-a".to_owned(),
        zone: "a".to_owned(),
        ..Candidate::default()
    }
}

pub(super) fn mk_intent(epoch: u32) -> Intent {
    Intent::new(UID, epoch, 0, &mk_candidate(), at(0))
}

pub(super) fn mk_instance(id: &str, epoch: u32, state: InstanceState) -> Instance {
    let intent = mk_intent(epoch);
    Instance {
        id: id.to_owned(),
        state,
        state_reason: None,
        instance_type: intent.instance_type,
        image_id: intent.image_id,
        zone: intent.zone,
        subnet_id: intent.subnet_id,
        private_ip: Some(IpAddr::from([10, 0, 0, 1])),
        pod_ip: Some(IpAddr::from([10, 0, 0, 2])),
        launched_at: Some(at(1)),
        client_token: Some(intent.token),
        bought: crate::cloud::Bought::default(),
        tags: [(TAG_EPOCH.to_owned(), epoch.to_string())].into(),
        runpod: None,
    }
}

impl World {
    pub(super) fn pod(&mut self) -> &mut Pod {
        self.pod.get_or_insert_default()
    }

    /// The intent as written before the launch.
    pub(super) fn intended(self) -> Self {
        self.with_intent(&mk_intent(0))
    }

    pub(super) fn with_intent(mut self, intent: &Intent) -> Self {
        let annotation = (intent_key(), intent.to_annotation());
        self.pod().metadata.annotations.get_or_insert_default().extend([annotation]);
        self
    }

    /// The intent with its instance `i-0` in this state.
    pub(super) fn machine(mut self, state: InstanceState) -> Self {
        self.instances.push(mk_instance("i-0", 0, state));
        let intent = Intent { instance_id: Some("i-0".to_owned()), ..mk_intent(0) };
        self.with_intent(&intent)
    }

    pub(super) fn why(mut self, code: &str) -> Self {
        let reason = StateReason { code: code.to_owned(), message: "m".to_owned() };
        self.instances.iter_mut().for_each(|one| one.state_reason = Some(reason.clone()));
        self
    }

    pub(super) fn pinned(mut self) -> Self {
        self.instances.iter_mut().for_each(|one| {
            one.tags.insert(TAG_HOST_KEY.to_owned(), "k".to_owned());
        });
        self
    }

    pub(super) fn linked(mut self, state: LinkState) -> Self {
        let attached = matches!(state, LinkState::Attached { .. }).then(|| at(50));
        self.link = Some(LinkStatus {
            instance_id: "i-0".to_owned(),
            state,
            shown: false,
            reached: None,
            attached,
            notice: None,
            usable: None,
            has_nvidia: false,
        });
        self
    }

    pub(super) fn attached(self) -> Self {
        self.linked(LinkState::Attached { since: at(50), boot_id: "b".to_owned() })
    }

    pub(super) fn dialing(self, since: i64) -> Self {
        self.linked(LinkState::Dialing { since: at(since), error: None, was_attached: false })
    }

    pub(super) fn shown(mut self) -> Self {
        if let Some(link) = &mut self.link {
            link.shown = true;
        }
        self
    }

    /// The kubelet wrote Running.
    pub(super) fn running(self) -> Self {
        self.status(json!({"phase": "Running", "startTime": "1970-01-12T13:47:00Z",
            "conditions": [{"type": "Ready", "status": "True"}]}))
    }

    pub(super) fn ended(self, phase: &str) -> Self {
        self.status(json!({"phase": phase, "startTime": "1970-01-12T13:47:00Z",
            "containerStatuses": [{"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"terminated": {"exitCode": 0, "finishedAt": at(50).to_string()}}}]}))
    }

    pub(super) fn failed(self, reason: &str) -> Self {
        self.status(json!({"phase": "Failed", "reason": reason}))
    }

    pub(super) fn status(mut self, status: serde_json::Value) -> Self {
        self.pod().status = Some(serde_json::from_value(status).unwrap());
        self
    }

    /// Deleted with 30 s of grace, which ends at this second.
    pub(super) fn deleted(mut self, until: i64) -> Self {
        self.pod().metadata.deletion_timestamp = Some(Time(at(until)));
        self.pod().metadata.deletion_grace_period_seconds = Some(30);
        self
    }

    pub(super) fn absent(mut self, end: AbsentEnd, since: i64, sightings: u32) -> Self {
        self.pod = None;
        self.memory.absent =
            Some(Absent { since: at(since), grace: Duration::from_secs(30), end, sightings });
        self
    }

    /// Its logs are not all archived.
    pub(super) fn behind(self) -> Self {
        Self { logs: Logs::Behind, ..self }
    }

    pub(super) fn tweak(mut self, tweak: impl FnOnce(&mut Self)) -> Self {
        tweak(&mut self);
        self
    }

    pub(super) fn now(mut self, now: i64) -> Self {
        self.now = now;
        self
    }

    pub(super) fn decide(&self) -> Decision {
        decide(&Observed {
            uid: UID,
            pod: self.pod.as_ref(),
            instances: &self.instances,
            link: self.link.as_ref(),
            memory: &self.memory,
            drain: self.drain.as_ref(),
            blind: &self.blind,
            lists: self.lists,
            logs: self.logs,
            rules: &self.rules,
            now: at(self.now),
        })
    }
}

pub(super) fn intent_key() -> String {
    crate::pod::intent::ANNOTATION_LAUNCH.to_owned()
}

/// A decision in one line.
pub(super) fn line(decision: &Decision) -> String {
    let mut words = vec![decision.state.name().to_owned()];
    words.extend(decision.status.as_ref().map(|change| match change {
        StatusChange::Pending { capacity: Capacity::Missing(reason), .. } => format!("Pending/{reason}"),
        StatusChange::Pending { capacity: Capacity::Found, .. } => "Pending".to_owned(),
        StatusChange::Failed { reason, cause, .. } => format!("Failed/{reason}/{cause:?}"),
        StatusChange::NotReady { .. } => "NotReady".to_owned(),
    }));
    words.extend(decision.actions.iter().map(|action| match action {
        Action::Launch(Launch::Repeat(intent)) => format!("repeat({})", intent.epoch),
        Action::Launch(Launch::Next { epoch, failed_boots, starved }) => {
            let starved = if starved.is_some() { ",starved" } else { "" };
            format!("launch({epoch},{failed_boots}{starved})")
        }
        Action::Record(intent) => format!("record({})", intent.instance_id.as_deref().unwrap_or("?")),
        Action::Adopt(intent) => format!("adopt({})", intent.instance_id.as_deref().unwrap_or("?")),
        Action::EnsureLink { instance_id } => format!("link({instance_id})"),
        Action::Revoke { instance_id } => format!("revoke({instance_id})"),
        Action::ShutDown { instance_id } => format!("shutdown({instance_id})"),
        Action::RemoveLink => "unlink".to_owned(),
        Action::LastWords { instance_id } => format!("hear({instance_id})"),
        Action::Terminate { instance_id, .. } => format!("terminate({instance_id})"),
        Action::DeletePod => "delete".to_owned(),
    }));
    words.join(" ")
}

pub(super) fn check(cases: &[(&str, World, &str)]) {
    for (what, world, expected) in cases {
        assert_eq!(line(&world.decide()), *expected, "{what}");
    }
}
