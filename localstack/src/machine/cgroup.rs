//! Control groups of machines, and of pods: one `localcloud-<n>/<id>` in every hierarchy of the host, so that all of a
//! machine's processes can be frozen, found and killed together, and so that a kubelet in it has groups of its own.
//!
//! cgroup v1 is what the tests run on. On a v2 host the group has two leaves, because a group with controllers
//! cannot hold processes itself; tried by reading only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::time::Instant;

use super::host::Kind;
use super::{Freeze, command};

/// A killed process may be slow to go: it could be writing to the disk.
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// Freezing ends at the next return to user space of every task.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);

/// While waiting for the kernel, which has no event for any of this on cgroup v1.
const POLL: Duration = Duration::from_millis(10);

/// Where machines of this local cloud have their groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cgroups {
    hierarchies: Hierarchies,
    kind: Kind,
    /// The folder in every hierarchy that holds them all.
    parent: String,
}

/// The hierarchies that this host has mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Hierarchies {
    /// Mount points of every v1 hierarchy, and of the v2 one beside them if there is one.
    V1(Vec<PathBuf>),
    /// The only mount point.
    V2(PathBuf),
}

impl Hierarchies {
    fn parse(mountinfo: &str) -> anyhow::Result<Self> {
        let mut v1 = Vec::new();
        let mut v2 = Vec::new();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else { continue };
            let mut fields = before.split(' ').skip(3);
            let (Some(root), Some(point)) = (fields.next(), fields.next()) else { continue };
            // A bind of a part of a hierarchy, such as another machine's, is not the hierarchy.
            if root != "/" || !Path::new(point).starts_with("/sys/fs/cgroup") {
                continue;
            }
            match after.split(' ').next() {
                Some("cgroup") => v1.push(PathBuf::from(point)),
                Some("cgroup2") => v2.push(PathBuf::from(point)),
                Some(_) | None => {}
            }
        }
        match (v1.is_empty(), v2.as_slice()) {
            (true, []) => bail!("no cgroup hierarchy is mounted under /sys/fs/cgroup"),
            (true, [one, ..]) => Ok(Self::V2(one.clone())),
            (false, _) => {
                for needed in ["freezer", "memory", "systemd"] {
                    ensure!(
                        v1.iter().any(|point| point.ends_with(needed)),
                        "cgroup v1 without /sys/fs/cgroup/{needed}"
                    );
                }
                v1.append(&mut v2);
                Ok(Self::V1(v1))
            }
        }
    }

    fn points(&self) -> &[PathBuf] {
        match self {
            Self::V1(points) => points,
            Self::V2(point) => std::slice::from_ref(point),
        }
    }
}

impl Cgroups {
    /// `scope` tells the local clouds of one host apart.
    pub(crate) fn of_this_host(kind: Kind, scope: &str) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo")?;
        Ok(Self {
            hierarchies: Hierarchies::parse(&mounts)?,
            kind,
            parent: format!("{}{scope}", kind.prefix()),
        })
    }

    /// Scopes that have groups on this host, of whichever local cloud.
    pub(crate) fn scopes(&self) -> Vec<String> {
        let names = self.hierarchies.points().iter().flat_map(|point| children(point));
        let mut scopes: Vec<_> = names
            .filter_map(|path| Some(path.file_name()?.to_str()?.strip_prefix(self.kind.prefix())?.to_owned()))
            .collect();
        scopes.sort();
        scopes.dedup();
        scopes
    }

    pub(crate) fn in_scope(&self, scope: &str) -> Self {
        Self {
            hierarchies: self.hierarchies.clone(),
            kind: self.kind,
            parent: format!("{}{scope}", self.kind.prefix()),
        }
    }

    pub(super) fn parent(&self) -> &str {
        &self.parent
    }

    fn groups(&self, id: &str) -> Vec<PathBuf> {
        self.hierarchies.points().iter().map(|point| point.join(&self.parent).join(id)).collect()
    }

    /// `SYSTEMD_NSPAWN_UNIFIED_HIERARCHY` and our own boot script tell the two apart by it.
    pub(super) fn unified(&self) -> &'static str {
        match &self.hierarchies {
            Hierarchies::V1(_) => "0",
            Hierarchies::V2(_) => "1",
        }
    }

    /// The groups that the machine itself starts in.
    pub(crate) fn machine(&self, id: &str) -> Vec<PathBuf> {
        self.leaves(id, "machine")
    }

    /// The groups for what plays a part of the machine from outside: frozen and killed with it.
    pub(super) fn attendants(&self, id: &str) -> Vec<PathBuf> {
        self.leaves(id, "attendants")
    }

    fn leaves(&self, id: &str, leaf: &str) -> Vec<PathBuf> {
        match &self.hierarchies {
            Hierarchies::V1(_) => self.groups(id),
            Hierarchies::V2(_) => self.groups(id).iter().map(|group| group.join(leaf)).collect(),
        }
    }

    /// Makes the groups of a machine.
    pub(crate) fn create(&self, id: &str) -> anyhow::Result<()> {
        for group in self.machine(id).into_iter().chain(self.attendants(id)) {
            fs::create_dir_all(&group)
                .with_context(|| format!("cannot make cgroup `{}`", group.display()))?;
        }
        match &self.hierarchies {
            Hierarchies::V1(points) => {
                for point in points {
                    // A new cpuset is empty, and takes no process until it is filled, from the top down.
                    for setting in ["cpuset.cpus", "cpuset.mems"] {
                        let Ok(value) = fs::read_to_string(point.join(setting)) else { continue };
                        for group in [point.join(&self.parent), point.join(&self.parent).join(id)] {
                            fs::write(group.join(setting), value.trim())
                                .with_context(|| format!("cannot fill `{}`", group.display()))?;
                        }
                    }
                }
            }
            Hierarchies::V2(point) => {
                let controllers = fs::read_to_string(point.join("cgroup.controllers"))?;
                for group in [point.clone(), point.join(&self.parent), point.join(&self.parent).join(id)] {
                    for controller in controllers.split_whitespace() {
                        // One that cannot be passed on (realtime cpu, say) is one that the host keeps.
                        drop(fs::write(group.join("cgroup.subtree_control"), format!("+{controller}")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Stops or continues everything in the groups of a machine, those that it made itself included.
    pub(super) async fn freeze(&self, id: &str, state: Freeze) -> anyhow::Result<()> {
        let (file, order, shown, done) = match &self.hierarchies {
            Hierarchies::V1(points) => {
                let freezer = points
                    .iter()
                    .find(|point| point.ends_with("freezer"))
                    .expect("`parse` refuses a host without a freezer");
                let file = freezer.join(&self.parent).join(id).join("freezer.state");
                let word = match state {
                    Freeze::Frozen => "FROZEN",
                    Freeze::Thawed => "THAWED",
                };
                (file.clone(), word, file, word)
            }
            Hierarchies::V2(point) => {
                let group = point.join(&self.parent).join(id);
                let (order, done) = match state {
                    Freeze::Frozen => ("1", "frozen 1"),
                    Freeze::Thawed => ("0", "frozen 0"),
                };
                (group.join("cgroup.freeze"), order, group.join("cgroup.events"), done)
            }
        };
        let end = Instant::now() + FREEZE_DEADLINE;
        loop {
            // v1 may stay at FREEZING until it is asked again.
            fs::write(&file, order)
                .with_context(|| format!("cannot write `{order}` to `{}`", file.display()))?;
            if fs::read_to_string(&shown)?.lines().any(|line| line == done) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "`{id}` does not become `{done}` in {FREEZE_DEADLINE:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    /// Kills every process of a machine, frozen or not, and removes its groups. Idempotent.
    pub(crate) async fn destroy(&self, id: &str) -> anyhow::Result<()> {
        let end = Instant::now() + KILL_DEADLINE;
        loop {
            let pids = self.processes(id);
            if !pids.is_empty() {
                let mut args = vec!["-c", "kill -KILL \"$@\" 2> /dev/null || true", "kill"];
                args.extend(pids.iter().map(String::as_str));
                command::run("sh", &args).await?;
            }
            if self.groups(id).iter().any(|group| group.exists()) {
                // The signal is delivered when the group is thawed, and then it is the first thing to be.
                drop(self.freeze(id, Freeze::Thawed).await);
            }
            let left: Vec<_> = self.groups(id).into_iter().filter(|group| !remove_tree(group)).collect();
            if pids.is_empty() && left.is_empty() {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "`{id}` still has processes {pids:?} or groups {left:?} after {KILL_DEADLINE:?}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Ids of machines that have groups here, whoever made them.
    pub(crate) fn machines(&self) -> Vec<String> {
        let mut ids: Vec<_> = self
            .hierarchies
            .points()
            .iter()
            .filter_map(|point| fs::read_dir(point.join(&self.parent)).ok())
            .flatten()
            .flatten()
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Removes the common parent. Only when no machine is left.
    pub(crate) fn remove_parent(&self) {
        for point in self.hierarchies.points() {
            remove_tree(&point.join(&self.parent));
        }
    }

    /// Of a machine, as the host numbers them.
    pub(crate) fn processes(&self, id: &str) -> Vec<String> {
        let mut pids = Vec::new();
        for group in self.groups(id) {
            collect_processes(&group, &mut pids);
        }
        pids.sort();
        pids.dedup();
        pids
    }
}

fn collect_processes(group: &Path, into: &mut Vec<String>) {
    if let Ok(pids) = fs::read_to_string(group.join("cgroup.procs")) {
        // A 0 is a process of another PID namespace, which cannot be in a group of ours.
        into.extend(pids.lines().filter(|pid| *pid != "0").map(str::to_owned));
    }
    for child in children(group) {
        collect_processes(&child, into);
    }
}

fn children(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Whether the group is gone. Not while a process of it is still ending.
fn remove_tree(group: &Path) -> bool {
    for child in children(group) {
        remove_tree(&child);
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
29 27 0:27 / /sys/fs/cgroup rw shared:4 - tmpfs cgroup rw,mode=755
30 29 0:28 / /sys/fs/cgroup/systemd rw shared:5 - cgroup cgroup rw,name=systemd
31 29 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 29 0:30 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
33 29 0:31 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 29 0:29 /localcloud/i-1 /tmp/m/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn a_hybrid_host_counts_as_v1_with_its_v2_hierarchy_among_the_others() {
        let Hierarchies::V1(points) = Hierarchies::parse(HYBRID).unwrap() else { panic!("v2") };
        assert_eq!(
            points,
            ["systemd", "memory", "freezer", "unified"].map(|name| Path::new("/sys/fs/cgroup").join(name))
        );
    }

    #[test]
    fn a_v2_host_gives_machine_and_attendants_leaves_of_their_own() {
        let hierarchies = Hierarchies::parse("25 1 0:23 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw").unwrap();
        assert_eq!(hierarchies, Hierarchies::V2("/sys/fs/cgroup".into()));
        let host = Cgroups { hierarchies, kind: Kind::Machines, parent: "localcloud-7".into() };
        assert_eq!(host.machine("i-1"), [PathBuf::from("/sys/fs/cgroup/localcloud-7/i-1/machine")]);
        assert_eq!(host.attendants("i-1"), [PathBuf::from("/sys/fs/cgroup/localcloud-7/i-1/attendants")]);
    }

    #[test]
    fn hosts_that_cannot_hold_a_machine_are_refused_by_name() {
        let none = Hierarchies::parse("22 1 0:21 / /proc rw - proc proc rw").unwrap_err();
        assert_eq!(none.to_string(), "no cgroup hierarchy is mounted under /sys/fs/cgroup");
        let line = "31 29 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory";
        assert_eq!(
            Hierarchies::parse(line).unwrap_err().to_string(),
            "cgroup v1 without /sys/fs/cgroup/freezer"
        );
    }
}
