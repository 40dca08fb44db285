//! Failpoints that are armed, and what happens there. Debug builds alone have this.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use super::Write;

/// Of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Before,
    After,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// What happens at a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The process dies.
    Kill,
    /// It goes on, and dies so much later: in the middle of the call.
    KillAfter(Duration),
    /// Whoever came here never goes on.
    Stall,
}

/// A failpoint that is armed: `launch.intent.after=kill`, `launch.run-instances.before#2=kill:15` (the second time,
/// 15 ms later) or `logs.put.before=stall`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failpoint {
    write: Write,
    side: Side,
    nth: u32,
    fate: Fate,
}

impl FromStr for Failpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("the failpoint is `{text}`, expected {what}");
        let (point, fate) =
            text.split_once('=').ok_or_else(|| wrong("a name, `=` and what happens there"))?;
        let (point, nth) = point.split_once('#').unwrap_or((point, "1"));
        let (name, side) = point.rsplit_once('.').unwrap_or((point, ""));
        let write = Write::ALL.iter().copied().find(|write| write.name() == name);
        let side = [Side::Before, Side::After].into_iter().find(|one| one.name() == side);
        Ok(Self {
            write: write.ok_or_else(|| wrong("a name of the list in failpoint.rs"))?,
            side: side.ok_or_else(|| wrong("`.before` or `.after`"))?,
            nth: nth.parse().ok().filter(|nth| *nth > 0).ok_or_else(|| wrong("`#` and a count from 1"))?,
            fate: match fate.split_once(':') {
                None if fate == "kill" => Fate::Kill,
                None if fate == "stall" => Fate::Stall,
                Some(("kill", ms)) => Fate::KillAfter(Duration::from_millis(
                    ms.parse().map_err(|_| wrong("milliseconds behind `kill:`"))?,
                )),
                Some(_) | None => return Err(wrong("`kill`, `kill:MS` or `stall`")),
            },
        })
    }
}

/// What this process was told, and what it met.
#[derive(Debug)]
struct Armed {
    points: Vec<Failpoint>,
    record: Option<Mutex<File>>,
    met: Mutex<HashMap<(Write, Side), u32>>,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// Arms this process, once, before it does anything. `record` gets a line for each failpoint that is met the first
/// time (`met NAME`), and for the one that is its end (`kill NAME`).
///
/// # Errors
/// When `record` cannot be written to.
pub fn arm(points: Vec<Failpoint>, record: Option<&Path>) -> std::io::Result<()> {
    let open = |path| File::options().create(true).append(true).open(path).map(Mutex::new);
    let armed = Armed { points, record: record.map(open).transpose()?, met: Mutex::default() };
    ARMED.get_or_init(|| armed);
    Ok(())
}

impl Armed {
    /// Counts that somebody came here; says what is to happen.
    fn meet(&self, write: Write, side: Side) -> Option<Fate> {
        let times = {
            let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
            let times = met.entry((write, side)).or_default();
            *times += 1;
            *times
        };
        if times == 1 {
            self.note("met", write, side);
        }
        let due = |point: &Failpoint| (point.write, point.side, point.nth) == (write, side, times);
        self.points.iter().find(|point| due(point)).map(|point| point.fate)
    }

    fn note(&self, what: &str, write: Write, side: Side) {
        let Some(record) = &self.record else { return };
        let mut file = record.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{what} {}.{}\n", write.name(), side.name());
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!(%error, "a failpoint cannot be recorded");
        }
    }
}

pub(super) async fn hit(write: Write, side: Side) {
    let Some(armed) = ARMED.get() else { return };
    match armed.meet(write, side) {
        None => {}
        Some(Fate::Kill) => die(armed, write, side),
        Some(Fate::KillAfter(wait)) => {
            std::thread::spawn(move || {
                std::thread::sleep(wait);
                die(armed, write, side)
            });
        }
        Some(Fate::Stall) => {
            armed.note("stall", write, side);
            std::future::pending::<()>().await;
        }
    }
}

/// Ends the process as `kill -9` does: nothing is unwound, flushed or told to anybody.
fn die(armed: &Armed, write: Write, side: Side) -> ! {
    armed.note("kill", write, side);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_armed_by_name_count_and_fate() {
        let parse = |text: &str| text.parse::<Failpoint>();
        let usual = Failpoint { write: Write::Intent, side: Side::After, nth: 1, fate: Fate::Kill };
        assert_eq!(parse("launch.intent.after=kill"), Ok(usual));
        let late = Fate::KillAfter(Duration::from_millis(15));
        let second = Failpoint { write: Write::RunInstances, side: Side::Before, nth: 2, fate: late };
        assert_eq!(parse("launch.run-instances.before#2=kill:15"), Ok(second));
        for (wrong, says) in [
            ("launch.intent.after", "`=`"),
            ("launch.intent=kill", "a name of the list"),
            ("launch.intent.during=kill", "`.before`"),
            ("launch.intent.after#0=kill", "a count from 1"),
            ("launch.intent.after=trip", "`kill`"),
            ("launch.intent.after=kill:x", "milliseconds"),
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(says) && error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_failpoint_is_due_at_its_count_alone_and_first_meetings_are_recorded() {
        let path = std::env::temp_dir().join(format!("orca-failpoint-{}", uuid::Uuid::new_v4()));
        let file = File::create(&path).unwrap();
        let armed = Armed {
            points: vec!["logs.put.after#2=stall".parse().unwrap()],
            record: Some(Mutex::new(file)),
            met: Mutex::default(),
        };
        assert_eq!(armed.meet(Write::LogPut, Side::After), None);
        assert_eq!(armed.meet(Write::LogPut, Side::Before), None);
        assert_eq!(armed.meet(Write::LogPut, Side::After), Some(Fate::Stall));
        assert_eq!(armed.meet(Write::LogPut, Side::After), None);
        let told = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        assert_eq!(told, "met logs.put.after\nmet logs.put.before\n");
    }
}
