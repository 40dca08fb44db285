//! The pages of numbers, from kubelets that answer, refuse or hang: what is asked of the node never waits for them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use orca::link::LinkState;
use orca::stats::Page;
use tokio::time::sleep;

use super::*;

const RESOURCE: &str = include_str!("../../../src/stats/tests/resource.txt");
const SUMMARY: &str = include_str!("../../../src/stats/tests/summary.json");

/// What a machine does when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Answer,
    /// Takes the connection, and says nothing.
    Hang,
    /// Answers 500, but for `/metrics/resource`.
    Refuse,
    /// Its tunnel is down.
    Dial,
}

#[derive(Debug)]
struct Machines {
    does: Mutex<BTreeMap<&'static str, Does>>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    connections: AtomicUsize,
    tasks: Mutex<JoinSet<()>>,
    changes: broadcast::Sender<String>,
}

impl Machines {
    fn new(does: &[(&'static str, Does)]) -> Arc<Self> {
        let (client, server) = guest_tls();
        Arc::new(Self {
            does: Mutex::new(does.iter().copied().collect()),
            client,
            server,
            connections: AtomicUsize::new(0),
            tasks: Mutex::default(),
            changes: broadcast::channel(8).0,
        })
    }

    fn does(&self, pod_uid: &str) -> Option<Does> {
        self.does.lock().unwrap().get(pod_uid).copied()
    }

    /// As the link tells.
    fn set(&self, uid: &'static str, does: Option<Does>) {
        let mut all = self.does.lock().unwrap();
        match does {
            Some(does) => drop(all.insert(uid, does)),
            None => drop(all.remove(uid)),
        }
        drop(all);
        self.changes.send(uid.to_owned()).unwrap();
    }
}

#[async_trait]
impl Links for Machines {
    fn ensure(&self, _machine: Machine) {}
    fn status(&self, pod_uid: &str) -> Option<LinkStatus> {
        let since = Timestamp::UNIX_EPOCH;
        let state = match self.does(pod_uid)? {
            Does::Dial => LinkState::Dialing { since, error: None, was_attached: true },
            Does::Answer | Does::Hang | Does::Refuse => LinkState::Attached { since, boot_id: String::new() },
        };
        Some(LinkStatus {
            instance_id: format!("i-{pod_uid}"),
            state,
            shown: true,
            reached: None,
            attached: None,
            notice: None,
            usable: None,
            has_nvidia: false,
        })
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
        self.does.lock().unwrap().keys().map(|uid| (*uid).to_owned()).collect()
    }
    fn pod(&self, pod_uid: &str) -> Option<(String, String)> {
        Some(("ns".to_owned(), name(pod_uid).to_owned()))
    }
    fn subscribe(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }
    async fn kubelet_stream(&self, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        panic!("numbers have a connection of their own")
    }
    async fn command(&self, _: &str, _: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        Err(TunnelError::NotYet("only pretends".to_owned()))
    }
    async fn scrape_stream(&self, pod_uid: &str, _deadline: Duration) -> Result<ByteStream, TunnelError> {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        self.connections.fetch_add(1, Ordering::Relaxed);
        let (accept, uid) = (TlsAcceptor::from(self.server.clone()), pod_uid.to_owned());
        let does = self.does(pod_uid);
        self.tasks.lock().unwrap().spawn(async move {
            match does {
                Some(Does::Hang) => std::future::pending().await,
                does => kubelet(accept, theirs, uid, does == Some(Does::Refuse)).await,
            }
        });
        Ok(Box::new(ours))
    }
    fn kubelet_tls(&self, _pod_uid: &str) -> Option<Arc<ClientConfig>> {
        Some(self.client.clone())
    }
}

/// Answers as a kubelet with the pod of that UID; its CPU has been busy for a second more each time.
async fn kubelet(accept: TlsAcceptor, stream: DuplexStream, uid: String, refuses: bool) {
    let asked = AtomicUsize::new(0);
    let service = service_fn(|request: Request<Incoming>| {
        let count = asked.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().path().to_owned();
        let mut response = Response::new(Full::new(Bytes::new()));
        if path == "/metrics/resource" {
            assert_eq!(request.headers()[header::ACCEPT_ENCODING], "gzip");
            let now = orca::clock::now().as_millisecond();
            let page = RESOURCE.replace(
                "node_cpu_usage_seconds_total 5.51884819 1795294382120",
                &format!("node_cpu_usage_seconds_total {count} {now}"),
            );
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(of(&page, &uid).as_bytes()).unwrap();
            *response.body_mut() = Full::new(packed.finish().unwrap().into());
            response.headers_mut().insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        } else if refuses {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        } else if path == "/stats/summary" {
            *response.body_mut() = Full::new(of(SUMMARY, &uid).into());
        }
        async move { Ok::<_, Infallible>(response) }
    });
    let Ok(stream) = accept.accept(stream).await else { return };
    drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

fn name(uid: &str) -> &'static str {
    if uid == "uid-1" { "running" } else { "booting" }
}

fn of(page: &str, uid: &str) -> String {
    let name = name(uid);
    page.replace("namespace=\"default\",pod=\"burn\"", &format!("namespace=\"ns\",pod=\"{name}\""))
        .replace("\"name\": \"burn\"", &format!("\"name\": \"{name}\""))
        .replace("\"namespace\": \"default\"", "\"namespace\": \"ns\"")
        .replace("ab5650bd-f40b-4b7f-a57c-b54de59f8226", uid)
}

fn as_scraper(path: &str) -> http::request::Builder {
    Request::get(path).header("authorization", "Bearer scraper-token")
}

#[tokio::test]
async fn a_machine_that_hangs_keeps_nobody_waiting() {
    let machines = Machines::new(&[("uid-1", Does::Answer), ("uid-2", Does::Hang)]);
    let world = start_on(machines, None).await;
    let start = Instant::now();
    let mut waits = Vec::new();
    let page = loop {
        let begin = Instant::now();
        let response = world.send(None, as_scraper("/metrics/resource")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        let page = text(response).await;
        waits.push(begin.elapsed());
        if page.contains("pod=\"running\"") {
            break page;
        }
        assert!(page.contains("resource_scrape_error 0\n"), "{page}");
        assert!(start.elapsed() < Duration::from_secs(10), "{page}");
        sleep(Duration::from_millis(50)).await;
    };
    assert!(waits.iter().all(|wait| *wait < Duration::from_secs(2)), "{waits:?}");
    let used = "container_cpu_usage_seconds_total{container=\"main\",namespace=\"ns\",pod=\"running\"} 1.112096587 1795294376327\n";
    assert!(page.contains(used) && !page.contains("booting"), "{page}");
    let summary = text(world.send(None, as_scraper("/stats/summary")).await).await;
    let summary: Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["node"]["nodeName"], "orca");
    let process = world.send(None, as_scraper("/metrics")).await;
    assert!(text(process).await.ends_with("# EOF\n"));
    for (request, status) in [
        (as_scraper("/metrics/other"), StatusCode::NOT_FOUND),
        (as_scraper("/stats/other"), StatusCode::NOT_FOUND),
        (as_scraper("/stats"), StatusCode::NOT_FOUND),
    ] {
        assert_eq!(world.send(None, request).await.status(), status);
    }
    let posted = world.send(Some("system:apiserver"), Request::post("/metrics/resource")).await;
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
}

/// What is told of a machine, without the way there.
fn watch(machines: &Arc<Machines>) -> (Arc<Stats>, JoinSet<()>) {
    let stats = Arc::new(Stats::new("orca".to_owned(), Arc::new(())));
    let metrics = stats::Metrics::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(Collector { stats: stats.clone(), links: machines.clone(), metrics }.run());
    (stats, tasks)
}

fn page(stats: &Stats) -> String {
    stats.exposition(Page::Resource).collect()
}

/// The node's CPU seconds, and when.
fn node(stats: &Stats) -> Option<(f64, i64)> {
    let page = page(stats);
    let line = page.lines().find_map(|line| line.strip_prefix("node_cpu_usage_seconds_total "))?;
    let (value, at) = line.split_once(' ')?;
    Some((value.parse().unwrap(), at.parse().unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_machine_is_asked_on_one_connection_and_its_numbers_go_on() {
    let machines = Machines::new(&[("uid-1", Does::Answer)]);
    let (stats, _tasks) = watch(&machines);
    sleep(Duration::from_secs(25)).await;
    let (first, at) = node(&stats).unwrap();
    sleep(Duration::from_secs(300)).await;
    let (last, later) = node(&stats).unwrap();
    // Four pages each time, about every ten seconds.
    assert!((100.0..140.0).contains(&(last - first)), "{first} {last}");
    assert!((280_000..320_000).contains(&(later - at)), "{at} {later}");
    assert_eq!(machines.connections.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_falls_silent_drops_out_after_a_minute_and_comes_back() {
    let machines = Machines::new(&[("uid-1", Does::Answer), ("uid-2", Does::Answer)]);
    let (stats, _tasks) = watch(&machines);
    sleep(Duration::from_secs(30)).await;
    let both = page(&stats);
    assert!(both.contains("pod=\"running\"") && both.contains("pod=\"booting\""), "{both}");
    let before = node(&stats).unwrap();

    machines.set("uid-2", Some(Does::Dial));
    sleep(Duration::from_secs(45)).await;
    assert!(page(&stats).contains("pod=\"booting\""), "a tunnel that is dialed again is no news");
    sleep(Duration::from_secs(20)).await;
    let one = page(&stats);
    assert!(one.contains("pod=\"running\"") && !one.contains("pod=\"booting\""), "{one}");
    assert!(one.contains("resource_scrape_error 1\n"), "{one}");
    let without = node(&stats).unwrap();
    assert!(without.0 > before.0 && without.1 > before.1, "{before:?} {without:?}");

    machines.set("uid-2", Some(Does::Answer));
    sleep(Duration::from_secs(15)).await;
    let again = page(&stats);
    assert!(again.contains("pod=\"booting\"") && again.contains("resource_scrape_error 0\n"), "{again}");
    assert!(node(&stats).unwrap().0 >= without.0);

    machines.set("uid-2", None);
    sleep(Duration::from_millis(10)).await;
    assert!(!page(&stats).contains("pod=\"booting\""), "a machine that is gone is gone at once");
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_refused_costs_no_other_and_a_machine_that_hangs_is_tried_again() {
    let machines = Machines::new(&[("uid-1", Does::Refuse), ("uid-2", Does::Hang)]);
    let (stats, _tasks) = watch(&machines);
    sleep(Duration::from_secs(90)).await;
    let page = page(&stats);
    assert!(page.contains("pod=\"running\"") && !page.contains("pod=\"booting\""), "{page}");
    assert!(page.contains("resource_scrape_error 1\n"), "{page}");
    let summary: Value =
        serde_json::from_str(&stats.summary(stats::Detail::All).collect::<String>()).unwrap();
    assert_eq!(summary["pods"], json!([]));
    machines.set("uid-2", Some(Does::Answer));
    sleep(Duration::from_secs(70)).await;
    assert!(super::numbers::page(&stats).contains("pod=\"booting\""));
}
