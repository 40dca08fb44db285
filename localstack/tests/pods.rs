//! Real containers behind RunPod's API, one after another in one process: they share the host's network and control groups.
//!
//! Needs root, `crane` (at `$ORCA_CACHE/bin/crane/crane`, by default `~/.cache/orca`) and the images of
//! `localstack/image/images.sh`, which are made where they are missing:
//! `cargo test --workspace --test pods -- --ignored --nocapture`
//! Beside a local cloud that runs already, in a network of its own: `unshare --net sh -c 'ip link set lo up; exec …'`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test; it prints what it measured"
)]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use localstack::runpod::container::linux::{LinuxContainers, LinuxOptions, cleanup};
use localstack::runpod::settings::Settings;
use localstack::runpod::{RunPod, router};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::ServiceExt;

/// Names the folder of [`a_local_cloud_that_will_be_killed`], and its registry.
const KILLED: &str = "LOCALPODS_TEST_KILLED";
const REGISTRY: &str = "LOCALPODS_TEST_REGISTRY";

#[test]
#[ignore = "starts containers: needs root, crane and the images"]
fn pods_run_answer_and_leave_nothing() {
    tokio::runtime::Runtime::new().unwrap().block_on(everything());
}

/// Not a test: what the test below starts to kill it.
#[test]
#[ignore = "the test of a killed local cloud runs it"]
fn a_local_cloud_that_will_be_killed() {
    let (Some(dir), Some(registry)) = (std::env::var_os(KILLED), std::env::var_os(REGISTRY)) else { return };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let cloud = Cloud::start(Path::new(&dir), registry.to_str().unwrap().parse().unwrap()).await;
        let id = cloud.create(json!({"args": "sleep 71234"})).await;
        cloud.until(&id, "up", |pod| pod["runtime"]["uptime"].is_u64()).await;
        std::fs::write(Path::new(&dir).join("running"), "").unwrap();
        std::future::pending::<()>().await;
    });
}

async fn everything() {
    let dir = std::env::temp_dir().join("localpods-test");
    cleanup(&dir).await.unwrap();
    let registry = Registry::start(&dir).await;
    let before = host();
    let cloud = Cloud::start(&dir, registry.address).await;
    let refused = cleanup(&dir).await.unwrap_err().to_string();
    assert!(refused.contains("with pods runs on this host already"), "{refused}");

    a_process_finds_what_its_image_and_its_pod_say(&cloud).await;
    an_image_that_is_not_there_is_told_and_asked_for_again(&cloud).await;
    a_process_that_ends_is_started_again_on_the_same_disk(&cloud).await;
    ports_are_reached_from_outside_and_the_host_from_inside(&cloud).await;
    a_stop_is_asked_for_and_then_done(&cloud).await;
    volumes_outlive_pods_and_disks_do_not(&cloud).await;
    a_service_of_an_image_runs_as_its_user_wants(&cloud).await;

    cloud.runpod.end().await;
    cloud.containers.stop_all().await.unwrap();
    drop(cloud);
    assert_eq!(host(), before);
    assert!(!dir.join("containers").exists() && !dir.join("volumes").exists() && dir.join("images").exists());

    a_killed_cloud_is_cleaned_up_after(&dir, registry.address).await;
    assert_eq!(host(), before);
    drop(registry);
    std::fs::remove_dir_all(&dir).unwrap();
}

async fn a_process_finds_what_its_image_and_its_pod_say(cloud: &Cloud) {
    let began = Instant::now();
    cloud.call("POST", "/v2/account/secrets", json!({"name": "token", "value": "s3cret"})).await;
    let script = "echo out; echo err >&2; id -u; pwd; hostname; cat /proc/1/comm; ls /dev/null /dev/shm -d; \
                  echo $A $TOKEN $RUNPOD_POD_ID $RUNPOD_GPU_COUNT $HOME; grep -c overlay /proc/mounts; \
                  mount -t tmpfs x /tmp 2>&1; echo 1 2> /dev/null > /proc/sys/vm/swappiness; sleep 71234";
    let args = json!({"entrypoint": ["/bin/sh", "-c"], "cmd": [script]}).to_string();
    let env = json!({"A": "a  b", "TOKEN": "{{ RUNPOD_SECRET_token }}"});
    let id = cloud.create(json!({"args": args, "env": env})).await;
    let last = "mount: permission denied (are you root?)";
    let log = cloud.until_line(&id, "container", last).await;
    println!("from the create to the first lines: {:?}", began.elapsed());
    let expected =
        format!("out\nerr\n0\n/\n{id}\nsh\n/dev/null\n/dev/shm\na b s3cret {id} 1 /root\n1\n{last}");
    assert_eq!(log.join("\n"), expected);
    let system = cloud.until_line(&id, "system", "start container").await.join("\n");
    assert!(system.contains("pulling busybox:stable\nDigest: sha256:"), "{system}");
    cloud.end(&id).await;
    let life = cloud.life(&id).await;
    assert_eq!(life["history"].as_array().unwrap().last().unwrap()["status"], "TERMINATED");
}

async fn an_image_that_is_not_there_is_told_and_asked_for_again(cloud: &Cloud) {
    let id = cloud.create(json!({"image": "127.0.0.1:1/nothing:1"})).await;
    cloud.until(&id, "told", |pod| pod["status"] == "STARTING").await;
    let told = async || {
        cloud.log(&id, "system").await.iter().filter(|line| line.starts_with("error pulling")).count()
    };
    until("it is asked for again", async || told().await > 1).await;
    assert_eq!(cloud.pod(&id).await["status"], "STARTING");
    cloud.end(&id).await;
}

async fn a_process_that_ends_is_started_again_on_the_same_disk(cloud: &Cloud) {
    let script = "n=$(cat /count 2> /dev/null || echo 0); echo $((n + 1)) > /count; echo run $n; \
                  case $n in 0) exit 3 ;; 1) setsid sleep 72345 & exec no-such-program ;; esac; sleep 71234";
    let args = json!({"cmd": ["sh", "-c", script]}).to_string();
    let id = cloud.create(json!({ "args": args })).await;
    cloud.until_line(&id, "container", "run 2").await;
    let pod = cloud.until(&id, "up for a second", |pod| pod["runtime"]["uptime"].as_u64() >= Some(1)).await;
    assert_eq!((&pod["status"], &pod["starts"]), (&json!("RUNNING"), &json!(3)));
    let endings: Vec<Value> =
        cloud.life(&id).await["endings"].as_array().unwrap().iter().map(|it| it["exit"].clone()).collect();
    assert_eq!(endings, [json!({"code": 3}), json!({"code": 127})]);
    let log = cloud.log(&id, "container").await;
    assert!(log.iter().any(|line| line.contains("no-such-program")), "{log:?}");
    let left = host();
    assert!(
        !left.iter().any(|line| line.contains("sleep 72345")),
        "what it left behind ends with it: {left:?}"
    );
    let action = format!("/v2/pods/{id}/action");
    cloud.call("POST", &action, json!({"action": "restart"})).await;
    until("it begins on a new disk", async || {
        cloud.log(&id, "container").await.iter().filter(|line| *line == "run 0").count() == 2
    })
    .await;
    cloud.end(&id).await;
    let crash = json!({"scenario": {"kind": "crash", "afterMs": 300}, "pods": "crashes"});
    cloud.call("POST", "/_local/scenarios", crash).await;
    let id = cloud.create(json!({"name": "crashes"})).await;
    cloud.until(&id, "started twice", |pod| pod["starts"] == 2).await;
    assert_eq!(cloud.life(&id).await["endings"][0]["exit"], json!({"signal": 9}));
    cloud.end(&id).await;
}

async fn ports_are_reached_from_outside_and_the_host_from_inside(cloud: &Cloud) {
    let host = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = host.local_addr().unwrap().port();
    let answer = "while true; do echo \"port $RUNPOD_TCP_PORT_7000 $RUNPOD_PUBLIC_IP\" | nc -l -p 7000; done";
    let args = json!({"cmd": ["sh", "-c", answer]}).to_string();
    let ports = json!(["7000/tcp", "7001/tcp", "8888/http", "70000/tcp"]);
    let id = cloud.create(json!({ "args": args, "ports": ports })).await;
    let pod =
        cloud.until(&id, "mapped", |pod| pod["runtime"]["ports"].as_array().map(Vec::len) == Some(4)).await;
    let mapped = |private: u64| {
        let ports = pod["runtime"]["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["private"] == private).unwrap();
        let ip: Ipv4Addr = port["ip"].as_str().unwrap().parse().unwrap();
        SocketAddrV4::new(ip, u16::try_from(port["public"].as_u64().unwrap()).unwrap())
    };
    let open = mapped(7000);
    let mut said = String::new();
    until("it answers", async || {
        let Ok(mut stream) = TcpStream::connect(open).await else { return false };
        let mut text = String::new();
        let is_read = stream.read_to_string(&mut text).await.is_ok();
        is_read && text.starts_with("port")
    })
    .await;
    until("it answers again", async || {
        let Ok(mut stream) = TcpStream::connect(open).await else { return false };
        stream.read_to_string(&mut String::new()).await.is_ok_and(|count| count > 0)
    })
    .await;
    TcpStream::connect(open).await.unwrap().read_to_string(&mut said).await.unwrap();
    assert!(said.is_empty() || said == format!("port {} {}\n", open.port(), open.ip()), "{said}");
    let mut closed = TcpStream::connect(mapped(7001)).await.unwrap();
    assert_eq!(closed.read(&mut [0; 1]).await.unwrap_or(0), 0, "nobody listens there");
    let same = pod["runtime"]["ports"].as_array().unwrap().iter().find(|it| it["private"] == it["public"]);
    assert!(same.is_some(), "{pod}");
    assert_eq!(pod["ssh"]["direct"], Value::Null);

    // The other way: the host's addresses, and nothing behind it.
    let dial = format!(
        "for it in 169.254.89.1:{port} 10.89.0.2:7000 192.0.2.1:80 127.0.0.1:{port}; do \
         nc -w 3 ${{it%:*}} ${{it#*:}} < /dev/null > /dev/null 2>&1 && echo yes || echo no; done; echo done; sleep 71234"
    );
    let args = json!({"cmd": ["sh", "-c", dial]}).to_string();
    let dialler = cloud.create(json!({ "args": args })).await;
    let accepted = timeout(Duration::from_secs(30), host.accept()).await.unwrap().unwrap();
    drop(accepted);
    let log = cloud.until_line(&dialler, "container", "done").await;
    assert_eq!(log, ["yes", "no", "no", "no", "done"]);
    cloud.end(&dialler).await;
    cloud.end(&id).await;
    assert!(TcpStream::connect(open).await.is_err(), "its port is closed with it");
}

async fn a_stop_is_asked_for_and_then_done(cloud: &Cloud) {
    let script =
        "trap 'echo asked; sleep 0.2; echo bye; exit 5' TERM; echo ready; while true; do sleep 0.05; done";
    let polite = cloud.create(json!({"args": json!({"cmd": ["sh", "-c", script]}).to_string()})).await;
    let deaf = cloud
        .create(json!({"args": "sh -c 'trap \"\" TERM; echo ready; while true; do sleep 0.05; done'"}))
        .await;
    for id in [&polite, &deaf] {
        cloud.until_line(id, "container", "ready").await;
    }
    let act = async |id: &str, action: &str| {
        cloud.call("POST", &format!("/v2/pods/{id}/action"), json!({ "action": action })).await
    };
    act(&polite, "stop").await;
    assert_eq!(cloud.until_line(&polite, "container", "bye").await, ["ready", "asked", "bye"]);
    cloud.until(&polite, "down", |pod| pod["container"] == "Halted").await;
    assert_eq!(cloud.life(&polite).await["endings"][0]["exit"], json!({"code": 5}));
    let began = Instant::now();
    act(&deaf, "stop").await;
    cloud.until(&deaf, "down", |pod| pod["container"] == "Halted").await;
    let took = began.elapsed();
    println!("a process that does not listen was gone after {took:?}");
    assert!(took >= Duration::from_secs(2), "it had its time");
    assert_eq!(cloud.life(&deaf).await["endings"][0]["exit"], json!({"signal": 9}));
    cloud.end(&polite).await;
    cloud.end(&deaf).await;
}

async fn volumes_outlive_pods_and_disks_do_not(cloud: &Cloud) {
    let volume = json!({"name": "v", "size": 10, "dataCenter": "US-KS-2"});
    let volume = cloud.call("POST", "/v2/network-volumes", volume).await["id"].clone();
    let script = |mount: &str| {
        let script = format!(
            "cat {mount}/kept /gone; echo kept > {mount}/kept; echo gone > /gone; echo done; sleep 71234"
        );
        json!({"cmd": ["sh", "-c", script]}).to_string()
    };
    let network = json!({"network": [{"volumeId": volume, "path": "/data/set"}]});
    let first = cloud.create(json!({"args": script("/data/set"), "mounts": network})).await;
    cloud.until_line(&first, "container", "done").await;
    cloud.end(&first).await;
    let second = cloud.create(json!({"args": script("/data/set"), "mounts": network})).await;
    let log = cloud.until_line(&second, "container", "done").await;
    assert_eq!(log, ["kept", "cat: can't open '/gone': No such file or directory", "done"]);
    cloud.end(&second).await;
    let own = json!({"persistent": {"size": 10, "path": "/workspace"}});
    let third = cloud.create(json!({"args": script("/workspace"), "mounts": own})).await;
    cloud.until_line(&third, "container", "done").await;
    for action in ["stop", "start"] {
        cloud.call("POST", &format!("/v2/pods/{third}/action"), json!({ "action": action })).await;
    }
    until("it ran twice", async || {
        cloud.log(&third, "container").await.iter().filter(|line| *line == "done").count() == 2
    })
    .await;
    let log = cloud.log(&third, "container").await;
    assert_eq!(log[3..], ["kept", "cat: can't open '/gone': No such file or directory", "done"]);
    cloud.end(&third).await;
    let path = format!("/v2/network-volumes/{}", volume.as_str().unwrap());
    cloud.call("DELETE", &path, Value::Null).await;
}

async fn a_service_of_an_image_runs_as_its_user_wants(cloud: &Cloud) {
    let id = cloud.create(json!({"image": "nginx:stable", "args": "", "ports": ["80/tcp"]})).await;
    let pod = cloud.until(&id, "mapped", |pod| pod["runtime"]["ports"][0]["public"].is_u64()).await;
    let port = &pod["runtime"]["ports"][0];
    let address = format!("{}:{}", port["ip"].as_str().unwrap(), port["public"]);
    let page = async || {
        let mut stream = TcpStream::connect(&address).await.ok()?;
        stream.write_all(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n").await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        Some(text)
    };
    until("nginx answers", async || page().await.is_some_and(|text| text.contains("Welcome to nginx!")))
        .await;
    cloud.until_line_with(&id, "container", "GET / HTTP/1.0").await;
    cloud.end(&id).await;
    let pause = cloud.create(json!({"image": "registry.k8s.io/pause:3.10", "args": ""})).await;
    cloud.until(&pause, "up", |pod| pod["runtime"]["uptime"].as_u64() >= Some(1)).await;
    cloud.end(&pause).await;
}

async fn a_killed_cloud_is_cleaned_up_after(dir: &Path, registry: SocketAddr) {
    let mut cloud = Command::new(std::env::current_exe().unwrap())
        .args(["a_local_cloud_that_will_be_killed", "--exact", "--ignored"])
        .env(KILLED, dir)
        .env(REGISTRY, registry.to_string())
        .spawn()
        .unwrap();
    until("the other cloud's pod runs", async || dir.join("running").exists()).await;
    cloud.kill().unwrap();
    cloud.wait().unwrap();
    let goes_on = async || host().iter().any(|line| line.contains("sleep 71234"));
    until("its pod goes on without it", goes_on).await;
    // The next one finds it, too.
    let next = Cloud::start(dir, registry).await;
    assert!(!host().iter().any(|line| line.contains("sleep 71234")));
    next.containers.stop_all().await.unwrap();
    drop(next);
    cleanup(dir).await.unwrap();
}

/// `crane registry serve`, filled. Ends with this.
struct Registry {
    child: Child,
    address: SocketAddr,
}

impl Registry {
    async fn start(dir: &Path) -> Self {
        let disk = dir.join("registry");
        std::fs::create_dir_all(&disk).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let child = Command::new(crane())
            .args(["registry", "serve", "--address", &address.to_string(), "--disk"])
            .arg(disk)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, address };
        until("the registry listens", async || TcpStream::connect(address).await.is_ok()).await;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/images.sh");
        assert!(Command::new(script).arg(crane()).arg(address.to_string()).status().unwrap().success());
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn crane() -> PathBuf {
    let cache = std::env::var_os("ORCA_CACHE")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache/orca"), PathBuf::from);
    cache.join("bin/crane/crane")
}

/// RunPod with containers, asked without a socket.
struct Cloud {
    containers: Arc<LinuxContainers>,
    runpod: Arc<RunPod>,
    router: Router,
}

impl Cloud {
    async fn start(dir: &Path, registry: SocketAddr) -> Self {
        let options = LinuxOptions {
            dir: dir.to_owned(),
            crane: crane(),
            registry,
            public_ip: Ipv4Addr::new(127, 89, 0, 1),
        };
        let containers = LinuxContainers::start(options).await.unwrap();
        let settings = Settings {
            provisioning_ms: 50,
            pulling_ms: 50,
            booting_ms: 50,
            mapping_ms: 50,
            restart_ms: 100,
            stop_grace_ms: 2000,
            ..Settings::default()
        };
        let runpod = RunPod::start(settings, containers.clone());
        let cloud = Self { containers, router: router(runpod.clone()), runpod };
        cloud.call("PUT", "/_local/limits", json!([])).await;
        cloud
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", "Bearer rpa_test")
            .header("content-type", "application/json")
            .body(Body::from(text))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_default()
    }

    async fn create(&self, changes: Value) -> String {
        let mut body = json!({
            "name": "a-1", "image": "busybox:stable", "gpu": {"id": "NVIDIA L4"}, "args": "sleep 71234",
            "dataCenterIds": ["US-KS-2"],
        });
        changes.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        self.call("POST", "/v2/pods", body).await["id"].as_str().unwrap().to_owned()
    }

    async fn pod(&self, id: &str) -> Value {
        let all = self.call("GET", "/_local/pods", Value::Null).await;
        all.as_array().unwrap().iter().find(|pod| pod["id"] == id).cloned().unwrap_or_default()
    }

    async fn life(&self, id: &str) -> Value {
        let all = self.call("GET", "/_local/history", Value::Null).await;
        all.as_array().unwrap().iter().find(|pod| pod["id"] == id).cloned().unwrap_or_default()
    }

    async fn until(&self, id: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        until(what, async || fits(&self.pod(id).await)).await;
        self.pod(id).await
    }

    /// Deletes a pod, and waits until nothing is left of it.
    async fn end(&self, id: &str) {
        self.call("DELETE", &format!("/v2/pods/{id}"), Value::Null).await;
        until("it is gone", async || self.pod(id).await.is_null()).await;
        assert!(!host().iter().any(|line| line.contains(id)), "{id} has left something");
    }

    /// The lines that there are of one source.
    async fn log(&self, id: &str, source: &str) -> Vec<String> {
        let request = Request::builder()
            .uri(format!("/v2/pods/{id}/logs?tail=5000&source={source}"))
            .header("authorization", "Bearer rpa_test")
            .body(Body::empty())
            .unwrap();
        let mut body = self.router.clone().oneshot(request).await.unwrap().into_body();
        let mut text = String::new();
        while let Ok(Some(frame)) = timeout(Duration::from_millis(50), body.frame()).await {
            text.push_str(std::str::from_utf8(&frame.unwrap().into_data().unwrap()).unwrap());
        }
        let line = |event: &str| -> Option<String> {
            let data: Value = serde_json::from_str(event.split_once("\ndata: ")?.1).ok()?;
            Some(data["line"].as_str()?.to_owned())
        };
        text.split("\n\n").filter_map(line).collect()
    }

    async fn until_line(&self, id: &str, source: &str, line: &str) -> Vec<String> {
        until(line, async || self.log(id, source).await.iter().any(|one| one == line)).await;
        self.log(id, source).await
    }

    async fn until_line_with(&self, id: &str, source: &str, word: &str) {
        until(word, async || self.log(id, source).await.iter().any(|one| one.contains(word))).await;
    }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let poll = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(60), poll).await.unwrap_or_else(|_| panic!("not within a minute: {what}"));
}

/// Everything of the host that a pod touches, a line each.
fn host() -> BTreeSet<String> {
    let script = "cut -d' ' -f 4- /proc/self/mountinfo; ip -o link; ip -o addr; ip rule; ip route show table all; \
        scope=$(stat -Lc %i /proc/self/ns/net); find /sys/fs/cgroup -type d -path \"*localpods-$scope*\"; \
        ls -d /run/lock/localpods-$scope* 2> /dev/null; ps -eo args | grep -e localpods-test/ -e '^sleep 71234' -e '^sleep 72345'";
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| !line.contains("grep") && !line.contains("registry serve"))
        .map(str::to_owned)
        .collect()
}
