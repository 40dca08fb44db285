//! What a host needs for machines, checked before the first one.

use std::fs;
use std::path::Path;

use anyhow::bail;

use crate::machine::cgroup::Cgroups;
use crate::machine::command::run;
use crate::machine::host::{Kind, Lock, effective_user, missing_tools, scope, try_overlay, unusable_path};

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
        missing.extend(missing_tools(&TOOLS).await?);
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
        let cgroups = scope().and_then(|scope| Cgroups::of_this_host(Kind::Machines, &scope));
        if let Err(error) = &cgroups {
            missing.push(format!("cgroups ({error})"));
        }
        // Only worth asking where the tools and rights are there.
        if missing.is_empty() {
            if let Err(error) = try_overlay(dir, &image.join("root")).await {
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
        Ok(Self { cgroups: cgroups?, capabilities, _lock: Lock::take(Kind::Machines, dir)? })
    }
}

fn has_capability(status: &str, number: u32) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> number & 1 == 1)
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
}
