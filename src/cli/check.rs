//! `orca check`: one line for everything that ORCA will need, with `ok` or with what to do.

mod cluster;

use std::path::Path;
use std::process::ExitCode;

use super::{Common, load, say};
use crate::cloud::ec2::probe::{Finding, probe};
use crate::cloud::ec2::sdk_config;
use crate::config::{Config, Tls};

pub(super) async fn run(common: &Common) -> ExitCode {
    let (config, warnings) = match load(common) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let mut report = Report::default();
    report.line(&Finding::new("configuration", Ok(common.config.display().to_string())));
    for warning in warnings {
        say(format_args!("note  {}", warning.text));
    }
    for finding in files(&config) {
        report.line(&finding);
    }
    let cluster = cluster::examine(common, &config).await;
    for finding in &cluster.findings {
        report.line(finding);
    }
    let sdk = sdk_config(&config.aws).await;
    for finding in probe(&sdk, &config, &cluster.id, cluster.minor).await {
        report.line(&finding);
    }
    report.end()
}

/// Prints findings as they come, and remembers how many were bad.
#[derive(Debug, Default)]
struct Report {
    good: usize,
    bad: usize,
}

impl Report {
    fn line(&mut self, finding: &Finding) {
        match &finding.outcome {
            Ok(detail) if detail.is_empty() => say(format_args!("ok    {}", finding.what)),
            Ok(detail) => say(format_args!("ok    {}: {detail}", finding.what)),
            Err(advice) => say(format_args!("FAIL  {}: {advice}", finding.what)),
        }
        if finding.outcome.is_ok() {
            self.good += 1;
        } else {
            self.bad += 1;
        }
    }

    fn end(&self) -> ExitCode {
        say(format_args!("{} ok, {} failed", self.good, self.bad));
        if self.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Files that the configuration names.
fn files(config: &Config) -> Vec<Finding> {
    const PLUGINS: [&str; 4] = ["ptp", "static", "portmap", "loopback"];
    let folder = &config.guest.cni_plugins_dir;
    let missing: Vec<&str> = PLUGINS.into_iter().filter(|name| !folder.join(name).is_file()).collect();
    let plugins = if missing.is_empty() {
        Ok(folder.display().to_string())
    } else {
        Err(format!(
            "{} {} not in `{}`; set guest.cniPluginsDir to a folder with the plugins of \
             github.com/containernetworking/plugins",
            missing.join(", "),
            if missing.len() == 1 { "is" } else { "are" },
            folder.display()
        ))
    };
    let mut findings = vec![Finding::new("CNI plugins", plugins)];
    if let Tls::Files(tls) = &config.kubelet.tls {
        findings.push(Finding::new("kubelet.tls.certFile", readable(&tls.cert_file)));
        findings.push(Finding::new("kubelet.tls.keyFile", readable(&tls.key_file)));
    }
    findings
}

fn readable(file: &Path) -> Result<String, String> {
    match std::fs::read(file) {
        Ok(_) => Ok(file.display().to_string()),
        Err(error) => Err(format!("`{}`: {error}", file.display())),
    }
}
