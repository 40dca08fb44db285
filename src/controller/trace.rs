//! What is told of a pod's launch, step by step: samples of histograms, and spans of its trace. Nothing in it is secret.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::Core;
use super::journey::{Passed, Phase, bound};
use super::observe::Seen;
use crate::clock;
use crate::cloud::{CloudError, Instance, LaunchSpec};
use crate::telemetry::{Part, Span};

impl Core {
    /// Tells the steps of the pod's launch that are over.
    pub(super) fn follow(&self, uid: &str, seen: &Seen) {
        let Some(pod) = &seen.pod else { return };
        let machine = seen.instances.iter().find(|one| one.state.may_run());
        let link = seen.link.as_ref();
        let passed = self.table.update(uid, |row| row.journey.advance(pod, machine, link, clock::now()));
        for step in passed {
            self.metrics.passed(step.phase, step.seconds());
            self.trace_step(uid, pod, &step, machine);
            if let (Phase::Started, Some(bound)) = (step.phase, bound(pod)) {
                self.metrics.started(step.to.duration_since(bound).as_secs_f64());
            }
        }
    }

    /// A step of the launch is over; after the last one the whole is.
    pub(super) fn trace_step(&self, uid: &str, pod: &Pod, step: &Passed, machine: Option<&Instance>) {
        let attributes = machine.map(of_machine).unwrap_or_default();
        let (from, to) = (step.from, step.to);
        self.trace(uid, pod, Part::Step, name(step.phase), (from, to), attributes.clone(), None);
        if let (Phase::Started, Some(bound)) = (step.phase, bound(pod)) {
            self.trace(uid, pod, Part::Whole, "pod start", (bound, to), attributes, None);
        }
    }

    /// A call of RunInstances was answered, at last or not; before one that worked the pod waited.
    pub(super) fn trace_launch(
        &self,
        uid: &str,
        pod: &Pod,
        spec: &LaunchSpec,
        (from, to): (Timestamp, Timestamp),
        answer: &Result<Instance, CloudError>,
    ) {
        let mut attributes = vec![
            ("host.type", spec.instance_type.clone()),
            ("host.image.id", spec.image.id.clone()),
            ("aws.ec2.subnet.id", spec.subnet_id.clone()),
            ("rpc.method", "RunInstances".to_owned()),
        ];
        let error = answer.as_ref().err().map(|error| error.kind().to_owned());
        if let Ok(instance) = answer {
            attributes.extend([
                ("host.id", instance.id.clone()),
                ("cloud.availability_zone", instance.zone.clone()),
            ]);
            if let Some(bound) = bound(pod) {
                self.trace(uid, pod, Part::Step, "wait for capacity", (bound, from), Vec::new(), None);
            }
        }
        self.trace(uid, pod, Part::Call, "RunInstances", (from, to), attributes, error);
    }

    /// The pod came to its end before its containers ran.
    pub(super) fn trace_end(&self, uid: &str, pod: &Pod, now: Timestamp) {
        let reason = pod.status.as_ref().and_then(|status| status.reason.clone()).unwrap_or_default();
        if let Some(bound) = bound(pod) {
            self.trace(uid, pod, Part::Whole, "pod start", (bound, now), Vec::new(), Some(reason));
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a span is all of them")]
    fn trace(
        &self,
        uid: &str,
        pod: &Pod,
        part: Part,
        name: &'static str,
        (from, to): (Timestamp, Timestamp),
        mut attributes: Vec<(&'static str, String)>,
        error: Option<String>,
    ) {
        if !self.traces.is_on() {
            return;
        }
        let metadata = &pod.metadata;
        attributes.extend([
            ("k8s.pod.uid", uid.to_owned()),
            ("k8s.pod.name", metadata.name.clone().unwrap_or_default()),
            ("k8s.namespace.name", metadata.namespace.clone().unwrap_or_default()),
        ]);
        self.traces.tell(Span { pod_uid: uid.to_owned(), name, part, from, to, attributes, error });
    }
}

fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Requested => "plan",
        Phase::Running => "boot",
        Phase::Reachable => "dial",
        Phase::Attached => "bootstrap and attach",
        Phase::Started => "start containers",
    }
}

fn of_machine(machine: &Instance) -> Vec<(&'static str, String)> {
    vec![
        ("host.id", machine.id.clone()),
        ("host.type", machine.instance_type.clone()),
        ("cloud.availability_zone", machine.zone.clone()),
    ]
}
