use std::time::Duration;

use serde_json::json;

use super::*;
use crate::runpod::body::Body;
use crate::runpod::settings::Api;
use crate::runpod::testing::mk_pod;

fn at(millis: u64) -> Timestamp {
    clock::after(Timestamp::UNIX_EPOCH, Duration::from_millis(millis))
}

fn mk(fate: Option<Scenario>) -> Pod {
    let order = Body::read("CreatePodRequest", mk_pod(), Api::October).unwrap().order().unwrap();
    let placement = Placement {
        data_center: "US-KS-2",
        cuda: Some("12.4"),
        vcpus: 16,
        memory: 64,
        cost: 690_000,
        global_ip: None,
    };
    let mut pod = Pod::new("pod1".to_owned(), 1, order, placement, at(0));
    pod.fate = fate;
    pod
}

fn fate(kind: serde_json::Value) -> Option<Scenario> {
    Some(serde_json::from_value(kind).unwrap())
}

/// Lives until a time, with a host that does everything at once; what was done, and when.
fn live(pod: &mut Pod, settings: &Settings, until: u64) -> Vec<String> {
    let mut done = Vec::new();
    for now in (0..=until).step_by(100) {
        pod.advance(at(now), settings);
        while let Some(job) = pod.job(at(now), settings) {
            done.push(format!("{now} {job:?}"));
            pod.container = match job {
                Job::Pull => {
                    pod.has_image = true;
                    Container::Absent
                }
                Job::Create => {
                    pod.made = true;
                    (pod.disk, pod.remap) = (Disk::Kept, Remap::Keep);
                    Container::Up { since: at(now) }
                }
                Job::Kill { .. } => Container::Down { at: at(now) },
                Job::Halt => {
                    pod.restart = false;
                    Container::Halted
                }
                Job::Remove => {
                    pod.made = false;
                    Container::Absent
                }
            };
            pod.advance(at(now), settings);
        }
    }
    done
}

fn statuses(pod: &Pod) -> String {
    let steps: Vec<String> = pod
        .history
        .iter()
        .map(|step| format!("{} {}", step.at.as_millisecond(), step.status.name()))
        .collect();
    steps.join(", ")
}

#[test]
fn a_pod_is_provisioned_pulled_and_running_before_its_container_is_up() {
    let mut pod = mk(None);
    let settings = Settings::default();
    assert_eq!(live(&mut pod, &settings, 10_000), ["1000 Pull", "2500 Create"]);
    assert_eq!(statuses(&pod), "0 PROVISIONING, 1000 STARTING, 2000 RUNNING");
    assert_eq!(pod.uptime(at(10_000)), Some(Duration::from_millis(7500)));
}

#[test]
fn without_its_image_it_stays_starting_and_asks_again() {
    let mut pod = mk(None);
    let settings = Settings::default();
    pod.advance(at(5000), &settings);
    assert_eq!(pod.job(at(5000), &settings), Some(Job::Pull));
    pod.container = Container::Pulling;
    assert_eq!(pod.job(at(9000), &settings), None);
    (pod.container, pod.pull_at) = (Container::Absent, at(9500));
    assert_eq!((pod.job(at(9400), &settings), pod.job(at(9500), &settings)), (None, Some(Job::Pull)));
    assert_eq!(pod.status, Status::Starting);
}

#[test]
fn each_fate_ends_where_it_should() {
    for (kind, until, expected) in [
        (json!({"kind": "stuckProvisioning"}), 60_000, "0 PROVISIONING"),
        (json!({"kind": "exitAtTick"}), 60_000, "0 PROVISIONING"),
        (json!({"kind": "vanish", "afterMs": 1500}), 5000, "0 PROVISIONING, 1000 STARTING, 1500 TERMINATED"),
        (json!({"kind": "neverStarts"}), 60_000, "0 PROVISIONING, 1000 STARTING, 2000 RUNNING"),
        (
            json!({"kind": "error", "afterMs": 1000}),
            9000,
            "0 PROVISIONING, 1000 STARTING, 2000 RUNNING, 3500 ERROR",
        ),
        (json!({"kind": "maintenance"}), 9000, "0 PROVISIONING, 1000 STARTING, 2000 RUNNING, 2500 EXITED"),
    ] {
        let mut pod = mk(fate(kind.clone()));
        let done = live(&mut pod, &Settings::default(), until);
        assert_eq!(statuses(&pod), expected, "{kind}");
        let rate = pod.meter.rate();
        let is_billed = !expected.ends_with("EXITED") && !expected.ends_with("TERMINATED");
        assert_eq!(rate.compute > 0, is_billed, "{kind}");
        let has_container = matches!(pod.container, Container::Up { .. });
        assert!(!has_container || !is_billed || expected.ends_with("RUNNING"), "{kind}: {done:?}");
    }
}

#[test]
fn a_container_that_crashes_is_started_again_and_again() {
    let mut pod = mk(fate(json!({"kind": "crash", "afterMs": 2000})));
    let done = live(&mut pod, &Settings::default(), 9000);
    assert_eq!(
        done,
        [
            "1000 Pull",
            "2500 Create",
            "4500 Kill { code: 1 }",
            "5500 Create",
            "7500 Kill { code: 1 }",
            "8500 Create"
        ]
    );
    assert_eq!(statuses(&pod), "0 PROVISIONING, 1000 STARTING, 2000 RUNNING");
}

#[test]
fn a_stopped_pod_loses_its_container_and_a_deleted_one_everything() {
    let mut pod = mk(None);
    let settings = Settings::default();
    live(&mut pod, &settings, 4000);
    pod.exit("stopped", at(4000));
    assert_eq!(pod.job(at(4000), &settings), Some(Job::Halt));
    pod.container = Container::Halted;
    assert_eq!(pod.job(at(5000), &settings), None);
    pod.start(at(5000));
    assert_eq!((pod.disk, pod.remap), (Disk::Fresh, Remap::Anew));
    assert_eq!(pod.job(at(5000), &settings), Some(Job::Pull));
    // Its image being looked at again, the disk of its container is still there, and goes with it.
    pod.container = Container::Absent;
    pod.end("deleted", 1, at(5100));
    assert!(pod.is_visible() && !pod.is_past());
    assert_eq!(pod.job(at(5100), &settings), Some(Job::Remove));
    (pod.container, pod.made, pod.lingers, pod.holds) = (Container::Absent, false, 0, false);
    assert!(pod.is_past());
    assert_eq!(pod.next_due(&settings), None);
}
