//! Whose key a machine must prove, and what it gets before and after.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_host_key_is_pinned_before_anything_secret_goes_over() {
    let world = World::new();
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Ssm);
    bench.until_waiting_for_the_pod().await;
    assert_eq!(
        world.log(),
        [
            "dial, pin none",
            "probe",
            "tag i-1 {\"orca.research/host-key\": \"ssh-ed25519 AAAAhost\"}",
            "listen 127.0.0.1:6443",
            "bootstrap with secrets"
        ]
    );
    assert_eq!(bench.link.pin().as_deref(), Some(KEY));
}

#[tokio::test(start_paused = true)]
async fn another_host_key_than_the_pinned_one_breaks_the_link() {
    let world = World::new();
    let machine = Machine { host_key: Some("ssh-ed25519 AAAApinned".to_owned()), ..mk_machine() };
    let mut bench = Bench::start(&world, machine, TunnelKind::Ssm);
    let state = bench.until(broken).await;
    assert_eq!(error(&state), "host key is `ssh-ed25519 AAAAhost`, expected `ssh-ed25519 AAAApinned`");
    assert_eq!(world.log(), ["dial, pin ssh-ed25519 AAAApinned"]);
}

#[tokio::test(start_paused = true)]
async fn a_direct_tunnel_waits_for_the_key_on_the_console() {
    let world = World::new();
    let mut bench = Bench::start(&world, mk_machine(), TunnelKind::Direct);
    let state = bench.until(|state| !error(state).is_empty()).await;
    assert_eq!(error(&state), "the console does not show one host key yet");
    assert!(!world.log().iter().any(|line| line.starts_with("tag") || line.contains("secrets")));
    *world.console.lock().unwrap() = format!("<orca-host-key>{KEY}</orca-host-key>");
    bench.until_waiting_for_the_pod().await;
}

#[tokio::test(start_paused = true)]
async fn a_direct_tunnel_to_somebody_else_gets_no_secret() {
    for (console, nitro, expected) in [
        (
            "<orca-host-key>ssh-ed25519 AAAAtrue</orca-host-key>",
            true,
            "host key is `ssh-ed25519 AAAAhost`, the console shows `ssh-ed25519 AAAAtrue`",
        ),
        (
            "<orca-host-key>ssh-ed25519 AAAAhost</orca-host-key>",
            false,
            "a `direct` tunnel needs an instance type whose console can be read, and `m7i.large` is not on Nitro",
        ),
    ] {
        let world = World::new();
        *world.console.lock().unwrap() = console.to_owned();
        let mut machine = mk_machine();
        machine.instance_type.nitro = nitro;
        let mut bench = Bench::start(&world, machine, TunnelKind::Direct);
        let state = bench.until(broken).await;
        assert_eq!(error(&state), expected);
        assert!(!world.log().iter().any(|line| line.starts_with("tag") || line.contains("secrets")));
    }
}
