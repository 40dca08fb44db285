//! `orca check`: one line for everything that ORCA will need, with `ok` or with what to do.

mod cluster;

use std::path::Path;
use std::process::ExitCode;

use super::{Common, load, say};
use crate::cloud::ec2::probe::{Finding, probe};
use crate::cloud::ec2::sdk_config;
use crate::config::{Config, Tls};
use crate::guest::CNI_PLUGINS;

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
    let mut findings = vec![Finding::new("guest.cniPluginsDir", plugins(&config.guest.cni_plugins_dir))];
    if let Tls::Files(tls) = &config.kubelet.tls {
        findings.push(Finding::new("kubelet.tls.certFile", readable(&tls.cert_file)));
        findings.push(Finding::new("kubelet.tls.keyFile", readable(&tls.key_file)));
    }
    findings
}

/// The CNI plugins for machines that lack them: `DIR/NAME`, or `DIR/ARCH/NAME` for both architectures.
fn plugins(folder: &Path) -> Result<String, String> {
    const WHERE: &str =
        "set guest.cniPluginsDir to a folder with programs of github.com/containernetworking/plugins";
    let at = folder.display();
    if let Err(error) = std::fs::read_dir(folder) {
        return Err(format!("`{at}`: {error}; {WHERE}"));
    }
    let is_there = |name: &&str| {
        folder.join(name).is_file()
            || ["amd64", "arm64"].iter().any(|arch| folder.join(arch).join(name).is_file())
    };
    let missing: Vec<&str> = CNI_PLUGINS.into_iter().filter(|name| !is_there(name)).collect();
    if missing.is_empty() {
        return Ok(at.to_string());
    }
    Err(format!("`{at}` lacks `{}`; {WHERE}", missing.join("`, `")))
}

fn readable(file: &Path) -> Result<String, String> {
    match std::fs::read(file) {
        Ok(_) => Ok(file.display().to_string()),
        Err(error) => Err(format!("`{}`: {error}", file.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_the_plugins_is_told_with_what_is_missing_and_what_to_do() {
        let folder = std::env::temp_dir().join(format!("orca-check-{}", uuid::Uuid::new_v4()));
        let told = |folder: &Path| plugins(folder).unwrap_err();
        assert!(told(&folder).contains("No such file or directory"), "{}", told(&folder));
        std::fs::create_dir_all(folder.join("arm64")).unwrap();
        std::fs::write(folder.join("ptp"), "").unwrap();
        std::fs::write(folder.join("arm64/static"), "").unwrap();
        assert!(
            told(&folder).ends_with(
                "lacks `portmap`, `loopback`; set guest.cniPluginsDir to a folder with programs of \
             github.com/containernetworking/plugins"
            ),
            "{}",
            told(&folder)
        );
        std::fs::write(folder.join("portmap"), "").unwrap();
        std::fs::write(folder.join("loopback"), "").unwrap();
        assert_eq!(plugins(&folder), Ok(folder.display().to_string()));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
