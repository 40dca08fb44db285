//! Every key of the configuration file, once: its type, default, meaning and an example.
//!
//! Parsing, error messages, suggestions, `docs/configuration.md` and the example all read this table, so they
//! cannot tell different stories. `[]` stands for an element of a list.

use Need::{Default, OlderSpelling, Optional, Required, RequiredInSection};

/// One key of the file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) path: &'static str,
    /// Completes "expected …"; also the type column of the documentation.
    pub(super) expected: &'static str,
    pub(super) need: Need,
    /// YAML, for the complete example; empty leaves the key out of it.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test that writes the documentation"))]
    pub(super) example: &'static str,
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test that writes the documentation"))]
    pub(super) meaning: &'static str,
}

/// What holds when a key is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Required,
    /// Where anything of its section is there.
    RequiredInSection,
    Optional,
    /// YAML, read as if it had been typed.
    Default(&'static str),
    /// Accepted with a warning; the key that is meant.
    OlderSpelling(&'static str),
}

/// The key of a path, whose list indices are written `[]`.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Whether a key lies below this path.
pub(super) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| {
        key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.') || rest.starts_with('['))
    })
}

const fn key(
    path: &'static str,
    expected: &'static str,
    need: Need,
    example: &'static str,
    meaning: &'static str,
) -> Key {
    Key { path, expected, need, example, meaning }
}

const DURATION: &str = "a duration such as `90s`, `5m` or `24h`";
const QUANTITY: &str = "a positive Kubernetes quantity";

/// In the order of the documentation.
#[rustfmt::skip] // one argument a line would make a table of 400 lines that nobody can compare
pub(super) const KEYS: &[Key] = &[
    key("aws.region", "an AWS region such as `us-east-1`", Required, "us-east-1",
        "Where machines are launched."),
    key("aws.vpcID", "an id such as `vpc-0a1b2c3d4e5f60718`", Required, "vpc-0a1b2c3d4e5f60718",
        "The VPC that the subnets and security groups belong to."),
    key("aws.subnetIDs", "a list of one or more ids such as `subnet-0a1b2c3d4e5f60718`", Required,
        "[subnet-0a1b2c3d4e5f60718, subnet-0b1c2d3e4f5061728]",
        "Where machines are placed, in order of preference. Each takes two free addresses: the machine's and the pod's."),
    key("aws.subnetID", "an id such as `subnet-0a1b2c3d4e5f60718`", OlderSpelling("aws.subnetIDs"), "", ""),
    key("aws.securityGroupIDs", "a list of 1 to 16 ids such as `sg-0a1b2c3d4e5f60718`", Required,
        "[sg-0a1b2c3d4e5f60718]",
        "Security groups of the machines, and with them of the pods. No inbound rule is needed with the tunnel `ssm`."),
    key("aws.amiID", "an id such as `ami-0a1b2c3d4e5f60718`", Optional, "",
        "The machine image. Without it and without `aws.amiSSMParameter`: the EKS-optimized Amazon Linux 2023 image of the cluster's minor version, by architecture and accelerator."),
    key("aws.amiSSMParameter", "the name or ARN of an SSM parameter", Optional,
        "/aws/service/eks/optimized-ami/1.36/amazon-linux-2023/x86_64/nvidia/recommended/image_id",
        "SSM parameter that holds the id of the machine image; read again every 24 hours. Not together with `aws.amiID`."),
    key("aws.instanceProfile", "the name or ARN of an instance profile", Optional, "orca-machine",
        "Instance profile of the machines: SSM agent channels and image pull are all it has to allow."),
    key("aws.endpoint", "an `http` or `https` URL", Optional, "",
        "Another endpoint for every AWS service, such as `http://127.0.0.1:4566` of the local cloud."),
    key("aws.localStackEndpoint", "an `http` or `https` URL", OlderSpelling("aws.endpoint"), "", ""),
    key("aws.tunnel", "`ssm` or `direct`", Default("ssm"), "ssm",
        "How machines are reached: `ssm` needs no open port and no route; `direct` dials the private address (Nitro types only)."),
    key("aws.tags", "a mapping of up to 40 tags, without the prefixes `aws:` and `orca.research/`", Default("{}"), "{team: research}",
        "Put on every instance, volume and network interface, beside ORCA's own."),

    key("runpod.apiKeyFile", "an absolute path", RequiredInSection, "/etc/orca/runpod/api-key",
        "File with the API key of the account at RunPod, such as a mounted Secret: read anew for each call, so that the key may change. Without the section `runpod`, RunPod is not used."),
    key("runpod.endpoint", "an `https` URL, or an `http` URL of this host", Default("https://api.runpod.io/v2"), "https://api.runpod.io/v2",
        "The REST API, version 2."),
    key("runpod.graphqlEndpoint", "an `https` URL, or an `http` URL of this host", Default("https://api.runpod.io/graphql"), "https://api.runpod.io/graphql",
        "The GraphQL API, which alone tells the account's balance. Without an answer from it, RunPod's own refusal is all there is."),
    key("runpod.cloudTypes", "a list of `secure` and `community`", Default("[secure]"), "[secure]",
        "Whose machines pods may run on, in order of preference: RunPod's data centers, or those of others, whose machines may lack a public address."),
    key("runpod.dataCenterIDs", "a list of ids such as `EU-RO-1`", Default("[]"), "[EU-RO-1, US-TX-3]",
        "Where pods may run; empty is anywhere."),
    key("runpod.allowedGPUs", "a list of RunPod's GPU ids such as `NVIDIA L4`, each possibly ending in `*`", Optional, "[NVIDIA L4, \"NVIDIA A100*\"]",
        "Which GPUs pods may get; absent allows every one. A pod that asks for another is refused."),
    key("runpod.allowSecretsInEnv", "`true` or `false`", Default("false"), "false",
        "Whether a pod whose environment comes from Secrets may run at RunPod, which shows environments in clear to everybody who may read the account's pods. `false` refuses such a pod."),
    key("runpod.registryAuth", "a mapping of registries, each possibly with a path, to ids of RunPod's registry credentials", Default("{}"), "{ghcr.io/example: clx0abcd1234, docker.io: clx0efgh5678}",
        "Which credential of the account an image is pulled with; of several that fit the longest decides."),
    key("runpod.minRunway", DURATION, Default("1h"), "1h",
        "Nothing is created at RunPod when the account's credits would not last for so long at what it spends, the new pod included. `0s` leaves that to RunPod."),
    key("runpod.spendLimit", "an amount of US dollars such as `25.00`", Optional, "25.00",
        "What the account may spend at RunPod per hour, whoever started it; pods beyond that wait. RunPod has a limit of its own beside it."),
    key("runpod.startDeadline", DURATION, Default("20m"), "20m",
        "A pod at RunPod whose container does not run after so long (at least `1m`), and shows no progress, is deleted and tried elsewhere: it is billed all the while. Pulling a large image takes long."),

    key("node.name", "a DNS name of at most 63 characters, not beginning with `i-` or `fargate-`", Default("orca"), "orca",
        "Name of the virtual node. Two ORCAs in one cluster need two names."),
    key("node.labels", "a mapping of Kubernetes labels", Default("{}"), "{example.com/burst: \"true\"}",
        "More labels of the node. An empty value for one of the default labels leaves that label out, `eks.amazonaws.com/compute-type` for example."),
    key("node.taints", "a list of taints", Default("[{key: virtual-kubelet.io/provider, value: orca, effect: NoSchedule}]"),
        "[{key: virtual-kubelet.io/provider, value: orca, effect: NoSchedule}]",
        "Taints of the node, instead of the default one."),
    key("node.taints[].key", "a label key", Required, "", "Key of the taint."),
    key("node.taints[].value", "a label value", Optional, "", "Value of the taint."),
    key("node.taints[].effect", "`NoSchedule`, `PreferNoSchedule` or `NoExecute`", Required, "", "What the taint does."),
    key("node.cpu", QUANTITY, Default("128"), "128",
        "CPUs that the scheduler sees. Honest figures keep the cluster autoscaler honest: it counts them."),
    key("node.memory", QUANTITY, Default("1Ti"), "1Ti", "Memory that the scheduler sees."),
    key("node.ephemeralStorage", QUANTITY, Default("2Ti"), "2Ti", "Ephemeral storage that the scheduler sees."),
    key("node.pods", "1 to 500", Default("50"), "50",
        "Pods that the scheduler places on the node. Those beyond `limits.maxConcurrentInstances` wait."),
    key("node.gpu.resource", "an extended resource such as `nvidia.com/gpu`", Default("nvidia.com/gpu"), "nvidia.com/gpu",
        "The extended resource that stands for GPUs."),
    key("node.gpu.count", "0 to 10000", Default("16"), "16", "GPUs that the scheduler sees."),
    key("node.daemonSets", "`pending` or `reject`", Default("pending"), "pending",
        "DaemonSet pods never get a machine. `pending` leaves the ones that land here Pending, with one event; `reject` fails them."),

    key("instances.selectionMode", "`explicit`, `template` or `auto`", Default("auto"), "auto",
        "The most that is allowed: only instance types and reservations that somebody named (`explicit`); these and templates (`template`); or also ORCA's own choice, the cheapest machine that fits (`auto`)."),
    key("instances.defaultInstanceType", "an instance type such as `g6.xlarge`", Optional, "g6.xlarge",
        "Short for `instance-type` in `instances.defaults`: the type for pods that say nothing about their machine."),
    key("instances.defaults", "a mapping of keys of annotations.md, without prefix", Default("{}"), "{capacity-wait: 1h}",
        "What holds where neither the pod, its owner, its namespace nor its template says anything."),
    key("instances.templates", "a mapping of names to mappings of keys of annotations.md, without prefix, and `extends`", Default("{}"),
        "{gpu: {gpu-models: [l4, a10g]}, gpu-spot: {extends: gpu, capacity-type: [spot, on-demand]}}",
        "Templates that pods name with `orca.research/template`. `extends` names another that this one is based on."),
    key("instances.allowedInstanceTypes", "a list of instance types, each possibly ending in `*`", Optional, "[\"g6.*\", \"g6e.*\", p5.48xlarge]",
        "What may be launched; absent allows every type. A pod that asks for another type is refused."),
    key("instances.allowedCapacityTypes", "a list of `reserved`, `capacity-block`, `interruptible`, `spot` and `on-demand`",
        Default("[reserved, capacity-block, interruptible, spot, on-demand]"), "[reserved, spot, on-demand]",
        "How machines may be bought. A pod that asks for another way is refused."),
    key("instances.allowedAMIs", "a list of image ids and SSM parameters, each possibly ending in `*`", Default("[]"), "[ami-0a1b2c3d4e5f60718]",
        "Images that annotations may name. Templates and `instances.defaults` may name any, here and in the lists below."),
    key("instances.allowedInstanceProfiles", "a list of names and ARNs of instance profiles, each possibly ending in `*`", Default("[]"), "[ml-machine]",
        "Instance profiles that annotations may name."),
    key("instances.allowedSecurityGroupIDs", "a list of ids such as `sg-0a1b2c3d4e5f60718`", Default("[]"), "[sg-0b1c2d3e4f5061728]",
        "Security groups that annotations may name."),
    key("instances.allowedPlacementGroups", "a list of names and ARNs of placement groups, each possibly ending in `*`", Default("[]"), "[\"team-*\"]",
        "Placement groups that annotations may name."),
    key("instances.allowedTenancies", "a list of `default` and `dedicated`", Default("[default]"), "[default, dedicated]",
        "Tenancies that annotations may name."),
    key("instances.maxRootVolumeSizeGiB", "8 to 65536", Default("1024"), "1024",
        "The largest root volume that annotations may ask for."),
    key("instances.rootVolume.sizeGiB", "8 to 65536", Default("100"), "100",
        "Size of the root volume in GiB: images, writable layers and emptyDirs live there."),
    key("instances.rootVolume.type", "`gp3`, `gp2`, `io1` or `io2`", Default("gp3"), "gp3", "EBS volume type."),
    key("instances.rootVolume.iops", "100 to 256000", Optional, "6000",
        "Provisioned IOPS: optional with `gp3` (3000 to 80000, of which EC2 includes 3000), required with `io1` and `io2`, impossible with `gp2`."),
    key("instances.rootVolume.throughput", "125 to 2000", Optional, "500",
        "Throughput in MiB/s, with `gp3` only; at most a quarter of the IOPS. EC2 includes 125."),
    key("instances.rootVolume.encrypted", "`true` or `false`", Default("true"), "true", "Whether the volume is encrypted."),
    key("instances.rootVolume.kmsKeyId", "a KMS key id, alias or ARN", Optional, "",
        "Key for the encryption; absent uses the account's default key."),

    key("network.externalSNAT", "`true` or `false`", Default("false"), "false",
        "`true` leaves traffic out of the VPC with the pod's own address, for a NAT that is elsewhere; `false` translates it to the machine's."),

    key("guest.cniPluginsDir", "an absolute path", Default("/opt/orca/cni"), "/opt/orca/cni",
        "Folder with the CNI plugins `ptp`, `static`, `portmap` and `loopback`; what a machine lacks is sent to it."),

    key("limits.maxConcurrentInstances", "1 to 5000", Default("10"), "10",
        "Machines that exist at one time. Pods beyond that wait."),
    key("limits.maxHourlyCost", "an amount of US dollars such as `25.00`", Optional, "25.00",
        "What the machines that exist at one time may cost per hour, at the list price or the spot price of now; pods beyond that wait, and a machine without a known price is not launched. What runs in reservations and Capacity Blocks counts nothing: it is paid for anyway."),
    key("limits.launchRate.burst", "1 to 1000", Default("5"), "5",
        "RunInstances calls that the account may make at once; ORCA keeps one in hand. The default is EC2's for an account: raise it when AWS raised the account's."),
    key("limits.launchRate.perSecond", "1 to 1000", Default("2"), "2",
        "RunInstances calls a second after those. Pods beyond that wait their turn."),
    key("limits.maxInstanceLifetime", DURATION, Default("24h"), "24h",
        "A machine ends itself at this age (at least `1m`), whatever runs on it: the last guard against a forgotten bill."),
    key("limits.maxLostContact", DURATION, Default("1h"), "1h",
        "A machine ends itself when ORCA has not been in contact for so long (at least `10s`)."),
    key("limits.keepFinished", DURATION, Optional, "0s",
        "How long the machine of a finished pod stays, for those who want to look at it. `0s` ends it as soon as its logs are archived; deleting the pod does, too. Absent: `0s`, or `5m` where `logs.enabled` is `false`."),
    key("limits.bootDeadline", DURATION, Default("10m"), "10m",
        "A machine that is not reachable after so long (at least `5s`) is replaced. Time in which SSM gives no session with any machine does not count."),
    key("limits.capacityWait", DURATION, Optional, "12h",
        "A pod that waited so long for a machine fails, so that its Job can act; annotations may shorten it. Absent, pods wait for ever."),

    key("kubelet.listen", "an address and port such as `0.0.0.0:10250`", Default("0.0.0.0:10250"), "0.0.0.0:10250",
        "Where the node's own HTTPS endpoint listens: logs, exec, attach, port-forward, metrics."),
    key("kubelet.address", "an IP address", Optional, "",
        "The address published on the Node, where the API server dials the endpoint; absent: `POD_IP`, else the address of the default route."),
    key("kubelet.tls.mode", "`files`, `csr` or `selfSigned`", Optional, "files",
        "Where the endpoint's serving certificate comes from: `files` (below); `csr`, a CertificateSigningRequest that somebody has to approve after each start and before each expiry, with a self-signed one until then; `selfSigned`, which an API server with `--kubelet-certificate-authority` refuses. Absent: `files` when both files are given, else `selfSigned`."),
    key("kubelet.tls.signer", "a signer such as `kubernetes.io/kubelet-serving`", Default("kubernetes.io/kubelet-serving"), "",
        "With `csr`: who is asked to sign. On EKS `beta.eks.amazonaws.com/app-serving`: its other signer issues to EC2 instances alone."),
    key("kubelet.tls.certFile", "an absolute path", Optional, "/etc/orca/tls/tls.crt",
        "With `files`: serving certificate (PEM) for `kubelet.address`, read again every minute."),
    key("kubelet.tls.keyFile", "an absolute path", Optional, "/etc/orca/tls/tls.key", "Its private key (PEM)."),

    key("leaderElection.enabled", "`true` or `false`", Default("true"), "true",
        "Whether processes with the same `node.name` agree, by a Lease of that name in ORCA's namespace, on the one that acts; the others are ready to. `false` is for a single process that nothing else ever runs beside."),
    key("leaderElection.leaseDuration", "whole seconds such as `12s`", Default("12s"), "12s",
        "How long the others wait after the leader's last sign of life before one of them takes over."),
    key("leaderElection.renewDeadline", DURATION, Default("8s"), "8s",
        "A leader that could not renew its Lease for so long stops acting, and ends. Shorter than `leaderElection.leaseDuration`: the difference is what a change that was sent in the last moment may take to arrive."),
    key("leaderElection.retryPeriod", DURATION, Default("2s"), "2s",
        "How often the leader renews, at most half of `leaderElection.renewDeadline`."),
    key("shutdown.deadline", DURATION, Default("20s"), "20s",
        "How long a process that was asked to end may take to finish what it has begun; below the pod's `terminationGracePeriodSeconds`."),

    key("logs.enabled", "`true` or `false`", Default("true"), "true",
        "Whether the logs of all containers go to CloudWatch Logs, where `kubectl logs` finds them when the machine is gone. CloudWatch charges for each GB (0.50 USD in us-east-1)."),
    key("logs.group", "the name of a log group", Optional, "/orca/production/pods",
        "The log group, made if it is missing; absent: `/orca/CLUSTER/pods`, where CLUSTER is the UID of the namespace `kube-system`."),
    key("logs.retentionDays", "a number of days that CloudWatch Logs offers, such as `7`, `30` or `365`; `0` keeps logs for ever", Default("30"), "30",
        "How long the group keeps its events."),
    key("logs.kmsKeyId", "the ARN of a KMS key", Optional, "",
        "Key for the encryption of a group that ORCA makes; absent uses the service's own."),
    key("logs.drainDeadline", DURATION, Default("2m"), "2m",
        "How long the machine of a pod that has ended stays at most until its logs are archived. What is missing then is told in the log itself and by an event."),

    key("logging.level", "a level such as `info`, or a filter such as `orca=debug,info`", Default("info"), "info",
        "What is logged. The environment variable `RUST_LOG` overrides it."),
    key("logging.format", "`text` or `json`", Default("text"), "json", "How it is logged."),

    key("metrics.listen", "an address and port such as `0.0.0.0:9464`, or `none`", Default("0.0.0.0:9464"), "0.0.0.0:9464",
        "Where `/metrics`, `/livez` and `/readyz` are served."),
    key("tracing.otlpEndpoint", "an `http` URL", Optional, "http://otel-collector.monitoring:4318",
        "A collector that takes traces by OTLP over HTTP (`/v1/traces` is added): one trace for each pod, from its binding to its running containers. Absent: none."),
];
