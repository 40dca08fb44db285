//! The SSH session that listens on a machine where its kubelet looks for the gateway: finding it, and ending one that an
//! earlier process left behind.
//!
//! Two commands, so that one that comes late ends nobody but whom its sender saw.

use super::fill;

const SCRIPT: &str = include_str!("scripts/holder.sh");

/// Such a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pid: u32,
    /// When the process began, in ticks since the boot: tells it from a later one of the same number.
    started: u64,
}

impl Holder {
    /// The command that prints who listens on this port of 127.0.0.1. It fails when that is no SSH session of the machine,
    /// or the one that asks.
    #[must_use]
    pub fn find(port: u16) -> String {
        render(port, "")
    }

    /// Reads what [`Holder::find`] printed; `None` if nobody listens.
    #[must_use]
    pub fn parse(output: &[u8]) -> Option<Self> {
        let (pid, started) = std::str::from_utf8(output).ok()?.trim().split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    /// The command that ends this session and waits until the port is free; it does nothing to any other, and fails when
    /// the session does not end.
    #[must_use]
    pub fn end(self, port: u16) -> String {
        render(port, &self.to_string())
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.started)
    }
}

fn render(port: u16, session: &str) -> String {
    fill(SCRIPT, &[("port", &port.to_string()), ("session", session)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_read_as_it_is_written_and_nothing_else_is_one() {
        let holder = Holder { pid: 71, started: 12_345 };
        assert_eq!(Holder::parse(format!("{holder}\n").as_bytes()), Some(holder));
        for text in ["", "71", "71 ", "sshd 12345", "71 12345; reboot", "-1 5", "\u{7f}"] {
            assert_eq!(Holder::parse(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn shells_can_read_the_script_and_no_place_is_left_open() {
        for script in [Holder::find(6443), Holder { pid: 71, started: 12_345 }.end(6443)] {
            let place =
                script.split('@').skip(1).find(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            assert_eq!(place, None);
            for shell in ["sh", "bash"] {
                let out = std::process::Command::new(shell).args(["-n", "-c", &script]).output().unwrap();
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            }
        }
    }
}
