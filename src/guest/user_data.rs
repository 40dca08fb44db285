//! User data: how a bare machine becomes one that ends itself and lets one key in.
//!
//! Equal input gives equal bytes, because EC2 compares them when a launch is repeated. Anybody who may describe the
//! instance can read it, and so can its pod's neighbours in the account: it holds a public key and no secret.

use super::files::kubelet;
use super::{GATEWAY_PORT, KUBELET_PORT, Listen, SSH_PORT, UserData, fill};

const SCRIPT: &str = include_str!("scripts/user-data.sh");

/// What stands around the host key on the console.
const CONSOLE_BEGIN: &str = "<orca-host-key>";
const CONSOLE_END: &str = "</orca-host-key>";

/// User data: one `#cloud-boothook`, idempotent, under 16 KiB, without secrets.
#[must_use]
pub fn user_data(input: &UserData) -> String {
    let listen = match input.listen {
        Listen::Loopback => "ListenAddress 127.0.0.1",
        Listen::AllAddresses => "ListenAddress 0.0.0.0\nListenAddress ::",
    };
    let silence = input.max_lost_contact.as_secs();
    // Four looks within the shortest limit, and at least one each half minute.
    let tick = (silence / 4).clamp(1, 30);
    fill(
        SCRIPT,
        &[
            ("max_lifetime", &input.max_lifetime.as_secs().to_string()),
            ("max_lost_contact", &silence.to_string()),
            ("tick", &tick.to_string()),
            ("ssh_public", input.ssh_public.trim()),
            ("port", &SSH_PORT.to_string()),
            ("listen", listen),
            ("kubelet_port", &KUBELET_PORT.to_string()),
            ("gateway_port", &GATEWAY_PORT.to_string()),
            ("kubelet_unit", kubelet::unit().trim_end()),
            ("console_begin", CONSOLE_BEGIN),
            ("console_end", CONSOLE_END),
        ],
    )
}

/// The host key that user data printed to the console (`ssh-ed25519 AAAA…`); `None` while there is none,
/// or when different ones are shown, of which none can be trusted.
#[must_use]
pub fn host_key_on_console(console: &str) -> Option<String> {
    let mut keys = console.split(CONSOLE_BEGIN).skip(1).filter_map(|rest| {
        let (key, _) = rest.split_once(CONSOLE_END)?;
        (key.starts_with("ssh-ed25519 ") && !key.contains(['\r', '\n'])).then_some(key)
    });
    let first = keys.next()?;
    keys.all(|key| key == first).then(|| first.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;
    use std::time::Duration;

    use super::*;
    use crate::keys::Keys;

    fn mk_input(listen: Listen) -> UserData {
        UserData {
            ssh_public: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGkKQhDBjqzNqCqVhBSzAaiKZxUcxbRhHUPvCrZBrbJS"
                .to_owned(),
            listen,
            max_lifetime: Duration::from_secs(86400),
            max_lost_contact: Duration::from_secs(900),
        }
    }

    /// The file that user data writes to `path`.
    fn written(path: &str) -> String {
        let text = user_data(&mk_input(Listen::Loopback));
        let start = text.split(&format!("put {path} ")).nth(1).unwrap();
        let (_, body) = start.split_once("<< 'END'\n").unwrap();
        body.split_once("END\n").unwrap().0.to_owned()
    }

    #[test]
    fn it_is_a_boothook_under_the_limit_that_shells_can_read() {
        for listen in [Listen::Loopback, Listen::AllAddresses] {
            let text = user_data(&mk_input(listen));
            assert!(text.starts_with("#cloud-boothook\n#!/bin/sh\n"));
            assert!(text.len() < 8 * 1024, "{} bytes", text.len());
            assert!(text.is_ascii());
            for shell in ["sh", "bash"] {
                for script in [text.clone(), written("/etc/orca/deadman")] {
                    let out = Command::new(shell).args(["-n", "-c", &script]).output().unwrap();
                    assert!(out.status.success(), "{shell}: {}", String::from_utf8_lossy(&out.stderr));
                }
            }
        }
    }

    #[test]
    fn the_kubelets_unit_is_the_one_that_the_bootstrap_puts() {
        assert_eq!(written("/etc/systemd/system/orca-kubelet.service"), kubelet::unit());
    }

    #[test]
    fn equal_input_gives_equal_bytes_and_every_input_counts() {
        let input = mk_input(Listen::Loopback);
        let text = user_data(&input);
        assert_eq!(text, user_data(&input.clone()));
        let others = [
            UserData { listen: Listen::AllAddresses, ..input.clone() },
            UserData { max_lifetime: Duration::from_secs(1), ..input.clone() },
            UserData { max_lost_contact: Duration::from_secs(1), ..input.clone() },
            UserData { ssh_public: "ssh-ed25519 AAAA".to_owned(), ..input },
        ];
        for other in others {
            assert_ne!(text, user_data(&other));
        }
    }

    #[test]
    fn it_holds_the_public_key_and_no_other() {
        let keys = Keys::generate().unwrap();
        let text = user_data(&UserData { ssh_public: keys.ssh_public.clone(), ..mk_input(Listen::Loopback) });
        assert_eq!(text.matches(&keys.ssh_public).count(), 1);
        assert!(!text.contains("PRIVATE KEY") && !text.contains("CERTIFICATE"), "{text}");
        assert!(!text.replace(&keys.ssh_public, "").contains("AAAA"));
    }

    #[test]
    fn sshd_accepts_its_configuration() {
        let dir = scratch("sshd");
        let key = dir.join("key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        let config = written("/etc/orca/sshd_config")
            .replace("/etc/orca/ssh_host_ed25519_key", &key.to_string_lossy());
        let file = dir.join("sshd_config");
        std::fs::write(&file, &config).unwrap();
        // As the unit does: a machine on which no sshd ever ran lacks it.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let out = Command::new("/usr/sbin/sshd").arg("-T").arg("-f").arg(&file).output().unwrap();
        let effective = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        for line in [
            "port 2222",
            "listenaddress 127.0.0.1:2222",
            "permitopen 127.0.0.1:10250",
            "permitlisten 127.0.0.1:6443",
            "passwordauthentication no",
            "kbdinteractiveauthentication no",
            "authenticationmethods publickey",
            "allowusers root",
            "usepam yes",
        ] {
            assert!(effective.lines().any(|got| got == line), "no `{line}` in {effective}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("orca-{name}-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// The dead-man script in a folder of its own, at an uptime that the test sets. Says whether it powers off.
    fn look(dir: &Path, uptime: u32) -> bool {
        let at = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let script = written("/etc/orca/deadman")
            .replace("/proc/uptime", &at("uptime"))
            .replace("/run/orca", &at("run"))
            .replace("/var/lib/orca", &at("lib"))
            .replace("/dev/console", &at("console"))
            .replace("systemctl --no-block poweroff", &format!("touch {}", at("off")));
        std::fs::write(dir.join("uptime"), format!("{uptime}.42 99.00\n")).unwrap();
        let out = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&out.stderr), "");
        dir.join("off").exists()
    }

    #[test]
    fn silence_ends_the_machine_and_contact_keeps_it() {
        let dir = scratch("deadman");
        // The uptime need not begin at 0: a container shows its host's.
        assert!(!look(&dir, 5000));
        assert!(!look(&dir, 5899));
        std::fs::write(dir.join("run/contact"), "5890\n").unwrap();
        assert!(!look(&dir, 6789));
        assert!(look(&dir, 6790));
        let console = std::fs::read_to_string(dir.join("console")).unwrap();
        assert_eq!(
            console,
            "orca: this machine had no contact for 900 s, of 900 s that it may; powering off\n"
        );
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn age_ends_the_machine_and_a_reboot_does_not_make_it_young() {
        let dir = scratch("age");
        let contact = |uptime: u32| std::fs::write(dir.join("run/contact"), format!("{uptime}\n")).unwrap();
        assert!(!look(&dir, 10));
        contact(80_010);
        assert!(!look(&dir, 80_010));
        // Another boot: what is in /run is gone.
        std::fs::remove_dir_all(dir.join("run")).unwrap();
        assert!(!look(&dir, 20));
        contact(6_419);
        assert!(!look(&dir, 6_419));
        contact(6_420);
        assert!(look(&dir, 6_420));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_host_key_is_found_on_the_console_only_if_it_is_the_only_one() {
        let block = |key: &str| format!("[    3.2] boot\r\n<orca-host-key>{key}</orca-host-key>\r\nlogin: ");
        let (one, two) = ("ssh-ed25519 AAAAone", "ssh-ed25519 AAAAtwo");
        let cases = [
            (String::new(), None),
            ("<orca-host-key>ssh-ed25519 AA".to_owned(), None),
            (block(one), Some(one)),
            (block(one) + &block(one), Some(one)),
            (block(one) + &block(two), None),
            (block("garbage"), None),
            (block("ssh-ed25519 A\nB"), None),
        ];
        for (console, expected) in cases {
            assert_eq!(host_key_on_console(&console).as_deref(), expected, "{console:?}");
        }
    }
}
