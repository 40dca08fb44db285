//! Random interleavings of what people, clouds, networks and process managers do; and what holds in the end.
//! `PROPTEST_CASES` asks for more of them: half a second each.

use std::time::Duration;

use jiff::SignedDuration;
use orca::clock;
use orca::cloud::memory::{Call, Timing};
use orca::cloud::{CloudError, EventKind};
use orca::link::Prober;
use proptest::prelude::*;

use crate::support::{World, mk_pod, phase};

/// Of one life.
const MOST_STEPS: usize = 25;
const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Delete(usize, i64),
    Exit(usize, i32),
    EndMachine(usize),
    LoseAnswer,
    FailCall(Call, u8),
    DryPool(bool),
    FailApi(u32),
    LagWatches(u64),
    Cut(bool),
    Unreachable(u32),
    /// Sessions are refused, and found out about so; or given.
    Refuse(Option<Prober>),
    /// Announces something for a machine, so many seconds ahead.
    Announce(usize, EventKind, i64),
    CancelEvents,
    Restart(u64),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES.len();
    let call = prop_oneof![
        Just(Call::Launch),
        Just(Call::List),
        Just(Call::Get),
        Just(Call::Terminate),
        Just(Call::Events)
    ];
    let prober = prop_oneof![Just(Prober::Links), Just(Prober::NextMachine)];
    prop_oneof![
        4 => name.clone().prop_map(Step::Create),
        3 => (name.clone(), prop_oneof![Just(0_i64), Just(1), Just(30)]).prop_map(|(name, grace)| Step::Delete(name, grace)),
        1 => (name.clone(), 0..2_i32).prop_map(|(name, code)| Step::Exit(name, code)),
        2 => name.prop_map(Step::EndMachine),
        1 => Just(Step::LoseAnswer),
        2 => (call, 0..6_u8).prop_map(|(call, kind)| Step::FailCall(call, kind)),
        1 => any::<bool>().prop_map(Step::DryPool),
        1 => (1..4_u32).prop_map(Step::FailApi),
        1 => (0..3000_u64).prop_map(Step::LagWatches),
        1 => any::<bool>().prop_map(Step::Cut),
        1 => (0..2_u32).prop_map(Step::Unreachable),
        1 => proptest::option::of(prober).prop_map(Step::Refuse),
        1 => (0..NAMES.len(), proptest::sample::select(&EventKind::ALL), 0..900_i64)
            .prop_map(|(index, kind, seconds)| Step::Announce(index, kind, seconds)),
        1 => Just(Step::CancelEvents),
        2 => (0..200_u64).prop_map(Step::Restart),
        8 => prop_oneof![0..300_u64, 300..20_000_u64, Just(100_000)].prop_map(Step::Wait),
    ]
}

async fn take(world: &mut World, step: Step) {
    match step {
        Step::Create(name) => {
            if world.api.pod(NAMES[name]).is_none() {
                world.api.create(mk_pod(NAMES[name]));
            }
        }
        Step::Delete(name, grace) => world.api.delete(NAMES[name], grace),
        Step::Exit(name, code) => {
            if phase(&world.api.pod(NAMES[name])) == "Running" {
                world.guests.exit(NAMES[name], code);
            }
        }
        Step::EndMachine(index) => {
            if let Some(one) = world.cloud.alive().get(index) {
                world.cloud.end(&one.id, "Server.InternalError");
            }
        }
        Step::LoseAnswer => world.cloud.drop_next_answer(),
        Step::FailCall(call, kind) => world.cloud.next_error(call, mk_error(call, kind)),
        Step::DryPool(true) => world.cloud.dry_pool("g5.xlarge", "zone-a"),
        Step::DryPool(false) => world.cloud.refill_pool("g5.xlarge", "zone-a"),
        Step::FailApi(requests) => world.api.fail_next(requests),
        Step::LagWatches(millis) => world.api.lag_watches(Duration::from_millis(millis)),
        Step::Cut(is_cut) => world.guests.cut(is_cut),
        Step::Unreachable(machines) => world.guests.never_reach(machines),
        Step::Refuse(Some(prober)) => world.guests.refuse_sessions(prober),
        Step::Refuse(None) => world.guests.give_sessions(),
        Step::Announce(index, kind, seconds) => {
            if let Some(one) = world.cloud.alive().get(index) {
                let at = clock::now() + SignedDuration::from_secs(seconds);
                world.cloud.schedule(&event_id(kind), &one.id, kind, at);
            }
        }
        Step::CancelEvents => EventKind::ALL.iter().for_each(|kind| world.cloud.cancel(&event_id(*kind))),
        Step::Restart(millis) => {
            world.kill_orca();
            tokio::time::sleep(Duration::from_millis(millis)).await;
            world.start_orca();
        }
        Step::Wait(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
    }
}

fn event_id(kind: EventKind) -> String {
    format!("instance-event-{}", kind.code())
}

fn mk_error(call: Call, kind: u8) -> CloudError {
    let (code, message) = ("c".to_owned(), "m".to_owned());
    match (call, kind) {
        (Call::Launch, 0) => CloudError::NoCapacity { code, message },
        (Call::Launch, 1) => CloudError::Quota { code, message },
        (Call::Launch, 2) => CloudError::TokenMismatch { message },
        (_, 3) => CloudError::Throttled { code, message },
        (_, 4) => CloudError::Denied { code, message },
        (
            Call::Launch
            | Call::List
            | Call::Get
            | Call::Terminate
            | Call::Events
            | Call::Read(_)
            | Call::Leftovers(_)
            | Call::Discard(_),
            _,
        ) => CloudError::Transient { code, message },
    }
}

/// Runs the steps; then lets all faults end, and deletes everything.
async fn live(steps: Vec<Step>) {
    let mut world = World::without_orca();
    // Short, so that the end of everything is near.
    world.config.limits.boot_deadline = Duration::from_secs(60);
    world.config.limits.keep_finished = Duration::from_secs(30);
    world.start_orca();
    world.cloud.set_timing(Timing { latency: Duration::from_millis(20), ..Timing::default() });
    for step in steps {
        take(&mut world, step).await;
    }
    world.guests.cut(false);
    world.guests.never_reach(0);
    world.guests.give_sessions();
    world.api.fail_next(0);
    world.cloud.refill_pool("g5.xlarge", "zone-a");
    let waits = |world: &World| {
        let is_settled = |state: &str| ["gone", "Running", "Succeeded", "Failed"].contains(&state);
        NAMES.into_iter().find(|name| !is_settled(&phase(&world.api.pod(name))))
    };
    // Each refusal for a quota that is still to come holds a pod back for a quarter of an hour.
    for _ in 0..MOST_STEPS {
        world.pass_time(1000).await;
        if waits(&world).is_none() {
            break;
        }
    }
    world.check();
    assert_eq!(waits(&world), None, "{}", world.dump());
    for one in world.cloud.alive() {
        let pod = world.api.by_uid(one.pod_uid().unwrap());
        assert_eq!(phase(&pod), "Running", "a machine without a use: {}\n{}", one.id, world.dump());
    }
    for name in NAMES {
        world.api.delete(name, 30);
    }
    world.pass_time(400).await;
    assert!(
        world.api.pods().is_empty() && world.cloud.alive().is_empty(),
        "something is left\n{}",
        world.dump()
    );
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_everything_ends_well(steps in proptest::collection::vec(any_step(), 1..MOST_STEPS)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(live(steps));
    }
}
