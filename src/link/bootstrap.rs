//! The I/O of a bootstrap: look at the machine, send it what it lacks, run the script.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::ready;
use futures::{Stream, StreamExt, stream};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use super::task::{Link, Setback};
use super::wire::{Wire, input};
use crate::failpoint::{self, Write};
use crate::guest::{self, File, GuestFacts, Inputs};
use crate::tunnel::ssh::ExecOutput;

/// The slowest part is the kubelet printing its version on a cold disk.
const PROBE_DEADLINE: Duration = Duration::from_secs(60);
/// An earlier script that still runs (60 s), a containerd that starts (90 s), a pause image that is pulled, and GPUs
/// that come up (60 s), beside 6 MB over the slowest tunnel.
const APPLY_DEADLINE: Duration = Duration::from_secs(300);

/// What a look at a machine gave.
pub(super) struct Probed {
    pub(super) facts: Result<GuestFacts, guest::FactsError>,
    /// Known even where the rest makes no sense.
    pub(super) bootstrapped: bool,
}

/// Asks the machine what it is; this connection is its control connection from then on.
pub(super) async fn probe(wire: &dyn Wire) -> Result<Probed, Setback> {
    let done = wire.exec("sh -s", input(guest::PROBE), PROBE_DEADLINE).await?;
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
    let nvidia = machine.nvidia();
    let inputs = Inputs {
        node: hub.settings.node.clone(),
        private_ip: machine.private_ip,
        pod_ip: machine.pod_ip,
        subnet_bits: machine.subnet_bits,
        grace: link.machine.grace,
        snat: hub.settings.snat,
        gpus: nvidia.map_or(0, |gpus| gpus.count),
        logs: hub.settings.logs,
        gateway_ca: hub.keys.serving_ca_cert.clone(),
        gateway_token: link.upstream.token.clone(),
        serving_cert: serving.cert_pem,
        serving_key: serving.key_pem,
        client_ca: hub.keys.client_ca_cert.clone(),
    };
    let files = guest::bootstrap(facts, &inputs);
    let command = guest::receive(&files);
    // In one stream, the large part last: what takes time on the machine begins before it has come.
    let (failed, failure) = oneshot::channel();
    let plugins = hub.plugins.archive(facts).scan(Some(failed), |failed, piece| match piece {
        Ok(piece) => ready(Some(piece)),
        Err(error) => {
            drop(failed.take().map(|failed| failed.send(error)));
            ready(None)
        }
    });
    let input = stream::once(ready(Bytes::from(files))).chain(plugins).boxed();
    let call = failpoint::around(Write::Bootstrap, wire.exec(&command, input, APPLY_DEADLINE));
    tokio::select! {
        done = call => check("bootstrap", &done?),
        Ok(error) = failure => Err(Setback::Again(error)),
    }
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

/// ORCA's own CNI plugins, each read and compressed once, when the first machine may need it.
pub(super) struct Plugins {
    dir: PathBuf,
    /// By architecture and name. Locked while one is made, so that it is made once.
    made: tokio::sync::Mutex<HashMap<Wanted, Bytes>>,
}

/// Architecture and name.
type Wanted = (&'static str, &'static str);

impl Plugins {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), made: tokio::sync::Mutex::default() }
    }

    /// Has them ready for a machine that is still on its way up.
    pub(super) async fn prepare(&self, arch: &str) {
        let Some(arch) = ["amd64", "arm64"].into_iter().find(|known| *known == arch) else { return };
        for name in guest::CNI_PLUGINS {
            // The machine may have what is missing here; if not, that is said when it is sent for.
            drop(self.part((arch, name)).await);
        }
    }

    /// The plugins that a machine lacks, as the pieces of an archive; none if it lacks none.
    fn archive(
        self: &Arc<Self>,
        facts: &GuestFacts,
    ) -> impl Stream<Item = Result<Bytes, String>> + Send + use<> {
        let (this, arch) = (Arc::clone(self), facts.arch);
        let end = (!facts.cni_missing.is_empty()).then(|| Ok(guest::end().into()));
        stream::iter(facts.cni_missing.clone())
            .then(move |name| {
                let this = Arc::clone(&this);
                async move { this.part((arch, name)).await }
            })
            .chain(stream::iter(end))
    }

    async fn part(&self, wanted: Wanted) -> Result<Bytes, String> {
        let mut made = self.made.lock().await;
        if let Some(part) = made.get(&wanted) {
            return Ok(part.clone());
        }
        let dir = self.dir.clone();
        let part = spawn_blocking(move || {
            let (arch, name) = wanted;
            let file = File { name: name.to_owned(), mode: 0o755, content: read(&dir, arch, name)? };
            Ok::<_, String>(Bytes::from(guest::part(&file)))
        });
        let part = part.await.map_err(|error| format!("compressing `{}`: {error}", wanted.1))??;
        made.insert(wanted, part.clone());
        Ok(part)
    }
}

/// `DIR/ARCH/NAME`, or `DIR/NAME`.
fn read(dir: &Path, arch: &'static str, name: &str) -> Result<Vec<u8>, String> {
    for path in [dir.join(arch).join(name), dir.join(name)] {
        match std::fs::read(&path) {
            Ok(content) if elf_arch(&content) == Some(arch) => return Ok(content),
            Ok(_) => return Err(format!("`{}` is not a program for {arch}", path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("`{}`: {error}", path.display())),
        }
    }
    Err(format!(
        "the image lacks the CNI plugin `{name}`, and so does `guest.cniPluginsDir` ({})",
        dir.display()
    ))
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
    use futures::TryStreamExt;

    use super::*;

    fn mk_elf(machine: u8) -> Vec<u8> {
        let mut content = vec![0; 64];
        content[..4].copy_from_slice(b"\x7fELF");
        content[18] = machine;
        content
    }

    fn mk_dir() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("orca-cni-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(dir.join("arm64")).unwrap();
        std::fs::write(dir.join("ptp"), mk_elf(0x3e)).unwrap();
        std::fs::write(dir.join("arm64/ptp"), mk_elf(0xb7)).unwrap();
        std::fs::write(dir.join("static"), mk_elf(0x3e)).unwrap();
        dir
    }

    #[test]
    fn plugins_are_found_by_architecture_and_wrong_ones_are_refused() {
        let dir = mk_dir();
        assert_eq!(read(&dir, "amd64", "ptp").unwrap(), mk_elf(0x3e));
        assert_eq!(read(&dir, "arm64", "ptp").unwrap(), mk_elf(0xb7));
        let error = read(&dir, "arm64", "static").unwrap_err();
        assert!(error.ends_with("/static` is not a program for arm64"), "{error}");
        let error = read(&dir, "amd64", "portmap").unwrap_err();
        assert!(error.contains("lacks the CNI plugin `portmap`"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[tokio::test]
    async fn plugins_are_compressed_once_and_only_the_missing_ones_are_sent() {
        let dir = mk_dir();
        let plugins = Arc::new(Plugins::new(&dir));
        let sent = async |missing: &[&'static str]| {
            let facts = GuestFacts {
                cni_missing: missing.to_vec(),
                ..GuestFacts::parse(crate::link::tests::PROBE_OUTPUT).unwrap()
            };
            plugins.archive(&facts).try_collect::<Vec<_>>().await
        };
        plugins.prepare("amd64").await;
        std::fs::remove_dir_all(dir).unwrap();
        assert_eq!(sent(&[]).await.unwrap(), Vec::<Bytes>::new());
        let part = |name: &str| {
            let file = File { name: name.to_owned(), mode: 0o755, content: mk_elf(0x3e) };
            Bytes::from(guest::part(&file))
        };
        let end = Bytes::from(guest::end());
        assert_eq!(sent(&["static"]).await.unwrap(), [part("static"), end.clone()]);
        let both = sent(&["ptp", "static"]).await.unwrap();
        assert_eq!(both, [part("ptp"), part("static"), end]);
        let error = sent(&["portmap"]).await.unwrap_err();
        assert!(error.contains("lacks the CNI plugin `portmap`"), "{error}");
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
