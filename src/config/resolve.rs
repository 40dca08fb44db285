//! From the file to a [`Config`]: reads every key of the table, then looks for values that contradict each other.

mod instances;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::leader::{leader_election, shutdown};
use super::logs::logs;
use super::raw::{Reader, Typed};
use super::runpod::runpod;
use super::{
    Aws, Config, DaemonSetPolicy, Facts, Guest, ImageSource, Kubelet, LaunchRate, Limits, LogFormat, Logging,
    Metrics, Network, Node, NodeGpu, Problems, Taint, Tls, TlsFiles, Tracing, TunnelKind, Warning, templates,
    values, volume,
};
use crate::cloud::RootVolume;

impl Config {
    /// Reads the text of a configuration file. All problems are reported at once, each with its YAML path and
    /// what was expected.
    ///
    /// # Errors
    /// [`Problems`], when there is no configuration to work with.
    pub fn resolve(file: &str, facts: &Facts) -> Result<(Self, Vec<Warning>), Problems> {
        let mut read = Reader::new(file)?;
        // A getter that gives nothing for a key that has to be there has noted a problem, and then nothing of
        // this is used: the empty values below never reach anybody.
        let mut config = Self {
            aws: aws(&mut read),
            runpod: runpod(&mut read),
            node: node(&mut read),
            instances: instances::read(&mut read),
            network: Network { external_snat: read.flag("network.externalSNAT").unwrap_or_default() },
            guest: Guest {
                cni_plugins_dir: read.text("guest.cniPluginsDir", absolute_path).unwrap_or_default(),
            },
            limits: limits(&mut read),
            kubelet: kubelet(&mut read, facts),
            leader_election: leader_election(&mut read),
            shutdown: shutdown(&mut read),
            logs: logs(&mut read),
            logging: logging(&mut read),
            metrics: Metrics { listen: read.text("metrics.listen", listen_or_none).flatten() },
            tracing: Tracing {
                otlp_endpoint: read.text("tracing.otlpEndpoint", values::text_if(values::is_plain_endpoint)),
            },
        };
        if config.logs.is_some() && !read.is_set("limits.keepFinished") {
            config.limits.keep_finished = Duration::ZERO;
        }
        config.instances.region.clone_from(&config.aws.region);
        config.instances.subnet_ids.clone_from(&config.aws.subnet_ids);
        config.instances.max_lifetime = config.limits.max_instance_lifetime;
        config.instances.capacity_wait = config.limits.capacity_wait;
        contradictions(&mut read, &config);
        templates::read(&mut read, &mut config.instances);
        let (problems, warnings) = read.finish();
        if problems.is_empty() { Ok((config, warnings)) } else { Err(Problems(problems)) }
    }
}

fn aws(read: &mut Reader) -> Aws {
    let subnet = |text: &str| values::is_id("subnet", text);
    let endpoint = values::text_if(values::is_endpoint);
    let subnet_ids = if read.is_older("aws.subnetID") {
        read.text("aws.subnetID", values::text_if(subnet)).map(|id| vec![id])
    } else {
        read.texts("aws.subnetIDs", 1..=usize::MAX, subnet)
    };
    let endpoint = if read.is_older("aws.localStackEndpoint") {
        read.text("aws.localStackEndpoint", endpoint)
    } else {
        read.text("aws.endpoint", endpoint)
    };
    let id = read.text("aws.amiID", values::text_if(|text| values::is_id("ami", text)));
    let parameter = read.text("aws.amiSSMParameter", values::text_if(values::is_name_or_arn));
    Aws {
        region: read.text("aws.region", values::text_if(values::is_region)).unwrap_or_default(),
        vpc_id: read
            .text("aws.vpcID", values::text_if(|text| values::is_id("vpc", text)))
            .unwrap_or_default(),
        subnet_ids: subnet_ids.unwrap_or_default(),
        security_group_ids: read
            .texts("aws.securityGroupIDs", 1..=16, |text| values::is_id("sg", text))
            .unwrap_or_default(),
        image: match (id, parameter) {
            (Some(id), _) => ImageSource::Id(id),
            (None, Some(parameter)) => ImageSource::Parameter(parameter),
            (None, None) => ImageSource::EksOptimized,
        },
        instance_profile: read.text("aws.instanceProfile", values::text_if(values::is_name_or_arn)),
        endpoint,
        tunnel: read
            .text("aws.tunnel", |text| match text {
                "ssm" => Some(TunnelKind::Ssm),
                "direct" => Some(TunnelKind::Direct),
                _ => None,
            })
            .unwrap_or(TunnelKind::Ssm),
        tags: tags(read),
    }
}

fn tags(read: &mut Reader) -> BTreeMap<String, String> {
    let tags = read.pairs("aws.tags", |key, value| {
        if key.is_empty() || key.chars().count() > 128 {
            return Err(format!("the tag `{key}` has {} characters, expected 1 to 128", key.chars().count()));
        }
        if ["aws:", "orca.research/"].iter().any(|reserved| key.starts_with(reserved)) {
            return Err(format!(
                "the tag `{key}` is reserved, expected none that begins with `aws:` or `orca.research/`"
            ));
        }
        if value.chars().count() > 256 {
            return Err(format!("the value of `{key}` has over 256 characters, expected at most 256"));
        }
        Ok(())
    });
    let tags = tags.unwrap_or_default();
    // EC2 takes 50; the rest is for ORCA's own.
    if tags.len() > 40 {
        read.problem("aws.tags", format!("aws.tags has {} tags, expected at most 40", tags.len()));
    }
    tags
}

fn node(read: &mut Reader) -> Node {
    let quantity = |typed: Typed<'_>| match typed {
        Typed::Text(text) | Typed::Number(text) => values::text_if(values::is_quantity)(text),
        Typed::Flag(_) => None,
    };
    let labels = read.pairs("node.labels", |key, value| {
        if !values::is_label_key(key) {
            return Err(format!("`{key}` is not a label key, expected a name with an optional domain"));
        }
        if FIXED_LABELS.contains(&key) {
            return Err(format!("`{key}` is set by ORCA, expected other labels"));
        }
        if !values::is_label_value(value) {
            return Err(format!("`{key}` is `{value}`, expected a label value"));
        }
        Ok(())
    });
    let taints = (0..read.length("node.taints")).map(|index| taint(read, index)).collect();
    Node {
        name: read.text("node.name", values::text_if(values::is_node_name)).unwrap_or_default(),
        labels: labels.unwrap_or_default(),
        taints,
        cpu: read.value("node.cpu", quantity).unwrap_or_default(),
        memory: read.value("node.memory", quantity).unwrap_or_default(),
        ephemeral_storage: read.value("node.ephemeralStorage", quantity).unwrap_or_default(),
        pods: read.integer("node.pods", 1..=500).unwrap_or_default(),
        gpu: NodeGpu {
            resource: read
                .text("node.gpu.resource", values::text_if(values::is_extended_resource))
                .unwrap_or_default(),
            count: read.integer("node.gpu.count", 0..=10_000).unwrap_or_default(),
        },
        daemon_sets: read
            .text("node.daemonSets", |text| match text {
                "pending" => Some(DaemonSetPolicy::Pending),
                "reject" => Some(DaemonSetPolicy::Reject),
                _ => None,
            })
            .unwrap_or(DaemonSetPolicy::Pending),
    }
}

/// Labels that the rest of ORCA, or the cluster, relies on.
const FIXED_LABELS: [&str; 5] = [
    "type",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
];

fn taint(read: &mut Reader, index: usize) -> Taint {
    let at = |name: &str| format!("node.taints[{index}].{name}");
    Taint {
        key: read.text(&at("key"), values::text_if(values::is_label_key)).unwrap_or_default(),
        value: read.text(&at("value"), values::text_if(values::is_label_value)),
        effect: read
            .text(
                &at("effect"),
                values::text_if(|text| matches!(text, "NoSchedule" | "PreferNoSchedule" | "NoExecute")),
            )
            .unwrap_or_default(),
    }
}

/// How long the machine of a finished pod stays where it alone has the logs.
const KEEP_FINISHED: Duration = Duration::from_secs(300);

fn limits(read: &mut Reader) -> Limits {
    let launch_rate = LaunchRate {
        burst: read.integer("limits.launchRate.burst", 1..=1000).unwrap_or_default(),
        per_second: read.integer("limits.launchRate.perSecond", 1..=1000).unwrap_or_default(),
    };
    let max_hourly_cost = read.money("limits.maxHourlyCost");
    let mut at_least = |path: &str, seconds: u64| {
        let least = Duration::from_secs(seconds);
        read.text(path, |text| values::duration(text).filter(|duration| *duration >= least))
            .unwrap_or_default()
    };
    Limits {
        launch_rate,
        max_instance_lifetime: at_least("limits.maxInstanceLifetime", 60),
        max_lost_contact: at_least("limits.maxLostContact", 10),
        boot_deadline: at_least("limits.bootDeadline", 5),
        // Settled once the archive is known.
        keep_finished: read.text("limits.keepFinished", values::duration).unwrap_or(KEEP_FINISHED),
        capacity_wait: read.text("limits.capacityWait", values::duration).filter(|wait| !wait.is_zero()),
        max_concurrent_instances: read.integer("limits.maxConcurrentInstances", 1..=5000).unwrap_or_default(),
        max_hourly_cost,
    }
}

fn kubelet(read: &mut Reader, facts: &Facts) -> Kubelet {
    let usable = |ip: &IpAddr| !ip.is_unspecified() && !ip.is_multicast();
    let typed = read.text("kubelet.address", |text| text.parse().ok().filter(usable));
    let address = typed.or(facts.pod_ip).or(facts.outward_ip);
    if address.is_none() && !read.is_set("kubelet.address") {
        read.problem(
            "kubelet.address",
            "kubelet.address is missing and this machine has no default route, expected an IP address",
        );
    }
    Kubelet {
        listen: read
            .text("kubelet.listen", |text| text.parse().ok())
            .unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0))),
        address: address.unwrap_or_else(|| IpAddr::from([0, 0, 0, 0])),
        tls: tls(read),
    }
}

/// The mode that was typed, else the one that the files ask for.
fn tls(read: &mut Reader) -> Tls {
    const CERT: &str = "kubelet.tls.certFile";
    const KEY: &str = "kubelet.tls.keyFile";
    const SIGNER: &str = "kubelet.tls.signer";
    let files = read
        .text(CERT, absolute_path)
        .zip(read.text(KEY, absolute_path))
        .map(|(cert_file, key_file)| Tls::Files(TlsFiles { cert_file, key_file }));
    let signer = read.text(SIGNER, values::text_if(values::is_signer)).unwrap_or_default();
    let given = [CERT, KEY].map(|path| read.is_set(path));
    let implied = if given == [false, false] { "selfSigned" } else { "files" };
    let mode = read.text("kubelet.tls.mode", |text| {
        ["files", "csr", "selfSigned"].into_iter().find(|mode| *mode == text)
    });
    let mode = mode.unwrap_or(implied);
    for (path, given) in [CERT, KEY].into_iter().zip(given) {
        if mode == "files" && !given {
            read.problem(path, format!("{path} is missing, expected both files (kubelet.tls.mode `files`)"));
        } else if mode != "files" && given {
            read.problem(path, format!("{path} is set, expected none with kubelet.tls.mode `{mode}`"));
        }
    }
    if mode != "csr" && read.is_set(SIGNER) {
        read.problem(SIGNER, format!("{SIGNER} is set, expected it with kubelet.tls.mode `csr` only"));
    }
    match mode {
        "csr" => Tls::Csr { signer },
        "files" => files.unwrap_or(Tls::SelfSigned),
        _ => Tls::SelfSigned,
    }
}

fn logging(read: &mut Reader) -> Logging {
    Logging {
        level: read.text("logging.level", values::text_if(values::is_log_filter)).unwrap_or_default(),
        format: read
            .text("logging.format", |text| match text {
                "text" => Some(LogFormat::Text),
                "json" => Some(LogFormat::Json),
                _ => None,
            })
            .unwrap_or(LogFormat::Text),
    }
}

/// Values that are right alone and wrong together.
fn contradictions(read: &mut Reader, config: &Config) {
    if read.is_set("aws.amiID") && read.is_set("aws.amiSSMParameter") {
        read.problem(
            "aws.amiSSMParameter",
            "aws.amiSSMParameter is set beside aws.amiID, expected only one of them",
        );
    }
    root_volume(read, &config.instances.root_volume);
    let limits = &config.limits;
    if limits.boot_deadline > limits.max_instance_lifetime {
        read.problem(
            "limits.bootDeadline",
            "limits.bootDeadline is longer than limits.maxInstanceLifetime, expected it shorter",
        );
    }
    if let Some(metrics) = config.metrics.listen
        && metrics.port() != 0
        && metrics.port() == config.kubelet.listen.port()
    {
        read.problem(
            "metrics.listen",
            format!("metrics.listen has the port {} of kubelet.listen, expected another", metrics.port()),
        );
    }
}

fn root_volume(read: &mut Reader, volume: &RootVolume) {
    for (part, text) in volume::contradictions(volume) {
        let path = format!("instances.rootVolume.{part}");
        // What could not be read has been told.
        let is_missing = part == "iops" && volume.iops.is_none();
        if !(is_missing && read.is_set(&path)) {
            read.problem(&path, format!("{path} {text}"));
        }
    }
}

fn absolute_path(text: &str) -> Option<std::path::PathBuf> {
    text.starts_with('/').then(|| text.into())
}

/// `none` is an answer too.
fn listen_or_none(text: &str) -> Option<Option<SocketAddr>> {
    if text == "none" { Some(None) } else { text.parse().ok().map(Some) }
}

#[cfg(test)]
pub(crate) mod tests;
