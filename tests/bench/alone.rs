//! The same kubelet on the same machine without ORCA: started by hand, with the same containerd, network and image.
//!
//! Works on the machine from outside, through its namespaces: what is measured is not in the way.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::machines::{CLOCKS, Start};
use crate::world::{Namespace, eventually, pod, text};

/// The pod, and the node that it is bound to.
pub(crate) const POD: &str = "alone";
/// Where the API server is, in the machines' network.
const API_SERVER: &str = "10.88.0.10";
/// Where a kubelet by itself keeps everything of its own.
const DIR: &str = "/var/lib/alone";

/// Where the kubelet has its pod from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    ApiServer,
    File,
}

impl Source {
    fn unit(self) -> &'static str {
        match self {
            Self::ApiServer => "alone-api",
            Self::File => "alone-file",
        }
    }
}

/// One machine.
pub(crate) struct Alone<'a> {
    ns: &'a Namespace<'a>,
    /// Its first process, as this host numbers it.
    init: String,
    address: String,
    /// Lets the machine reach the API server, which no machine may otherwise.
    _door: Door,
}

impl<'a> Alone<'a> {
    pub(crate) fn on(ns: &'a Namespace<'a>, id: &str) -> Result<Self> {
        let instance = ns.instance()?;
        let address = instance["addresses"][0].as_str().context("an address")?.to_owned();
        Ok(Self { ns, init: init(id)?, _door: Door::open(&address)?, address })
    }

    /// What the container of a pod has printed, by the name of its folder of logs.
    pub(crate) fn printed(&self, folder: &str) -> Result<String> {
        let path = format!("/var/log/pods/{folder}/main/0.log");
        eventually("the container's first line", Duration::from_secs(60), || {
            let output = self.try_sh(&format!("cat {path}"), b"")?;
            let line = output.lines().next().and_then(|line| line.splitn(4, ' ').nth(3)).map(str::to_owned);
            Ok(line.ok_or(output))
        })
    }

    /// Puts the files of a kubelet by itself beside those of ORCA's, which it takes its settings from.
    pub(crate) fn prepare(&self) -> Result<()> {
        let mut config: Value = serde_json::from_str(&self.sh("cat /etc/orca/kubelet.json", b"")?)?;
        config["address"] = json!("0.0.0.0");
        config["authentication"]["x509"]["clientCAFile"] = json!(format!("{DIR}/ca.crt"));
        config["staticPodPath"] = json!(format!("{DIR}/manifests"));
        self.sh(&format!("mkdir -p {DIR}/manifests"), b"")?;
        self.put("kubelet.json", config.to_string().as_bytes())?;
        self.put("ca.crt", &std::fs::read(self.ns.world.file("pki/ca.crt"))?)?;
        self.put("kubeconfig", &std::fs::read(self.ns.world.kubeconfig())?)?;
        for source in [Source::ApiServer, Source::File] {
            let kubeconfig = match source {
                Source::ApiServer => format!("--kubeconfig={DIR}/kubeconfig"),
                Source::File => String::new(),
            };
            let command = format!(
                "exec $(sed -n 's/^exec \\([^ ]*\\).*/\\1/p' /etc/orca/kubelet) --config={DIR}/kubelet.json {kubeconfig} \
                 --hostname-override={POD} --node-ip={} --root-dir={DIR}/root --v=2",
                self.address
            );
            self.put(source.unit(), format!("#!/bin/sh\n{command}\n").as_bytes())?;
            let unit = format!("[Service]\nExecStart=/bin/sh {DIR}/{}\nKillMode=process\n", source.unit());
            self.sh(&format!("cat > /run/systemd/system/{}.service", source.unit()), unit.as_bytes())?;
        }
        self.sh("systemctl daemon-reload", b"").map(drop)
    }

    /// Starts containerd and the kubelet, and waits for the container. Nothing of them runs before, and the image is not
    /// there.
    pub(crate) fn start(&self, source: Source) -> Result<Start> {
        self.clear()?;
        self.offer(source)?;
        let begin = self.sh(
            &format!(
                "read up rest < /proc/uptime; systemctl start containerd && systemctl start {} && echo $up",
                source.unit()
            ),
            b"",
        )?;
        let printed = self.printed(match source {
            Source::ApiServer => "*_alone_*",
            Source::File => "*_alone-alone_*",
        })?;
        if source == Source::ApiServer {
            self.ns.run(&["wait", "pod", POD, "--for=condition=Ready", "--timeout=60s"])?;
        }
        Start::read(&printed, begin.trim().parse::<f64>()? * 1000.0)
    }

    /// Ends what was started here.
    pub(crate) fn leave(&self) -> Result<()> {
        self.clear()?;
        self.sh("systemctl start containerd", b"")?;
        self.ns.run(&["delete", "pod", POD, "--force", "--grace-period=0", "--ignore-not-found"])?;
        self.ns.run(&["delete", "node", POD, "--ignore-not-found"]).map(drop)
    }

    /// Starts ORCA's kubelet again.
    pub(crate) fn hand_back(&self) -> Result<()> {
        self.sh("systemctl start orca-kubelet", b"").map(drop)
    }

    /// The pod, where the kubelet will find it.
    fn offer(&self, source: Source) -> Result<()> {
        match source {
            Source::ApiServer => {
                let capacity =
                    json!({"cpu": "2", "memory": "8Gi", "pods": "16", "ephemeral-storage": "100Gi"});
                let node = json!({
                    "apiVersion": "v1", "kind": "Node", "metadata": {"name": POD},
                    "status": {
                        "capacity": capacity, "allocatable": capacity,
                        "addresses": [{"type": "InternalIP", "address": self.address}],
                        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
                    },
                });
                self.ns.apply(&node.to_string())?;
                self.ns.apply(&unbound(&format!("nodeName: {POD}\n{}", CLOCKS.trim_start())))
            }
            Source::File => self.put("manifests/pod.yaml", unbound(CLOCKS).as_bytes()),
        }
    }

    /// Stops every kubelet, removes the containers with all that belongs to them, and the image; containerd is stopped.
    fn clear(&self) -> Result<()> {
        self.sh(
            &format!(
                "systemctl stop orca-kubelet alone-api alone-file 2> /dev/null; rm -f {DIR}/manifests/*
                 for task in $(ctr -n k8s.io tasks ls -q); do ctr -n k8s.io tasks rm -f $task > /dev/null; done
                 for container in $(ctr -n k8s.io containers ls -q); do ctr -n k8s.io containers rm $container; done
                 image=$(ctr -n k8s.io images ls | awk '/busybox:/ {{ print $3; exit }}')
                 ctr -n k8s.io images rm --sync $(ctr -n k8s.io images ls | awk -v of=\"$image\" '$3 == of {{ print $1 }}') > /dev/null
                 systemctl stop containerd
                 for net in $(ls /run/netns); do ip netns delete $net; done
                 grep -o ' {DIR}/root/[^ ]*' /proc/mounts | xargs -r umount
                 rm -rf {DIR}/root /var/log/pods/*
                 pidof kubelet containerd && exit 1; exit 0"
            ),
            b"",
        )
        .map(drop)
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<()> {
        self.sh(&format!("cat > {DIR}/{name}"), content).map(drop)
    }

    /// Runs a script on the machine.
    fn sh(&self, script: &str, input: &[u8]) -> Result<String> {
        let (success, stdout, stderr) = self.run(script, input)?;
        ensure!(success, "on the machine: {script}: {stdout}{stderr}");
        Ok(stdout)
    }

    /// What it prints, whether or not it succeeds.
    fn try_sh(&self, script: &str, input: &[u8]) -> Result<String> {
        self.run(script, input).map(|(_, stdout, _)| stdout)
    }

    fn run(&self, script: &str, input: &[u8]) -> Result<(bool, String, String)> {
        let mut child = Command::new("nsenter")
            .args(["-t", &self.init, "-a", "--", "sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("stdin")?.write_all(input)?;
        let output = child.wait_with_output()?;
        Ok((output.status.success(), text(&output.stdout), text(&output.stderr)))
    }
}

/// The pod, without what leads pods to ORCA.
fn unbound(spec: &str) -> String {
    let lines = pod(POD, spec);
    let kept = lines.lines().filter(|line| !line.contains("virtual-kubelet"));
    kept.chain(["  tolerations: [{operator: Exists}]"]).collect::<Vec<_>>().join("\n")
}

/// The first process of an instance's machine: the child of the systemd-nspawn that has its name.
fn init(id: &str) -> Result<String> {
    let wanted = format!("--machine={id}");
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        // Processes end while they are looked at.
        let Ok(line) = std::fs::read(path.join("cmdline")) else { continue };
        if !line.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes()) {
            continue;
        }
        let pid = path.file_name().context("a process")?.to_string_lossy().into_owned();
        let children = std::fs::read_to_string(path.join(format!("task/{pid}/children"))).unwrap_or_default();
        if let Some(child) = children.split_whitespace().next() {
            return Ok(child.to_owned());
        }
    }
    anyhow::bail!("no machine of {id} runs on this host")
}

/// A rule of this host's firewall, until it is dropped.
struct Door(Vec<String>);

impl Door {
    fn open(machine: &str) -> Result<Self> {
        let rule = ["INPUT", "-s", machine, "-d", API_SERVER, "-p", "tcp", "--dport", "6443", "-j", "ACCEPT"];
        let door = Self(rule.map(str::to_owned).to_vec());
        ensure!(door.iptables("-I")?, "iptables can't let {machine} reach the API server");
        Ok(door)
    }

    fn iptables(&self, act: &str) -> Result<bool> {
        Ok(Command::new("iptables").args(["-w", act]).args(&self.0).status()?.success())
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.iptables("-D"));
    }
}
