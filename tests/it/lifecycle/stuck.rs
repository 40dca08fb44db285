//! What fails again and again is counted, told, listed, and tried at once when a person says so.

use std::time::Duration;

use orca::clock;
use orca::cloud::CloudError;
use orca::cloud::memory::Call;
use orca::pod::stuck::{ANNOTATION_RETRY, STUCK_AFTER};
use serde_json::json;

use crate::support::{World, mk_pod, phase};

fn retry(world: &World, name: &str) {
    world.api.change(name, |pod| {
        pod["metadata"]["annotations"][ANNOTATION_RETRY] = json!(clock::now().to_string());
    });
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_stuck_is_listed_told_of_and_counted_until_it_runs() {
    let world = World::start();
    for zone in ["zone-a", "zone-b"] {
        world.cloud.dry_pool("g5.xlarge", zone);
    }
    let uid = world.api.create(mk_pod("a"));
    world.pass_time(20).await;
    let page = world.stuck();
    assert_eq!((page.pods.len(), page.pods[0].is_stuck, page.more), (1, false, 0));
    world.until("it is stuck", |world| world.stuck().pods[0].is_stuck).await;
    let entry = world.stuck().pods.remove(0);
    assert_eq!(
        (entry.name.as_str(), entry.uid.as_str(), entry.reason.as_str()),
        ("a", uid.as_str(), "NoCapacity")
    );
    assert_eq!((entry.attempts, entry.state.as_str()), (STUCK_AFTER, "waiting"));
    assert!(entry.next_try > clock::now() && entry.since < clock::now(), "{entry:?}");
    let count =
        |world: &World| world.metrics().contains("orca_controller_stuck_pods{reason=\"NoCapacity\"} 1\n");
    assert!(count(&world));
    world.pass_time(3600).await;
    let told = world.api.reasons("a").iter().filter(|reason| *reason == "Stuck").count();
    assert_eq!(told, 1, "{:?}", world.api.reasons("a"));
    world.cloud.refill_pool("g5.xlarge", "zone-b");
    world.until_running("a").await;
    assert_eq!((world.stuck().pods, count(&world)), (vec![], false));
    world.check();
}

#[tokio::test(start_paused = true)]
async fn whoever_may_annotate_the_pod_has_it_tried_again_at_once_and_once_only() {
    let mut world = World::without_orca();
    world.config.limits.max_concurrent_instances = 1;
    world.start_orca();
    world.api.create(mk_pod("first"));
    world.until_running("first").await;
    world.api.create(mk_pod("a"));
    world.pass_time(3600).await;
    let attempts = |world: &World| world.stuck().pods[0].attempts;
    let (before, next) = (attempts(&world), world.stuck().pods[0].next_try);
    let left = next.duration_since(clock::now()).as_secs();
    if left < 10 {
        world.pass_time(20).await;
    }
    let before = before.max(attempts(&world));
    retry(&world, "a");
    world.within(Duration::from_secs(2), "it is tried at once", |world| attempts(world) == before + 1).await;
    // The pauses begin anew, since somebody has changed something.
    world.within(Duration::from_secs(40), "and soon again", |world| attempts(world) > before + 1).await;
    world.api.change("a", |pod| pod["metadata"]["labels"]["x"] = json!("y"));
    world.pass_time(1200).await;
    let (after, now) = (attempts(&world), clock::now());
    world.api.change("a", |pod| pod["metadata"]["labels"]["x"] = json!("z"));
    world.pass_time(2).await;
    let is_due = world.stuck().pods[0].next_try < now;
    assert!(attempts(&world) == after || is_due, "the same word does not count twice");
    assert_eq!(phase(&world.api.pod("a")), "Pending", "the annotation is no wish that could be wrong");
    world.check();
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_fails_again_and_again_is_listed_with_its_error() {
    let world = World::start();
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    world.guests.cut(true);
    for _ in 0..20 {
        let message = "try again".to_owned();
        world
            .cloud
            .next_error(Call::Terminate, CloudError::Transient { code: "InternalError".to_owned(), message });
    }
    world.api.delete("a", 1);
    world.until("it is stuck", |world| world.stuck().pods.iter().any(|pod| pod.is_stuck)).await;
    let entry = world.stuck().pods.remove(0);
    assert_eq!((entry.reason.as_str(), entry.state.as_str()), ("transient", "deleting"));
    assert!(entry.message.contains("InternalError"), "{}", entry.message);
    world.until("it is gone", |world| world.api.pod("a").is_none() && world.alive(&uid).is_empty()).await;
    world.until("nothing is left of it", |world| world.stuck().pods.is_empty()).await;
    world.check();
}
