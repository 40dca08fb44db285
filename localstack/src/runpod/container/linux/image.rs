//! Images: asked of the registry beside the cloud first, then where their name says, and unpacked once for each digest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Deserializer};

use crate::machine::command::run_within;

/// For a question to a registry.
const ASK: Duration = Duration::from_secs(60);

/// For an image of several GB.
const FETCH: Duration = Duration::from_secs(1200);

/// An image that is unpacked.
#[derive(Debug)]
pub(super) struct Image {
    /// Such as `sha256:…`.
    pub(super) digest: String,
    /// Its files.
    pub(super) root: PathBuf,
    pub(super) config: Config,
}

/// What an image says of its process.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Config {
    #[serde(deserialize_with = "or_null")]
    pub(super) entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) cmd: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) env: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) user: String,
    #[serde(deserialize_with = "or_null")]
    pub(super) working_dir: String,
    #[serde(deserialize_with = "or_null")]
    pub(super) stop_signal: String,
}

/// Go writes nothing as null.
fn or_null<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Images on this host.
#[derive(Debug)]
pub(super) struct Images {
    dir: PathBuf,
    crane: PathBuf,
    registry: SocketAddr,
    /// By digest: who unpacks it holds its lock.
    unpacking: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// Where an image may be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    reference: String,
    /// Over HTTP.
    is_local: bool,
}

impl Images {
    pub(super) fn new(dir: PathBuf, crane: PathBuf, registry: SocketAddr) -> Self {
        Self { dir, crane, registry, unpacking: Mutex::default() }
    }

    /// The image of a name, fetched if it is not here.
    pub(super) async fn pull(&self, name: &str) -> anyhow::Result<Arc<Image>> {
        let mut refusal = None;
        for place in places(name, self.registry) {
            match self.crane(ASK, &place, &["digest"], &[]).await {
                Ok(digest) => return self.unpacked(&place, digest.trim()).await.map(Arc::new),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        match refusal {
            Some(error) => Err(error),
            None => bail!("image name `{name}` is empty"),
        }
    }

    async fn unpacked(&self, place: &Place, digest: &str) -> anyhow::Result<Image> {
        let hex =
            digest.strip_prefix("sha256:").filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let hex = hex.with_context(|| format!("digest is `{digest}`, expected sha256"))?;
        let lock = {
            let mut all = self.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry(hex.to_owned()).or_default())
        };
        let held = lock.lock().await;
        let dir = self.dir.join(hex);
        if !dir.exists() {
            self.unpack(place, digest, &dir).await?;
        }
        drop(held);
        let config = std::fs::read_to_string(dir.join("config.json")).context("the image's configuration")?;
        Ok(Image { digest: digest.to_owned(), root: dir.join("root"), config: parse(&config)? })
    }

    /// Fetches an image into a folder that is there only when it is complete.
    async fn unpack(&self, place: &Place, digest: &str, dir: &Path) -> anyhow::Result<()> {
        let exact = Place { reference: exact(&place.reference, digest), ..place.clone() };
        let part = dir.with_extension("part");
        super::process::remove(&part).await?;
        let root = part.join("root");
        std::fs::create_dir_all(&root).with_context(|| format!("cannot make `{}`", root.display()))?;
        let config = self.crane(ASK, &exact, &["config"], &[]).await?;
        std::fs::write(part.join("config.json"), config)?;
        let (archive, root) = (text(&part.join("image.tar"))?, text(&root)?);
        self.crane(FETCH, &exact, &["export"], &[&archive]).await?;
        let arguments = ["--extract", "--numeric-owner", "--preserve-permissions", "--file", &archive];
        run_within(FETCH, "tar", &[&arguments[..], &["--directory", &root]].concat(), "").await?;
        std::fs::remove_file(&archive)?;
        std::fs::rename(&part, dir).with_context(|| format!("cannot make `{}`", dir.display()))
    }

    async fn crane(
        &self,
        deadline: Duration,
        place: &Place,
        command: &[&str],
        rest: &[&str],
    ) -> anyhow::Result<String> {
        let crane = text(&self.crane)?;
        let platform = format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
        let mut args = [command, &["--platform", &platform]].concat();
        if place.is_local {
            args.push("--insecure");
        }
        args.push(&place.reference);
        args.extend(rest);
        run_within(deadline, &crane, &args, "").await
    }
}

/// Where to look for an image, in this order.
fn places(name: &str, registry: SocketAddr) -> Vec<Place> {
    let name = name.trim();
    let registry = registry.to_string();
    let named = name.split_once('/').filter(|(host, _)| host.contains(['.', ':']) || *host == "localhost");
    let (host, path) = named.unwrap_or(("docker.io", name));
    if path.is_empty() {
        return Vec::new();
    }
    let is_hub = ["docker.io", "index.docker.io"].contains(&host);
    let path = if is_hub && !path.contains('/') { format!("library/{path}") } else { path.to_owned() };
    let mut places = vec![Place { reference: format!("{registry}/{path}"), is_local: true }];
    if host != registry {
        let host = if is_hub { "index.docker.io" } else { host };
        places.push(Place { reference: format!("{host}/{path}"), is_local: false });
    }
    places
}

/// The same image by its digest.
fn exact(reference: &str, digest: &str) -> String {
    let bare = reference.split_once('@').map_or(reference, |(bare, _)| bare);
    let begin = bare.rfind('/').map_or(0, |at| at + 1);
    let bare = bare[begin..].find(':').map_or(bare, |at| &bare[..begin + at]);
    format!("{bare}@{digest}")
}

fn parse(config: &str) -> anyhow::Result<Config> {
    #[derive(Deserialize)]
    struct File {
        #[serde(default, deserialize_with = "or_null")]
        config: Config,
    }
    let file: File = serde_json::from_str(config).context("the image's configuration")?;
    ensure!(file.config.env.iter().all(|pair| pair.contains('=')), "the image's variables have no values");
    Ok(file.config)
}

fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("path `{}` is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_beside_the_cloud_is_asked_first_and_then_the_names_own() {
        let of = |name: &str| {
            let places = places(name, "127.0.0.1:5000".parse().unwrap());
            places.into_iter().map(|place| place.reference).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of("busybox:1"), "127.0.0.1:5000/library/busybox:1 index.docker.io/library/busybox:1");
        assert_eq!(of("runpod/base"), "127.0.0.1:5000/runpod/base index.docker.io/runpod/base");
        assert_eq!(of("ghcr.io/a/b@sha256:0"), "127.0.0.1:5000/a/b@sha256:0 ghcr.io/a/b@sha256:0");
        assert_eq!(of("127.0.0.1:5000/library/x:1"), "127.0.0.1:5000/library/x:1");
        assert_eq!(of(""), "");
    }

    #[test]
    fn a_reference_is_made_exact_whatever_it_was() {
        for (reference, expected) in [
            ("127.0.0.1:5000/library/busybox:1", "127.0.0.1:5000/library/busybox@sha256:1"),
            ("127.0.0.1:5000/library/busybox", "127.0.0.1:5000/library/busybox@sha256:1"),
            ("ghcr.io/a/b@sha256:0", "ghcr.io/a/b@sha256:1"),
        ] {
            assert_eq!(exact(reference, "sha256:1"), expected);
        }
    }

    #[test]
    fn a_configuration_may_have_nulls_and_nothing() {
        let config =
            parse(r#"{"config":{"Entrypoint":null,"Cmd":["sh"],"Env":["A=b"],"WorkingDir":""}}"#).unwrap();
        assert_eq!(
            (config.entrypoint.len(), config.cmd[0].as_str(), config.env[0].as_str()),
            (0, "sh", "A=b")
        );
        assert_eq!(parse(r#"{"config":null}"#).unwrap(), Config::default());
        assert_eq!(parse("{}").unwrap(), Config::default());
        assert!(parse("7").is_err() && parse(r#"{"config":{"Env":["A"]}}"#).is_err());
    }
}
