//! One container from its first process to its last.
//!
//! The task that supervises a container owns its processes and reads what they write. What is left when it ends is found
//! by control group, so it does not matter who the parents were.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::image::Image;
use super::{ContainerEvent, network, user};
use crate::machine::cgroup::Cgroups;
use crate::machine::command::run;
use crate::machine::namespace::{ENTER, own_network};
use crate::runpod::container::Exit;
use crate::runpod::log::Source;

const START: &str = include_str!("start.sh");

/// Bytes of a line; a longer one is several.
const LINE: usize = 16 << 10;

/// For what a container left after its last process to be gone.
const CLEAR: Duration = Duration::from_secs(60);

/// SIGKILL.
const KILLED: i32 = 9;

/// What Docker gives a container's process.
const CAPABILITIES: &str = "-all,+chown,+dac_override,+fsetid,+fowner,+mknod,+net_raw,+setgid,+setuid,+setfcap,\
                            +setpcap,+net_bind_service,+sys_chroot,+kill,+audit_write";

/// And where it looks for programs, where the image does not say.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Programs of the host, by their full paths.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) env: String,
    pub(super) setpriv: String,
    pub(super) unshare: String,
}

/// What all containers share.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) cgroups: Cgroups,
    pub(super) tools: Tools,
    pub(super) events: mpsc::Sender<ContainerEvent>,
}

/// What a container is started from.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) id: &'a str,
    pub(super) run: u32,
    pub(super) dir: &'a Path,
    pub(super) image: &'a Image,
    pub(super) argv: Vec<String>,
    pub(super) env: BTreeMap<String, String>,
    /// Folders of the host, and where they are in the container.
    pub(super) mounts: Vec<(PathBuf, String)>,
    pub(super) address: Ipv4Addr,
}

/// A container under way.
#[derive(Debug)]
pub(super) struct Running {
    id: String,
    stop_signal: String,
    /// It is ended by force.
    is_forced: Arc<AtomicBool>,
    supervisor: AbortOnDropHandle<()>,
}

impl Host {
    /// Sends a signal to a container's first process. One that is gone needs none.
    pub(super) async fn signal(&self, id: &str, signal: &str) -> anyhow::Result<()> {
        let first = self.cgroups.processes(id).into_iter().find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            is_first(&status)
        });
        let Some(pid) = first else { return Ok(()) };
        run("sh", &["-c", "kill -\"$1\" \"$2\" 2> /dev/null || true", "kill", signal, &pid]).await.map(drop)
    }

    /// Removes what a container has while it runs: processes, groups, its network device. Idempotent.
    pub(super) async fn clear(&self, id: &str) -> anyhow::Result<()> {
        let all = async {
            self.cgroups.destroy(id).await?;
            network::detach(id).await
        };
        timeout(CLEAR, all).await.context("the container cannot be cleared in a minute")?
    }
}

/// Whether a process is the first of a PID namespace below ours, by its `/proc/PID/status`.
fn is_first(status: &str) -> bool {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers: Vec<&str> = numbers.unwrap_or("").split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}

impl Running {
    /// Ends all of its processes at once.
    pub(super) async fn kill(&self, host: &Host) -> anyhow::Result<()> {
        self.is_forced.store(true, Ordering::Relaxed);
        host.cgroups.destroy(&self.id).await
    }

    /// Asks it to end, and ends it by force when the time is over.
    pub(super) async fn stop(mut self, host: &Host, grace: Duration) -> anyhow::Result<()> {
        if !grace.is_zero() {
            host.signal(&self.id, &self.stop_signal).await?;
            if timeout(grace, &mut self.supervisor).await.is_ok() {
                return Ok(());
            }
        }
        self.kill(host).await?;
        timeout(CLEAR, self.supervisor)
            .await
            .context("the container's end was not seen")?
            .context("supervisor")
    }
}

/// Starts a container on the files that it has, or on none.
pub(super) async fn start(host: &Arc<Host>, start: Start<'_>) -> anyhow::Result<Running> {
    let Start { id, run, dir, image, argv, env, mounts, address } = start;
    ensure!(!argv.is_empty(), "no command specified");
    host.clear(id).await?;
    host.cgroups.create(id)?;
    prepare(dir, id, address)?;
    for (source, _) in &mounts {
        fs::create_dir_all(source).with_context(|| format!("cannot make `{}`", source.display()))?;
    }
    let config = &image.config;
    let read = |path: &str| fs::read_to_string(image.root.join(path)).unwrap_or_default();
    let user = user::resolve(&config.user, &read("etc/passwd"), &read("etc/group"))?;
    let (reader, writer) = io::pipe().context("a pipe")?;
    let mut command = Command::new("sh");
    command
        .args(["-euc", ENTER, "enter"])
        .args(host.cgroups.machine(id))
        .args(["--", "unshare", "--mount", "--net", "--uts", "--ipc", "--propagation", "private"])
        .args(["sh", "-euc", START, "start"]);
    for (source, target) in &mounts {
        command.arg(source).arg(target);
    }
    command
        .arg("--")
        .arg(&host.tools.env)
        .args(["-i", "--"])
        .args(environment(config, env, &user, id))
        .arg(&host.tools.setpriv)
        .arg(format!("--bounding-set={CAPABILITIES}"))
        .arg("--inh-caps=-all")
        .arg(&host.tools.unshare)
        .arg("--root=.")
        .arg(format!("--wd={}", if config.working_dir.is_empty() { "/" } else { &config.working_dir }))
        .arg(format!("--setgid={}", user.gid))
        .arg(format!("--setuid={}", user.uid))
        .arg("--")
        .args(&argv)
        .env("NAME", id)
        .env("DIR", dir)
        .env("IMAGE", &image.root)
        .env("ADDRESS", address.to_string())
        .env("GATEWAY", network::GATEWAY.to_string())
        .stdin(Stdio::piped())
        .stdout(writer.try_clone().context("a pipe")?)
        .stderr(writer)
        .kill_on_drop(true);
    let mut child = command.spawn().context("starting `sh`")?;
    // Its ends of the pipe are in the command, and would keep it open.
    drop(command);
    let pid = child.id().context("the container ended before it began")?;
    own_network(&mut child, pid).await?;
    network::attach(id, address, pid).await?;
    // It may have ended meanwhile; the supervisor finds out.
    let mut stdin = child.stdin.take().expect("it was asked for above");
    drop(stdin.write_all(b"\n").await);
    drop(stdin);
    let lines = Receiver::from_owned_fd(OwnedFd::from(reader)).context("a pipe")?;
    let is_forced = Arc::new(AtomicBool::new(false));
    let supervised = supervise(Arc::clone(host), id.to_owned(), run, child, lines, Arc::clone(&is_forced));
    let stop_signal = match config.stop_signal.as_str() {
        "" => "TERM".to_owned(),
        named => named.trim_start_matches("SIG").to_owned(),
    };
    let supervisor = AbortOnDropHandle::new(tokio::spawn(supervised));
    Ok(Running { id: id.to_owned(), stop_signal, is_forced, supervisor })
}

/// The image's variables, the pod's, and those that Docker adds, as `NAME=VALUE`.
fn environment(
    config: &super::image::Config,
    env: BTreeMap<String, String>,
    user: &user::User,
    id: &str,
) -> Vec<String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    all.insert("HOSTNAME".to_owned(), id.to_owned());
    let home = user.home.as_deref().filter(|home| !home.is_empty()).unwrap_or("/");
    all.insert("HOME".to_owned(), home.to_owned());
    let pairs = [PATH].into_iter().chain(config.env.iter().map(String::as_str));
    all.extend(
        pairs
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    all.extend(env);
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Sees a container through to its end, and says what it wrote and how it ended.
async fn supervise(
    host: Arc<Host>,
    id: String,
    run: u32,
    mut child: Child,
    lines: Receiver,
    is_forced: Arc<AtomicBool>,
) {
    read(&host, &id, lines).await;
    let exit = match child.wait().await {
        // `unshare` cannot tell of a child that was killed, if it saw it before it was killed itself.
        Ok(status) if is_forced.load(Ordering::Relaxed) && status.code() == Some(1) => Exit::Signal(KILLED),
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, signal) => Exit::Signal(signal.unwrap_or_default()),
        },
        Err(error) => {
            tracing::error!(id, %error, "how a container ended is not known");
            Exit::Code(-1)
        }
    };
    if let Err(error) = host.clear(&id).await {
        tracing::error!(id, "a container that ended cannot be cleared: {error:#}");
    }
    // Nobody listens in a cloud that is ending.
    drop(host.events.send(ContainerEvent::Exited { id, run, exit }).await);
}

/// Passes on what a container writes, line by line, until nobody can write any more. Who does not listen fast enough
/// makes it wait.
async fn read(host: &Host, id: &str, mut from: Receiver) {
    let mut bytes = Vec::with_capacity(2 * LINE);
    loop {
        let read = from.read_buf(&mut bytes).await;
        let is_end = !matches!(read, Ok(count) if count > 0);
        for line in take_lines(&mut bytes, is_end) {
            let line = ContainerEvent::Line { id: id.to_owned(), source: Source::Container, text: line };
            if host.events.send(line).await.is_err() {
                return;
            }
        }
        if is_end {
            return;
        }
    }
}

/// The lines that are complete, taken out; at the end also the rest.
fn take_lines(bytes: &mut Vec<u8>, is_end: bool) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let end = bytes.iter().position(|byte| *byte == b'\n').filter(|end| *end < LINE);
        let (length, rest) = match end {
            Some(end) => (end, end + 1),
            None if bytes.len() >= LINE => (LINE, LINE),
            None if is_end && !bytes.is_empty() => (bytes.len(), bytes.len()),
            None => return lines,
        };
        let line = String::from_utf8_lossy(&bytes[..length]);
        lines.push(line.strip_suffix('\r').unwrap_or(&line).to_owned());
        bytes.drain(..rest);
    }
}

/// Makes what a container's files lie in.
fn prepare(dir: &Path, id: &str, address: Ipv4Addr) -> anyhow::Result<()> {
    for folder in ["upper", "work", "root"] {
        let folder = dir.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    }
    let files = [
        ("hostname", format!("{id}\n")),
        ("hosts", format!("127.0.0.1 localhost\n{address} {id}\n")),
        // It has no way to a name server.
        ("resolv.conf", String::new()),
    ];
    for (name, content) in files {
        let path = dir.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(())
}

/// Forgets what a container wrote, but not what it has in its persistent volume.
pub(super) async fn wipe(dir: &Path) -> anyhow::Result<()> {
    remove(&dir.join("upper")).await?;
    remove(&dir.join("work")).await
}

/// Removes a folder with all that is in it. Idempotent.
pub(super) async fn remove(dir: &Path) -> anyhow::Result<()> {
    match tokio::fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", dir.display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_when_they_are_complete_and_long_ones_in_parts() {
        let mut bytes = b"one\ntwo\r\nth".to_vec();
        assert_eq!(take_lines(&mut bytes, false), ["one", "two"]);
        bytes.extend(b"ree\n\n\xffx");
        assert_eq!(take_lines(&mut bytes, false), ["three", ""]);
        assert_eq!(take_lines(&mut bytes, true), ["\u{fffd}x"]);
        assert_eq!(take_lines(&mut bytes, true), Vec::<String>::new());
        let mut long = vec![b'a'; LINE + 5];
        long.push(b'\n');
        let lines = take_lines(&mut long, false);
        assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [LINE, 5]);
    }

    #[test]
    fn the_first_process_is_told_by_its_number_inside() {
        assert!(is_first("Name:\tsh\nNSpid:\t1234\t1\n"));
        for other in ["NSpid:\t1\n", "NSpid:\t1234\t7\n", "Name:\tsh\n", ""] {
            assert!(!is_first(other), "{other}");
        }
    }

    #[test]
    fn a_pods_variables_win_over_its_images() {
        let config = super::super::image::Config {
            env: vec!["A=image".to_owned(), "B=image=2".to_owned()],
            ..Default::default()
        };
        let user = user::User { uid: 0, gid: 0, home: Some("/root".to_owned()) };
        let env = BTreeMap::from([("A".to_owned(), "pod".to_owned())]);
        assert_eq!(
            environment(&config, env, &user, "pod1"),
            ["A=pod", "B=image=2", "HOME=/root", "HOSTNAME=pod1", PATH]
        );
    }
}
