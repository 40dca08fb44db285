//! `make chaos`: a storm over a whole local world, and an independent judge of what is left.
//!
//! Arguments, all with defaults: `seed=7` (else one is drawn, and printed), `machines=30`, `kills=100`, `time=600`
//! (seconds; whichever is reached first ends the storm), `states` (machines are states only, and nothing ever runs).
//! `seed` decides the storm (the storm's and the load's schedule), the judge is `check`, and nobody asks ORCA.
#![expect(clippy::print_stdout, reason = "this program's output is its purpose")]
#![expect(clippy::print_stderr, reason = "progress")]

mod api;
mod archive;
mod check;
#[path = "../bench/configured.rs"]
mod configured;
mod load;
mod result;
mod seed;
mod settings;
mod storm;
#[path = "../e2e/world.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod world;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use orca::failpoint::Write;
use serde_json::json;

use self::api::Api;
use self::configured::Configured;
use self::load::{Place, is_over};
use self::seed::{Life, Load, Machines, Replica, Storm};
use self::settings::Settings;
use self::storm::{Tally, Weather};
use self::world::{World, eventually, http};

const NAMESPACE: &str = "chaos";
/// For everything to be at work or over, once nothing disturbs it.
const CALM: Duration = Duration::from_secs(240);
/// For everything to be gone.
const END: Duration = Duration::from_secs(180);

/// Met only once in a world: each is the death of the first life that comes there.
const ONCE: [Write; 4] = [Write::Keys, Write::NodeCreate, Write::LogGroup, Write::LogRetention];
/// Met where a Capacity Block ends, a cluster signs the endpoint's certificate, a machine does not notice that an earlier
/// process is gone, or leaves something behind: not here.
const ELSEWHERE: [Write; 5] =
    [Write::SwitchOff, Write::Certificate, Write::Evict, Write::DeleteVolume, Write::DeleteInterface];
/// Met by kubelets, and for their sake.
const BY_MACHINES: [Write; 9] = [
    Write::Pin,
    Write::Session,
    Write::Bootstrap,
    Write::GuestStatus,
    Write::GuestDelete,
    Write::GuestToken,
    Write::GuestEvent,
    Write::LogStream,
    Write::LogPut,
];

fn main() -> ExitCode {
    let settings = match Settings::parse(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(2);
        }
    };
    println!("{settings}");
    match run(&settings) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the storm broke off: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How many inotify instances root may have: each machine's systemd, containerd and kubelet have a dozen of the usual
/// 128, and a machine that gets none never boots.
const INOTIFY: &str = "/proc/sys/fs/inotify/max_user_instances";

/// Enough of them, until this is dropped.
struct Watches(String);

impl Watches {
    fn raise() -> Result<Self> {
        let before = std::fs::read_to_string(INOTIFY)?;
        if before.trim().parse::<u32>()? < 8192 {
            std::fs::write(INOTIFY, "8192").with_context(|| format!("raising {INOTIFY}"))?;
        }
        Ok(Self(before))
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        drop(std::fs::write(INOTIFY, &self.0));
    }
}

/// Whether every column is zero.
fn run(settings: &Settings) -> Result<bool> {
    let boot = match settings.machines {
        Machines::Real => "bootDeadline: 10m",
        Machines::States => "bootDeadline: 20s",
    };
    let config = Configured::new(&[("keepFinished: 5m", "keepFinished: 5s"), ("bootDeadline: 90s", boot)])?;
    let top = env!("CARGO_MANIFEST_DIR");
    let (policy, record) =
        (format!("{top}/tests/chaos/audit.yaml"), format!("{top}/target/local/failpoints"));
    let variables = [
        ("ORCA_CONFIG", config.path()?),
        ("ORCA_AUDIT_POLICY", &*policy),
        // Some gigabytes: never in pieces.
        ("ORCA_APISERVER_FLAGS", "--audit-log-maxsize=8000"),
        ("ORCA_FAILPOINT_RECORD", &*record),
        ("ORCA_MACHINES", if settings.machines == Machines::Real { "nspawn" } else { "none" }),
    ];
    let _watches = Watches::raise()?;
    let world = Arc::new(World::start_with(&variables)?);
    let result = rage(settings, &world, &variables, &record);
    let kept = result::keep(&world, settings);
    world.script(&["down"])?;
    let judged = result.and_then(|outcome| kept.map(|()| outcome))?;
    Ok(judged)
}

fn rage(settings: &Settings, world: &Arc<World>, variables: &[(&str, &str)], record: &str) -> Result<bool> {
    let api = Api::new(&world.kubeconfig())?;
    api.create(
        "/api/v1/namespaces",
        &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
    )?;
    let account = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default");
    eventually("the default service account", Duration::from_secs(30), || {
        Ok(api.get(&account)?.map(drop).ok_or("none"))
    })?;
    let stop = AtomicBool::new(false);
    let mut weather = Weather::new(world, &api, variables, record.into());
    weather.begin()?;
    let begin = Instant::now();
    first_lives(&api, &mut weather)?;
    std::thread::scope(|scope| -> Result<()> {
        let places: Vec<_> = (0..settings.places)
            .map(|number| {
                let place = Place { api: &api, namespace: NAMESPACE, number, stop: &stop };
                let load = Load::new(settings.seed, settings.machines, number);
                scope.spawn(move || place.run(load))
            })
            .collect();
        let raged = storm(settings, &mut weather, begin);
        stop.store(true, Ordering::Relaxed);
        let ended = weather.end();
        for place in places {
            place.join().map_err(|_| anyhow::anyhow!("a place panicked"))??;
        }
        raged.and(ended)
    })?;
    let took = begin.elapsed();
    eprintln!("==> calm after {} kills in {:.0} s", weather.tally.kills(), took.as_secs_f64());
    let times = settle(settings, world, &api)?;
    result::judge(settings, world, &weather.tally, &times, took)
}

/// Deaths where each world comes by only once: while there is no pod yet, and after what was made is taken away.
fn first_lives(api: &Api, weather: &mut Weather<'_>) -> Result<()> {
    let secret = || api.delete("/api/v1/namespaces/orca-system/secrets/orca-keys", &json!({})).map(drop);
    let node = || api.delete("/api/v1/nodes/orca", &json!({})).map(drop);
    let takers: [&dyn Fn() -> Result<()>; 4] = [&secret, &node, &archive::forget, &archive::forget];
    for (write, take) in ONCE.iter().zip(takers) {
        for side in ["before", "after"] {
            take()?;
            let points = vec![format!("{}.{side}=kill", write.name())];
            weather.live(&Life {
                points,
                lasts: Duration::from_secs(10),
                blow: None,
                replica: Replica::First,
            })?;
        }
    }
    Ok(())
}

fn storm(settings: &Settings, weather: &mut Weather<'_>, begin: Instant) -> Result<()> {
    let is_met = |write: &Write| !ONCE.contains(write) && is_here(settings, *write);
    let names: Vec<&str> = Write::ALL.iter().copied().filter(is_met).map(Write::name).collect();
    let mut told = 0;
    for life in Storm::new(settings.seed, settings.machines, &names) {
        if weather.tally.kills() >= settings.kills || begin.elapsed() >= settings.time {
            break;
        }
        weather.live(&life)?;
        if weather.tally.kills() / 25 > told {
            told = weather.tally.kills() / 25;
            eprintln!("==> {} kills in {:.0} s", weather.tally.kills(), begin.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// Whether a write can be met in this world.
fn is_here(settings: &Settings, write: Write) -> bool {
    !ELSEWHERE.contains(&write) && (settings.machines == Machines::Real || !BY_MACHINES.contains(&write))
}

/// When everything was at work or over, and when everything was gone.
pub(crate) struct Times {
    pub(crate) calm: jiff::Timestamp,
    pub(crate) end: jiff::Timestamp,
    /// The pods that were there in the end.
    pub(crate) left: serde_json::Value,
}

/// Waits until everything is as it should be, then deletes it all and waits until it is gone. That either takes too
/// long is for the judge to say.
fn settle(settings: &Settings, world: &World, api: &Api) -> Result<Times> {
    let pods = format!("/api/v1/namespaces/{NAMESPACE}/pods");
    let list = |path: &str| -> Result<Vec<serde_json::Value>> {
        Ok(api.get(path)?.context("a list")?["items"].as_array().cloned().unwrap_or_default())
    };
    let is_well = |pod: &serde_json::Value| {
        let ends = pod["metadata"]["annotations"][check::records::EXIT].is_string();
        let well = match settings.machines {
            Machines::States => true,
            Machines::Real if ends => is_over(pod),
            Machines::Real => world::condition(pod, "Ready") == Some("True"),
        };
        well && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let waited = eventually("all pods to be well", CALM, || {
        let all = list(&pods)?;
        let ill = all.iter().filter(|pod| !is_well(pod)).map(|pod| pod["metadata"]["name"].to_string());
        let ill: Vec<String> = ill.collect();
        Ok(if ill.is_empty() { Ok(()) } else { Err(ill) })
    });
    if let Err(error) = waited {
        eprintln!("{error:#}");
    }
    let calm = now();
    for path in ["/apis/batch/v1", "/apis/apps/v1", "/api/v1"]
        .iter()
        .zip(["jobs", "deployments", "pods"])
        .map(|(group, plural)| format!("{group}/namespaces/{NAMESPACE}/{plural}"))
    {
        for one in list(&path)? {
            let name = one["metadata"]["name"].as_str().context("name")?;
            api.delete(&format!("{path}/{name}"), &json!({"propagationPolicy": "Background"}))?;
        }
    }
    let gone = eventually("all pods and instances to be gone", END, || {
        let (pods, machines) =
            (list(&pods)?.len(), world.instances(|one| one["state"] != "shutting-down")?.len());
        Ok(if pods + machines == 0 { Ok(()) } else { Err(format!("{pods} pods, {machines} instances")) })
    });
    if let Err(error) = gone {
        eprintln!("{error:#}");
    }
    // The audit log is written behind its answers.
    std::thread::sleep(Duration::from_secs(2));
    Ok(Times { calm, end: now(), left: list(&pods)?.into() })
}

#[expect(clippy::disallowed_methods, reason = "what is compared are times of several programs")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
