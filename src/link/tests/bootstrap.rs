//! Machines that cannot be prepared, yet or ever.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_image_without_a_kubelet_breaks_the_link_unless_the_pod_may_run() {
    let world = World::new();
    *world.probe.lock().unwrap() = PROBE_OUTPUT.replace("kubelet=/usr/bin/kubelet", "kubelet=");
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    assert_eq!(error(&bench.until(broken).await), "the image has no `kubelet`");

    world.probe.lock().unwrap().push_str("bootstrapped=yes\n");
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    sleep(Duration::from_secs(3600)).await;
    let state = bench.until(|state| !error(state).is_empty()).await;
    assert!(matches!(&state, LinkState::Dialing { .. }), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_is_not_ready_is_looked_at_again() {
    let world = World::new();
    *world.probe.lock().unwrap() = PROBE_OUTPUT.replace("interface=ens5", "interface=");
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    let state = bench.until(|state| !error(state).is_empty()).await;
    let expected = "interface of the machine is not known, expected an interface with a default route";
    assert!(matches!(&state, LinkState::Dialing { .. }), "{state:?}");
    assert_eq!(error(&state), expected);
    *world.probe.lock().unwrap() = PROBE_OUTPUT.to_owned();
    bench.until_waiting_for_the_pod().await;
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_that_fails_for_long_breaks_the_link_unless_the_pod_may_run() {
    let world = World::new();
    *world.bootstrap.lock().unwrap() = "noise\nthe driver shows 0 of 8 GPUs\n".to_owned();
    let started = tokio::time::Instant::now();
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    let state = bench.until(broken).await;
    assert_eq!(error(&state), "bootstrap: the driver shows 0 of 8 GPUs (exit code 1)");
    let waited = started.elapsed().as_secs();
    assert!((300..320).contains(&waited), "{waited} s");

    world.probe.lock().unwrap().push_str("bootstrapped=yes\n");
    let bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    sleep(Duration::from_secs(3600)).await;
    assert!(!broken(&bench.link.status().state));
}
