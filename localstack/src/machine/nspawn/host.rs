//! What a host needs for machines, checked before the first one, and the lock that makes it one local cloud's.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::machine::cgroup::Cgroups;
use crate::machine::command::run;

/// What a local cloud's lock begins with.
const LOCKS: &str = "/run/lock/localcloud-";

/// Program, and Debian's package of it.
const TOOLS: [(&str, &str); 8] = [
    ("systemd-nspawn", "systemd-container"),
    ("iptables", "iptables"),
    ("iptables-restore", "iptables"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("cp", "coreutils"),
];

/// A socket's path ends at 107 bytes, and `machines/i-0123456789abcdef0/notify` comes after it.
const PATH_LIMIT: usize = 70;

/// CAP_SYS_RESOURCE. Some sandboxes lack it.
const SYS_RESOURCE: u32 = 24;

/// A host that can boot machines, held for this process.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) cgroups: Cgroups,
    /// Flags for nspawn.
    pub(super) capabilities: &'static str,
    _lock: Lock,
}

impl Host {
    /// Checks everything and reports all that is missing at once.
    pub(super) async fn claim(dir: &Path, image: &Path, agent: &Path) -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        if !cfg!(target_os = "linux") {
            missing.push("Linux".to_owned());
        }
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        if effective_user(&status) != Some(0) {
            missing.push("root".to_owned());
        }
        missing.extend(missing_tools().await?);
        for part in ["root/usr/bin/kubelet", "root/usr/bin/containerd", "containerd"] {
            if !image.join(part).exists() {
                missing.push(format!("`{}` (made by localstack/image/build.sh)", image.join(part).display()));
            }
        }
        if !agent.is_file() {
            missing.push(format!("the agent's program `{}`", agent.display()));
        }
        missing.extend(unusable_path(dir));
        missing.extend(unusable_path(image));
        let cgroups = scope().and_then(|scope| Cgroups::of_this_host(&scope));
        if let Err(error) = &cgroups {
            missing.push(format!("cgroups ({error})"));
        }
        // Only worth asking where the tools and rights are there.
        if missing.is_empty() {
            if let Err(error) = try_overlay(dir, image).await {
                missing.push(format!("overlay mounts in `{}` ({error:#})", dir.display()));
            }
            if let Err(error) = run("iptables", &["-w", "10", "-t", "nat", "-S"]).await {
                missing.push(format!("iptables with network address translation ({error:#})"));
            }
        }
        if !missing.is_empty() {
            bail!("machines cannot be booted here; missing: {}", missing.join("; "));
        }
        let capabilities =
            if has_capability(&status, SYS_RESOURCE) { "" } else { "--drop-capability=CAP_SYS_RESOURCE" };
        Ok(Self { cgroups: cgroups?, capabilities, _lock: Lock::take(dir)? })
    }
}

async fn missing_tools() -> anyhow::Result<Vec<String>> {
    let script = "for tool; do command -v \"$tool\" > /dev/null || echo \"$tool\"; done";
    let mut args = vec!["-c", script, "sh"];
    args.extend(TOOLS.iter().map(|(tool, _)| *tool));
    let missing = run("sh", &args).await?;
    Ok(with_packages(&missing))
}

fn with_packages(missing: &str) -> Vec<String> {
    TOOLS
        .iter()
        .filter(|(tool, _)| missing.lines().any(|line| line == *tool))
        .map(|(tool, package)| format!("`{tool}` (Debian package {package})"))
        .collect()
}

fn effective_user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

fn has_capability(status: &str, number: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> number & 1 == 1)
}

/// `mount`'s options and nspawn's flags separate with these, and a machine hides the host's /run from itself.
fn unusable_path(path: &Path) -> Option<String> {
    let text = path.to_string_lossy();
    if !path.is_absolute() || text.contains([':', ',', ' ', '\\', '"']) {
        return Some(format!(
            "an absolute path without `:`, `,`, `\\`, quotes and spaces instead of `{text}`"
        ));
    }
    if path.as_os_str().len() > PATH_LIMIT {
        return Some(format!("a path of at most {PATH_LIMIT} bytes instead of `{text}`"));
    }
    path.starts_with("/run").then(|| format!("a path outside /run instead of `{text}`"))
}

/// A root file system that is an overlay itself takes no other on it; the kernel may have none at all.
async fn try_overlay(dir: &Path, image: &Path) -> anyhow::Result<()> {
    let probe = dir.join("probe");
    for folder in ["upper", "work", "root"] {
        fs::create_dir_all(probe.join(folder))?;
    }
    let script =
        "mount -t overlay overlay -o \"lowerdir=$2/root,upperdir=$1/upper,workdir=$1/work\" \"$1/root\"";
    let tried = run(
        "unshare",
        &[
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            script,
            "sh",
            &probe.to_string_lossy(),
            &image.to_string_lossy(),
        ],
    )
    .await;
    fs::remove_dir_all(&probe)?;
    tried.map(|_| ())
}

/// Link names, chains, routes and addresses are a network namespace's, so it can hold one local cloud. Whoever wants
/// another beside it starts that one in a namespace of its own.
pub(super) fn scope() -> anyhow::Result<String> {
    let inode = fs::metadata("/proc/self/ns/net").context("/proc/self/ns/net")?.ino();
    Ok(inode.to_string())
}

/// Held while a local cloud runs. Given up when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    pub(super) fn take(dir: &Path) -> anyhow::Result<Self> {
        let path = PathBuf::from(format!("{LOCKS}{}", scope()?));
        let file = loop {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .with_context(|| format!("cannot open `{}`", path.display()))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let holder = fs::read_to_string(&path).unwrap_or_default();
                    bail!("a local cloud with machines runs on this host already, in `{}`", holder.trim());
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock `{}`", path.display()));
                }
            }
            // Its last holder may have removed the name between our opening and our locking it.
            if fs::metadata(&path)
                .is_ok_and(|named| file.metadata().is_ok_and(|own| own.ino() == named.ino()))
            {
                break file;
            }
        };
        file.set_len(0)?;
        writeln!(&file, "{}", dir.display())?;
        Ok(Self { path, _file: file })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_read_from_the_effective_ones() {
        let status = "Uid:\t1000\t0\t1000\t1000\nCapPrm:\t0\nCapEff:\t000001fffeffffff\n";
        assert_eq!(effective_user(status), Some(0));
        assert!(has_capability(status, 21));
        assert!(!has_capability(status, SYS_RESOURCE));
        assert_eq!(effective_user(""), None);
    }

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        let missing = with_packages("systemd-nspawn\nip\n");
        assert_eq!(
            missing,
            ["`systemd-nspawn` (Debian package systemd-container)", "`ip` (Debian package iproute2)"]
        );
    }

    #[test]
    fn paths_that_mount_options_cannot_hold_are_refused() {
        for wrong in ["relative", "/a:b", "/a,b", "/a b", "/run/x"] {
            assert!(unusable_path(Path::new(wrong)).is_some(), "{wrong}");
        }
        assert_eq!(unusable_path(Path::new("/var/lib/cloud-1")), None);
    }
}
