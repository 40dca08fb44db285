//! What fails for everybody is not asked for by everybody.

use orca::cloud::memory::Call;
use orca::cloud::{CloudError, CloudHealth};

use crate::support::{World, mk_pod, phase};

const PODS: usize = 40;

/// Of so many launches.
fn fail(world: &World, times: usize, error: &CloudError) {
    for _ in 0..times {
        world.cloud.next_error(Call::Launch, error.clone());
    }
}

fn create(world: &World) -> Vec<String> {
    let names: Vec<String> = (0..PODS).map(|number| format!("p{number}")).collect();
    for name in &names {
        world.api.create(mk_pod(name));
    }
    names
}

#[tokio::test(start_paused = true)]
async fn credentials_that_are_not_taken_cost_a_probe_now_and_then_and_no_pod() {
    let mut world = World::without_orca();
    world.config.limits.max_concurrent_instances = 100;
    world.cloud.set_timing(orca::cloud::memory::Timing {
        latency: std::time::Duration::from_millis(20),
        ..Default::default()
    });
    world.api.create(mk_pod("first"));
    world.start_orca();
    world.until_running("first").await;
    let before = world.cloud.calls(Call::Launch);
    // Those that are under way when the first one fails, and then a probe of 30 s, 60 s, 120 s …
    fail(&world, PODS + 5, &CloudError::Denied { code: "AuthFailure".to_owned(), message: "no".to_owned() });
    let names = create(&world);
    world.pass_time(400).await;
    let asked = world.cloud.calls(Call::Launch) - before;
    assert!(asked < PODS as u64 + 5, "{asked} launches");
    assert!(matches!(world.cloud_health(), CloudHealth::Unreachable { reason: "AccessDenied", .. }));
    assert_eq!(phase(&world.api.pod("first")), "Running", "what runs goes on");
    for name in &names {
        world.until_running(name).await;
    }
    assert_eq!(world.cloud_health(), CloudHealth::Reachable);
    world.check();
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_launches_is_probed_and_its_end_wakes_everybody() {
    let mut world = World::without_orca();
    world.config.limits.max_concurrent_instances = 100;
    world.cloud.set_timing(orca::cloud::memory::Timing {
        latency: std::time::Duration::from_millis(20),
        ..Default::default()
    });
    world.start_orca();
    let names = create(&world);
    fail(&world, PODS, &CloudError::Transient { code: "InternalError".to_owned(), message: "oh".to_owned() });
    world
        .until("launches wait", |world| {
            matches!(world.cloud_health(), CloudHealth::Unreachable { reason: "CallsFail", .. })
        })
        .await;
    for name in &names {
        world.until_running(name).await;
    }
    world.check();
}
