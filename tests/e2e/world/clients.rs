//! Clients of the local cloud: the vendor's own (SSH to a machine over session-manager-plugin, boto3), and ORCA's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use orca::cloud::ec2::sdk_config;
use orca::config::{Config, Facts};

use super::{CLOUD, Namespace, cache, text};

/// A person with a key of their own on the machine of a pod.
pub(crate) struct Visitor {
    folder: PathBuf,
    /// The machine.
    pub(crate) instance_id: String,
}

impl Visitor {
    /// Runs a pod, and adds a key to its machine.
    pub(crate) fn new(ns: &Namespace<'_>) -> Result<Self> {
        let folder = std::env::temp_dir().join(&ns.name);
        std::fs::create_dir_all(&folder)?;
        let mut visitor = Self { folder, instance_id: String::new() };
        let key = visitor.key();
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status()?;
        ensure!(made.success(), "ssh-keygen ended with {made}");
        let public = std::fs::read_to_string(key.with_extension("pub"))?;
        ns.ready_pod(
            "host",
            "volumes: [{name: host, hostPath: {path: /}}]\ncontainers: [{name: main, image: 'busybox:stable', \
             command: [sleep, infinity], volumeMounts: [{name: host, mountPath: /host}]}]",
        )?;
        let put = format!(
            "mkdir -p -m 700 /host/root/.ssh && echo '{}' >> /host/root/.ssh/authorized_keys",
            public.trim()
        );
        ns.run(&["exec", "host", "--", "sh", "-c", &put])?;
        ns.instance()?["id"].as_str().context("id")?.clone_into(&mut visitor.instance_id);
        Ok(visitor)
    }

    /// A command on the machine, by SSH over the plugin.
    pub(crate) fn over_plugin(&self, command: &str) -> Command {
        let mut ssh = python("ssm_ssh.py");
        ssh.args([&self.instance_id, CLOUD])
            .arg(cache().join("bin/ssm-plugin/session-manager-plugin"))
            .arg(self.key())
            .arg(command);
        ssh
    }

    /// The private key.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("key")
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Messages by log stream, of all streams whose names begin so.
pub(crate) fn read_logs(prefix: &str) -> Result<BTreeMap<String, Vec<String>>> {
    let output = python("read_logs.py").args([CLOUD, prefix]).output()?;
    ensure!(output.status.success(), "{}", text(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A script of `tests/e2e/interop`, with credentials for the local cloud.
pub(crate) fn python(script: &str) -> Command {
    let mut python = Command::new(cache().join("python/bin/python3"));
    python
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/interop").join(script))
        .envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
    python
}

/// A configuration of ORCA.
pub(crate) fn config(file: &str) -> Result<Config> {
    let facts = Facts { pod_ip: Some([10, 0, 0, 1].into()), outward_ip: None };
    let (config, _) = Config::resolve(file, &facts).map_err(|problems| anyhow::anyhow!("{problems:?}"))?;
    Ok(config)
}

/// What ORCA's own clients of AWS are made from, with credentials for the local cloud.
pub(crate) async fn sdk(config: &Config) -> aws_config::SdkConfig {
    let keys = aws_credential_types::Credentials::new("test", "test", None, None, "interop");
    let provider = aws_credential_types::provider::SharedCredentialsProvider::new(keys);
    sdk_config(&config.aws).await.into_builder().credentials_provider(provider).build()
}
