//! `orca plan` and `orca capacity` against the local cloud, whose machines are states only, and a small API server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use axum::routing::get;
use orca::telemetry::Telemetry;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::plan::{command, file, objects, text};

const RESERVATION: &str = "cr-0a1b2c3d4e5f60718";

/// The program beside ours; it ends with this.
pub(crate) struct LocalCloud {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl LocalCloud {
    pub(crate) fn start() -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_orca")).with_file_name("localstack");
        assert!(program.exists(), "{} is missing: cargo build --workspace", program.display());
        let mut child = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env_remove("RUST_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let up = lines.find_map(|line| Some(line.split_once("address=")?.1.trim().to_owned()));
        let address = up.expect("it says where it is").parse().unwrap();
        // Whoever writes to a pipe without a reader ends.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// One request to its control endpoint.
    fn put(&self, path: &str, body: &Value) {
        self.control("PUT", path, body);
    }

    /// The same, by any method.
    pub(crate) fn control(&self, method: &str, path: &str, body: &Value) {
        let body = body.to_string();
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            stream,
            "{method} /_local/{path} HTTP/1.1\r\nHost: local\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    /// An ODCR of one g5.xlarge, a block, and a spot price.
    fn furnish(&self) {
        let odcr = json!({"instanceType": "g5.xlarge", "zone": "us-east-1b", "total": 2, "usedByOthers": 1,
            "matchCriteria": "targeted"});
        self.put(&format!("reservations/{RESERVATION}"), &odcr);
        let block = json!({"instanceType": "p5.48xlarge", "zone": "us-east-1a", "total": 1,
            "reservationType": "capacity-block", "startsInMs": 3_600_000, "endsInMs": 90_000_000});
        self.put("reservations/cr-0b1c2d3e4f5061728", &block);
        self.put("spot-prices/us-east-1a/g5.xlarge", &json!({"price": "0.4242"}));
    }

    pub(crate) fn config(&self, name: &str, metrics: &str) -> String {
        let text = format!(
            "aws:\n  region: us-east-1\n  vpcID: vpc-0c10ad00000000001\n  \
             subnetIDs: [subnet-0c10ad0000000000a, subnet-0c10ad0000000000b]\n  \
             securityGroupIDs: [sg-0c10ad0000000000e]\n  endpoint: http://{}\n\
             instances: {{defaultInstanceType: g5.xlarge}}\nmetrics: {{listen: \"{metrics}\"}}\n",
            self.address
        );
        file(name, &text)
    }
}

impl Drop for LocalCloud {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn orca(arguments: &[&str]) -> Output {
    with_credentials(arguments).output().unwrap()
}

fn with_credentials(arguments: &[&str]) -> Command {
    let mut command = command(arguments);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command
}

/// Serves a router until it is dropped.
pub(crate) async fn serve(router: axum::Router) -> (SocketAddr, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, server)
}

/// How to reach a small API server, as a file.
pub(crate) fn kubeconfig(name: &str, address: SocketAddr) -> String {
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \
         'http://{address}'}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{}}}}]\n"
    );
    file(name, &text)
}

#[test]
fn a_reservation_is_planned_for_and_shown() {
    let cloud = LocalCloud::start();
    cloud.furnish();
    let config = cloud.config("capacity-odcr.yaml", "none");
    let pod = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{orca.research/capacity-reservation-id: \
         {RESERVATION}}}}}\nspec: {{containers: [{{name: c, resources: {{limits: {{nvidia.com/gpu: 1}}}}}}]}}\n"
    );
    let path = file("capacity-pod.yaml", &pod);
    let output = orca(&["plan", "--config", &config, "-f", &path, "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let plan = &objects(&output)[0];
    let first = &plan["candidates"][0];
    assert_eq!(
        (&first["instanceType"], &first["market"]),
        (&json!("g5.xlarge"), &json!("reserved")),
        "{plan}"
    );
    assert_eq!(first["reservationId"], RESERVATION);
    assert_eq!(
        (&first["zone"], &first["subnetId"]),
        (&json!("us-east-1b"), &json!("subnet-0c10ad0000000000b"))
    );
    assert_eq!(plan["market"]["catalog"]["source"], "api");
    assert_eq!(first["source"], "api");
    assert!(plan["notes"].to_string().contains("for lack of a cluster"), "{plan}");

    let output = orca(&["capacity", "--config", &config]);
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{told} {}", text(&output.stderr));
    let line =
        |start: &str| told.lines().find(|line| line.trim().starts_with(start)).unwrap_or_default().to_owned();
    let words = |line: String| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    assert_eq!(
        words(line(RESERVATION)),
        format!("{RESERVATION} g5.xlarge us-east-1b 1/2 active targeted on-demand never")
    );
    let block = words(line("cb-0b1c2d3e4f5061728"));
    assert!(
        block.contains("cr-0b1c2d3e4f5061728 p5.48xlarge us-east-1a")
            && block.contains("0/1 scheduled in 59m"),
        "{told}"
    );
    assert!(told.contains("g5.xlarge  us-east-1a  0.4242"), "{told}");
    assert!(told.contains("metrics.listen is `none`"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_running_orca_is_asked_for_what_it_alone_knows() {
    let page = json!({"node": "burst", "asOf": "2026-01-01T00:00:00Z", "avoided": [{
        "what": "g5.xlarge in us-east-1a, on-demand", "class": "capacity",
        "code": "InsufficientInstanceCapacity", "failures": 2, "until": "2126-01-01T00:00:00Z"}]});
    let telemetry = Telemetry::new(|_| {}).with_capacity(move || page.clone());
    let (address, _server) = serve(telemetry.router()).await;
    let cloud = LocalCloud::start();
    cloud.furnish();
    let config = cloud.config("capacity-running.yaml", &address.to_string());
    let output = tokio::task::block_in_place(|| orca(&["capacity", "--config", &config, "-o", "json"]));
    let overview = &objects(&output)[0];
    assert_eq!(overview["running"]["avoided"][0]["what"], "g5.xlarge in us-east-1a, on-demand", "{overview}");
    assert_eq!(overview["reservations"][0]["id"], RESERVATION);
    let nobody = "http://127.0.0.1:1";
    let output = tokio::task::block_in_place(|| orca(&["capacity", "--config", &config, "--server", nobody]));
    let told = text(&output.stdout);
    assert!(told.contains("cannot be asked: http://127.0.0.1:1/capacity: Connection refused"), "{told}");
    assert!(told.contains(RESERVATION) && output.status.code() == Some(0), "{told}");
    let output = orca(&["capacity", "--config", &config, "--server", "orca:8080"]);
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_leaves_out_what_the_running_orca_avoids_and_cannot_pay() {
    let page = json!({"node": "burst", "asOf": "2026-01-01T00:00:00Z", "hourlyMicroUsd": 8_500_000, "avoided": [{
        "what": "g5.xlarge in us-east-1a, on-demand", "class": "capacity",
        "scope": {"pool": {"instanceType": "g5.xlarge", "zone": "us-east-1a", "market": "on-demand"}},
        "code": "InsufficientInstanceCapacity", "failures": 2, "until": "2126-01-01T00:00:00Z"}]});
    let telemetry = Telemetry::new(|_| {}).with_capacity(move || page.clone());
    let (address, _server) = serve(telemetry.router()).await;
    let cloud = LocalCloud::start();
    let config = cloud.config("plan-running.yaml", &address.to_string());
    let text_of = std::fs::read_to_string(&config).unwrap();
    let config = file("plan-running.yaml", &format!("{text_of}limits: {{maxHourlyCost: 10}}\n"));
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, annotations: {orca.research/instance-types: \
               'g5.12xlarge,g5.xlarge'}}\nspec: {containers: [{name: c}]}\n";
    let pod = file("plan-running-pod.yaml", pod);
    let arguments = ["plan", "--config", &config, "-f", &pod, "-o", "json"];
    let output = tokio::task::block_in_place(|| orca(&arguments));
    let plan = &objects(&output)[0];
    let candidates = plan["candidates"].as_array().unwrap();
    let shown: Vec<_> = candidates.iter().map(|one| (&one["instanceType"], &one["zone"])).collect();
    assert_eq!(shown, [(&json!("g5.xlarge"), &json!("us-east-1b"))], "{plan}");
    let rules: Vec<_> = plan["rejected"].as_array().unwrap().iter().map(|one| &one["rule"]).collect();
    assert!(rules.contains(&&json!("budget")) && rules.contains(&&json!("avoided_capacity")), "{plan}");
    let nobody = ["plan", "--config", &config, "-f", &pod, "-o", "json", "--server", "http://127.0.0.1:1"];
    let output = tokio::task::block_in_place(|| orca(&nobody));
    let plan = &objects(&output)[0];
    assert!(plan["notes"].to_string().contains("cannot be asked"), "{plan}");
    assert!(plan["candidates"].as_array().unwrap().len() > 1, "{plan}");
}

#[test]
fn watching_goes_on_until_it_is_interrupted() {
    let cloud = LocalCloud::start();
    let config = cloud.config("capacity-watch.yaml", "none");
    let mut child = with_credentials(&["capacity", "--config", &config, "--watch=5"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let heads = lines.filter(|line| line.starts_with("us-east-1, ")).take(2).count();
    assert_eq!(heads, 2);
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_aws_does_not_say_is_exit_code_1() {
    let cloud = LocalCloud::start();
    let config = cloud.config("capacity-gone.yaml", "none");
    let path =
        file("capacity-any.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n");
    let output =
        with_credentials(&["capacity", "--config", &config]).env("AWS_SECRET_ACCESS_KEY", "wrong").output();
    let output = output.unwrap();
    let told = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("note: reservations cannot be read: access denied"), "{told}");
    let output = with_credentials(&["plan", "--config", &config, "-f", &path])
        .env("AWS_SECRET_ACCESS_KEY", "wrong")
        .output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("reading the market: access denied"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_of_the_cluster_is_planned_with_its_owner_and_its_namespace() {
    let meta = |kind: &str, uid: &str, annotations: Value| {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": kind, "uid": uid, "annotations": annotations}})
    };
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "train-x", "namespace": "ml",
        "annotations": {"orca.research/instance-id": "i-0123"},
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "u", "controller": true}]},
        "spec": {"containers": [{"name": "c"}]}});
    let job = meta("train", "u", json!({"orca.research/instance-type": "g5.2xlarge"}));
    let namespace = meta("ml", "n", json!({"orca.research/zones": "us-east-1b"}));
    let router = axum::Router::new()
        .route("/api/v1/namespaces/ml/pods/train-x", get(async || axum::Json(pod)))
        .route("/apis/batch/v1/namespaces/ml/jobs/train", get(async || axum::Json(job)))
        .route("/api/v1/namespaces/ml", get(async || axum::Json(namespace)));
    let (address, _server) = serve(router).await;
    let kubeconfig = kubeconfig("capacity-kubeconfig.yaml", address);
    let cloud = LocalCloud::start();
    let config = cloud.config("capacity-live.yaml", "none");
    let plan = |arguments: &[&str]| {
        let common = ["plan", "--config", &config, "--kubeconfig", &kubeconfig, "-o", "json"];
        tokio::task::block_in_place(|| orca(&[&common, arguments].concat()))
    };
    let output = plan(&["-n", "ml", "train-x"]);
    let live = &objects(&output)[0];
    assert_eq!(live["asks"], "no resources; of the types g5.2xlarge; in us-east-1b", "{live}");
    assert_eq!(
        (&live["candidates"][0]["zone"], live["candidates"].as_array().unwrap().len()),
        (&json!("us-east-1b"), 1)
    );
    assert!(live["notes"][0].as_str().unwrap().contains("the pod has i-0123 already"), "{live}");

    let path =
        file("capacity-ns.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: []}\n");
    let from_file = &objects(&plan(&["-n", "ml", "-f", &path]))[0];
    assert_eq!(from_file["asks"], "no resources; of the types g5.xlarge; in us-east-1b", "{from_file}");

    let output = plan(&["-n", "ml", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("reading pod ml/nobody: "), "{output:?}");
}
