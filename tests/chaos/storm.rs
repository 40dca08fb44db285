//! The storm as it happens: ORCA started, armed, and killed, again and again, with other trouble between.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::api::Api;
use crate::seed::{Blow, Life, Replica};
use crate::world::{World, http};

/// After an ORCA that ended by itself, as whoever runs it would wait.
const RESTART: Duration = Duration::from_millis(300);
/// The local Node.
const NODE: &str = "/api/v1/nodes/orca";

/// What happened.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Deaths by failpoint, with how often each was one.
    pub(crate) points: BTreeMap<String, u32>,
    /// Deaths at no point in particular.
    pub(crate) random: u32,
    /// ORCA ended by itself while the API server was away.
    pub(crate) alone: u32,
    /// ORCA ended by itself, and nobody knows why.
    pub(crate) unexplained: u32,
    pub(crate) blows: BTreeMap<&'static str, u32>,
    /// How often another replica took over.
    pub(crate) switches: u32,
}

impl Tally {
    pub(crate) fn kills(&self) -> u32 {
        self.random + self.points.values().sum::<u32>()
    }
}

/// Who lets the storm loose.
pub(crate) struct Weather<'a> {
    world: &'a Arc<World>,
    api: &'a Api,
    /// For `world.sh`.
    variables: Vec<(String, String)>,
    record: PathBuf,
    pub(crate) tally: Tally,
    /// Trouble that is still under way.
    running: Vec<JoinHandle<Result<()>>>,
    /// The API server is away.
    away: Arc<AtomicBool>,
    /// Who lived last.
    replica: Replica,
}

/// How a life ended.
#[derive(Debug, PartialEq, Eq)]
enum Death {
    Point(String),
    Killed,
    ByItself,
}

impl<'a> Weather<'a> {
    pub(crate) fn new(
        world: &'a Arc<World>,
        api: &'a Api,
        variables: &[(&str, &str)],
        record: PathBuf,
    ) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            world,
            api,
            variables: variables.iter().map(owned).collect(),
            record,
            tally: Tally::default(),
            running: Vec::new(),
            away: Arc::default(),
            replica: Replica::First,
        }
    }

    /// Kills the ORCA that `world.sh up` started.
    pub(crate) fn begin(&self) -> Result<()> {
        self.world.script(&["orca-kill"])
    }

    /// One life of ORCA, and what happens in it.
    pub(crate) fn live(&mut self, life: &Life) -> Result<()> {
        if let Some(blow) = &life.blow {
            self.strike(blow)?;
        }
        if std::mem::replace(&mut self.replica, life.replica) != life.replica {
            self.tally.switches += 1;
        }
        let before = self.deaths()?;
        let pid = self.start(life.replica, &life.points.join(","))?;
        let begin = Instant::now();
        while begin.elapsed() < life.lasts && lives(pid) {
            std::thread::sleep(Duration::from_millis(4));
        }
        let death = if lives(pid) {
            kill(pid)?;
            Death::Killed
        } else {
            let after = self.deaths()?;
            after.get(before.len()).map_or(Death::ByItself, |name| Death::Point(name.clone()))
        };
        match death {
            Death::Point(name) => *self.tally.points.entry(name).or_default() += 1,
            Death::Killed => self.tally.random += 1,
            Death::ByItself if self.away.load(Ordering::Relaxed) => {
                self.tally.alone += 1;
                std::thread::sleep(RESTART);
            }
            Death::ByItself => {
                self.tally.unexplained += 1;
                std::thread::sleep(RESTART);
            }
        }
        Ok(())
    }

    /// Lets all trouble end, and starts an ORCA that stays.
    pub(crate) fn end(&mut self) -> Result<()> {
        for one in self.running.drain(..) {
            one.join().map_err(|_| anyhow::anyhow!("a thread of the storm panicked"))??;
        }
        http("DELETE", "/_local/faults", None)?;
        self.start(Replica::First, "").map(drop)
    }

    fn start(&self, replica: Replica, points: &str) -> Result<u32> {
        let mut variables: Vec<(&str, &str)> =
            self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if !points.is_empty() {
            variables.push(("ORCA_FAILPOINT", points));
        }
        let (command, file) = match replica {
            Replica::First => ("orca-start", "orca.pid"),
            Replica::Second => ("orca-start-second", "orca-second.pid"),
        };
        self.world.script_with(&[command], &variables)?;
        let file = std::fs::read_to_string(self.world.file(file))?;
        file.split_whitespace().next().and_then(|pid| pid.parse().ok()).context("orca.pid")
    }

    /// The failpoints that were deaths so far.
    fn deaths(&self) -> Result<Vec<String>> {
        let text = std::fs::read_to_string(&self.record).unwrap_or_default();
        Ok(text.lines().filter_map(|line| line.strip_prefix("kill ")).map(str::to_owned).collect())
    }

    fn strike(&mut self, blow: &Blow) -> Result<()> {
        let name = match blow {
            Blow::LostAnswer { action, then } => {
                fault(&json!({"action": action, "then": then}))?;
                "lost answers"
            }
            Blow::LateAnswer { action, delay } => {
                fault(&json!({"action": action, "answer_delay_ms": millis(*delay)}))?;
                "late answers"
            }
            Blow::Outage { calls } => {
                fault(
                    &json!({"action": "*", "times": calls, "then": "refuse", "status": 503, "code": "Unavailable"}),
                )?;
                "outages"
            }
            Blow::Cut { victim, lasts } => {
                let id = match victim {
                    Some(victim) => match self.victim(*victim)? {
                        Some(id) => Some(id),
                        None => return Ok(()),
                    },
                    None => None,
                };
                http(
                    "POST",
                    "/_local/cuts",
                    Some(&json!({"instance_id": id, "duration_ms": millis(*lasts)})),
                )?;
                "cuts"
            }
            Blow::Death { victim } => {
                let Some(id) = self.victim(*victim)? else { return Ok(()) };
                http("POST", &format!("/_local/instances/{id}/kill"), None)?;
                "dead machines"
            }
            Blow::Freeze { victim, lasts } => {
                let Some(id) = self.victim(*victim)? else { return Ok(()) };
                self.freeze(id, *lasts);
                "frozen machines"
            }
            Blow::Tamper => {
                let taken = json!({"metadata": {"labels": {"type": null}}});
                self.api.patch(NODE, &taken)?;
                "labels taken"
            }
            Blow::ApiServer => {
                if !self.restart_api_server() {
                    return Ok(());
                }
                "API server restarts"
            }
        };
        *self.tally.blows.entry(name).or_default() += 1;
        Ok(())
    }

    /// One of the machines that run.
    fn victim(&self, number: u64) -> Result<Option<String>> {
        let all = self.world.instances(|one| one["state"] == "running")?;
        let Some(last) = (all.len() as u64).checked_sub(1) else { return Ok(None) };
        let at = usize::try_from(number % (last + 1))?;
        Ok(all[at]["id"].as_str().map(str::to_owned))
    }

    fn freeze(&mut self, id: String, lasts: Duration) {
        self.running.push(std::thread::spawn(move || {
            // It may end meanwhile, and then there is nothing to freeze or thaw.
            if http("POST", &format!("/_local/instances/{id}/freeze"), None).is_ok() {
                std::thread::sleep(lasts);
                drop(http("POST", &format!("/_local/instances/{id}/thaw"), None));
            }
            Ok(())
        }));
    }

    /// False if it is restarted already.
    fn restart_api_server(&mut self) -> bool {
        if self.away.swap(true, Ordering::Relaxed) {
            return false;
        }
        let (world, away) = (Arc::clone(self.world), Arc::clone(&self.away));
        let variables = self.variables.clone();
        self.running.push(std::thread::spawn(move || {
            let variables: Vec<(&str, &str)> =
                variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            world.script(&["apiserver-stop"])?;
            world.script_with(&["apiserver-start"], &variables)?;
            away.store(false, Ordering::Relaxed);
            Ok(())
        }));
        true
    }
}

fn fault(body: &Value) -> Result<()> {
    http("POST", "/_local/faults", Some(body)).map(drop)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Whether a process lives: neither gone nor waiting to be buried with all its threads, and its sockets closed.
fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    threads > 1 || stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// As `kill -9`, and until it is dead.
fn kill(pid: u32) -> Result<()> {
    let status = Command::new("kill").args(["-KILL", "--", &format!("-{pid}")]).status()?;
    // It may have died a moment before.
    ensure!(status.success() || !lives(pid), "kill ended with {status}");
    while lives(pid) {
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
