//! What a machine prints about itself, and the files that are made for it then.
#![no_main]

use std::net::IpAddr;
use std::time::Duration;

use orca::guest::{GuestFacts, Inputs, KeepLogs, Snat, bootstrap};

fn inputs() -> Inputs {
    let text = "text".to_owned();
    Inputs {
        node: "orca".to_owned(),
        private_ip: IpAddr::from([10, 0, 1, 10]),
        pod_ip: IpAddr::from([10, 0, 1, 11]),
        subnet_bits: 24,
        snat: Snat::Machine,
        grace: Duration::from_secs(30),
        gpus: 1,
        logs: KeepLogs::Yes,
        gateway_ca: text.clone(),
        gateway_token: text.clone(),
        serving_cert: text.clone(),
        serving_key: text.clone(),
        client_ca: text,
    }
}

/// Whether a shell, a unit and a YAML file all read this as it stands.
fn is_plain(text: &str) -> bool {
    text.chars().all(|letter| letter.is_ascii_alphanumeric() || "-_.:/@".contains(letter))
}

libfuzzer_sys::fuzz_target!(|output: &str| {
    let Ok(facts) = GuestFacts::parse(output) else { return };
    let paths = [&facts.kubelet, &facts.runc, &facts.cni_dir].into_iter().chain(&facts.nvidia_runtime);
    for path in paths {
        assert!(path.starts_with('/') && is_plain(path), "{path:?}");
    }
    assert!(is_plain(&facts.interface) && is_plain(&facts.boot_id), "{facts:?}");
    assert!(!bootstrap(&facts, &inputs()).is_empty());
});
