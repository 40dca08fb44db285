//! Volumes and network interfaces that outlive their machines are told of, counted and deleted; others' are not.

use std::time::Duration;

use orca::cloud::memory::Call;
use orca::cloud::{CloudError, Leftover, LeftoverKind, TAG_CLUSTER, TAG_NODE, TAG_POD_UID};
use orca::leader::Fence;

use super::orphans::metric;
use super::transient;
use crate::audit::Record;
use crate::support::{World, mk_pod};

const VOLUME: LeftoverKind = LeftoverKind::Volume;
const INTERFACE: LeftoverKind = LeftoverKind::NetworkInterface;
const HOUR: u64 = 3600;

/// What `AGE` of the sweep is.
const AGE: Duration = Duration::from_secs(300);

/// Runs a pod whose machine leaves everything behind, and ends both; answers its UID and what the machine had.
async fn leave(world: &World, name: &str) -> (String, Leftover, Leftover) {
    let uid = world.api.create(mk_pod(name));
    world.until_running(name).await;
    let machine = world.machine(&uid);
    world.cloud.leave(&machine.id);
    world.api.delete(name, 30);
    let left = |kind| world.cloud.left(kind).into_iter().find(|one| one.pod_uid() == Some(uid.as_str()));
    world.until("its machine is terminated", |_| left(VOLUME).is_some()).await;
    let (volume, interface) = (left(VOLUME).unwrap(), left(INTERFACE).unwrap());
    (uid, volume, interface)
}

fn told(world: &World, reason: &str) -> Vec<String> {
    world.api.stories().into_iter().filter(|story| story.starts_with(&format!("orca: {reason} "))).collect()
}

fn discarded(world: &World) -> Vec<String> {
    let mut ids: Vec<String> = world.cloud.discarded().into_iter().map(|(_, id)| id).collect();
    ids.sort();
    ids
}

fn denied() -> CloudError {
    CloudError::Denied {
        code: "UnauthorizedOperation".to_owned(),
        message: "You are not authorized".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_outlives_its_machine_is_told_of_counted_and_deleted_and_what_is_others_is_not() {
    let record = Record::start();
    let world = World::start();
    let (uid, volume, interface) = leave(&world, "a").await;
    let gone_at = orca::clock::now();
    for (id, key, value) in [
        ("vol-1f", TAG_NODE, Some("another")),
        ("vol-2f", TAG_CLUSTER, Some("another")),
        ("vol-3f", TAG_POD_UID, None),
    ] {
        let mut foreign = Leftover { id: id.to_owned(), ..volume.clone() };
        foreign.tags.remove(key);
        foreign.tags.extend(value.map(|value| (key.to_owned(), value.to_owned())));
        world.cloud.put_leftover(foreign);
    }
    let series = |name: &str, kind: &str| format!("orca_controller_leftovers{name}{{kind=\"{kind}\"}}");
    world
        .until("they are counted", |world| {
            metric(world, &series("", "volume")) == Some(1.0)
                && metric(world, &series("", "network_interface")) == Some(1.0)
        })
        .await;
    let cost = metric(&world, &series("_hourly_cost_dollars", "volume")).unwrap();
    assert!((cost - 0.010_959).abs() < 1e-9, "{cost}");
    world.until("they are deleted", |world| discarded(world).len() == 2).await;
    assert_eq!(discarded(&world), [interface.id.as_str(), volume.id.as_str()]);
    let waited = world.cloud.discarded()[0].0.duration_since(gone_at);
    assert!(waited >= AGE.try_into().unwrap(), "{waited:?}");

    world.pass_time(2 * HOUR).await;
    assert_eq!(world.cloud.left(VOLUME).len(), 3, "what is not ours stays");
    assert_eq!(discarded(&world).len(), 2);
    assert_eq!(metric(&world, &series("", "volume")), Some(0.0));
    let deleted = "orca_controller_leftovers_deleted_total{kind=\"volume\",result=\"ok\"}";
    assert_eq!(metric(&world, deleted), Some(1.0));
    let (volumes, interfaces) = (told(&world, "OrphanedVolume"), told(&world, "OrphanedNetworkInterface"));
    assert_eq!((volumes.len(), interfaces.len()), (1, 1), "{volumes:?} {interfaces:?}");
    assert!(volumes[0].contains(&format!("{} (100 GiB gp3", volume.id)), "{volumes:?}");
    let recorded: Vec<String> =
        record.lines().into_iter().filter(|line| line.starts_with("action=\"Delete")).collect();
    let line = |action: &str, one: &Leftover| {
        format!(
            "action=\"{action}\" pod.uid=\"{uid}\" pod=\"default/a\" instance.id=\"\" detail=\"{}, {}\" \
             why=\"its machine is gone, and nothing has it\" result=\"ok\"",
            one.id,
            one.brief()
        )
    };
    let mut expected = [line("DeleteNetworkInterface", &interface), line("DeleteVolume", &volume)].to_vec();
    let mut seen = recorded;
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn lists_of_leftovers_are_far_apart_at_rest() {
    let world = World::start();
    world.pass_time(2 * HOUR).await;
    for kind in LeftoverKind::ALL {
        let lists = world.cloud.calls(Call::Leftovers(kind));
        assert!((10..=13).contains(&lists), "{lists} of {kind:?}");
    }
    assert_eq!(world.api.stories(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_a_live_pods_machine_may_have_left_waits_for_the_pods_end() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    let machine = world.machine(&uid);
    let disk = Leftover {
        kind: VOLUME,
        id: "vol-former".to_owned(),
        created_at: machine.launched_at,
        place: machine.zone,
        disk: None,
        tags: machine.tags,
    };
    world.cloud.put_leftover(disk);
    world.pass_time(3 * HOUR).await;
    assert_eq!(discarded(&world), Vec::<String>::new());
    let counted = metric(&world, "orca_controller_leftovers{kind=\"volume\"}");
    assert_eq!((counted, told(&world, "OrphanedVolume").len()), (Some(1.0), 0));
    world.api.delete("a", 30);
    world.until("it goes", |world| discarded(world) == ["vol-former"]).await;
}

#[tokio::test(start_paused = true)]
async fn a_list_that_is_denied_is_told_once_asked_for_seldom_and_keeps_the_other_kind_from_nothing() {
    let world = World::start();
    for _ in 0..3 {
        world.cloud.next_error(Call::Leftovers(VOLUME), denied());
    }
    let (_, volume, interface) = leave(&world, "a").await;
    world.pass_time(2 * HOUR).await;
    assert_eq!(discarded(&world), [interface.id]);
    assert!(world.cloud.calls(Call::Leftovers(VOLUME)) <= 3, "it is in no hurry");
    let stories = told(&world, "LeftoversNotSwept");
    assert_eq!(stories.len(), 1, "{stories:?}");
    assert!(stories[0].contains("DescribeVolumes is denied (UnauthorizedOperation)"), "{stories:?}");
    world.until("it is allowed, and done", |world| discarded(world).contains(&volume.id)).await;
    assert_eq!(world.cloud_health(), orca::cloud::CloudHealth::Reachable, "pods do not suffer from it");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_is_denied_is_told_once_and_is_tried_again_every_hour() {
    let world = World::start();
    for _ in 0..4 {
        world.cloud.next_error(Call::Discard(INTERFACE), denied());
    }
    leave(&world, "a").await;
    world.pass_time(3 * HOUR).await;
    let tries = world.cloud.calls(Call::Discard(INTERFACE));
    assert!((2..=4).contains(&tries), "{tries}");
    let stories = told(&world, "LeftoversNotSwept");
    assert_eq!(stories.len(), 1, "{stories:?}");
    assert!(stories[0].contains("DeleteNetworkInterface is denied"), "{stories:?}");
    world.until("it is allowed", |world| world.cloud.left(INTERFACE).is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_and_does_not_keep_the_others() {
    let world = World::start();
    world.cloud.next_error(Call::Leftovers(VOLUME), transient());
    world.cloud.next_error(Call::Discard(VOLUME), transient());
    let used = CloudError::Invalid { code: "VolumeInUse".to_owned(), message: "attached".to_owned() };
    world.cloud.next_error(Call::Discard(VOLUME), used);
    for name in ["a", "b", "c"] {
        leave(&world, name).await;
    }
    world.until("the third goes at once", |world| world.cloud.left(VOLUME).len() == 2).await;
    let first = orca::clock::now();
    world.until("the first goes soon", |world| world.cloud.left(VOLUME).len() == 1).await;
    let soon = orca::clock::now().duration_since(first);
    assert!(soon <= Duration::from_secs(60).try_into().unwrap(), "{soon:?}");
    world.until("the second is seen anew", |world| world.cloud.left(VOLUME).is_empty()).await;
    let late = orca::clock::now().duration_since(first);
    assert!(late >= AGE.try_into().unwrap(), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn behind_a_closed_fence_nothing_is_deleted_and_the_next_leader_does_it() {
    let mut world = World::without_orca();
    world.fence = Fence::closed();
    world.fence.extend(orca::clock::since_boot() + Duration::from_hours(1));
    world.start_orca();
    let (_, volume, interface) = leave(&world, "a").await;
    world.fence.close();
    world.pass_time(2 * HOUR).await;
    assert_eq!(world.cloud.left(VOLUME).len() + world.cloud.left(INTERFACE).len(), 2);
    assert!(world.fence.refused().get() > 0, "it was tried");
    world.kill_orca();
    world.fence = Fence::open();
    world.start_orca();
    world.until("the next leader does it", |world| discarded(world).len() == 2).await;
    assert_eq!(discarded(&world), [interface.id, volume.id]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_while_machines_cannot_be_listed() {
    let world = World::start();
    leave(&world, "a").await;
    for _ in 0..2000 {
        world.cloud.next_error(Call::List, transient());
    }
    world.pass_time(HOUR).await;
    assert_eq!(discarded(&world), Vec::<String>::new());
    world.until("they can be", |world| discarded(world).len() == 2).await;
}
