//! User data: 16 bytes are the two limits, one says where sshd listens, the rest is the key.
//!
//! And what a machine prints on its console, which anybody on it may write to.
#![no_main]

use std::time::Duration;

use base64::Engine as _;
use orca::guest::{Listen, UserData, host_key_on_console, user_data};

/// EC2's limit, before base64.
const LIMIT: usize = 16 * 1024;
/// What a key of another kind might take.
const LONGEST_KEY: usize = 4_096;

fn number(bytes: &[u8]) -> Duration {
    Duration::from_secs(bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// A line without its numbers.
fn without_numbers(line: &str) -> String {
    line.chars().filter(|letter| !letter.is_ascii_digit()).collect()
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(key) = host_key_on_console(&String::from_utf8_lossy(bytes)) {
        assert!(key.starts_with("ssh-ed25519 ") && key.lines().count() == 1, "{key:?}");
    }
    let Some((numbers, [listen, key @ ..])) = bytes.split_at_checked(16) else { return };
    if key.is_empty() || key.len() > LONGEST_KEY {
        return;
    }
    let key = format!("ssh-ed25519 {}", base64::engine::general_purpose::STANDARD.encode(key));
    let listen = if listen % 2 == 0 { Listen::Loopback } else { Listen::AllAddresses };
    let (max_lifetime, max_lost_contact) = (number(&numbers[..8]), number(&numbers[8..]));
    let usual = UserData {
        ssh_public: "KEY".to_owned(),
        listen,
        max_lifetime: Duration::from_secs(1),
        max_lost_contact: Duration::from_secs(1),
    };
    let text = user_data(&UserData { ssh_public: key.clone(), listen, max_lifetime, max_lost_contact });
    assert!(text.is_ascii() && text.len() <= LIMIT, "{} bytes", text.len());
    // Numbers are numbers, the key is the key, and the rest is as always: no line more, none less.
    let usual = user_data(&usual);
    assert_eq!(text.lines().count(), usual.lines().count());
    for (line, usual) in text.lines().zip(usual.lines()) {
        let expected = without_numbers(&usual.replace("KEY", &key));
        assert_eq!(without_numbers(line), expected);
    }
    for (name, limit) in [("max_age", max_lifetime), ("max_silence", max_lost_contact)] {
        assert!(text.contains(&format!("\n{name}={}\n", limit.as_secs())), "{name}");
    }
});
