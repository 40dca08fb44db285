//! GPUs, from the machine's own script to series and events; only `nvidia-smi` and the kernel's log are stand-ins.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use orca::clock;
use orca::gpu::{Gpus, Watch};
use orca::informer::PodInformer;
use orca::link::{LinkState, LinkStatus, Links, Machine};
use orca::pod::decide::{Note, NoteKind};
use orca::stats::Accelerators as _;
use orca::telemetry::Telemetry;
use orca::tunnel::{ByteStream, TunnelError};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Answers as a driver that knows no `memory.reserved`, refuses a query with anything that it does not know, and says
/// twice what it has to say.
const NVIDIA_SMI: &str = r#"#!/bin/sh
known='index uuid pci.bus_id name utilization.gpu memory.total memory.used temperature.gpu power.draw'
case $1 in
--help-query-gpu)
	echo 'List of valid properties to query for the switch "--query-gpu=":'
	for name in $known; do echo "\"$name\""; done
	exit ;;
esac
query=$(echo "${1#--query-gpu=}" | tr , ' ')
for name in $query; do
	case " $known " in *" $name "*) ;; *) echo "Field \"$name\" is not a valid field to query."; exit 2 ;; esac
done
[ "$query" = "$known" ] || { echo "unexpected $query"; exit 2; }
echo $$ > "$HOME/pid"
echo 'index, uuid, pci.bus_id, name, utilization.gpu [%], memory.total [MiB], memory.used [MiB], temperature.gpu, power.draw [W]'
echo '0, GPU-aaaa, 00000000:53:00.0, NVIDIA H100 80GB HBM3, 100 %, 81559 MiB, 29089 MiB, 35, 154.88 W'
echo '1, GPU-bbbb, 00000000:64:00.0, NVIDIA H100 80GB HBM3, [N/A], 81559 MiB, [Unknown Error], 29, [Not Supported]'
exec sleep 1000
"#;

const JOURNALCTL: &str = r#"#!/bin/sh
case "$*" in *--dmesg*--follow*) ;; *) exit 1 ;; esac
echo '1795249320.500000 ip-10-0-0-5 kernel: NVRM: loading NVIDIA UNIX Open Kernel Module'
echo "1795249330.500000 ip-10-0-0-5 kernel: NVRM: Xid (PCI:0000:53:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
echo '1795249331.500000 ip-10-0-0-5 kernel: NVRM: Xid (PCI:0000:64:00): 31, pid=77, name=python, MMU Fault'
exec sleep 1000
"#;

/// A folder with the stand-ins.
struct Home(PathBuf);

impl Home {
    fn new() -> Self {
        let home = std::env::temp_dir().join(format!("orca-gpu-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&home).unwrap();
        for (name, script) in [("nvidia-smi", NVIDIA_SMI), ("journalctl", JOURNALCTL)] {
            std::fs::write(home.join(name), script).unwrap();
            std::fs::set_permissions(home.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
        Self(home)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// One machine, whose commands run here.
#[derive(Debug)]
struct Here {
    home: PathBuf,
    commands: Mutex<Vec<Child>>,
    changes: broadcast::Sender<String>,
}

#[async_trait]
impl Links for Here {
    fn ensure(&self, _machine: Machine) {}
    fn status(&self, _pod_uid: &str) -> Option<LinkStatus> {
        let state = LinkState::Attached { since: clock::now(), boot_id: String::new() };
        let (shown, has_nvidia) = (true, true);
        let (reached, attached, notice, usable) = (None, None, None, None);
        let instance_id = "i-1".to_owned();
        Some(LinkStatus { instance_id, state, shown, reached, attached, notice, usable, has_nvidia })
    }
    fn pod(&self, _pod_uid: &str) -> Option<(String, String)> {
        Some(("ml".to_owned(), "train-0".to_owned()))
    }
    fn revoke(&self, _pod_uid: &str) -> bool {
        false
    }
    fn shut_down(&self, _pod_uid: &str) {}
    fn is_ending(&self, _pod_uid: &str) -> bool {
        false
    }
    fn remove(&self, _pod_uid: &str) {}
    fn uids(&self) -> Vec<String> {
        vec!["uid".to_owned()]
    }
    fn subscribe(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }
    async fn kubelet_stream(&self, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        Err(TunnelError::NotYet("no kubelet".to_owned()))
    }
    async fn command(&self, _: &str, command: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        let path = format!("{}:/usr/bin:/bin", self.home.display());
        let mut child = Command::new("sh")
            .args(["-c", command])
            .env_clear()
            .envs([("PATH", path.as_str()), ("HOME", self.home.to_str().unwrap())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let stream = tokio::io::join(child.stdout.take().unwrap(), child.stdin.take().unwrap());
        self.commands.lock().unwrap().push(child);
        Ok(Box::new(stream))
    }
    async fn scrape_stream(&self, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        Err(TunnelError::NotYet("no kubelet".to_owned()))
    }
    fn kubelet_tls(&self, _: &str) -> Option<Arc<rustls::ClientConfig>> {
        None
    }
}

fn pod() -> Arc<Pod> {
    let gpu = json!({ "limits": { "nvidia.com/gpu": "1" } });
    let containers = json!([{ "name": "train", "resources": gpu }, { "name": "check", "resources": gpu }]);
    let metadata = json!({ "namespace": "ml", "name": "train-0", "uid": "uid" });
    Arc::new(
        serde_json::from_value(json!({ "metadata": metadata, "spec": { "containers": containers } }))
            .unwrap(),
    )
}

fn is_running(pid: &Path) -> bool {
    let pid = std::fs::read_to_string(pid).unwrap();
    Path::new("/proc").join(pid.trim()).exists()
}

#[tokio::test]
async fn what_a_machine_says_of_its_gpus_becomes_series_and_events_and_ends_with_the_connection() {
    let home = Home::new();
    let links = Arc::new(Here {
        home: home.0.clone(),
        commands: Mutex::default(),
        changes: broadcast::Sender::new(16),
    });
    let pods = PodInformer::new();
    pods.apply(&pod());
    let gpus = Gpus::new("burst");
    let telemetry = Telemetry::new(|registry| gpus.register(registry));
    let (tell, mut told) = mpsc::unbounded_channel::<(Option<String>, Note)>();
    let watch = Watch {
        gpus: gpus.clone(),
        links: links.clone(),
        pods,
        tell: Arc::new(move |about, note| drop(tell.send((about.name, note)))),
        gpu_resource: "nvidia.com/gpu".to_owned(),
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(watch.run());

    let mut notes = Vec::new();
    while notes.len() < 2 {
        let (name, note) = timeout(Duration::from_secs(20), told.recv()).await.unwrap().unwrap();
        assert_eq!(name.as_deref(), Some("train-0"));
        notes.push(note);
    }
    notes.sort_by_key(|note| note.reason);
    assert_eq!((notes[0].reason, notes[0].kind), ("GPUError", NoteKind::Normal));
    assert_eq!((notes[1].reason, notes[1].kind), ("GPUUnhealthy", NoteKind::Warning));
    assert!(notes[1].text.contains("Xid 79"), "{}", notes[1].text);

    let shown = async {
        loop {
            let text = telemetry.registry().encode().unwrap();
            if text.contains("DCGM_FI_DEV_GPU_TEMP{gpu=\"1\"") && text.contains("} 79.0") {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let text = timeout(Duration::from_secs(20), shown).await.unwrap();
    let series: Vec<&str> = text.lines().filter(|line| line.starts_with("DCGM_FI_DEV_GPU_UTIL{")).collect();
    let [series] = series[..] else { panic!("a GPU without a number has no series: {series:?}") };
    assert!(series.ends_with("namespace=\"ml\",pod=\"train-0\",container=\"train\"} 100.0"), "{series}");
    let accelerators = gpus.of("uid");
    assert_eq!(accelerators.len(), 2);
    assert_eq!(accelerators[1].container, "check");
    assert_eq!(accelerators[0].memory_used, 29089 << 20);

    // The other end of the command goes with its connection.
    let pid = home.0.join("pid");
    assert!(is_running(&pid));
    tasks.shutdown().await;
    let mut child = links.commands.lock().unwrap().pop().unwrap();
    let ended = timeout(Duration::from_secs(20), child.wait()).await.unwrap().unwrap();
    assert!(ended.success(), "{ended}");
    let gone = async {
        while is_running(&pid) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(20), gone).await.unwrap();
}
