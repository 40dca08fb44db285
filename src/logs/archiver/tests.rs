//! The archiver beside a machine in memory that speaks as `serve-logs.sh` does.

mod machine;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::logs::record::{Body, Record};
use crate::logs::render::answer;
use crate::logs::store::memory::MemoryStore;
use machine::{Machine, UID};

const STREAM: &str = "ns/pod/uid-1/main/0";

/// One ORCA after another, beside the same machine and store.
struct World {
    machine: Arc<Machine>,
    store: Arc<MemoryStore>,
    pods: Arc<PodInformer>,
    orca: Option<(Arc<Archiver>, AbortOnDropHandle<()>)>,
}

impl World {
    fn new() -> Self {
        let pods = PodInformer::new();
        pods.replace(HashMap::new());
        let mut world =
            Self { machine: Machine::new(), store: Arc::new(MemoryStore::new()), pods, orca: None };
        world.pod("Running", &json!({"running": {}}), 0);
        world.restart();
        world
    }

    /// Kills ORCA and starts it again.
    fn restart(&mut self) {
        self.orca = None;
        let archiver = Archiver::new(Deps {
            store: self.store.clone(),
            links: self.machine.clone(),
            pods: self.pods.clone(),
            retention: None,
            metrics: Metrics::default(),
        });
        let task = AbortOnDropHandle::new(tokio::spawn(archiver.clone().run()));
        self.orca = Some((archiver, task));
    }

    fn archiver(&self) -> &Arc<Archiver> {
        &self.orca.as_ref().unwrap().0
    }

    fn pod(&self, phase: &str, state: &serde_json::Value, restarts: i32) {
        let pod = serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": "pod", "uid": UID, "resourceVersion": format!("{phase}{restarts}")},
            "status": {"phase": phase, "containerStatuses": [{
                "name": "main", "image": "i", "imageID": "", "ready": true, "restartCount": restarts,
                "containerID": format!("c{restarts}"), "state": state,
            }]},
        }));
        self.pods.apply(&Arc::new(pod.unwrap()));
    }

    fn ends(&self, code: i32) {
        self.pod("Failed", &json!({"terminated": {"containerID": "c0", "exitCode": code}}), 0);
    }

    async fn until_drained(&self) {
        let drained = async {
            while self.archiver().progress(UID) != Progress::Drained {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(1_000), drained).await.unwrap();
    }

    async fn until(&self, what: impl Fn(&[Record]) -> bool) {
        let seen = async {
            while !what(&self.records(STREAM)) {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(1_000), seen).await.unwrap();
    }

    /// What a reader makes of the stream.
    fn records(&self, stream: &str) -> Vec<Record> {
        let messages = self.store.messages(stream);
        let records = messages.iter().map(|message| Record::decode(message).unwrap());
        let (records, gaps) = crate::logs::merge::in_order(records);
        assert_eq!(gaps, []);
        records
    }

    fn text(&self) -> String {
        let options = crate::logs::query::Options::default();
        String::from_utf8(answer(&self.records(STREAM), &options, crate::clock::now())).unwrap()
    }
}

fn has_ended(records: &[Record]) -> bool {
    records.last().is_some_and(|last| matches!(last.body, Body::Eof(_)))
}

fn numbered(lines: std::ops::Range<u32>) -> String {
    lines.map(|line| format!("line {line}\n")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_log_is_archived_with_its_end_and_told_to_be_drained_only_then() {
    let world = World::new();
    world.machine.write(0, 0, 0..3);
    world.until(|records| records.len() == 3).await;
    assert_eq!(world.archiver().progress(UID), Progress::Behind);
    world.machine.write(0, 0, 3..5);
    world.ends(7);
    world.until_drained().await;
    assert_eq!(world.text(), numbered(0..5));
    let Body::Eof(end) = &world.records(STREAM)[5].body else { panic!("no end") };
    assert_eq!(end.exit_code, Some(7));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_and_nothing_comes_twice_whatever_breaks() {
    for seed in 0..20_u32 {
        let mut world = World::new();
        world.store.set_delay(Duration::from_secs(2));
        let mut file = 0;
        for step in 0..40_u32 {
            world.machine.write(0, file, step * 25..(step + 1) * 25);
            match (step * 7 + seed * 13) % 11 {
                0 => world.machine.cut(),
                1 => world.restart(),
                2 => file += 1,
                3 => world
                    .store
                    .fail([StoreError::Throttled(String::new()), StoreError::Unreachable(String::new())]),
                4 => world.store.lose_answers([StoreError::Unreachable("no answer".to_owned())]),
                _ => {}
            }
            sleep(Duration::from_millis(u64::from((step * 331 + seed * 977) % 1_700))).await;
        }
        world.ends(0);
        world.until_drained().await;
        assert_eq!(world.text(), numbered(0..1_000), "seed {seed}");
        assert!(has_ended(&world.records(STREAM)));
    }
}

#[tokio::test(start_paused = true)]
async fn every_restart_has_a_stream_and_an_end() {
    let world = World::new();
    world.machine.write(0, 0, 0..2);
    world.until(|records| records.len() == 2).await;
    world.machine.write(1, 0, 5..6);
    world.pod("Running", &json!({"running": {}}), 1);
    world.until(has_ended).await;
    world.pod("Succeeded", &json!({"terminated": {"containerID": "c1", "exitCode": 0}}), 1);
    world.until_drained().await;
    assert_eq!(world.records("ns/pod/uid-1/main/1").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_pods_last_lines_are_read_when_its_object_is_gone() {
    let world = World::new();
    world.machine.write(0, 0, 0..3);
    world.pods.replace(HashMap::new());
    world.until_drained().await;
    assert_eq!(world.text(), numbered(0..3));
    assert!(has_ended(&world.records(STREAM)));
}

#[tokio::test(start_paused = true)]
async fn what_is_cut_off_by_the_deadline_is_told_in_the_log() {
    let world = World::new();
    world.machine.write(0, 0, 0..3);
    world.until(|records| records.len() == 3).await;
    world.machine.cut();
    world.machine.set_attached(false);
    world.machine.write(0, 0, 3..9);
    world.ends(0);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(world.archiver().progress(UID), Progress::Behind);
    world.archiver().give_up(UID);
    world.until(has_ended).await;
    let text = world.text();
    let told = text.strip_prefix(&numbered(0..3)).unwrap();
    assert!(told.starts_with("[orca: part of this log is missing here: the machine was ended"), "{told}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_lost_ends_its_logs_also_those_that_were_never_read() {
    let world = World::new();
    world.machine.set_attached(false);
    world.machine.write(0, 0, 0..3);
    sleep(Duration::from_secs(60)).await;
    world.machine.set_gone();
    world.until(has_ended).await;
    assert!(world.text().starts_with("[orca: part of this log is missing here: the machine was lost"));
}

#[tokio::test(start_paused = true)]
async fn files_that_the_machine_did_not_keep_are_told() {
    let world = World::new();
    world.machine.set_attached(false);
    sleep(Duration::from_secs(1)).await;
    world.machine.write(0, 2, 20..22);
    world.machine.write(0, 3, 22..24);
    world.machine.set_attached(true);
    world.ends(0);
    world.until_drained().await;
    let text = world.text();
    assert!(text.starts_with("[orca: part of this log is missing here: the machine kept no more"), "{text}");
    assert!(text.ends_with(&numbered(20..24)), "{text}");
}

#[tokio::test(start_paused = true)]
async fn without_permission_nothing_is_dropped_and_the_node_says_why() {
    let world = World::new();
    world.store.fail(vec![StoreError::Denied("AccessDeniedException: no".to_owned()); 6]);
    world.machine.write(0, 0, 0..3);
    let mut health = world.archiver().health();
    let failed = health.wait_for(|health| matches!(health, Health::Fails { reason: "Denied", .. })).await;
    drop(failed.unwrap());
    world.until(|records| records.len() == 3).await;
    assert_eq!(*world.archiver().health().borrow(), Health::Works);
}

#[tokio::test(start_paused = true)]
async fn what_is_archived_is_let_go_on_the_machine_but_never_the_youngest() {
    let world = World::new();
    for file in 0..3 {
        world.machine.write(0, file, 0..3);
    }
    sleep(Duration::from_secs(200)).await;
    assert_eq!(world.machine.names(), ["main/0.log.00000002"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_machine_said_last_is_a_log_of_its_own() {
    let world = World::new();
    let words = Words {
        namespace: "ns".to_owned(),
        pod: "pod".to_owned(),
        uid: UID.to_owned(),
        source: crate::logs::names::CONSOLE,
        number: 3,
        text: "boots\r\nkernel panic".to_owned(),
    };
    world.archiver().file(words.clone());
    let stream = "ns/pod/uid-1/_console/3";
    while world.store.messages(stream).len() < 3 {
        sleep(Duration::from_millis(100)).await;
    }
    world.archiver().file(words);
    sleep(Duration::from_secs(10)).await;
    let records = world.records(stream);
    assert_eq!(world.store.messages(stream).len(), 3, "once");
    let options = crate::logs::query::Options::default();
    let text = String::from_utf8(answer(&records, &options, crate::clock::now())).unwrap();
    assert_eq!(text, "boots\r\nkernel panic\n");
}

/// A world that reads a log faster than it can be archived: lines are in hand, behind a call that goes on failing.
async fn behind_a_slow_archive() -> World {
    let world = World::new();
    world.machine.write(0, 0, 0..1);
    world.until(|records| records.len() == 1).await;
    let before = world.store.calls("put");
    world.store.fail(vec![StoreError::Unreachable("no network".to_owned()); 4]);
    // More than two calls can carry.
    world.machine.write(0, 0, 1..25_000);
    while world.store.calls("put") < before + 2 {
        sleep(Duration::from_millis(10)).await;
    }
    world
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hand_at_an_orderly_end_is_put_in_its_order_and_the_next_start_reads_on() {
    let mut world = behind_a_slow_archive().await;
    assert_eq!(world.archiver().close(Duration::from_secs(100)).await, 0);
    let put = world.records(STREAM).len();
    assert!(put > 10_000, "{put}");
    world.restart();
    world.ends(0);
    world.until_drained().await;
    assert_eq!(world.text(), numbered(0..25_000));
    assert_eq!(world.store.messages(STREAM).len(), 25_001, "once");
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hand_when_its_machine_is_lost_comes_before_the_word_that_the_rest_is_missing() {
    let world = behind_a_slow_archive().await;
    world.machine.set_gone();
    world.until(has_ended).await;
    let text = world.text();
    let (lines, missing) = text.split_once("[orca: part of this log is missing here").unwrap();
    assert!(missing.starts_with(": the machine was lost"), "{missing}");
    let count = u32::try_from(lines.lines().count()).unwrap();
    assert!(count > 10_000, "{count}");
    assert_eq!(lines, numbered(0..count));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_put_by_the_deadline_is_told() {
    let world = behind_a_slow_archive().await;
    world.store.fail(vec![StoreError::Unreachable("no network".to_owned()); 100]);
    assert_eq!(world.archiver().close(Duration::from_secs(5)).await, 1);
}
