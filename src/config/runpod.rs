//! `runpod`: pods at RunPod.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::raw::Reader;
use super::values;
use crate::capacity::money::MicroUsd;
use crate::cloud::runpod::CloudTier;

/// `runpod`: the account, and what of it pods may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPod {
    /// Its contents are never kept here.
    pub api_key_file: PathBuf,
    pub endpoint: String,
    pub graphql_endpoint: String,
    /// In order of preference; at least one.
    pub cloud_types: Vec<CloudTier>,
    /// Empty is anywhere.
    pub data_center_ids: Vec<String>,
    /// `None` allows every one.
    pub allowed_gpus: Option<Vec<String>>,
    pub allow_secrets_in_env: bool,
    /// Ids of credentials by registry, or by the beginning of an image's name.
    pub registry_auth: BTreeMap<String, String>,
    pub min_runway: Duration,
    /// Per hour.
    pub spend_limit: Option<MicroUsd>,
    pub start_deadline: Duration,
}

impl RunPod {
    /// Whether pods may have this GPU.
    #[must_use]
    pub fn allows_gpu(&self, id: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(start) => id.starts_with(start),
            None => id == pattern,
        };
        self.allowed_gpus.as_ref().is_none_or(|patterns| patterns.iter().any(fits))
    }

    /// The credential for an image: the longest registry, or registry and path, that its name begins with. An image
    /// without a registry is Docker Hub's, `docker.io`.
    #[must_use]
    pub fn registry_auth_for(&self, image: &str) -> Option<&str> {
        let first = image.split('/').next().unwrap_or_default();
        let has_registry = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
        let image = match (has_registry, image.contains('/')) {
            (true, _) => image.to_owned(),
            (false, true) => format!("docker.io/{image}"),
            (false, false) => format!("docker.io/library/{image}"),
        };
        let fits = |prefix: &str| {
            image
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
        };
        let found = self.registry_auth.iter().filter(|(prefix, _)| fits(prefix));
        found.max_by_key(|(prefix, _)| prefix.len()).map(|(_, id)| id.as_str())
    }
}

/// `None` without the section; an empty section lacks its key.
pub(super) fn runpod(read: &mut Reader) -> Option<RunPod> {
    if !read.is_set("runpod") {
        return None;
    }
    let endpoint = values::text_if(is_endpoint);
    let one_line = |text: &str| {
        (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    };
    Some(RunPod {
        api_key_file: read
            .text("runpod.apiKeyFile", |text| text.starts_with('/').then(|| text.into()))
            .unwrap_or_default(),
        endpoint: read.text("runpod.endpoint", &endpoint).unwrap_or_default(),
        graphql_endpoint: read.text("runpod.graphqlEndpoint", &endpoint).unwrap_or_default(),
        cloud_types: read
            .texts("runpod.cloudTypes", 1..=2, |name| tier(name).is_some())
            .iter()
            .flatten()
            .filter_map(|name| tier(name))
            .collect(),
        data_center_ids: read.texts("runpod.dataCenterIDs", 0..=64, is_data_center).unwrap_or_default(),
        allowed_gpus: read.texts("runpod.allowedGPUs", 1..=usize::MAX, one_line),
        allow_secrets_in_env: read.flag("runpod.allowSecretsInEnv").unwrap_or_default(),
        registry_auth: read.pairs("runpod.registryAuth", registry_auth).unwrap_or_default(),
        min_runway: read.text("runpod.minRunway", values::duration).unwrap_or_default(),
        spend_limit: read.money("runpod.spendLimit"),
        start_deadline: read
            .text("runpod.startDeadline", |text| {
                values::duration(text).filter(|duration| *duration >= Duration::from_secs(60))
            })
            .unwrap_or_default(),
    })
}

fn tier(name: &str) -> Option<CloudTier> {
    match name {
        "secure" => Some(CloudTier::Secure),
        "community" => Some(CloudTier::Community),
        _ => None,
    }
}

fn is_data_center(text: &str) -> bool {
    (2..=32).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-')
}

fn registry_auth(registry: &str, id: &str) -> Result<(), String> {
    let is_host =
        registry.split('/').next().is_some_and(|host| host.contains(['.', ':']) || host == "localhost");
    let is_plain = registry.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_/:".contains(&byte));
    if !is_host || !is_plain || registry.ends_with('/') {
        return Err(format!(
            "`{registry}` is not a registry, expected one such as `ghcr.io` or `ghcr.io/example`"
        ));
    }
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(format!("`{registry}` has the credential `{id}`, expected the id of one"));
    }
    Ok(())
}

/// Without TLS the key would be readable on the way, so only a server on this host may do without.
fn is_endpoint(text: &str) -> bool {
    let is_here = |host: &str| {
        let host = host.trim_matches(['[', ']']);
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    values::is_endpoint(text)
        && text.parse::<http::Uri>().is_ok_and(|uri| match uri.scheme_str() {
            Some("https") => true,
            Some("http") => uri.host().is_some_and(is_here),
            Some(_) | None => false,
        })
}

#[cfg(test)]
mod tests {
    use super::super::resolve::tests::MINIMAL;
    use super::super::{Config, Facts};
    use super::*;

    fn resolve(more: &str) -> Result<Option<RunPod>, String> {
        let facts = Facts { outward_ip: Some([10, 0, 0, 1].into()), ..Facts::default() };
        let config = Config::resolve(&format!("{MINIMAL}{more}"), &facts);
        config.map(|(config, _)| config.runpod).map_err(|problems| problems.to_string())
    }

    #[test]
    fn without_the_section_runpod_is_not_used_and_with_it_only_the_key_is_required() {
        assert_eq!(resolve("").unwrap(), None);
        assert_eq!(resolve("runpod:\n").unwrap(), None);
        let runpod = resolve("runpod: {apiKeyFile: /key}").unwrap().unwrap();
        assert_eq!(runpod.endpoint, "https://api.runpod.io/v2");
        assert_eq!(
            (runpod.cloud_types.as_slice(), runpod.allow_secrets_in_env),
            (&[CloudTier::Secure][..], false)
        );
        assert_eq!((runpod.min_runway, runpod.spend_limit), (Duration::from_secs(3600), None));
        let missing = resolve("runpod: {}").unwrap_err();
        assert_eq!(missing, "runpod.apiKeyFile is missing, expected an absolute path");
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let told = resolve(
            "runpod:
  apiKeyFile: key
  endpoint: http://api.runpod.io/v2
  graphqlEndpoint: ftp://127.0.0.1
  cloudTypes: [secure, lunar]
  dataCenterIDs: [eu ro]
  allowedGPUs: []
  allowSecretsInEnv: perhaps
  registryAuth: {ghcr: abc, docker.io: 'a b', quay.io: good}
  minRunway: 60
  spendLimit: -1
  startDeadline: 5s
  apiKey: rpa_secret
",
        );
        insta::assert_snapshot!(told.unwrap_err(), @r"
        runpod.apiKey is not a key
        runpod.apiKeyFile is `key`, expected an absolute path
        runpod.endpoint is `http://api.runpod.io/v2`, expected an `https` URL, or an `http` URL of this host
        runpod.graphqlEndpoint is `ftp://127.0.0.1`, expected an `https` URL, or an `http` URL of this host
        runpod.cloudTypes[1] is `lunar`, expected an element of a list of `secure` and `community`
        runpod.dataCenterIDs[0] is `eu ro`, expected an element of a list of ids such as `EU-RO-1`
        runpod.allowedGPUs is an empty list, expected a list of RunPod's GPU ids such as `NVIDIA L4`, each possibly ending in `*`
        runpod.allowSecretsInEnv is `perhaps`, expected `true` or `false`
        runpod.registryAuth: `ghcr` is not a registry, expected one such as `ghcr.io` or `ghcr.io/example`
        runpod.registryAuth: `docker.io` has the credential `a b`, expected the id of one
        runpod.minRunway is `60`, expected a duration such as `90s`, `5m` or `24h`
        runpod.spendLimit is `-1`, expected an amount of US dollars such as `25.00`
        runpod.startDeadline is `5s`, expected a duration such as `90s`, `5m` or `24h`
        ");
    }

    #[test]
    fn only_a_server_on_this_host_may_do_without_tls() {
        for good in [
            "https://api.runpod.io/v2",
            "http://127.0.0.1:4570/v2",
            "http://[::1]:1/v2",
            "http://localhost/v2",
        ] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in [
            "http://10.0.0.1/v2",
            "http://api.runpod.io",
            "api.runpod.io",
            "https://",
            "http://127.0.0.1.example.com",
        ] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }

    #[test]
    fn a_gpu_is_allowed_by_its_id_or_the_beginning_of_it() {
        let all = resolve("runpod: {apiKeyFile: /key}").unwrap().unwrap();
        assert!(all.allows_gpu("NVIDIA B200"));
        let some = resolve("runpod: {apiKeyFile: /key, allowedGPUs: [NVIDIA L4, \"NVIDIA A100*\"]}")
            .unwrap()
            .unwrap();
        for (id, allowed) in [
            ("NVIDIA L4", true),
            ("NVIDIA L40", false),
            ("NVIDIA A100 80GB PCIe", true),
            ("NVIDIA A10", false),
            ("nvidia l4", false),
        ] {
            assert_eq!(some.allows_gpu(id), allowed, "{id}");
        }
    }

    #[test]
    fn an_image_is_pulled_with_the_credential_that_says_most_about_it() {
        let auth = "{ghcr.io: a, ghcr.io/example: b, ghcr.io/example/tool: c, docker.io: d, \"registry.local:5000\": e}";
        let runpod =
            resolve(&format!("runpod: {{apiKeyFile: /key, registryAuth: {auth}}}")).unwrap().unwrap();
        for (image, id) in [
            ("ghcr.io/other/tool:1", Some("a")),
            ("ghcr.io/example/other", Some("b")),
            ("ghcr.io/example/tool:1", Some("c")),
            ("ghcr.io/example/tool@sha256:00", Some("c")),
            ("ghcr.io/example/toolbox", Some("b")),
            ("ghcr.io/examples/tool", Some("a")),
            ("busybox", Some("d")),
            ("team/tool:2", Some("d")),
            ("registry.local:5000/x", Some("e")),
            ("quay.io/x/y", None),
        ] {
            assert_eq!(runpod.registry_auth_for(image), id, "{image}");
        }
    }
}
