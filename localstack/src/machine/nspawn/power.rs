//! One machine under power: from its first process to its last.
//!
//! The task that supervises a machine owns its processes. Aborting it cuts the power; what is left then is found by
//! control group, so it does not matter who the parents were.

use std::fs::{self, File};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Machine, Site};
use crate::machine::namespace::{ENTER, own_network};
use crate::machine::{MachineEvent, network};

/// From being asked to power off to being cut off. EC2 waits for minutes, too.
const SHUT_DOWN_DEADLINE: Duration = Duration::from_secs(120);

/// nspawn's exit status for `reboot` inside.
const REBOOTED: i32 = 133;

const BOOT: &str = include_str!("boot.sh");

/// What others see of a machine under power, and what they may ask of it.
#[derive(Debug, Default)]
pub(super) struct Panel {
    /// Its services have started.
    pub(super) up: AtomicBool,
    pub(super) frozen: AtomicBool,
    pub(super) button: Notify,
}

/// The processes of a machine.
#[derive(Debug)]
pub(super) struct Running {
    nspawn: Child,
    agent: Child,
    notify: UnixDatagram,
}

/// Starts a machine on the files that it has.
pub(super) async fn start(site: &Site, machine: &Machine) -> anyhow::Result<Running> {
    let id = &machine.spec.id;
    let cgroups = &site.host.cgroups;
    cgroups.destroy(id).await?;
    cgroups.create(id)?;

    let path = machine.disk.notify_socket();
    drop(fs::remove_file(&path));
    let notify = UnixDatagram::bind(&path).with_context(|| format!("listening on `{}`", path.display()))?;

    let console = File::options().create(true).append(true).open(machine.disk.console())?;
    let spec = &machine.spec;
    let mut nspawn = Command::new("sh");
    nspawn
        .args(["-euc", ENTER, "enter"])
        .args(cgroups.machine(id))
        .args(["--", "unshare", "--mount", "--net", "--propagation", "slave", "sh", "-euc", BOOT, "boot"])
        .env("NAME", id)
        .env("DIR", &machine.disk.dir)
        .env("BASE", &site.options.image)
        .env("UNIFIED", cgroups.unified())
        .env("GROUP", cgroups.parent())
        .env("ADDRESS", format!("{}/{}", spec.private_ip, spec.subnet_cidr.1))
        .env("GATEWAY", network::gateway(spec.subnet_cidr).to_string())
        .env("MAC", &spec.mac)
        .env("RESOLVER", site.network.resolver().map(|address| address.to_string()).unwrap_or_default())
        .env("CAPABILITIES", site.host.capabilities)
        .env("NOTIFY_SOCKET", &path)
        .stdin(Stdio::piped())
        .stdout(console.try_clone()?)
        .stderr(console)
        .kill_on_drop(true);
    let mut nspawn = nspawn.spawn().context("starting `sh`")?;
    let pid = nspawn.id().context("the machine ended before it began")?;
    own_network(&mut nspawn, pid).await?;
    site.network.attach(spec, pid, machine.metadata).await?;
    let agent = agent(site, machine, pid)?;

    // It may have ended meanwhile; the supervisor finds out.
    let mut stdin = nspawn.stdin.take().expect("it was asked for above");
    drop(stdin.write_all(b"\n").await);
    Ok(Running { nspawn, agent, notify })
}

fn agent(site: &Site, machine: &Machine, pid: u32) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(machine.disk.dir.join("agent.log"))?;
    Command::new("sh")
        .args(["-euc", ENTER, "enter"])
        .args(site.host.cgroups.attendants(&machine.spec.id))
        .arg("--")
        .arg("nsenter")
        .arg(format!("--net=/proc/{pid}/ns/net"))
        .arg(&site.options.agent)
        .args(["agent", "--socket"])
        .arg(machine.disk.agent_socket())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
        .context("starting the agent")
}

/// Sees a machine through to its end, over any number of reboots from inside, and says how it ended.
pub(super) async fn supervise(site: Arc<Site>, machine: Arc<Machine>, mut running: Running) {
    let id = machine.spec.id.clone();
    let event = loop {
        let end = attend(&machine, &mut running).await;
        let was_up = machine.panel.up.swap(false, Ordering::Relaxed);
        drop(running);
        let end = match clear(&site, &machine).await {
            Ok(()) => end,
            Err(error) => End::Broken(format!("{error:#}")),
        };
        match end {
            End::Rebooted => match start(&site, &machine).await {
                Ok(again) => running = again,
                Err(error) => break MachineEvent::Failed { id, message: format!("{error:#}") },
            },
            End::Off => break MachineEvent::PoweredOff { id },
            // One that ran is off, whatever its supervisor's exit status says.
            End::Broken(_) if was_up => break MachineEvent::PoweredOff { id },
            End::Broken(message) => break MachineEvent::Failed { id, message },
        }
    };
    tracing::info!(?event, "machine ended by itself");
    // Nobody listens in a cloud that is ending.
    drop(site.events.send(event));
}

enum End {
    Off,
    Rebooted,
    Broken(String),
}

async fn attend(machine: &Machine, running: &mut Running) -> End {
    let Running { nspawn, agent, notify } = running;
    let panel = &machine.panel;
    let mut message = [0; 4096];
    let mut leader = None;
    let mut agent_ended = false;
    let mut pressed = false;
    let mut finger = None;
    let mut cut_at = None;
    loop {
        tokio::select! {
            ended = nspawn.wait() => return how(ended, pressed, machine),
            () = panel.button.notified(), if !pressed => {
                pressed = true;
                cut_at = Some(Instant::now() + SHUT_DOWN_DEADLINE);
                // A system that still boots would miss it.
                if panel.up.load(Ordering::Relaxed) {
                    finger = press(leader);
                }
            }
            () = sleep_until(cut_at.unwrap_or_else(Instant::now)), if cut_at.is_some() => {
                tracing::warn!(id = machine.spec.id, "machine did not shut down in {SHUT_DOWN_DEADLINE:?}: cut off");
                return End::Off;
            }
            received = notify.recv(&mut message) => {
                let Ok(length) = received else { continue };
                let told = Told::parse(&String::from_utf8_lossy(&message[..length]));
                leader = told.leader.or(leader);
                if told.ready && !agent_ended {
                    panel.up.store(true, Ordering::Relaxed);
                    if pressed && finger.is_none() {
                        finger = press(leader);
                    }
                }
            }
            ended = agent.wait(), if !agent_ended => {
                agent_ended = true;
                panel.up.store(false, Ordering::Relaxed);
                tracing::error!(id = machine.spec.id, ?ended, "the machine's agent ended; its log is `agent.log`");
            }
        }
    }
}

/// What nspawn says through its notification socket.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    /// The machine's services have started.
    ready: bool,
    /// Its PID 1, as the host numbers it.
    leader: Option<u32>,
}

impl Told {
    fn parse(message: &str) -> Self {
        let leader = message.lines().find_map(|line| line.strip_prefix("X_NSPAWN_LEADER_PID="));
        Self {
            ready: message.lines().any(|line| line == "READY=1"),
            leader: leader.and_then(|pid| pid.parse().ok()),
        }
    }
}

/// What logind does when the power button is pressed: those who asked for it get time to end what they do.
/// The finger is lifted when it is dropped.
fn press(leader: Option<u32>) -> Option<Child> {
    let leader = leader?.to_string();
    let pressed = Command::new("nsenter")
        .args(["--all", "--target", &leader, "systemctl", "poweroff"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    if let Err(error) = &pressed {
        tracing::warn!(%error, "the machine cannot be asked to shut down");
    }
    pressed.ok()
}

fn how(ended: std::io::Result<ExitStatus>, pressed: bool, machine: &Machine) -> End {
    match ended {
        Ok(status) if status.code() == Some(REBOOTED) && !pressed => End::Rebooted,
        Ok(status) if status.success() || pressed => End::Off,
        Ok(status) => {
            let console = machine.disk.console_text();
            let last = console.trim_end().lines().last().unwrap_or("nothing on its console").to_owned();
            End::Broken(format!("the machine ended with {status}: {last}"))
        }
        Err(error) => End::Broken(error.to_string()),
    }
}

/// Removes what a machine has while it is under power: processes, groups, its network device.
pub(super) async fn clear(site: &Site, machine: &Machine) -> anyhow::Result<()> {
    // A cut must not wait for another program's lock on the firewall for ever.
    let all = async {
        site.host.cgroups.destroy(&machine.spec.id).await?;
        site.network.detach(&machine.spec.id, machine.metadata).await
    };
    timeout(Duration::from_secs(60), all).await.context("machine cannot be cleared in a minute")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_and_the_end_of_the_boot_are_told_apart_from_other_news() {
        assert_eq!(Told::parse("X_NSPAWN_LEADER_PID=42"), Told { ready: false, leader: Some(42) });
        assert_eq!(Told::parse("STATUS=Container running.\nREADY=1\n"), Told { ready: true, leader: None });
        assert_eq!(Told::parse("READY=0\nX_NSPAWN_LEADER_PID=x"), Told { ready: false, leader: None });
    }
}
