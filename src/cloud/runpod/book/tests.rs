//! What is known of pods that come, go, and are shown late.

use super::super::testing::{mk_order, mk_owner, mk_seen, mk_tags};
use super::*;
use InstanceState::{Pending, Running, ShuttingDown, Stopped, Terminated};

/// A book and its clock.
struct World {
    book: Book,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { book: Book::default(), now: Instant::now() }
    }

    fn list(&mut self, seconds: u64, pods: &[Sighting]) {
        self.now += Duration::from_secs(seconds);
        self.book.list(pods.to_vec(), self.now, self.now);
    }

    fn states(&mut self) -> Vec<InstanceState> {
        self.book.instances(self.now).iter().map(|one| one.state).collect()
    }

    fn code(&mut self) -> String {
        self.book.instances(self.now)[0].state_reason.clone().map(|why| why.code).unwrap_or_default()
    }
}

fn mk_with(id: &str, status: Status) -> Sighting {
    Sighting { status, ..mk_seen(id) }
}

#[test]
fn each_word_of_runpods_is_a_state_of_the_port() {
    let word = |text: &str| Status::Other(text.to_owned());
    let up = |status| Sighting { uptime: Some(Duration::from_secs(5)), ..mk_with("a", status) };
    for (seen, state, code) in [
        (mk_with("a", Status::Provisioning), Pending, ""),
        (mk_with("a", Status::Starting), Pending, ""),
        (mk_with("a", Status::Running), Running, ""),
        (up(Status::Running), Running, ""),
        (mk_with("a", Status::Exited), Stopped, "RunPod.Exited"),
        (up(Status::Exited), Stopped, "RunPod.Exited"),
        (mk_with("a", Status::Error), Terminated, "RunPod.Error"),
        (mk_with("a", Status::Terminated), Terminated, "RunPod.Vanished"),
        (mk_with("a", word("MIGRATING")), Pending, ""),
        (up(word("MIGRATING")), Running, ""),
    ] {
        let mut world = World::new();
        world.list(0, std::slice::from_ref(&seen));
        assert_eq!((world.states(), world.code()), (vec![state], code.to_owned()), "{:?}", seen.status);
    }
}

#[test]
fn a_pod_is_gone_when_two_lists_in_a_row_lack_it_and_is_then_shown_for_an_hour() {
    let mut world = World::new();
    world.list(0, &[mk_seen("a")]);
    world.list(10, &[]);
    assert_eq!(world.states(), [Running], "as it was last seen");
    world.list(10, &[mk_seen("a")]);
    world.list(10, &[]);
    assert_eq!(world.states(), [Running], "one list in a row");
    world.list(10, &[]);
    assert_eq!((world.states(), world.code()), (vec![Terminated], "RunPod.Vanished".to_owned()));
    world.book.deleted("a");
    assert_eq!(world.code(), "RunPod.Vanished", "the first reason is the true one");
    world.list(3599, &[]);
    assert_eq!(world.states(), [Terminated]);
    world.list(1, &[]);
    assert_eq!(world.states(), []);
}

#[test]
fn reads_that_are_one_moment_count_once() {
    let mut world = World::new();
    world.list(0, &[mk_seen("a")]);
    world.list(10, &[]);
    world.book.missed("a", world.now, world.now);
    assert_eq!(world.states(), [Running]);
    world.now += APART;
    world.book.missed("a", world.now, world.now);
    assert_eq!(world.states(), [Terminated]);
    world.list(10, &[mk_seen("a")]);
    assert_eq!(world.states(), [Running], "lists that lacked it were wrong");
}

#[test]
fn what_was_just_created_may_be_in_no_list_yet() {
    let mut world = World::new();
    let before = world.now;
    world.now += Duration::from_secs(5);
    world.book.created(mk_with("a", Status::Provisioning), world.now);
    // A list that was asked for before the creation was answered.
    world.book.list(Vec::new(), before, world.now);
    for _ in 0..5 {
        world.list(10, &[]);
    }
    assert_eq!(world.states(), [Pending]);
    world.list(10, &[]);
    world.list(10, &[]);
    assert_eq!(world.states(), [Terminated], "it vanished after its creation");
}

#[test]
fn what_we_deleted_is_on_its_way_down_for_as_long_as_it_is_listed() {
    let mut world = World::new();
    world.list(0, &[mk_seen("a")]);
    world.book.deleted("a");
    for _ in 0..3 {
        world.list(10, &[mk_seen("a")]);
        assert_eq!(world.states(), [ShuttingDown]);
    }
    world.list(10, &[]);
    assert_eq!(world.states(), [ShuttingDown]);
    world.list(10, &[]);
    assert_eq!((world.states(), world.code()), (vec![Terminated], "RunPod.Deleted".to_owned()));
    let mut world = World::new();
    world.book.created(mk_seen("a"), world.now);
    world.book.deleted("a");
    world.list(10, &[]);
    world.list(10, &[]);
    assert_eq!(world.states(), [Terminated], "nobody waits for what was deleted to be shown");
}

#[test]
fn an_instance_has_what_its_markers_say() {
    let marked = mk_owner().mark(&mk_order(), "token-1", &mk_tags());
    let seen = Sighting { name: marked.name, markers: marked.env, ..mk_seen("a") };
    let mut world = World::new();
    world.list(0, std::slice::from_ref(&seen));
    let one = world.book.instances(world.now).remove(0);
    assert_eq!(one.pod_uid(), Some("7f00aa11-bb22-cc33-dd44-ee55ff667788"));
    assert_eq!(one.client_token.as_deref(), Some("token-1"));
    assert_eq!((one.instance_type.as_str(), one.zone.as_str()), ("NVIDIA L4", "EU-RO-1"));
    assert_eq!(one.runpod.unwrap().cost, seen.cost);
    // Another read that does not tell the environment.
    world.book.put(mk_seen("a"), world.now, world.now);
    assert_eq!(world.book.of_token("token-1").len(), 1);
}

#[test]
fn the_oldest_of_a_token_comes_first() {
    let made = |id: &str, at: &str| {
        let marked = mk_owner().mark(&mk_order(), "t", &mk_tags());
        Sighting { markers: marked.env, created_at: at.parse().ok(), ..mk_seen(id) }
    };
    let mut world = World::new();
    let pods = [
        made("a", "never"),
        made("b", "2026-11-21T10:00:05Z"),
        made("c", "2026-11-21T10:00:00Z"),
        mk_seen("d"),
    ];
    world.list(0, &pods);
    let ids: Vec<_> = world.book.of_token("t").into_iter().map(|one| one.id).collect();
    assert_eq!(ids, ["c", "b", "a"]);
}

#[test]
fn what_can_never_run_again_is_found_after_a_while() {
    let mut world = World::new();
    for seconds in [0, 300, 299] {
        world.list(seconds, &[mk_with("a", Status::Error), mk_with("b", Status::Exited)]);
        assert_eq!(world.book.unburied(world.now), []);
    }
    world.list(1, &[mk_with("a", Status::Error), mk_with("b", Status::Exited)]);
    let ids: Vec<_> = world.book.unburied(world.now).into_iter().map(|one| one.id).collect();
    assert_eq!(ids, ["a"]);
    world.book.deleted("a");
    assert_eq!(world.book.unburied(world.now), []);
}
