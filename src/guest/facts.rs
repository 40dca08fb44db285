//! What a machine is, learned from the machine itself by one shell script over SSH.
//!
//! Parsing is strict: what is rendered into files later comes from here, and the machine's word is not
//! trusted more than needed.

use std::net::Ipv4Addr;

/// Prints the facts; also makes the connection that it runs on the machine's control connection, by ending
/// the `sshd` process of an older one. Run it with `sh -s` and this on standard input.
pub const PROBE: &str = include_str!("scripts/probe.sh");

/// The CNI plugins that a pod's network needs.
pub const CNI_PLUGINS: [&str; 4] = ["ptp", "static", "portmap", "loopback"];
/// Where missing plugins go.
const CNI_OWN_DIR: &str = "/opt/cni/bin";

/// What a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestFacts {
    /// Changes with every boot.
    pub boot_id: String,
    /// `amd64` or `arm64`.
    pub arch: &'static str,
    /// Whether a bootstrap came to its end here before, so that the pod may be running.
    pub bootstrapped: bool,
    pub cgroup: Cgroup,
    pub oom_score: OomScore,
    pub kubelet: String,
    /// Such as `v1.36.3`.
    pub kubelet_version: String,
    /// Major and minor.
    pub containerd_version: (u32, u32),
    /// The systemd slice that containerd runs in.
    pub containerd_slice: Option<String>,
    pub runc: String,
    pub nvidia_runtime: Option<String>,
    pub has_nvidia_smi: bool,
    pub has_iptables: bool,
    /// Whether a shutdown can be delayed until the pod has ended.
    pub has_logind: bool,
    /// Whether the image brings Amazon ECR's credential provider, in its usual place.
    pub has_ecr_provider: bool,
    /// Where plugins are, or will be.
    pub cni_dir: String,
    /// Names of the plugins to be put there.
    pub cni_missing: Vec<&'static str>,
    /// What pods' name servers are copied from.
    pub resolv_conf: Option<String>,
    /// Name of the interface with the default route.
    pub interface: String,
    pub mtu: u32,
    /// IPv4 networks of the VPC; empty if the machine could not tell.
    pub vpc_cidrs: Vec<String>,
}

/// The cgroup hierarchy of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cgroup {
    /// One version-1 hierarchy a controller; pods go under `root`, the place of PID 1.
    V1 { root: String },
    /// The unified hierarchy.
    V2,
}

/// Whether processes may be made less likely victims of the OOM killer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OomScore {
    Free,
    /// As in a container: containers must not ask for a lower score than containerd has.
    OnlyHigher,
}

/// Why a machine can't run pods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    /// Never, with this image.
    #[error("the image has no `{0}`")]
    Missing(&'static str),
    /// Never, with this image.
    #[error("{fact} of the machine is `{found}`, expected {expected}")]
    Unusable { fact: &'static str, found: String, expected: &'static str },
    /// Perhaps the next look shows it.
    #[error("{fact} of the machine is not known, expected {expected}")]
    Unknown { fact: &'static str, expected: &'static str },
}

impl FactsError {
    fn of(fact: &'static str, found: &str, expected: &'static str) -> Self {
        if found.is_empty() {
            return Self::Unknown { fact, expected };
        }
        Self::Unusable { fact, found: found.to_owned(), expected }
    }
}

impl GuestFacts {
    /// Reads what [`PROBE`] printed.
    pub fn parse(output: &str) -> Result<Self, FactsError> {
        let facts = Output(output);
        facts.secrets_stay_in_memory()?;
        let resolv_conf = facts.path("resolv_conf").ok();
        let (cni_dir, cni_missing) = facts.cni();
        Ok(Self {
            boot_id: facts.word("boot_id", "a boot id")?.to_owned(),
            arch: facts.arch()?,
            bootstrapped: facts.one("bootstrapped").is_some(),
            cgroup: facts.cgroup()?,
            oom_score: if facts.one("oom_score") == Some("lower") {
                OomScore::Free
            } else {
                OomScore::OnlyHigher
            },
            kubelet: facts.path("kubelet")?,
            kubelet_version: facts.kubelet_version()?,
            containerd_version: facts.containerd_version()?,
            containerd_slice: facts.word("containerd_slice", "a slice").ok().map(str::to_owned),
            runc: facts.path("runc")?,
            nvidia_runtime: facts.path("nvidia-container-runtime").ok(),
            has_nvidia_smi: facts.one("nvidia-smi").is_some(),
            has_iptables: facts.one("iptables").is_some(),
            has_logind: facts.one("logind").is_some(),
            has_ecr_provider: facts.one("credential_provider").is_some(),
            cni_dir,
            cni_missing,
            resolv_conf,
            interface: facts.word("interface", "an interface with a default route")?.to_owned(),
            mtu: facts.number("mtu", "the MTU of the interface")?,
            vpc_cidrs: facts.vpc_cidrs(),
        })
    }
}

/// `name=value` lines.
struct Output<'a>(&'a str);

impl<'a> Output<'a> {
    fn all(&self, name: &str) -> impl Iterator<Item = &'a str> {
        let values = self.0.lines().filter_map(move |line| line.split_once('='));
        values.filter(move |(key, value)| *key == name && !value.is_empty()).map(|(_, value)| value.trim())
    }

    fn one(&self, name: &str) -> Option<&'a str> {
        self.all(name).next()
    }

    /// A value that may stand in a file or on a command line as it is.
    fn word(&self, name: &'static str, expected: &'static str) -> Result<&'a str, FactsError> {
        let found = self.one(name).unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:/@".contains(c);
        if found.is_empty() || !found.chars().all(plain) {
            return Err(FactsError::of(name, found, expected));
        }
        Ok(found)
    }

    fn path(&self, tool: &'static str) -> Result<String, FactsError> {
        self.one(tool).ok_or(FactsError::Missing(tool))?;
        let path = self.word(tool, "an absolute path")?;
        if !path.starts_with('/') {
            return Err(FactsError::of(tool, path, "an absolute path"));
        }
        Ok(path.to_owned())
    }

    fn number(&self, name: &'static str, expected: &'static str) -> Result<u32, FactsError> {
        let found = self.one(name).unwrap_or_default();
        found.parse().map_err(|_| FactsError::of(name, found, expected))
    }

    fn secrets_stay_in_memory(&self) -> Result<(), FactsError> {
        match self.one("run_is").unwrap_or_default() {
            "tmpfs" => Ok(()),
            other => {
                Err(FactsError::of("run_is", other, "tmpfs at /run, since secrets must not reach a disk"))
            }
        }
    }

    fn arch(&self) -> Result<&'static str, FactsError> {
        match self.one("machine").unwrap_or_default() {
            "x86_64" => Ok("amd64"),
            "aarch64" => Ok("arm64"),
            other => Err(FactsError::of("machine", other, "x86_64 or aarch64")),
        }
    }

    fn cgroup(&self) -> Result<Cgroup, FactsError> {
        match self.one("cgroup").unwrap_or_default() {
            "v2" => Ok(Cgroup::V2),
            "v1" => {
                let root = self.word("cgroup_root", "the memory cgroup of PID 1")?;
                // PID 1 of a machine without a cgroup of its own is in `/init.scope`, a leaf.
                let root = root.strip_suffix("/init.scope").unwrap_or(root);
                Ok(Cgroup::V1 { root: if root.is_empty() { "/".to_owned() } else { root.to_owned() } })
            }
            other => Err(FactsError::of("cgroup", other, "v1 or v2")),
        }
    }

    /// `Kubernetes v1.36.3`. Older ones than this don't take the runtime's endpoint from the configuration file.
    fn kubelet_version(&self) -> Result<String, FactsError> {
        let found = self.one("kubelet_version").unwrap_or_default();
        let version = found.strip_prefix("Kubernetes ").unwrap_or(found);
        at_least((1, 27), major_minor(version))
            .ok_or_else(|| FactsError::of("kubelet_version", found, "at least v1.27"))?;
        Ok(version.to_owned())
    }

    /// `containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1`.
    fn containerd_version(&self) -> Result<(u32, u32), FactsError> {
        self.one("containerd").ok_or(FactsError::Missing("containerd"))?;
        self.one("ctr").ok_or(FactsError::Missing("ctr"))?;
        let found = self.one("containerd_version").unwrap_or_default();
        at_least((1, 6), found.split(' ').nth(2).and_then(major_minor))
            .ok_or_else(|| FactsError::of("containerd_version", found, "at least 1.6"))
    }

    /// A folder that has every plugin is used as it is; else ours is completed.
    fn cni(&self) -> (String, Vec<&'static str>) {
        let missing = |dir: &str| -> Vec<&'static str> {
            let has = |plugin: &&str| self.all("cni").any(|path| path == format!("{dir}/{plugin}"));
            CNI_PLUGINS.into_iter().filter(|plugin| !has(plugin)).collect()
        };
        let dirs = [CNI_OWN_DIR, "/usr/libexec/cni", "/usr/lib/cni"];
        match dirs.into_iter().find(|dir| missing(dir).is_empty()) {
            Some(dir) => (dir.to_owned(), Vec::new()),
            None => (CNI_OWN_DIR.to_owned(), missing(CNI_OWN_DIR)),
        }
    }

    fn vpc_cidrs(&self) -> Vec<String> {
        let is_cidr = |text: &&str| {
            let Some((address, bits)) = text.split_once('/') else { return false };
            address.parse::<Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
        };
        self.all("vpc_cidr").filter(is_cidr).map(str::to_owned).collect()
    }
}

fn at_least(least: (u32, u32), version: Option<(u32, u32)>) -> Option<(u32, u32)> {
    version.filter(|version| *version >= least)
}

/// `v1.36.3` or `1.6.20~ds1`.
fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('v').unwrap_or(version).split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// What an EKS-optimized image prints.
    pub(in crate::guest) const EKS: &str = "\
boot_id=5d2e0c5a-3a58-4a11-b1c3-04d1d9ac3ee1
machine=x86_64
run_is=tmpfs
cgroup=v2
oom_score=lower
kubelet=/usr/bin/kubelet
containerd=/usr/bin/containerd
runc=/usr/sbin/runc
nvidia-container-runtime=/usr/bin/nvidia-container-runtime
nvidia-smi=/usr/bin/nvidia-smi
iptables=/usr/sbin/iptables
ctr=/usr/bin/ctr
kubelet_version=Kubernetes v1.33.1-eks-1fbb135
containerd_version=containerd github.com/containerd/containerd/v2 v2.0.5 fb4c30d4ede3531652d86197bf3fc9515e5276d9
containerd_slice=runtime.slice
logind=active
credential_provider=ecr
resolv_conf=/run/systemd/resolve/resolv.conf
interface=ens5
mtu=9001
vpc_cidr=10.0.0.0/16
vpc_cidr=100.64.0.0/16
";

    /// What a Debian machine in a container on a cgroup-v1 host prints.
    pub(in crate::guest) const LOCAL: &str = "\
boot_id=5d2e0c5a-3a58-4a11-b1c3-04d1d9ac3ee1
machine=x86_64
run_is=tmpfs
cgroup=v1
cgroup_root=/orca-i-1/init.scope
kubelet=/usr/bin/kubelet
containerd=/usr/bin/containerd
runc=/usr/sbin/runc
nvidia-container-runtime=
nvidia-smi=
iptables=/usr/sbin/iptables
ctr=/usr/bin/ctr
kubelet_version=Kubernetes v1.36.3
containerd_version=containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u1
containerd_slice=system.slice
cni=/opt/cni/bin/ptp
cni=/usr/lib/cni/ptp
cni=/usr/lib/cni/static
resolv_conf=/etc/resolv.conf
interface=host0
mtu=1500
";

    #[test]
    fn the_eks_image_lacks_every_plugin() {
        let facts = GuestFacts::parse(EKS).unwrap();
        assert_eq!(facts.cgroup, Cgroup::V2);
        assert_eq!(facts.containerd_version, (2, 0));
        assert_eq!(facts.kubelet_version, "v1.33.1-eks-1fbb135");
        assert_eq!((facts.cni_dir.as_str(), facts.cni_missing), ("/opt/cni/bin", CNI_PLUGINS.to_vec()));
        assert_eq!(facts.vpc_cidrs, ["10.0.0.0/16", "100.64.0.0/16"]);
        assert_eq!(facts.oom_score, OomScore::Free);
    }

    #[test]
    fn a_local_machine_has_a_cgroup_and_some_plugins_of_its_own() {
        let facts = GuestFacts::parse(LOCAL).unwrap();
        assert_eq!(facts.cgroup, Cgroup::V1 { root: "/orca-i-1".to_owned() });
        assert_eq!(facts.oom_score, OomScore::OnlyHigher);
        assert_eq!(facts.nvidia_runtime, None);
        assert_eq!(facts.containerd_version, (1, 6));
        assert_eq!(facts.cni_missing, ["static", "portmap", "loopback"]);
        assert_eq!(facts.vpc_cidrs, [""; 0]);
    }

    #[test]
    fn a_folder_with_every_plugin_is_used_as_it_is() {
        let output = format!("{LOCAL}cni=/usr/lib/cni/portmap\ncni=/usr/lib/cni/loopback\n");
        let facts = GuestFacts::parse(&output).unwrap();
        assert_eq!((facts.cni_dir.as_str(), facts.cni_missing.len()), ("/usr/lib/cni", 0));
    }

    #[test]
    fn what_makes_a_machine_unusable_is_said() {
        let cases = [
            ("kubelet=/usr/bin/kubelet", "kubelet=", "the image has no `kubelet`"),
            ("containerd=/usr/bin/containerd", "containerd=", "the image has no `containerd`"),
            (
                "v1.36.3",
                "v1.26.9",
                "kubelet_version of the machine is `Kubernetes v1.26.9`, expected at least v1.27",
            ),
            (" 1.6.20~ds1 ", " 1.5.9~ds1 ", "expected at least 1.6"),
            ("run_is=tmpfs", "run_is=ext2/ext3", "expected tmpfs at /run"),
            ("x86_64", "riscv64", "machine of the machine is `riscv64`, expected x86_64 or aarch64"),
            ("cgroup_root=/orca-i-1", "cgroup_root=/a\"b", "expected the memory cgroup of PID 1"),
            ("runc=/usr/sbin/runc", "runc=/usr/$(id)", "expected an absolute path"),
            (
                "Kubernetes v1.36.3",
                "",
                "kubelet_version of the machine is not known, expected at least v1.27",
            ),
            ("interface=host0", "interface=", "expected an interface with a default route"),
            ("mtu=1500", "mtu=", "expected the MTU of the interface"),
        ];
        for (good, bad, expected) in cases {
            assert!(LOCAL.contains(good), "{good}");
            let error = GuestFacts::parse(&LOCAL.replace(good, bad)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn shells_can_read_the_probe() {
        for shell in ["sh", "bash"] {
            let out = std::process::Command::new(shell).args(["-n", "-c", PROBE]).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_machine_prints_is_read_or_refused_but_never_panics(
            line in 0..20_usize, value in "\\PC{0,40}", rest: String
        ) {
            let mut lines: Vec<_> = EKS.lines().map(str::to_owned).collect();
            let at = line % lines.len();
            let name = lines[at].split('=').next().unwrap_or_default().to_owned();
            lines[at] = format!("{name}={value}");
            drop(GuestFacts::parse(&lines.join("\n")));
            drop(GuestFacts::parse(&rest));
        }
    }
}
