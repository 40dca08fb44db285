//! What a host must have before anything real runs on it, and the lock that makes it one local cloud's.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::command::run;

/// Where locks are.
const LOCKS: &str = "/run/lock";

/// A socket's path ends at 107 bytes, and `machines/i-0123456789abcdef0/notify` comes after it.
const PATH_LIMIT: usize = 70;

/// What a local cloud may have on a host: each with a lock and control groups of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Machines,
    Pods,
}

impl Kind {
    /// What names of this kind begin with: neither with the other's.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Machines => "localcloud-",
            Self::Pods => "localpods-",
        }
    }
}

/// Of these programs, with Debian's package of each, those that are missing.
pub(crate) async fn missing_tools(tools: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
    let script = "for tool; do command -v \"$tool\" > /dev/null || echo \"$tool\"; done";
    let mut args = vec!["-c", script, "sh"];
    args.extend(tools.iter().map(|(tool, _)| *tool));
    let missing = run("sh", &args).await?;
    Ok(with_packages(tools, &missing))
}

fn with_packages(tools: &[(&str, &str)], missing: &str) -> Vec<String> {
    tools
        .iter()
        .filter(|(tool, _)| missing.lines().any(|line| line == *tool))
        .map(|(tool, package)| format!("`{tool}` (Debian package {package})"))
        .collect()
}

/// Whose rights a process has, by its `/proc/self/status`.
pub(crate) fn effective_user(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()
}

/// `mount`'s options and nspawn's flags separate with these, and a machine hides the host's /run from itself.
pub(crate) fn unusable_path(path: &Path) -> Option<String> {
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
pub(crate) async fn try_overlay(dir: &Path, lower: &Path) -> anyhow::Result<()> {
    let probe = dir.join("probe");
    for folder in ["upper", "work", "root"] {
        fs::create_dir_all(probe.join(folder))?;
    }
    let script = "mount -t overlay overlay -o \"lowerdir=$2,upperdir=$1/upper,workdir=$1/work\" \"$1/root\"";
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
            &lower.to_string_lossy(),
        ],
    )
    .await;
    fs::remove_dir_all(&probe)?;
    tried.map(|_| ())
}

/// Link names, chains, routes and addresses are a network namespace's, so it can hold one local cloud. Whoever wants
/// another beside it starts that one in a namespace of its own.
pub(crate) fn scope() -> anyhow::Result<String> {
    let inode = fs::metadata("/proc/self/ns/net").context("/proc/self/ns/net")?.ino();
    Ok(inode.to_string())
}

/// Held while a local cloud runs. Given up when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Lock {
    /// Whether a local cloud runs in that scope.
    pub(crate) fn is_held(kind: Kind, scope: &str) -> bool {
        File::open(Self::path(kind, scope))
            .is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
    }

    fn path(kind: Kind, scope: &str) -> PathBuf {
        Path::new(LOCKS).join(format!("{}{scope}", kind.prefix()))
    }

    pub(crate) fn take(kind: Kind, dir: &Path) -> anyhow::Result<Self> {
        let path = Self::path(kind, &scope()?);
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
                    let what = match kind {
                        Kind::Machines => "machines",
                        Kind::Pods => "pods",
                    };
                    bail!("a local cloud with {what} runs on this host already, in `{}`", holder.trim());
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
    fn a_missing_tool_is_named_with_its_package() {
        let tools = [("systemd-nspawn", "systemd-container"), ("ip", "iproute2"), ("cp", "coreutils")];
        assert_eq!(
            with_packages(&tools, "systemd-nspawn\nip\n"),
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

    #[test]
    fn neither_kind_finds_the_others_groups_or_locks() {
        let (machines, pods) = (Kind::Machines.prefix(), Kind::Pods.prefix());
        assert!(!machines.starts_with(pods) && !pods.starts_with(machines));
    }
}
