//! Scenarios: the controller in a world in memory, on a paused clock, so that a day takes milliseconds.

mod breaker;
mod burst;
mod capacity;
mod leftovers;
mod maintenance;
mod orphans;
mod random;
mod reach;
mod refused;
mod removal;
mod stuck;
mod traced;

use std::time::Duration;

use orca::capacity::world::Usable;
use orca::cloud::CloudError;
use orca::cloud::CloudHealth;
use orca::cloud::memory::{Call, Timing};
use orca::pod::intent::Intent;
use serde_json::json;

use crate::support::{NAMESPACE, World, mk_pod, phase, reason};

fn message_of(world: &World, name: &str) -> String {
    let status = world.api.pod(name).unwrap().status.unwrap();
    let waiting = status.container_statuses.and_then(|all| all[0].state.clone()?.waiting?.message);
    waiting.or(status.message).unwrap_or_default()
}

fn transient() -> CloudError {
    CloudError::Transient { code: "InternalError".to_owned(), message: "try again".to_owned() }
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_a_machine_runs_finishes_and_its_machine_goes() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until("it boots", |world| message_of(world, "a").contains("is booting")).await;
    let machine = world.machine(&uid);
    assert_eq!(message_of(&world, "a"), format!("instance {} (g5.xlarge in zone-a) is booting", machine.id));
    world.until_running("a").await;
    let intent = Intent::read(&world.api.pod("a").unwrap()).unwrap().unwrap();
    assert_eq!((intent.epoch, intent.instance_id), (0, Some(machine.id.clone())));
    let annotations = world.api.pod("a").unwrap().metadata.annotations.unwrap();
    assert_eq!(annotations["orca.research/instance-id"], machine.id);
    assert_eq!(machine.tags["orca.research/pod-name"], "a");

    let (writes, lists) = (world.api.writes(), world.cloud.calls(Call::List));
    world.pass_time(3600).await;
    assert_eq!(world.api.writes(), writes, "nothing is written at rest");
    assert_eq!(world.cloud.calls(Call::Get), 0, "no instance is polled");
    let listed = world.cloud.calls(Call::List) - lists;
    assert!((350..=361).contains(&listed), "one list each ten seconds: {listed}");

    world.guests.exit("a", 0);
    world.pass_time(290).await;
    world.machine(&uid);
    world.until("the machine goes", |world| world.alive(&uid).is_empty()).await;
    world.until("the link too", |world| !world.guests.has_link(&uid)).await;
    assert_eq!(phase(&world.api.pod("a")), "Succeeded");
    assert_eq!(
        world.api.reasons("a"),
        ["Launching", "Launched", "Booting", "Attached", "TerminatingInstance"]
    );
    assert_eq!(world.cloud_health(), CloudHealth::Reachable);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_sent_at_once_although_each_answer_takes_its_time() {
    let world = World::start();
    world.pass_time(1).await;
    world.cloud.set_timing(Timing { latency: Duration::from_millis(1500), ..Timing::default() });
    let began = orca::clock::now();
    for i in 0..200 {
        world.api.create(mk_pod(&format!("p{i}")));
    }
    world.until("all are sent", |world| world.cloud.sent().len() == 200).await;
    let last = world.cloud.sent().into_iter().map(|(at, _)| at).max().unwrap();
    let took = last.duration_since(began);
    assert!(took.as_secs_f64() < 2.0, "{took}");
    world.until("all have a machine", |world| world.cloud.alive().len() == 200).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_burst_waits_for_the_clouds_rate_for_minutes_and_nobody_is_told_of_trouble() {
    let world = World::start();
    world.pass_time(1).await;
    world.cloud.hold_launches();
    let uid = world.api.create(mk_pod("patient"));
    world.pass_time(300).await;
    assert!(world.cloud.sent().is_empty());
    world.cloud.admit_launches();
    world.until_running("patient").await;
    world.machine(&uid);
    assert_eq!(world.api.reasons("patient"), ["Launching", "Launched", "Booting", "Attached"]);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_while_its_launch_waits_for_its_turn_costs_no_machine() {
    let world = World::start();
    world.pass_time(1).await;
    world.cloud.hold_launches();
    for i in 0..300 {
        world.api.create(mk_pod(&format!("p{i}")));
    }
    world.pass_time(30).await;
    for i in 0..300 {
        world.api.delete(&format!("p{i}"), 30);
    }
    world.within(Duration::from_secs(5), "the pods are gone", |world| world.api.pods().is_empty()).await;
    world.cloud.admit_launches();
    world.pass_time(300).await;
    assert!(world.cloud.sent().is_empty(), "{} machines for nobody", world.cloud.sent().len());
    world.check();
}

#[tokio::test(start_paused = true)]
async fn what_a_kubelet_gives_to_its_pod_is_learned_of_its_type() {
    let world = World::start();
    world.guests.set_usable(Usable { cpu_milli: 3920, memory_bytes: 15 << 30 });
    world.api.create(mk_pod("a"));
    let learned = |world: &World, name: &str| world.market().catalog.types[name].learned;
    world.until("it boots", |world| message_of(world, "a").contains("is booting")).await;
    assert_eq!(learned(&world, "g5.xlarge"), None, "nothing ran yet");
    world.until_running("a").await;
    world.until("it is learned", |world| learned(world, "g5.xlarge").is_some()).await;
    let usable = Usable { cpu_milli: 3920, memory_bytes: 15 << 30 };
    assert_eq!(learned(&world, "g5.xlarge"), Some(usable));
    assert_eq!(learned(&world, "g5.12xlarge"), None, "of its type alone");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_lost_machine_fails_its_pod_with_what_is_known() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.cloud.end(&world.machine(&uid).id, "Server.SpotInstanceTermination");
    world.until("it failed", |world| phase(&world.api.pod("a")) == "Failed").await;
    let status = world.api.pod("a").unwrap().status.unwrap();
    assert_eq!(status.reason.as_deref(), Some("SpotInterrupted"));
    let disrupted =
        status.conditions.unwrap().into_iter().find(|one| one.type_ == "DisruptionTarget").unwrap();
    assert_eq!(
        (disrupted.status.as_str(), disrupted.reason.as_deref()),
        ("True", Some("TerminationByKubelet"))
    );
    let ended = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    world.pass_time(600).await;
    assert_eq!(world.cloud.sent().len(), 1, "a pod that ran is not run again");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_still_one_machine() {
    let world = World::start();
    world.cloud.drop_next_answer();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.machine(&uid);
    let sent = world.cloud.sent();
    assert_eq!(sent.iter().map(|(_, spec)| &spec.token).collect::<std::collections::HashSet<_>>().len(), 1);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_while_it_boots_is_gone_at_once_and_its_machine_follows() {
    for at in [0, 1, 3, 6, 9] {
        let world = World::start();
        let uid = world.api.create(mk_pod("a"));
        world.pass_time(at).await;
        world.api.delete("a", 30);
        world.within(Duration::from_secs(1), "the pod is gone", |world| world.api.pod("a").is_none()).await;
        world
            .within(Duration::from_secs(200), "the machine is gone", |world| world.alive(&uid).is_empty())
            .await;
        world.pass_time(300).await;
        assert!(world.alive(&uid).is_empty());
        world.until("the link is gone", |world| !world.guests.has_link(&uid)).await;
        world.check();
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_pod_is_ended_by_its_kubelet() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.api.delete("a", 30);
    world.pass_time(1).await;
    assert_eq!(phase(&world.api.pod("a")), "Running", "it is given its grace");
    world.within(Duration::from_secs(10), "the pod is gone", |world| world.api.pod("a").is_none()).await;
    world.within(Duration::from_secs(2), "the machine is gone", |world| world.alive(&uid).is_empty()).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_by_force_keeps_its_machine_for_its_grace() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.api.delete("a", 0);
    let again = world.api.create(mk_pod("a"));
    world.pass_time(30).await;
    world.machine(&uid);
    world.within(Duration::from_secs(60), "the machine goes", |world| world.alive(&uid).is_empty()).await;
    world.until("the other one runs", |world| phase(&world.api.by_uid(&again)) == "Running").await;
    world.machine(&again);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_restart_at_any_moment_of_a_launch_leads_to_one_machine() {
    for millis in [0, 1, 50, 100, 101, 110, 150, 1000, 3000, 6000, 12000] {
        let mut world = World::start();
        world.pass_time(1).await;
        world.cloud.set_timing(Timing { latency: Duration::from_millis(100), ..Timing::default() });
        let uid = world.api.create(mk_pod("a"));
        tokio::time::sleep(Duration::from_millis(millis)).await;
        world.kill_orca();
        world.pass_time(5).await;
        world.start_orca();
        world.until_running("a").await;
        world.machine(&uid);
        world.check();
        world.api.delete("a", 30);
        world
            .until("all is gone", |world| world.api.pod("a").is_none() && world.cloud.alive().is_empty())
            .await;
        world.check();
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_leaves_running_pods_alone() {
    let mut world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    let machine = world.machine(&uid);
    world.kill_orca();
    world.pass_time(1800).await;
    let writes = world.api.writes();
    world.start_orca();
    world.until("it has a link", |world| world.guests.has_link(&uid)).await;
    world.pass_time(600).await;
    assert_eq!(world.machine(&uid).id, machine.id);
    assert_eq!(world.api.writes(), writes);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_deleted_while_orca_is_away_takes_its_machine_with_it() {
    for grace in [0, 30] {
        let mut world = World::start();
        let uid = world.api.create(mk_pod("a"));
        world.until_running("a").await;
        world.kill_orca();
        world.api.delete("a", grace);
        world.pass_time(600).await;
        world.machine(&uid);
        world.start_orca();
        let limit = Duration::from_secs(150);
        world
            .within(limit, "all is gone", |world| {
                world.alive(&uid).is_empty() && world.api.pod("a").is_none()
            })
            .await;
        world.check();
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_never_reachable_is_replaced_after_the_deadline() {
    let world = World::start();
    world.guests.never_reach(2);
    let uid = world.api.create(mk_pod("a"));
    world.pass_time(599).await;
    let first = world.machine(&uid);
    world.until("another one", |world| world.alive(&uid).iter().any(|one| one.id != first.id)).await;
    world.until_running("a").await;
    let intent = Intent::read(&world.api.pod("a").unwrap()).unwrap().unwrap();
    assert_eq!((intent.epoch, intent.failed_boots), (2, 2));
    assert!(world.api.reasons("a").contains(&"ReplacingInstance".to_owned()));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_whose_machines_never_boot_fails_in_the_end() {
    let world = World::start();
    world.guests.never_reach(100);
    world.api.create(mk_pod("a"));
    world.until("it failed", |world| phase(&world.api.pod("a")) == "Failed").await;
    assert_eq!(reason(&world.api.pod("a")), "InstanceBootFailed");
    world.until("nothing is left", |world| world.cloud.alive().is_empty()).await;
    assert_eq!(world.cloud.sent().len(), 5);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_dies_while_booting_is_replaced() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.pass_time(3).await;
    world.cloud.end(&world.machine(&uid).id, "Server.InsufficientInstanceCapacity");
    world.until_running("a").await;
    assert_eq!(world.machine(&uid).zone, "zone-b", "the zone that had none is avoided");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pod_waits_for_capacity_and_takes_it_when_it_comes() {
    let world = World::start();
    for zone in ["zone-a", "zone-b"] {
        world.cloud.dry_pool("g5.xlarge", zone);
    }
    world.api.create(mk_pod("a"));
    let capacity = |world: &World| {
        let conditions = world.api.pod("a").unwrap().status.unwrap().conditions.unwrap_or_default();
        conditions.into_iter().find(|one| one.type_ == "orca.research/Capacity").map(|one| one.status)
    };
    world
        .within(Duration::from_secs(5), "it says so", |world| capacity(world).as_deref() == Some("False"))
        .await;
    assert_eq!(world.cloud.sent().len(), 2, "both zones were tried at once");
    assert!(message_of(&world, "a").contains("InsufficientInstanceCapacity"), "{}", message_of(&world, "a"));
    world.pass_time(1200).await;
    assert!(world.cloud.sent().len() < 12, "not too often: {}", world.cloud.sent().len());
    world.cloud.refill_pool("g5.xlarge", "zone-b");
    world.within(Duration::from_secs(1000), "it runs", |world| phase(&world.api.pod("a")) == "Running").await;
    assert_eq!(capacity(&world).as_deref(), Some("True"));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn errors_of_the_cloud_are_told_and_overcome() {
    let error = |code: &str| (code.to_owned(), "m".to_owned());
    for (kind, told) in [
        ("quota", "QuotaExceeded"),
        ("denied", "CloudAccessDenied"),
        ("invalid", "LaunchRefused"),
        ("throttled", "CloudUnavailable"),
        ("transient", "CloudUnavailable"),
        ("mismatch", "CloudUnavailable"),
    ] {
        let world = World::start();
        let (code, message) = error("c");
        world.cloud.next_error(
            Call::Launch,
            match kind {
                "quota" => CloudError::Quota { code, message },
                "denied" => CloudError::Denied { code: "AuthFailure".to_owned(), message },
                "invalid" => CloudError::Invalid { code, message },
                "throttled" => CloudError::Throttled { code, message },
                "mismatch" => CloudError::TokenMismatch { message },
                _ => transient(),
            },
        );
        let uid = world.api.create(mk_pod("a"));
        world.pass_time(1).await;
        assert!(world.api.reasons("a").contains(&told.to_owned()), "{kind}: {:?}", world.api.stories());
        if kind == "denied" {
            assert!(matches!(world.cloud_health(), CloudHealth::Unreachable { reason: "AccessDenied", .. }));
        }
        world.until_running("a").await;
        world.machine(&uid);
        assert_eq!(world.cloud_health(), CloudHealth::Reachable);
        world.check();
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_machines_run_than_allowed() {
    let mut world = World::without_orca();
    world.config.limits.max_concurrent_instances = 2;
    world.start_orca();
    for name in ["a", "b", "c"] {
        world.api.create(mk_pod(name));
    }
    let running = |world: &World| {
        ["a", "b", "c"].into_iter().filter(|name| phase(&world.api.pod(name)) == "Running").count()
    };
    world.until("two run", |world| running(world) == 2).await;
    world.pass_time(600).await;
    assert_eq!((running(&world), world.cloud.alive().len()), (2, 2));
    let name = ["a", "b", "c"].into_iter().find(|name| phase(&world.api.pod(name)) == "Running").unwrap();
    world.api.delete(name, 30);
    world
        .within(Duration::from_secs(60), "the third is launched", |world| world.cloud.sent().len() == 3)
        .await;
    world.until("two run", |world| running(world) == 2).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_run_here_is_refused_at_once_with_its_path() {
    let world = World::start();
    let with = |name: &str, change: &dyn Fn(&mut serde_json::Value)| {
        let mut pod = mk_pod(name);
        change(&mut pod);
        world.api.create(pod);
    };
    with("claim", &|pod| {
        pod["spec"]["volumes"] = json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])
    });
    with("windows", &|pod| pod["spec"]["os"] = json!({"name": "windows"}));
    with("gpus", &|pod| {
        pod["spec"]["containers"][0]["resources"] = json!({"limits": {"nvidia.com/gpu": "2"}})
    });
    with("unknown", &|pod| {
        pod["metadata"]["annotations"] = json!({"orca.research/instance-type": "g5.huge"})
    });
    with("banned", &|pod| {
        pod["metadata"]["annotations"] = json!({"orca.research/instance-type": "t3.large"})
    });
    for (name, why, path) in [
        ("claim", "UnsupportedVolume", "spec.volumes[0].persistentVolumeClaim"),
        ("windows", "PodOSNotSupported", "spec.os.name"),
        ("gpus", "OutOfGPU", "spec.containers[*].resources.requests[nvidia.com/gpu]"),
        ("unknown", "UnknownInstanceType", "metadata.annotations[orca.research/instance-type]"),
        ("banned", "InstanceTypeNotAllowed", "metadata.annotations[orca.research/instance-type]"),
    ] {
        world.within(Duration::from_secs(1), name, |world| reason(&world.api.pod(name)) == why).await;
        let status = world.api.pod(name).unwrap().status.unwrap();
        assert_eq!(status.phase.as_deref(), Some("Failed"));
        assert!(status.message.unwrap().contains(path), "{name}");
    }
    world.pass_time(60).await;
    assert!(world.cloud.sent().is_empty());
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_pod_is_held_with_one_event() {
    let world = World::start();
    let mut pod = mk_pod("a");
    pod["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "n", "uid": "x", "controller": true}]);
    world.api.create(pod);
    world.pass_time(3600).await;
    assert_eq!((phase(&world.api.pod("a")).as_str(), world.api.reasons("a").len()), ("Pending", 1));
    world.api.delete("a", 30);
    world.until("it is gone", |world| world.api.pod("a").is_none()).await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_cut_is_not_the_end_of_a_pod() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    let ready = |world: &World| orca::pod::status::is_ready(&world.api.pod("a").unwrap());
    world.guests.cut(true);
    world.pass_time(55).await;
    assert!(ready(&world), "short cuts are nobody's business");
    world.until("it is not ready", |world| !ready(world)).await;
    world.pass_time(3600).await;
    world.machine(&uid);
    world.guests.cut(false);
    world.until("contact is back", |world| world.api.reasons("a").contains(&"Reattached".to_owned())).await;
    assert_eq!(phase(&world.api.pod("a")), "Running");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_although_the_machine_is_silent() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.guests.cut(true);
    world.api.delete("a", 30);
    world.pass_time(80).await;
    world.machine(&uid);
    let limit = Duration::from_secs(60);
    world
        .within(limit, "all is gone", |world| world.api.pod("a").is_none() && world.alive(&uid).is_empty())
        .await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_api_server_destroys_nothing_and_is_waited_for() {
    let mut world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.kill_orca();
    world.api.fail_next(20);
    world.start_orca();
    world.pass_time(300).await;
    world.machine(&uid);
    world.api.fail_next(8);
    let other = world.api.create(mk_pod("b"));
    world.until_running("b").await;
    let told = world.api.reasons("b").into_iter().filter(|reason| reason == "FailedSync").count();
    assert!(told >= 1, "what does not pass at once is told: {:?}", world.api.reasons("b"));
    world.machine(&other);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_cloud_destroys_nothing_and_is_waited_for() {
    let mut world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.kill_orca();
    world.api.delete("a", 0);
    for _ in 0..20 {
        world.cloud.next_error(Call::List, transient());
    }
    world.api.create(mk_pod("b"));
    world.start_orca();
    world.pass_time(30).await;
    world.machine(&uid);
    assert_eq!(world.cloud.sent().len(), 1, "nothing is launched before everything was listed");
    assert!(matches!(world.cloud_health(), CloudHealth::Unreachable { .. }));
    world.until("the orphan goes", |world| world.alive(&uid).is_empty()).await;
    world.until_running("b").await;
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_a_pod_is_ended_even_by_an_orca_that_never_lives_long() {
    let mut world = World::start();
    world.guests.cut(true);
    let uid = world.api.create(mk_pod("a"));
    world.until("the machine runs", |world| world.alive(&uid).len() == 1).await;
    world.kill_orca();
    world.api.delete("a", 0);
    world.pass_time(60).await;
    for _ in 0..3 {
        world.start_orca();
        world.pass_time(6).await;
        world.kill_orca();
    }
    assert_eq!(world.alive(&uid), [], "{}", world.dump());
}

#[tokio::test(start_paused = true)]
async fn finalizers_of_others_hold_the_object_but_not_the_machine() {
    let world = World::start();
    let mut pod = mk_pod("a");
    pod["metadata"]["finalizers"] = json!(["example.com/f"]);
    let uid = world.api.create(pod);
    world.until_running("a").await;
    world.api.delete("a", 30);
    world.within(Duration::from_secs(60), "the machine goes", |world| world.alive(&uid).is_empty()).await;
    let writes = world.api.writes();
    world.pass_time(600).await;
    assert_eq!(world.api.writes(), writes, "nothing is asked again and again");
    assert_eq!(world.api.pod("a").unwrap().metadata.namespace.as_deref(), Some(NAMESPACE));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn lists_that_lack_what_is_there_end_nothing() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.pass_time(120).await;
    world.cloud.hide(&world.machine(&uid).id);
    world.pass_time(120).await;
    world.empty_list_of_pods();
    world.pass_time(120).await;
    world.machine(&uid);
    assert_eq!(phase(&world.api.pod("a")), "Running");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn watches_that_lag_make_no_second_machine_and_undo_nothing() {
    let world = World::start();
    world.pass_time(1).await;
    world.api.lag_watches(Duration::from_secs(5));
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.machine(&uid);
    assert_eq!(world.cloud.sent().len(), 1);
    world.cloud.end(&world.machine(&uid).id, "Server.InternalError");
    world.until("it failed", |world| phase(&world.api.pod("a")) == "Failed").await;
    world.pass_time(60).await;
    let uid = world.api.create(mk_pod("b"));
    world.until_running("b").await;
    world.api.delete("b", 30);
    world.until("all is gone", |world| world.api.pod("b").is_none() && world.alive(&uid).is_empty()).await;
    world.pass_time(60).await;
    world.check();
}
