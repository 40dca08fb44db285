//! The configuration of containerd.

use super::{CNI_CONF_DIR, PAUSE_IMAGE, REGISTRY_HOSTS};
use crate::guest::{Cgroup, GuestFacts, OomScore};

/// `/etc/containerd/config.toml`. Version 2 is what every containerd from 1.6 on reads; newer ones migrate it.
/// It is one file because an import would replace whole sections. `gpus`: how many the pod's machine has.
pub(in crate::guest) fn config(facts: &GuestFacts, gpus: u32) -> String {
    let systemd_cgroup = facts.cgroup == Cgroup::V2;
    let (default, nvidia) = match &facts.nvidia_runtime {
        Some(binary) if gpus > 0 => ("nvidia", runtime("nvidia", binary, systemd_cgroup)),
        Some(_) | None => ("runc", String::new()),
    };
    let oom = match facts.oom_score {
        OomScore::Free => "",
        // Otherwise runc fails where it may not lower the score of a sandbox.
        OomScore::OnlyHigher => "\n  restrict_oom_score_adj = true",
    };
    format!(
        r#"version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"{oom}

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni_dir}"
  conf_dir = "{CNI_CONF_DIR}"
  max_conf_num = 1

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{REGISTRY_HOSTS}"

[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "{default}"
{runc}{nvidia}"#,
        cni_dir = facts.cni_dir,
        runc = runtime("runc", &facts.runc, systemd_cgroup),
    )
}

fn runtime(name: &str, binary: &str, systemd_cgroup: bool) -> String {
    format!(
        r#"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
  BinaryName = "{binary}"
  SystemdCgroup = {systemd_cgroup}
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::facts::tests::{EKS, LOCAL};

    #[test]
    fn a_gpu_machine_runs_everything_by_the_nvidia_runtime() {
        let facts = GuestFacts::parse(EKS).unwrap();
        insta::assert_snapshot!(config(&facts, 1), @r##"
        version = 2

        [plugins."io.containerd.grpc.v1.cri"]
          sandbox_image = "localhost/kubernetes/pause:latest"

        [plugins."io.containerd.grpc.v1.cri".cni]
          bin_dir = "/opt/cni/bin"
          conf_dir = "/etc/orca/cni"
          max_conf_num = 1

        [plugins."io.containerd.grpc.v1.cri".registry]
          config_path = "/etc/containerd/certs.d"

        [plugins."io.containerd.grpc.v1.cri".containerd]
          default_runtime_name = "nvidia"

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
          BinaryName = "/usr/sbin/runc"
          SystemdCgroup = true

        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
          runtime_type = "io.containerd.runc.v2"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
          BinaryName = "/usr/bin/nvidia-container-runtime"
          SystemdCgroup = true
        "##);
        assert!(config(&facts, 0).contains(r#"default_runtime_name = "runc""#));
    }

    #[test]
    fn a_machine_in_a_container_drives_cgroups_itself_and_leaves_oom_scores() {
        let usual = config(&GuestFacts::parse(EKS).unwrap(), 0);
        let local = config(&GuestFacts::parse(LOCAL).unwrap(), 0);
        let others: Vec<&str> =
            local.lines().filter(|line| !usual.lines().any(|other| other == *line)).collect();
        assert_eq!(others, ["  restrict_oom_score_adj = true", "  SystemdCgroup = false"]);
        assert_eq!(local.lines().count(), usual.lines().count() + 1);
    }
}
