//! Real machines, one test after another in one process: they share the host's network and control groups.
//!
//! Needs root and the image of `localstack/image/build.sh` (at `$ORCA_CACHE/image`, by default `~/.cache/orca/image`):
//! `cargo test --workspace --test machines -- --ignored --nocapture`
//! Beside a local cloud that runs already, in a network of its own: `unshare --net sh -c 'ip link set lo up; exec …'`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test; it prints what it measured"
)]

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use localstack::machine::nspawn::{Nspawn, NspawnOptions, cleanup};
use localstack::machine::{Freeze, ImdsOptions, MachineEvent, MachineSpec, Machines, Notices};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;

const ID: &str = "i-0000000000000000a";
const OTHER: &str = "i-0000000000000000b";

/// Names the folder of [`a_local_cloud_that_will_be_killed`].
const KILLED: &str = "LOCALCLOUD_TEST_KILLED";

/// Runs at every boot, before sshd: serves commands on the loopback alone, so that a test can run them by `dial`.
const USER_DATA: &str = r#"#cloud-boothook
#!/bin/sh
cat > /usr/local/bin/answer <<'END'
#!/bin/bash
read -r command
eval "$command" 2>&1
END
chmod +x /usr/local/bin/answer
echo "host key of $(hostname)" > /dev/console
touch /run/hooked
systemd-run --no-block --unit=answers socat TCP-LISTEN:2200,bind=127.0.0.1,fork,reuseaddr EXEC:/usr/local/bin/answer
"#;

#[test]
#[ignore = "boots machines: needs root, systemd-nspawn and the image"]
fn machines_boot_answer_and_leave_nothing() {
    tokio::runtime::Runtime::new().unwrap().block_on(everything());
}

/// Not a test: what the test below starts to kill it.
#[test]
#[ignore = "the test of a killed local cloud runs it"]
fn a_local_cloud_that_will_be_killed() {
    let Some(dir) = std::env::var_os(KILLED) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let nspawn = start(Path::new(&dir), "127.0.0.1:1".parse().unwrap()).await;
        nspawn.boot(spec(ID, 10, 1)).await.unwrap();
        until("user data has run", || async { nspawn.dial(ID, 2200).await.is_ok() }).await;
        std::fs::write(Path::new(&dir).join("booted"), "").unwrap();
        std::future::pending::<()>().await;
    });
}

async fn a_killed_cloud_is_cleaned_up_after(dir: &Path) {
    let mut cloud = Command::new(std::env::current_exe().unwrap())
        .args(["a_local_cloud_that_will_be_killed", "--exact", "--ignored"])
        .env(KILLED, dir)
        .spawn()
        .unwrap();
    until("the other cloud's machine runs", || async { dir.join("booted").exists() }).await;
    cloud.kill().unwrap();
    cloud.wait().unwrap();
    assert!(host().iter().any(|line| line.contains("systemd-nspawn")), "its machine goes on without it");
    cleanup(dir).await.unwrap();
    std::fs::remove_file(dir.join("booted")).unwrap();
}

async fn everything() {
    let dir = std::env::temp_dir().join("localcloud-test");
    cleanup(&dir).await.unwrap();
    let before = host();
    let registry = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nspawn = start(&dir, registry.local_addr().unwrap()).await;
    let mut events = nspawn.events();

    let began = Instant::now();
    nspawn.boot(spec(ID, 10, 1)).await.unwrap();
    nspawn.boot(spec(OTHER, 20, 2)).await.unwrap();
    println!("two machines started: {:?}", began.elapsed());
    until("user data has run", || async { nspawn.dial(ID, 2200).await.is_ok() }).await;
    println!("online, user data run: {:?}", began.elapsed());
    until("the other is online", || async { nspawn.agent_online(OTHER) }).await;
    println!("both online: {:?}", began.elapsed());
    until("the other answers", || async { nspawn.dial(OTHER, 2200).await.is_ok() }).await;

    it_is_like_an_eks_machine(&nspawn).await;
    metadata_is_the_machines_own_and_stays_on_it(&nspawn).await;
    addresses_reach_from_everywhere_and_go_nowhere_else(&nspawn).await;
    the_registry_is_where_the_image_looks_for_it(&nspawn, &registry).await;
    refusals_are_told(&nspawn).await;
    a_frozen_machine_stands_still(&nspawn).await;
    power_cycles_and_reboots_keep_the_disk(&nspawn, &mut events).await;
    powering_off_is_seen(&nspawn, &mut events).await;

    // A frozen one with mounts and a container-like process tree inside goes without a trace, too.
    run(
        &nspawn,
        ID,
        "mkdir -p /mnt/x; mount -t tmpfs x /mnt/x; setsid unshare --net --pid --fork sleep 1000 &",
    )
    .await;
    nspawn.freeze(ID, Freeze::Frozen).await.unwrap();
    let began = Instant::now();
    nspawn.destroy(ID).await;
    nspawn.destroy(ID).await;
    nspawn.destroy(OTHER).await;
    println!("destroyed, one frozen: {:?}", began.elapsed());
    assert_eq!(host().difference(&before).filter(|line| line.contains("0000000")).count(), 0);
    assert!(!dir.join("machines").join(ID).exists());

    // With a machine that runs.
    nspawn.boot(spec(ID, 10, 1)).await.unwrap();
    let refused = cleanup(&dir).await.unwrap_err().to_string();
    assert!(refused.contains("runs on this host already"), "{refused}");
    nspawn.stop().await.unwrap();
    drop(nspawn);
    assert_eq!(host(), before);

    a_killed_cloud_is_cleaned_up_after(&dir).await;
    assert_eq!(host(), before);
    std::fs::remove_dir_all(&dir).unwrap();
}

async fn it_is_like_an_eks_machine(nspawn: &Nspawn) {
    assert_eq!(run(nspawn, ID, "hostname").await, "ip-10-88-1-10\n");
    assert_eq!(
        run(nspawn, ID, "systemctl is-active ssh containerd; systemctl --failed --plain --no-legend").await,
        "active\ninactive\n"
    );
    assert_eq!(
        run(nspawn, ID, "ls /opt/cni/bin; ls /usr/bin/kubelet; nvidia-smi -L | cut -d' ' -f 1-4").await,
        "/usr/bin/kubelet\nGPU 0: NVIDIA A10G\n"
    );
    assert_eq!(
        run(
            nspawn,
            OTHER,
            "cat /proc/sys/net/ipv4/ip_forward; [ -w /proc/sys/net/ipv4/conf/all/route_localnet ] || echo ro"
        )
        .await,
        "1\n"
    );
    assert_eq!(
        run(nspawn, OTHER, "echo 3 > /proc/sys/vm/swappiness").await,
        "/usr/local/bin/answer: line 3: /proc/sys/vm/swappiness: Read-only file system\n"
    );
    assert_eq!(run(nspawn, OTHER, "command -v nvidia-smi; cat /proc/sys/vm/overcommit_memory").await, "1\n");
    let group = run(nspawn, ID, "awk -F: '$2==\"memory\"{print $3}' /proc/1/cgroup").await;
    if !group.is_empty() {
        assert!(["/\n", "/init.scope\n"].contains(&group.as_str()), "{group}");
        // As a container runtime does: a group of its own in every hierarchy, a new cpuset filled first.
        let groups = "cd /sys/fs/cgroup; for h in *; do mkdir $h/try; for f in cpuset.cpus cpuset.mems; do \
                      [ ! -f $h/$f ] || cat $h/$f > $h/try/$f; done; echo $$ > $h/try/cgroup.procs; done";
        assert_eq!(run(nspawn, ID, groups).await, "");
    }
    let console = nspawn.console(ID);
    assert!(console.lines().any(|line| line.ends_with("host key of ip-10-88-1-10")), "{console}");
    let banner = read_some(TcpStream::connect("10.88.1.10:22").await.unwrap()).await;
    assert!(banner.starts_with("SSH-2.0-"), "{banner}");
    let keys = "cat /etc/ssh/ssh_host_ed25519_key.pub /etc/machine-id";
    assert_ne!(run(nspawn, ID, keys).await, run(nspawn, OTHER, keys).await);
}

async fn metadata_is_the_machines_own_and_stays_on_it(nspawn: &Nspawn) {
    let read = |path: &str| {
        format!(
            "T=$(curl -sm 3 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' 169.254.169.254/latest/api/token); \
             curl -sm 3 -H \"X-aws-ec2-metadata-token: $T\" 169.254.169.254/latest/meta-data/{path}"
        )
    };
    assert_eq!(run(nspawn, ID, &read("instance-id")).await, ID);
    assert_eq!(run(nspawn, OTHER, &read("instance-id")).await, OTHER);
    let interruption = Some("2026-01-31T12:02:00Z".parse().unwrap());
    nspawn.notify(ID, Notices { interruption, rebalance: None });
    assert_eq!(run(nspawn, ID, &read("spot/termination-time")).await, "2026-01-31T12:02:00Z");
    assert!(run(nspawn, OTHER, &read("spot/termination-time")).await.starts_with("404"));
    let status = "curl -sm 3 -o /dev/null -w '%{http_code}' 169.254.169.254/latest/meta-data/";
    assert_eq!(run(nspawn, ID, status).await, "401");

    // A pod: a namespace behind the machine's, with the secondary address, as the ptp plugin makes it.
    for (id, host, address, answer) in [(ID, 10, 11, "000"), (OTHER, 20, 21, "401")] {
        let (host, address) = (format!("10.88.1.{host}"), format!("10.88.1.{address}"));
        let pod = format!(
            "ip netns add pod; ip link add p0 type veth peer name eth0 netns pod; ip link set p0 up; \
             ip addr add {host}/32 dev p0; ip route add {address}/32 dev p0; ip -n pod link set lo up; \
             ip -n pod addr add {address}/32 dev eth0; ip -n pod link set eth0 up; \
             ip -n pod route add {host} dev eth0; ip -n pod route add default via {host}; \
             ip netns exec pod {status}"
        );
        let found = run(nspawn, id, &pod).await;
        assert_eq!(found, answer, "{id}");
    }
}

async fn addresses_reach_from_everywhere_and_go_nowhere_else(nspawn: &Nspawn) {
    run(
        nspawn,
        ID,
        "systemd-run --unit=pod1 ip netns exec pod socat TCP-LISTEN:80,fork SYSTEM:'echo pod one'",
    )
    .await;
    run(nspawn, OTHER, "systemd-run --unit=host2 socat TCP-LISTEN:80,fork SYSTEM:'echo machine two'").await;
    for (address, says) in [("10.88.1.11:80", "pod one\n"), ("10.88.1.20:80", "machine two\n")] {
        let mut said = String::new();
        until(address, || async { TcpStream::connect(address).await.is_ok() }).await;
        TcpStream::connect(address).await.unwrap().read_to_string(&mut said).await.unwrap();
        assert_eq!(said, says);
    }
    let from = |netns: &str, address: &str| {
        format!("{netns} socat -T 2 - TCP:{address},connect-timeout=3 < /dev/null")
    };
    assert_eq!(run(nspawn, OTHER, &from("", "10.88.1.11:80")).await, "pod one\n");
    // From pod to pod, and the address that it is seen to come from.
    run(
        nspawn,
        ID,
        "systemd-run --unit=who1 ip netns exec pod socat TCP-LISTEN:81,fork SYSTEM:'echo $SOCAT_PEERADDR'",
    )
    .await;
    until("the pod listens", || async { TcpStream::connect("10.88.1.11:81").await.is_ok() }).await;
    assert_eq!(run(nspawn, OTHER, &from("ip netns exec pod", "10.88.1.11:81")).await, "10.88.1.21\n");
    // Not the host's own ports, not a member of the subnet that there is not, not the world.
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let host = listener.local_addr().unwrap().port();
    for nowhere in [format!("10.88.1.1/{host}"), "10.88.1.99/80".to_owned(), "192.0.2.200/80".to_owned()] {
        let dial =
            format!("timeout 5 bash -c ': < /dev/tcp/{nowhere}' 2> /dev/null && echo reached || echo no");
        assert_eq!(run(nspawn, ID, &dial).await, "no\n", "{nowhere}");
    }
}

async fn the_registry_is_where_the_image_looks_for_it(nspawn: &Nspawn, registry: &TcpListener) {
    let serve = async {
        let (mut stream, _) = registry.accept().await.unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).await.unwrap();
        assert!(request[..length].starts_with(b"GET /v2/ "));
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            .await
            .unwrap();
    };
    let command = "curl -sm 5 $(sed -n 's/.host.\"\\(.*\\)\".*/\\1/p' /etc/containerd/certs.d/docker.io/hosts.toml)/v2/";
    let ((), answer) = tokio::join!(serve, run(nspawn, ID, command));
    assert_eq!(answer, "{}");
}

async fn refusals_are_told(nspawn: &Nspawn) {
    let error = nspawn.dial(ID, 4).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    let error = nspawn.dial("i-00000000000000000", 22).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
    assert!(nspawn.boot(spec(ID, 10, 1)).await.unwrap_err().to_string().contains("exists already"));
    assert!(nspawn.boot(spec("../etc", 10, 1)).await.unwrap_err().to_string().contains("expected i-"));
    assert_eq!(nspawn.console("i-00000000000000000"), "");
}

async fn a_frozen_machine_stands_still(nspawn: &Nspawn) {
    let mut open = nspawn.dial(ID, 2200).await.unwrap();
    nspawn.freeze(ID, Freeze::Frozen).await.unwrap();
    assert!(!nspawn.agent_online(ID));
    assert!(nspawn.dial(ID, 2200).await.is_err());
    open.write_all(b"echo awake\n").await.unwrap();
    let mut answer = [0; 6];
    assert!(timeout(Duration::from_millis(300), open.read_exact(&mut answer)).await.is_err());
    nspawn.freeze(ID, Freeze::Thawed).await.unwrap();
    timeout(Duration::from_secs(5), open.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"awake\n");
    assert!(nspawn.agent_online(ID));
}

async fn power_cycles_and_reboots_keep_the_disk(nspawn: &Nspawn, events: &mut Receiver<MachineEvent>) {
    run(nspawn, ID, "echo kept > /root/kept; echo gone > /run/gone; sync").await;
    let boot_id = "cat /proc/sys/kernel/random/boot_id";
    let mut seen = BTreeSet::from([run(nspawn, ID, boot_id).await]);
    for by in ["power cycle", "reboot"] {
        let began = Instant::now();
        if by == "reboot" {
            run(nspawn, ID, "systemctl reboot").await;
            until("it goes", || async { !nspawn.agent_online(ID) }).await;
        } else {
            nspawn.power_cycle(ID).await.unwrap();
        }
        until(by, || async { nspawn.dial(ID, 2200).await.is_ok() }).await;
        println!("{by}, until online with user data run: {:?}", began.elapsed());
        assert!(seen.insert(run(nspawn, ID, boot_id).await), "same boot id after a {by}");
        assert_eq!(
            run(nspawn, ID, "cat /root/kept; cat /run/gone 2> /dev/null; ls /run/hooked").await,
            "kept\n/run/hooked\n"
        );
    }
    assert!(events.try_recv().is_err(), "neither is a machine that ended");
}

async fn powering_off_is_seen(nspawn: &Nspawn, events: &mut Receiver<MachineEvent>) {
    for from_inside in [true, false] {
        let began = Instant::now();
        if from_inside {
            run(nspawn, ID, "systemctl poweroff").await;
        } else {
            nspawn.shut_down(ID).await;
        }
        let event = timeout(Duration::from_secs(30), events.recv()).await.unwrap().unwrap();
        println!("powered off, from inside {from_inside}: {:?}", began.elapsed());
        assert_eq!(event, MachineEvent::PoweredOff { id: ID.into() });
        assert!(!nspawn.agent_online(ID));
        assert!(!nspawn.console(ID).is_empty());
        // Started again, as EC2 does with a stopped instance.
        nspawn.power_cycle(ID).await.unwrap();
        until("it is back", || async { nspawn.dial(ID, 2200).await.is_ok() }).await;
    }
}

async fn start(dir: &Path, registry: SocketAddr) -> Arc<Nspawn> {
    let cache = std::env::var_os("ORCA_CACHE")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/orca"), PathBuf::from);
    Nspawn::start(NspawnOptions {
        dir: dir.to_owned(),
        image: cache.join("image"),
        registry,
        agent: env!("CARGO_BIN_EXE_localstack").into(),
    })
    .await
    .unwrap()
}

fn spec(id: &str, last: u8, hop_limit: u8) -> MachineSpec {
    MachineSpec {
        id: id.into(),
        instance_type: "g5.xlarge".into(),
        vcpus: 4,
        memory_mib: 16384,
        gpus: u32::from(id == ID),
        gpu_model: "A10G".into(),
        image_id: "ami-00000000000000001".into(),
        region: "us-east-1".into(),
        zone: "us-east-1a".into(),
        zone_id: "use1-az1".into(),
        account: "123456789012".into(),
        private_ip: Ipv4Addr::new(10, 88, 1, last),
        secondary_ips: vec![Ipv4Addr::new(10, 88, 1, last + 1)],
        subnet_id: "subnet-00000000000000001".into(),
        subnet_cidr: (Ipv4Addr::new(10, 88, 1, 0), 24),
        vpc_cidr: (Ipv4Addr::new(10, 88, 0, 0), 16),
        mac: format!("0a:00:0a:58:01:{last:02x}"),
        security_group_ids: vec!["sg-00000000000000001".into()],
        user_data: USER_DATA.into(),
        role: None,
        imds: ImdsOptions { tokens_required: true, hop_limit },
        life_cycle: "spot",
    }
}

/// Runs a command on the machine, by the listener that its user data started on the loopback.
async fn run(nspawn: &Nspawn, id: &str, command: &str) -> String {
    let work = async {
        let mut stream = nspawn.dial(id, 2200).await.unwrap();
        stream.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        // A machine that goes down while it answers resets the connection.
        drop(stream.read_to_string(&mut answer).await);
        answer
    };
    timeout(Duration::from_secs(20), work).await.unwrap_or_else(|_| panic!("`{command}` does not end"))
}

async fn read_some(mut stream: TcpStream) -> String {
    let mut text = [0; 64];
    let length = stream.read(&mut text).await.unwrap();
    String::from_utf8_lossy(&text[..length]).into_owned()
}

async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(30), poll).await.unwrap_or_else(|_| panic!("not within 30 s: {what}"));
}

/// Everything of the host that a machine touches, a line each.
fn host() -> BTreeSet<String> {
    let script = "cut -d' ' -f 4- /proc/self/mountinfo; ip -o link; ip -o addr; ip route show table all; \
        iptables-save | grep -v -e '^#' -e '^:[A-Z]* ACCEPT' -e '^[*]' -e COMMIT; sysctl -a 2> /dev/null | grep forward; \
        scope=$(stat -Lc %i /proc/self/ns/net); find /sys/fs/cgroup -type d -path \"*localcloud-$scope*\"; ls -d /run/lock/localcloud-$scope*; \
        ls -d /run/systemd/nspawn /run/netns/* 2> /dev/null; ps -eo args | grep localcloud-test/";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.contains("grep"))
        .map(str::to_owned)
        .collect()
}
