//! Properties over all situations.

use proptest::prelude::*;
use serde_json::json;

use super::world::*;
use super::*;
use crate::cloud::TAG_HOST_KEY;
use crate::link::LinkState;
use InstanceState::{Pending, Running, ShuttingDown, Stopped, Terminated};

fn any_instance() -> impl Strategy<Value = Instance> {
    let states = prop_oneof![
        Just(Pending),
        Just(Running),
        Just(InstanceState::Stopping),
        Just(Stopped),
        Just(ShuttingDown),
        Just(Terminated)
    ];
    (0..3_u32, states, any::<bool>(), -100..100_i64).prop_map(|(epoch, state, pinned, launched)| {
        let mut one = mk_instance(&format!("i-{epoch}"), epoch, state);
        one.launched_at = Some(at(launched));
        if pinned {
            one.tags.insert(TAG_HOST_KEY.to_owned(), "k".to_owned());
        }
        one
    })
}

fn any_link() -> impl Strategy<Value = Option<LinkStatus>> {
    let states = prop_oneof![
        (0..100_i64, any::<bool>()).prop_map(|(since, was_attached)| LinkState::Dialing {
            since: at(since),
            error: None,
            was_attached
        }),
        Just(bootstrapping()),
        Just(LinkState::Attached { since: at(50), boot_id: "b".to_owned() }),
        Just(broken()),
    ];
    proptest::option::of((0..3_u32, states, any::<bool>()).prop_map(|(id, state, shown)| LinkStatus {
        instance_id: format!("i-{id}"),
        state,
        shown,
        reached: None,
        attached: None,
        notice: None,
        usable: None,
        has_nvidia: false,
    }))
}

prop_compose! {
    fn any_world()(
        instances in proptest::collection::vec(any_instance(), 0..3),
        link in any_link(),
        phase in prop_oneof![Just("Pending"), Just("Running"), Just("Succeeded"), Just("Failed")],
        intent in proptest::option::of((0..3_u32, any::<bool>(), 0..5_u32)),
        deleted in proptest::option::of(-600..200_i64),
        (exists, started, revoked, wrote) in any::<(bool, bool, bool, bool)>(),
        (end, sightings) in (prop_oneof![Just(AbsentEnd::Unknown), Just(AbsentEnd::Forced), Just(AbsentEnd::Ended)], 0..3_u32),
        lists in prop_oneof![1 => Just(Lists::NotYet), 9 => Just(Lists::Read)],
        now in 0..1000_i64,
    ) -> World {
        let mut world = world().status(json!({"phase": phase})).now(now);
        world.instances = instances;
        world.instances.dedup_by(|a, b| a.id == b.id);
        world.link = link;
        world.lists = lists;
        if started { world = world.status(json!({"phase": phase, "startTime": "1970-01-12T13:47:00Z"})); }
        if let Some((epoch, known, failed_boots)) = intent {
            let instance_id = known.then(|| format!("i-{epoch}"));
            world = world.with_intent(&Intent { instance_id, failed_boots, ..mk_intent(epoch) });
        }
        if let Some(until) = deleted { world = world.deleted(until); }
        if revoked { world.memory.revoked = Some("i-0".to_owned()); }
        if wrote { world.memory.wrote = Some(mk_intent(0).token); }
        if exists { world } else { world.absent(end, 0, sightings) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_is_seen(world in any_world()) {
        let decision = world.decide();
        prop_assert_eq!(&decision, &world.decide());
        prop_assert!(decision.again > Duration::ZERO && decision.again <= AT_REST);
        if world.lists == Lists::NotYet {
            prop_assert_eq!(line(&decision), "unread");
        }
        let live: Vec<_> = world.instances.iter().filter(|one| one.state.may_run()).collect();
        let launches = decision.actions.iter().any(|action| matches!(action, Action::Launch(_)));
        // The same call again makes no second one, whatever somebody else made.
        let is_new = |action: &Action| matches!(action, Action::Launch(Launch::Next { .. }));
        prop_assert!(live.is_empty() || !decision.actions.iter().any(is_new), "a second machine");
        let terminal = world.pod.as_ref().is_some_and(status::is_terminal);
        if terminal && world.lists == Lists::Read {
            prop_assert!(decision.state.is_terminal());
            prop_assert!(decision.status.is_none() && !launches);
        }
        let deletes = decision.actions.contains(&Action::DeletePod);
        let deleting = world.pod.as_ref().is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
        prop_assert!(!deletes || deleting, "deleted without being asked");
        let started = world.pod.as_ref().is_some_and(status::is_kubelets);
        // Nothing of a pod can run where no bootstrap ever was.
        if started && live.iter().any(|one| one.tags.contains_key(TAG_HOST_KEY)) {
            let fails = matches!(decision.status, Some(StatusChange::Failed { .. }));
            prop_assert!(!fails && !deletes, "failed or gone while something may run");
        }
        if matches!(decision.status, Some(StatusChange::Pending { .. })) {
            prop_assert!(!started, "written over the kubelet");
        }
        let kept: Vec<_> = decision.actions.iter().filter(|action| matches!(action, Action::EnsureLink { .. })).collect();
        prop_assert!(kept.len() <= 1);
    }
}
