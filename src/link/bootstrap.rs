//! The I/O of a bootstrap: look at the machine, send it what it lacks, run the script.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::task::{Link, Setback};
use super::wire::Wire;
use crate::guest::{self, File, GuestFacts, Inputs};
use crate::tunnel::ssh::ExecOutput;

/// The slowest part is the kubelet printing its version on a cold disk.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);
/// About 14 MB, over the slowest tunnel.
const PLUGINS_DEADLINE: Duration = Duration::from_secs(120);
/// An earlier script that still runs (60 s), a containerd that starts (90 s), a pause image that is pulled, and GPUs
/// that come up (60 s).
const APPLY_DEADLINE: Duration = Duration::from_secs(300);

/// What a look at a machine gave.
pub(super) struct Probed {
    pub(super) facts: Result<GuestFacts, guest::FactsError>,
    /// Known even where the rest makes no sense.
    pub(super) bootstrapped: bool,
}

/// Asks the machine what it is; this connection is its control connection from then on.
pub(super) async fn probe(wire: &dyn Wire) -> Result<Probed, Setback> {
    let done = wire.exec("sh -s", guest::PROBE.as_bytes(), PROBE_DEADLINE).await?;
    check("probe", &done)?;
    let output = String::from_utf8_lossy(&done.stdout);
    let facts = GuestFacts::parse(&output);
    Ok(Probed { facts, bootstrapped: output.lines().any(|line| line == "bootstrapped=yes") })
}

/// Sends everything and starts the kubelet.
pub(super) async fn apply(link: &Link, wire: &dyn Wire, facts: &GuestFacts) -> Result<(), Setback> {
    let (machine, hub) = (&link.machine, &link.hub);
    let serving = hub.keys.serving_cert(&machine.instance_id);
    let serving = serving.map_err(|error| Setback::Again(error.to_string()))?;
    let nvidia =
        machine.instance_type.gpus.as_ref().filter(|gpus| gpus.manufacturer.eq_ignore_ascii_case("nvidia"));
    let inputs = Inputs {
        node: hub.settings.node.clone(),
        private_ip: machine.private_ip,
        pod_ip: machine.pod_ip,
        subnet_bits: machine.subnet_bits,
        grace: link.machine.grace,
        snat: hub.settings.snat,
        gpus: nvidia.map_or(0, |gpus| gpus.count),
        gateway_ca: hub.keys.serving_ca_cert.clone(),
        gateway_token: link.upstream.token.clone(),
        serving_cert: serving.cert_pem,
        serving_key: serving.key_pem,
        client_ca: hub.keys.client_ca_cert.clone(),
    };
    let archive = guest::bootstrap(facts, &inputs);
    let plugins = async {
        if facts.cni_missing.is_empty() {
            return Ok(());
        }
        let plugins = hub.plugins.archive(facts).await.map_err(Setback::Again)?;
        check("CNI plugins", &wire.exec(&guest::receive_plugins(facts), &plugins, PLUGINS_DEADLINE).await?)
    };
    let rest = async { check("bootstrap", &wire.exec(guest::RECEIVE, &archive, APPLY_DEADLINE).await?) };
    // Side by side: the script waits for the plugins where it needs them. Neither is cut short by the other, so that
    // what arrived late is there the next time.
    let (plugins, rest) = tokio::join!(plugins, rest);
    plugins.and(rest)
}

/// What a command that failed said last.
fn check(what: &str, done: &ExecOutput) -> Result<(), Setback> {
    if done.code == Some(0) {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&done.stderr);
    let said = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it said nothing");
    let said: String = said.chars().take(300).collect();
    Err(Setback::Again(match done.code {
        Some(code) => format!("{what}: {said} (exit code {code})"),
        None => format!("{what}: {said} (cut off)"),
    }))
}

/// ORCA's own CNI plugins, read when the first machine lacks some.
pub(super) struct Plugins {
    dir: std::path::PathBuf,
    /// The archive that was sent last, with what it was made for: machines mostly lack the same.
    last: tokio::sync::Mutex<Option<(Wanted, Arc<[u8]>)>>,
}

/// Architecture and names.
type Wanted = (&'static str, Vec<&'static str>);

impl Plugins {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), last: tokio::sync::Mutex::default() }
    }

    /// The plugins that a machine lacks, as an archive.
    async fn archive(&self, facts: &GuestFacts) -> Result<Arc<[u8]>, String> {
        let wanted = (facts.arch, facts.cni_missing.clone());
        let mut last = self.last.lock().await;
        if let Some((made_for, archive)) = &*last
            && *made_for == wanted
        {
            return Ok(Arc::clone(archive));
        }
        let mut files = Vec::new();
        for name in &facts.cni_missing {
            let content = self.read(facts.arch, name).await?;
            files.push(File { name: (*name).to_owned(), mode: 0o755, content });
        }
        let archive: Arc<[u8]> = guest::archive(&files).into();
        *last = Some((wanted, Arc::clone(&archive)));
        Ok(archive)
    }

    /// `DIR/ARCH/NAME`, or `DIR/NAME`.
    async fn read(&self, arch: &'static str, name: &str) -> Result<Vec<u8>, String> {
        for path in [self.dir.join(arch).join(name), self.dir.join(name)] {
            match tokio::fs::read(&path).await {
                Ok(content) if elf_arch(&content) == Some(arch) => return Ok(content),
                Ok(_) => return Err(format!("`{}` is not a program for {arch}", path.display())),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("`{}`: {error}", path.display())),
            }
        }
        Err(format!(
            "the image lacks the CNI plugin `{name}`, and so does `guest.cniPluginsDir` ({})",
            self.dir.display()
        ))
    }
}

/// The architecture of an ELF file, by its `e_machine`.
fn elf_arch(content: &[u8]) -> Option<&'static str> {
    match (content.get(..4)?, content.get(18..20)?) {
        (b"\x7fELF", [0x3e, 0]) => Some("amd64"),
        (b"\x7fELF", [0xb7, 0]) => Some("arm64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mk_elf(machine: u8) -> Vec<u8> {
        let mut content = vec![0; 64];
        content[..4].copy_from_slice(b"\x7fELF");
        content[18] = machine;
        content
    }

    #[tokio::test]
    async fn plugins_are_found_by_architecture_and_wrong_ones_are_refused() {
        let dir = std::env::temp_dir().join(format!("orca-cni-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(dir.join("arm64")).unwrap();
        std::fs::write(dir.join("ptp"), mk_elf(0x3e)).unwrap();
        std::fs::write(dir.join("arm64/ptp"), mk_elf(0xb7)).unwrap();
        std::fs::write(dir.join("static"), mk_elf(0x3e)).unwrap();
        let plugins = Plugins::new(&dir);
        assert_eq!(plugins.read("amd64", "ptp").await.unwrap(), mk_elf(0x3e));
        assert_eq!(plugins.read("arm64", "ptp").await.unwrap(), mk_elf(0xb7));
        let error = plugins.read("arm64", "static").await.unwrap_err();
        assert!(error.ends_with("/static` is not a program for arm64"), "{error}");
        let error = plugins.read("amd64", "portmap").await.unwrap_err();
        assert!(error.contains("lacks the CNI plugin `portmap`"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_failed_command_is_told_by_its_last_words() {
        let done = |stderr: &str, code| ExecOutput { stdout: Vec::new(), stderr: stderr.into(), code };
        assert_eq!(check("x", &done("", Some(0))), Ok(()));
        let again = |text: &str| Err(Setback::Again(text.to_owned()));
        assert_eq!(check("x", &done("a\nb \n\n", Some(1))), again("x: b (exit code 1)"));
        assert_eq!(check("x", &done("", None)), again("x: it said nothing (cut off)"));
    }
}
