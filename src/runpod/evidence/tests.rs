//! Each way in which RunPod is known to mislead, and the ordinary ones.

use std::collections::BTreeMap;

use super::*;
use crate::capacity::money::MicroUsd;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn mk_sighting(status: Status, uptime: Option<u64>) -> Sighting {
    Sighting {
        id: "p1".to_owned(),
        name: "orca".to_owned(),
        status,
        markers: BTreeMap::new(),
        hardware_id: "NVIDIA L4".to_owned(),
        gpu_count: 1,
        vcpus: None,
        memory_gb: None,
        image: String::new(),
        cloud: None,
        data_center_id: None,
        cost: MicroUsd(440_000),
        uptime: uptime.map(Duration::from_secs),
        ports: Vec::new(),
        created_at: Some(at(0)),
        started_at: None,
    }
}

fn mk_seen(now: i64, sighting: Option<&Sighting>) -> Seen<'_> {
    Seen {
        now: at(now),
        asked: at(0),
        sighting,
        absent_reads: 0,
        uptime_before: None,
        progress: None,
        report: None,
        is_wrapped: true,
        has_volume: false,
        restart: Restart::Never,
    }
}

/// In a word or two.
fn word(situation: &Situation) -> String {
    match situation {
        Situation::Unknown => "unknown".to_owned(),
        Situation::Allocating { until } => format!("allocating until {}", until.as_second()),
        Situation::Starting { until } => format!("starting until {}", until.as_second()),
        Situation::Running { since, restarts, .. } => format!("runs since {}, {restarts}", since.as_second()),
        Situation::Ended { code, .. } => format!("ended {code}"),
        Situation::NeverStarted { message } => format!("never: {message}"),
        Situation::Lost { reason, message } => format!("{reason}: {message}"),
    }
}

#[test]
fn a_status_alone_proves_nothing() {
    use Status::{Error, Exited, Other, Provisioning, Running, Starting, Terminated};
    for (status, uptime, now, expected) in [
        (Provisioning, None, 299, "allocating until 300"),
        (Provisioning, None, 300, "never: RunPod accepted it, and found no machine within 5 minutes"),
        (Starting, None, 3599, "starting until 3600"),
        (Starting, None, 3600, "never: its container did not start, and showed no progress for 60 minutes"),
        (Running, None, 179, "starting until 180"),
        (Running, Some(0), 179, "starting until 180"),
        (Running, Some(0), 180, "never: its container did not start, and showed no progress for 3 minutes"),
        (Running, Some(5), 20, "runs since 15, 0"),
        (Exited, None, 20, "never: RunPod stopped it before its container ran"),
        (Exited, Some(5), 20, "ProviderStopped: RunPod stopped it, and nobody saw how its container ended"),
        (Error, None, 20, "never: RunPod says that it failed before its container ran"),
        (Terminated, None, 20, "never: it was deleted at RunPod before its container ran"),
        (Other("PAUSED".to_owned()), None, 9999, "unknown"),
    ] {
        let sighting = mk_sighting(status, uptime);
        assert_eq!(word(&judge(&mk_seen(now, Some(&sighting)))), expected);
    }
}

#[test]
fn a_pull_that_goes_on_is_waited_for() {
    let sighting = mk_sighting(Status::Running, None);
    let seen = Seen { progress: Some(at(1_000)), ..mk_seen(1_100, Some(&sighting)) };
    assert_eq!(word(&judge(&seen)), "starting until 1180");
    let seen = Seen { progress: Some(at(3_590)), ..mk_seen(3_600, Some(&sighting)) };
    assert!(word(&judge(&seen)).starts_with("never"), "but not for ever");
    let seen = Seen { has_volume: true, ..mk_seen(200, Some(&sighting)) };
    assert_eq!(word(&judge(&seen)), "starting until 300");
}

#[test]
fn one_read_that_lacks_it_is_not_believed() {
    let sighting = mk_sighting(Status::Running, Some(10));
    let ran = |absent_reads| Seen {
        absent_reads,
        uptime_before: Some(Duration::from_secs(10)),
        ..mk_seen(60, Some(&sighting))
    };
    assert_eq!(word(&judge(&ran(1))), "runs since 50, 0");
    assert_eq!(
        word(&judge(&ran(2))),
        "InstanceLost: RunPod does not know it any more, and nobody saw how its container ended"
    );
    let never = Seen { absent_reads: 2, ..mk_seen(60, None) };
    assert_eq!(word(&judge(&never)), "never: RunPod does not know it any more before its container ran");
    assert_eq!(judge(&Seen { absent_reads: 1, ..mk_seen(60, None) }), Situation::Unknown);
}

#[test]
fn the_wrappers_word_stands_whatever_becomes_of_the_pod() {
    let report = Some((Report::Ended { code: 7 }, at(30)));
    let sightings = [
        mk_sighting(Status::Running, Some(3)),
        mk_sighting(Status::Exited, None),
        mk_sighting(Status::Terminated, None),
    ];
    for sighting in &sightings {
        let seen = Seen { report, absent_reads: 5, ..mk_seen(60, Some(sighting)) };
        assert_eq!(judge(&seen), Situation::Ended { code: 7, at: at(30) });
    }
}

#[test]
fn a_container_that_runpod_started_again_has_lost_its_end() {
    let again = mk_sighting(Status::Running, Some(3));
    let before = Some(Duration::from_secs(100));
    let lost = "ContainerRestarted: RunPod started its container again, and nobody saw how it ended";
    let once = Seen { uptime_before: before, ..mk_seen(60, Some(&again)) };
    assert_eq!(word(&judge(&once)), lost);
    let told = Seen { report: Some((Report::Again, at(59))), ..mk_seen(60, Some(&again)) };
    assert_eq!(word(&judge(&told)), lost);
    let may = Seen { restart: Restart::Always, ..once.clone() };
    assert_eq!(word(&judge(&may)), "runs since 57, 0");
    let bare = Seen { is_wrapped: false, ..may };
    assert_eq!(word(&judge(&bare)), lost);
}

#[test]
fn restarts_by_the_wrapper_are_counted() {
    let sighting = mk_sighting(Status::Running, Some(50));
    let report = Some((Report::Restarting { run: 3, code: 4 }, at(30)));
    let seen = Seen { report, restart: Restart::OnFailure, ..mk_seen(60, Some(&sighting)) };
    assert_eq!(judge(&seen), Situation::Running { since: at(10), restarts: 3, last_code: Some(4) });
}
