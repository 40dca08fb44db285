//! The kubelet: its configuration, its way to the gateway, and the unit that runs it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ETC, KEYS};
use crate::guest::{Cgroup, GATEWAY_PORT, GuestFacts, Inputs, KUBELET_PORT, MAX_PODS};

/// Where Amazon's images have ECR's credential provider.
const ECR_PROVIDER_DIR: &str = "/etc/eks/image-credential-provider";

/// Of a shutdown: for critical pods, of which there are none here, and what is added to the pod's grace.
const CRITICAL_GRACE: Duration = Duration::from_secs(10);
const SLACK: Duration = Duration::from_secs(20);
/// A shutdown waits at least so long for the pod, whatever its grace, and at most so long.
const SHUTDOWN_MIN: Duration = Duration::from_secs(60);
const SHUTDOWN_MAX: Duration = Duration::from_secs(900);

/// `KubeletConfiguration`, as JSON, which is YAML too.
pub(in crate::guest) fn config(facts: &GuestFacts, inputs: &Inputs) -> String {
    let mut config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        // Reached through the tunnel alone, by ORCA alone.
        "address": "127.0.0.1",
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": false},
            "x509": {"clientCAFile": format!("{KEYS}/client-ca.crt")},
        },
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": format!("{KEYS}/kubelet.crt"),
        "tlsPrivateKeyFile": format!("{KEYS}/kubelet.key"),
        "rotateCertificates": false,
        "serverTLSBootstrap": false,
        // Without them there are no logs and no exec.
        "enableDebuggingHandlers": true,
        "registerNode": false,
        "contentType": "application/json",
        // The private Node's allocatable never equals what the kubelet computes, so each round is a patch.
        "nodeStatusUpdateFrequency": "5m",
        "nodeStatusReportFrequency": "5m",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "maxPods": MAX_PODS,
        // What runs the pod stays alive when the pod takes all memory: the pod is killed, and says so.
        "systemReserved": {"memory": "300Mi"},
        "enforceNodeAllocatable": ["pods"],
        "failSwapOn": false,
        "serializeImagePulls": false,
        // Absolute: a share of a large disk is much, and of a shared one says nothing.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1Gi",
            "imagefs.available": "1Gi",
        },
        "imageGCHighThresholdPercent": 95,
        "imageGCLowThresholdPercent": 90,
        // The kubelet's defaults. What the archive has not read of rotated files is kept elsewhere.
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
    });
    let mut set = |key: &str, value: Value| config[key] = value;
    match &facts.cgroup {
        Cgroup::V2 => {
            set("cgroupDriver", json!("systemd"));
        }
        Cgroup::V1 { root } => {
            set("cgroupDriver", json!("cgroupfs"));
            set("cgroupRoot", json!(root));
            set("failCgroupV1", json!(false));
        }
    }
    if facts.has_logind {
        // The grace of the one pod, and a moment for the rest.
        let grace = (inputs.grace + CRITICAL_GRACE + SLACK).clamp(SHUTDOWN_MIN, SHUTDOWN_MAX);
        set("shutdownGracePeriod", json!(format!("{}s", grace.as_secs())));
        set("shutdownGracePeriodCriticalPods", json!(format!("{}s", CRITICAL_GRACE.as_secs())));
    }
    if let Some(path) = &facts.resolv_conf {
        set("resolvConf", json!(path));
    }
    pretty(&config)
}

/// The way to the gateway: this machine's end of the tunnel. Holds the machine's token.
pub(in crate::guest) fn kubeconfig(inputs: &Inputs) -> String {
    use base64::Engine as _;
    let ca = base64::engine::general_purpose::STANDARD.encode(&inputs.gateway_ca);
    pretty(&json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "gateway", "cluster": {
            "server": format!("https://127.0.0.1:{GATEWAY_PORT}"),
            "certificate-authority-data": ca,
        }}],
        "users": [{"name": "machine", "user": {"token": inputs.gateway_token}}],
        "contexts": [{"name": "gateway", "context": {"cluster": "gateway", "user": "machine"}}],
        "current-context": "gateway",
    }))
}

/// ECR's credential provider, which uses the machine's own role.
pub(in crate::guest) fn credential_provider() -> String {
    pretty(&json!({
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [{
            "name": "ecr-credential-provider",
            "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
            "defaultCacheDuration": "12h",
            "matchImages": [
                "*.dkr.ecr.*.amazonaws.com",
                "*.dkr.ecr.*.amazonaws.com.cn",
                "*.dkr.ecr-fips.*.amazonaws.com",
                "*.dkr.ecr.*.amazonaws.eu",
                "public.ecr.aws",
            ],
        }],
    }))
}

/// The command line, as a script: it may change, while the unit never does. A `daemon-reload` would take the
/// GPUs from containers that the older NVIDIA runtime made.
pub(in crate::guest) fn script(facts: &GuestFacts, inputs: &Inputs) -> String {
    let mut flags = vec![
        format!("--config={ETC}/kubelet.json"),
        format!("--kubeconfig={KEYS}/kubeconfig"),
        format!("--hostname-override={}", inputs.node),
        // Else the node's name is looked up in DNS at each status.
        format!("--node-ip={}", inputs.private_ip),
        "--v=2".to_owned(),
    ];
    if facts.cgroup == Cgroup::V2
        && let Some(slice) = &facts.containerd_slice
    {
        flags.push(format!("--runtime-cgroups=/{slice}/containerd.service"));
    }
    if facts.has_ecr_provider {
        flags.push(format!("--image-credential-provider-config={ETC}/credential-provider.json"));
        flags.push(format!("--image-credential-provider-bin-dir={ECR_PROVIDER_DIR}"));
    }
    format!("#!/bin/sh\nexec {} \\\n\t{}\n", facts.kubelet, flags.join(" \\\n\t"))
}

/// The unit. It is not enabled: after a reboot its secrets are gone until they are sent again.
pub(in crate::guest) fn unit() -> String {
    format!(
        "[Unit]
Description=Kubernetes kubelet of one pod
After=containerd.service
Wants=containerd.service
StartLimitIntervalSec=0
[Service]
ExecStart={ETC}/kubelet
Restart=always
RestartSec=1
KillMode=process
CPUAccounting=true
MemoryAccounting=true
"
    )
}

pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::bootstrap::tests::mk_inputs;
    use crate::guest::facts::tests::{EKS, LOCAL};

    #[test]
    fn the_kubelet_listens_on_loopback_and_trusts_orca_alone() {
        insta::assert_snapshot!(config(&GuestFacts::parse(EKS).unwrap(), &mk_inputs()), @r##"
        {
          "address": "127.0.0.1",
          "apiVersion": "kubelet.config.k8s.io/v1beta1",
          "authentication": {
            "anonymous": {
              "enabled": false
            },
            "webhook": {
              "enabled": false
            },
            "x509": {
              "clientCAFile": "/run/orca/keys/client-ca.crt"
            }
          },
          "authorization": {
            "mode": "AlwaysAllow"
          },
          "cgroupDriver": "systemd",
          "containerLogMaxFiles": 5,
          "containerLogMaxSize": "10Mi",
          "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
          "contentType": "application/json",
          "enableDebuggingHandlers": true,
          "enforceNodeAllocatable": [
            "pods"
          ],
          "evictionHard": {
            "imagefs.available": "1Gi",
            "memory.available": "100Mi",
            "nodefs.available": "1Gi"
          },
          "failSwapOn": false,
          "healthzPort": 0,
          "imageGCHighThresholdPercent": 95,
          "imageGCLowThresholdPercent": 90,
          "kind": "KubeletConfiguration",
          "maxPods": 16,
          "nodeStatusReportFrequency": "5m",
          "nodeStatusUpdateFrequency": "5m",
          "port": 10250,
          "readOnlyPort": 0,
          "registerNode": false,
          "resolvConf": "/run/systemd/resolve/resolv.conf",
          "rotateCertificates": false,
          "serializeImagePulls": false,
          "serverTLSBootstrap": false,
          "shutdownGracePeriod": "60s",
          "shutdownGracePeriodCriticalPods": "10s",
          "systemReserved": {
            "memory": "300Mi"
          },
          "tlsCertFile": "/run/orca/keys/kubelet.crt",
          "tlsPrivateKeyFile": "/run/orca/keys/kubelet.key"
        }
        "##);
    }

    #[test]
    fn on_cgroup_v1_pods_go_under_the_machine() {
        let config: Value =
            serde_json::from_str(&config(&GuestFacts::parse(LOCAL).unwrap(), &mk_inputs())).unwrap();
        assert_eq!(config["cgroupRoot"], "/orca-i-1");
        assert_eq!(config["cgroupDriver"], "cgroupfs");
        assert_eq!(config["failCgroupV1"], false);
        assert_eq!(config["resolvConf"], "/etc/resolv.conf");
        assert_eq!(config.get("shutdownGracePeriod"), None);
    }

    #[test]
    fn the_kubeconfig_leads_to_the_tunnel() {
        use kube::config::Kubeconfig;
        let config = Kubeconfig::from_yaml(&kubeconfig(&mk_inputs())).unwrap();
        let cluster = config.clusters[0].cluster.as_ref().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://127.0.0.1:6443"));
        assert!(cluster.certificate_authority_data.is_some());
        assert_eq!(config.current_context.as_deref(), Some("gateway"));
        assert!(config.auth_infos[0].auth_info.as_ref().unwrap().token.is_some());
    }

    #[test]
    fn flags_follow_the_image() {
        insta::assert_snapshot!(script(&GuestFacts::parse(EKS).unwrap(), &mk_inputs()), @r"
        #!/bin/sh
        exec /usr/bin/kubelet \
        	--config=/etc/orca/kubelet.json \
        	--kubeconfig=/run/orca/keys/kubeconfig \
        	--hostname-override=orca \
        	--node-ip=10.0.1.10 \
        	--v=2 \
        	--runtime-cgroups=/runtime.slice/containerd.service \
        	--image-credential-provider-config=/etc/orca/credential-provider.json \
        	--image-credential-provider-bin-dir=/etc/eks/image-credential-provider
        ");
        insta::assert_snapshot!(script(&GuestFacts::parse(LOCAL).unwrap(), &mk_inputs()), @r"
        #!/bin/sh
        exec /usr/bin/kubelet \
        	--config=/etc/orca/kubelet.json \
        	--kubeconfig=/run/orca/keys/kubeconfig \
        	--hostname-override=orca \
        	--node-ip=10.0.1.10 \
        	--v=2
        ");
    }
}
