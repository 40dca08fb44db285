//! Contact with the machine and its kubelet, and since when it is lost.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_kubelet_that_is_silent_for_long_is_a_lost_contact_until_it_answers() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    let is_attached = || matches!(bench.link.status().state, LinkState::Attached { .. });
    world.is_well.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    world.is_well.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(300)).await;
    assert!(is_attached(), "it was away for a minute at most");
    world.is_well.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(90)).await;
    assert!(!is_attached());
    sleep(Duration::from_secs(600)).await;
    let state = bench.link.status().state;
    assert!(
        matches!(state, LinkState::Bootstrapping { step: "waiting for the kubelet to answer", .. }),
        "{state:?}"
    );
    world.is_well.store(true, Ordering::Relaxed);
    sleep(Duration::from_secs(15)).await;
    assert!(is_attached());
}

#[tokio::test(start_paused = true)]
async fn contact_is_lost_since_the_last_attachment_however_many_attempts_fail_in_whichever_way() {
    let world = World::new();
    let bench = Bench::attached(&world).await;
    *world.probe.lock().unwrap() = "nothing of use".to_owned();
    let lost = crate::clock::now();
    world.cut_all();
    for _ in 0..5 {
        sleep(Duration::from_secs(60)).await;
        let (LinkState::Dialing { since, .. } | LinkState::Bootstrapping { since, .. }) =
            bench.link.status().state
        else {
            panic!("{:?}", bench.link.status().state)
        };
        assert!(since.duration_since(lost).as_secs() < 5, "{since}, lost at {lost}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_contacted_and_dialed_again_when_that_fails() {
    let world = World::new();
    let mut bench = Bench::attached(&world).await;
    sleep(Duration::from_secs(95)).await;
    let contacts = world.log().iter().filter(|line| *line == "contact").count();
    assert_eq!(contacts, 3);
    world.contact_works.store(false, Ordering::Relaxed);
    let state = bench.until(|state| matches!(state, LinkState::Dialing { .. })).await;
    assert_eq!(error(&state), "no answer within 15s while running a command");
}
