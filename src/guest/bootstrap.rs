//! Bootstrap: all files of a machine, and the script that puts them in their places, as one archive.
//!
//! It is sent after each connect. On a machine that has it all, nothing happens.

use std::net::IpAddr;
use std::time::Duration;

use super::archive::archive;
use super::files::{
    CNI_CONF_DIR, ETC, KEYS, PAUSE_IMAGE, REGISTRY_HOSTS, containerd, kubelet, logs, network,
};
use super::{File, GuestFacts, fill};

const APPLY: &str = include_str!("scripts/apply.sh");
const PLUGINS: &str = include_str!("scripts/plugins.sh");

/// The command that takes `bootstrap` (see [`bootstrap()`]) on its standard input, behind it an archive of the plugins of
/// [`GuestFacts::cni_missing`] if there are any, and runs the script that is in it. Nothing of it is left behind, and
/// what is secret never touches the disk.
#[must_use]
pub fn receive(bootstrap: &[u8]) -> String {
    // `dd` reads no byte more than it was told to; what follows is for the script.
    format!(
        "umask 077 && mkdir -p /run/orca && chmod 0755 /run/orca \
         && stage=$(mktemp -d /run/orca/stage.XXXXXX) && trap 'rm -rf \"$stage\"' EXIT \
         && dd bs={} count=1 iflag=fullblock 2> /dev/null | tar -xzpf - -C \"$stage\" && sh \"$stage/apply\"",
        bootstrap.len()
    )
}

/// Puts off the machine's own end, which waits for the uptime in this file to grow old.
pub const CONTACT: &str = "cut -d. -f1 /proc/uptime > /run/orca/contact";

/// Where an image without a pause image of its own gets one.
const PAUSE_SOURCE: &str = "registry.k8s.io/pause:3.10";

const KEEPER_UNIT: &str = "/etc/systemd/system/orca-logs.service";

/// The command that answers questions about the kept log files of a pod, see `scripts/serve-logs.sh`.
#[must_use]
pub fn serve_logs(namespace: &str, pod: &str, uid: &str) -> String {
    format!("exec bash {} {namespace}_{pod}_{uid}", logs::server_path())
}

/// What ORCA knows about a machine, beside what the machine says itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Inputs {
    /// Name of the virtual node.
    pub node: String,
    /// The machine's primary address.
    pub private_ip: IpAddr,
    /// Its secondary address, the pod's.
    pub pod_ip: IpAddr,
    /// Prefix length of the subnet.
    pub subnet_bits: u8,
    pub snat: Snat,
    /// How long a shutdown of the machine waits for the containers of its pod.
    pub grace: Duration,
    /// GPUs that the driver must show.
    pub gpus: u32,
    pub logs: KeepLogs,
    /// Certificate authority of the gateway, PEM.
    pub gateway_ca: String,
    /// Bearer token of this machine.
    pub gateway_token: String,
    /// Serving certificate of the kubelet, PEM.
    pub serving_cert: String,
    /// Its key, PEM.
    pub serving_key: String,
    /// Certificate authority of the kubelet's clients, PEM.
    pub client_ca: String,
}

/// Who gives traffic that leaves the VPC an address that can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Snat {
    /// The machine, its own.
    Machine,
    /// Something outside (`network.externalSNAT`).
    External,
}

/// Whether log files stay on the machine until they are archived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepLogs {
    Yes,
    No,
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs")
            .field("node", &self.node)
            .field("pod_ip", &self.pod_ip)
            .finish_non_exhaustive()
    }
}

/// A file and its place on the machine.
struct Placed {
    path: String,
    mode: u32,
    content: Vec<u8>,
    reader: Reader,
}

/// Who must be restarted when a file has changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Containerd,
    Kubelet,
    Keeper,
    Nobody,
}

/// Everything but plugins, as an archive for [`receive`].
#[must_use]
pub fn bootstrap(facts: &GuestFacts, inputs: &Inputs) -> Vec<u8> {
    let placed = placed(facts, inputs);
    let script = |name: &str, content: String| File {
        name: name.to_owned(),
        mode: 0o700,
        content: content.into_bytes(),
    };
    let mut files = vec![script("apply", apply(&placed, facts, inputs.gpus))];
    if !facts.cni_missing.is_empty() {
        files.push(script("plugins", plugins(facts)));
    }
    files.extend(placed.into_iter().enumerate().map(|(index, file)| File {
        name: index.to_string(),
        mode: file.mode,
        content: file.content,
    }));
    archive(&files)
}

fn placed(facts: &GuestFacts, inputs: &Inputs) -> Vec<Placed> {
    let file = |path: String, mode, content: String, reader| Placed {
        path,
        mode,
        content: content.into_bytes(),
        reader,
    };
    let key = |name: &str, content: &str| {
        file(format!("{KEYS}/{name}"), 0o600, content.to_owned(), Reader::Kubelet)
    };
    let mut files = vec![
        file(
            "/etc/containerd/config.toml".to_owned(),
            0o644,
            containerd::config(facts, inputs.gpus),
            Reader::Containerd,
        ),
        // containerd watches the folder.
        file(
            format!("{CNI_CONF_DIR}/10-pod.conflist"),
            0o644,
            network::conflist(facts, inputs),
            Reader::Nobody,
        ),
        file(format!("{ETC}/network"), 0o755, network::script(facts, inputs), Reader::Nobody),
        file(format!("{ETC}/kubelet.json"), 0o644, kubelet::config(facts, inputs), Reader::Kubelet),
        file(format!("{ETC}/kubelet"), 0o755, kubelet::script(facts, inputs), Reader::Kubelet),
        file("/etc/systemd/system/orca-kubelet.service".to_owned(), 0o644, kubelet::unit(), Reader::Kubelet),
        key("kubeconfig", &kubelet::kubeconfig(inputs)),
        key("kubelet.crt", &inputs.serving_cert),
        key("kubelet.key", &inputs.serving_key),
        key("client-ca.crt", &inputs.client_ca),
    ];
    if facts.has_ecr_provider {
        let path = format!("{ETC}/credential-provider.json");
        files.push(file(path, 0o644, kubelet::credential_provider(), Reader::Kubelet));
    }
    match inputs.logs {
        KeepLogs::Yes => {
            let keeper = format!("{ETC}/keep-logs");
            let unit = logs::unit(&keeper);
            files.push(file(keeper, 0o755, logs::keeper(), Reader::Keeper));
            files.push(file(KEEPER_UNIT.to_owned(), 0o644, unit, Reader::Keeper));
            files.push(file(logs::server_path(), 0o755, logs::server(), Reader::Nobody));
        }
        KeepLogs::No => {}
    }
    files
}

fn apply(placed: &[Placed], facts: &GuestFacts, gpus: u32) -> String {
    let all = || placed.iter().enumerate();
    let put = |(index, file): (usize, &Placed)| format!("put {index} {} {:o}", file.path, file.mode);
    let lines = |lines: Vec<String>| lines.join("\n");
    let of = |reader| {
        let files = placed.iter().filter(|file| file.reader == reader);
        files.map(|file| file.path.as_str()).collect::<Vec<_>>().join(" ")
    };
    let is_first = |(_, file): &(usize, &Placed)| file.reader == Reader::Containerd;
    fill(
        APPLY,
        &[
            ("put_first", &lines(all().filter(is_first).map(put).collect())),
            ("put", &lines(all().filter(|one| !is_first(one)).map(put).collect())),
            ("containerd_files", &of(Reader::Containerd)),
            ("kubelet_files", &of(Reader::Kubelet)),
            ("keeper_files", &of(Reader::Keeper)),
            ("network", &format!("{ETC}/network")),
            ("plugins", if facts.cni_missing.is_empty() { "" } else { "plugins" }),
            ("keys", KEYS),
            ("pause_source", PAUSE_SOURCE),
            ("pause", PAUSE_IMAGE),
            ("registry_hosts", REGISTRY_HOSTS),
            ("gpus", &gpus.to_string()),
            ("nvidia_runtime", facts.nvidia_runtime.as_deref().unwrap_or_default()),
        ],
    )
}

fn plugins(facts: &GuestFacts) -> String {
    fill(PLUGINS, &[("dir", &facts.cni_dir)])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::guest::archive;
    use crate::guest::facts::tests::{EKS, LOCAL};

    pub(in crate::guest) fn mk_inputs() -> Inputs {
        let text = |name: &str| format!("-- {name} --\n");
        Inputs {
            node: "orca".to_owned(),
            private_ip: IpAddr::from([10, 0, 1, 10]),
            pod_ip: IpAddr::from([10, 0, 1, 11]),
            subnet_bits: 24,
            snat: Snat::Machine,
            grace: Duration::from_secs(30),
            gpus: 0,
            logs: KeepLogs::Yes,
            gateway_ca: text("gateway ca"),
            gateway_token: "secret-token".to_owned(),
            serving_cert: text("serving cert"),
            serving_key: text("serving key"),
            client_ca: text("client ca"),
        }
    }

    fn all(facts: &str, inputs: &Inputs) -> Vec<Placed> {
        placed(&GuestFacts::parse(facts).unwrap(), inputs)
    }

    #[test]
    fn secrets_go_to_memory_alone_and_only_root_reads_them() {
        let inputs = mk_inputs();
        for file in all(EKS, &inputs) {
            let text = String::from_utf8_lossy(&file.content).into_owned();
            let secret = text.contains(&inputs.gateway_token) || text.contains("serving key");
            if secret {
                assert!(file.path.starts_with("/run/orca/keys/") && file.mode == 0o600, "{}", file.path);
            }
            assert!(!apply(&[file], &GuestFacts::parse(EKS).unwrap(), 0).contains(&inputs.gateway_token));
        }
    }

    #[test]
    fn shells_can_read_the_script_and_no_place_is_left_open() {
        for (facts, gpus) in [(EKS, 8), (LOCAL, 0)] {
            let script = apply(&all(facts, &mk_inputs()), &GuestFacts::parse(facts).unwrap(), gpus);
            let place =
                script.split('@').skip(1).find(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
            assert_eq!(place, None);
            for shell in ["sh", "bash"] {
                let out = std::process::Command::new(shell).args(["-n", "-c", &script]).output().unwrap();
                assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            }
        }
        for script in [receive(b"12345"), plugins(&GuestFacts::parse(EKS).unwrap())] {
            let out = std::process::Command::new("sh").args(["-n", "-c", &script]).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        }
    }

    /// Runs a script of a machine with bytes on its standard input.
    fn run(script: &str, input: &[u8]) -> std::process::Output {
        use std::process::{Command, Stdio};
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), input).unwrap();
        shell.wait_with_output().unwrap()
    }

    fn scratch(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("orca-{name}-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn plugins_arrive_whole_and_replace_what_was_torn() {
        let dir = scratch("plugins");
        std::fs::write(dir.join("ptp"), "torn").unwrap();
        let facts =
            GuestFacts { cni_dir: dir.to_string_lossy().into_owned(), ..GuestFacts::parse(EKS).unwrap() };
        // Of a size that gzip cannot take away.
        let noise: Vec<u8> =
            (0..40_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let file = |name: &str| File { name: name.to_owned(), mode: 0o755, content: noise.clone() };
        let sent = [archive::part(&file("ptp")), archive::part(&file("static")), archive::end()].concat();
        assert!(!run(&plugins(&facts), &sent[..sent.len() / 3]).status.success());
        assert_eq!(std::fs::read(dir.join("ptp")).unwrap(), b"torn", "a part of it is not taken");
        assert!(run(&plugins(&facts), &sent).status.success());
        for name in ["ptp", "static"] {
            assert_eq!(std::fs::read(dir.join(name)).unwrap(), noise);
        }
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2, "nothing else is left behind");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn the_script_runs_with_its_files_and_what_follows_is_its_input() {
        let dir = scratch("receive");
        let script = File {
            name: "apply".to_owned(),
            mode: 0o700,
            content: b"cd \"${0%/*}\" && ls && cat\n".to_vec(),
        };
        let other = File { name: "0".to_owned(), mode: 0o600, content: b"secret".to_vec() };
        let sent = archive::archive(&[script, other]);
        let command = receive(&sent).replace("/run/orca", &dir.to_string_lossy());
        let out = run(&command, &[&sent[..], b"the rest"].concat());
        assert_eq!(String::from_utf8_lossy(&out.stdout), "0\napply\nthe rest");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "nothing is left behind");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn equal_input_gives_equal_bytes() {
        let facts = GuestFacts::parse(EKS).unwrap();
        assert_eq!(bootstrap(&facts, &mk_inputs()), bootstrap(&facts, &mk_inputs()));
    }

    #[test]
    fn each_file_has_one_reader() {
        let shown: Vec<_> = all(EKS, &mk_inputs())
            .iter()
            .map(|file| {
                let reader = match file.reader {
                    Reader::Containerd => "containerd",
                    Reader::Kubelet => "kubelet",
                    Reader::Keeper => "keeper",
                    Reader::Nobody => "-",
                };
                format!("{:o} {} {reader}", file.mode, file.path)
            })
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        644 /etc/containerd/config.toml containerd
        644 /etc/orca/cni/10-pod.conflist -
        755 /etc/orca/network -
        644 /etc/orca/kubelet.json kubelet
        755 /etc/orca/kubelet kubelet
        644 /etc/systemd/system/orca-kubelet.service kubelet
        600 /run/orca/keys/kubeconfig kubelet
        600 /run/orca/keys/kubelet.crt kubelet
        600 /run/orca/keys/kubelet.key kubelet
        600 /run/orca/keys/client-ca.crt kubelet
        644 /etc/orca/credential-provider.json kubelet
        755 /etc/orca/keep-logs keeper
        644 /etc/systemd/system/orca-logs.service keeper
        755 /etc/orca/serve-logs -
        ");
    }
}
