//! Logs from the machine, from the archive, and from both: a pod `logged` whose kubelet reads a log in memory as a real
//! one reads its file, and whose archive is in memory too.

use std::time::Instant;

use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use jiff::Timestamp;
use orca::link::LinkState;
use orca::logs::batch::Packer;
use orca::logs::cri::Stream;
use orca::logs::names::StreamName;
use orca::logs::query::Options;
use orca::logs::record::{Body, End, Eof, Record};
use orca::logs::render;
use orca::logs::stamp::Stamp;
use orca::logs::store::StoreError;
use orca::logs::store::memory::MemoryStore;

use super::*;

pub(super) const UID: &str = "uid-3";
pub(super) type Said = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// The machine of the pod `logged`.
#[derive(Debug)]
pub(super) struct Kubelet {
    state: watch::Sender<Machine>,
}

#[derive(Clone, Debug, Default)]
struct Machine {
    records: Vec<Record>,
    has_ended: bool,
    is_gone: bool,
    /// Nothing gets through to it.
    is_cut: bool,
    /// Connections before break, those after do not.
    breaks: u32,
    /// Of an answer that follows, bytes before the machine is cut, once.
    cut_after: Option<usize>,
    /// Said instead of any log.
    says: Option<(StatusCode, &'static str)>,
    /// Queries so far.
    asked: Vec<String>,
}

impl Default for Kubelet {
    fn default() -> Self {
        Self { state: watch::channel(Machine::default()).0 }
    }
}

impl Kubelet {
    fn change(&self, change: impl FnOnce(&mut Machine)) {
        self.state.send_modify(change);
    }

    pub(super) fn has_machine(&self) -> bool {
        !self.state.borrow().is_gone
    }

    pub(super) fn reach(&self) -> Result<(), TunnelError> {
        if self.state.borrow().is_cut { Err(TunnelError::Lost("cut".into())) } else { Ok(()) }
    }

    pub(super) fn status(&self) -> LinkStatus {
        let since = Timestamp::UNIX_EPOCH;
        let state = match self.reach() {
            Ok(()) => LinkState::Attached { since, boot_id: "b".into() },
            Err(error) => LinkState::Dialing { since, error: Some(error.to_string()), was_attached: true },
        };
        let (reached, attached, notice, usable) = (None, None, None, None);
        LinkStatus {
            instance_id: "i-1".into(),
            state,
            shown: true,
            reached,
            attached,
            notice,
            usable,
            has_nvidia: false,
        }
    }

    pub(super) fn answer(&self, query: &str) -> Said {
        self.state.send_if_modified(|machine| {
            machine.asked.push(query.to_owned());
            false
        });
        let machine = self.state.borrow().clone();
        let options = Options::parse(query).unwrap();
        let (status, text) = machine.says.unwrap_or((StatusCode::OK, ""));
        let body = if machine.says.is_some() || !options.follow {
            let text =
                if text.is_empty() { told(&machine.records, &options) } else { text.as_bytes().to_vec() };
            Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
        } else {
            let told = Follows { state: self.state.subscribe(), options, sent: 0, breaks: machine.breaks };
            StreamBody::new(futures::stream::try_unfold(told, Follows::next)).boxed_unsync()
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response
    }
}

/// What the kubelet tells of these records at most.
fn told(records: &[Record], options: &Options) -> Vec<u8> {
    render::answer(records, options, orca::clock::now())
}

struct Follows {
    state: watch::Receiver<Machine>,
    options: Options,
    sent: usize,
    breaks: u32,
}

impl Follows {
    async fn next(mut self) -> Result<Option<(Frame<Bytes>, Self)>, std::io::Error> {
        loop {
            let machine = self.state.borrow_and_update().clone();
            let mut told = told(&machine.records, &self.options);
            let cut = machine.cut_after.filter(|cut| *cut <= told.len());
            told.truncate(cut.unwrap_or(told.len()));
            if machine.breaks > self.breaks || machine.is_cut || cut == Some(self.sent) {
                return Err(std::io::ErrorKind::ConnectionReset.into());
            }
            if told.len() > self.sent {
                let bytes = Bytes::copy_from_slice(&told[self.sent..]);
                self.sent = told.len();
                return Ok(Some((Frame::data(bytes), self)));
            }
            let is_full = self.options.limit_bytes.is_some_and(|limit| limit <= self.sent as u64);
            if machine.has_ended || is_full {
                return Ok(None);
            }
            self.state
                .changed()
                .await
                .map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionReset))?;
        }
    }
}

/// A status of a container in its `restart`th run.
pub(super) fn running(restart: u32) -> Value {
    json!({"restartCount": restart, "containerID": format!("containerd://{restart}"), "state": {"running": {}}})
}

fn ended(restart: u32) -> Value {
    let id = format!("containerd://{restart}");
    json!({"restartCount": restart, "containerID": id, "state": {"terminated": {"exitCode": 0, "containerID": id}}})
}

/// A pod with the container `c`.
pub(super) fn pod(name: &str, uid: &str, mut status: Value) -> Arc<Pod> {
    for (key, value) in
        [("name", json!("c")), ("image", json!("i")), ("imageID", json!("")), ("ready", json!(true))]
    {
        status[key] = value;
    }
    let pod = json!({
        "metadata": {"namespace": "ns", "name": name, "uid": uid},
        "spec": {"containers": [{"name": "c"}]},
        "status": {"containerStatuses": [status]},
    });
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn name(restart: u32) -> String {
    StreamName::new("ns", "logged", UID, "c", restart).unwrap().to_string()
}

/// `count` lines on both streams, ten of each time, some in pieces, some the same.
fn lines(count: u64) -> Vec<Record> {
    let line = |seq: u64| {
        let second = i64::try_from(seq / 10).unwrap();
        let at = Timestamp::from_nanosecond(1_795_231_751_489_039_417).unwrap()
            + jiff::SignedDuration::from_secs(second);
        let text = if seq.is_multiple_of(3) { "the same".to_owned() } else { format!("line {seq}") };
        let end = if seq % 8 == 5 { End::Partial } else { End::Full };
        let stream = if seq % 4 == 1 { Stream::Stderr } else { Stream::Stdout };
        Record {
            seq,
            stamp: Stamp::utc(at),
            stream,
            body: Body::Line { text: text.into(), end },
            origin: None,
        }
    };
    (0..count).map(line).collect()
}

fn with_end(mut records: Vec<Record>) -> Vec<Record> {
    let last = records.last().unwrap().clone();
    records.push(Record { seq: last.seq + 1, body: Body::Eof(Eof::default()), ..last });
    records
}

/// As the archiver files them.
async fn file(store: &MemoryStore, restart: u32, records: &[Record]) {
    store.create_stream(&name(restart)).await.unwrap();
    let mut packer = Packer::new(0, None);
    for record in records {
        packer.push(record, Timestamp::from_second(1_795_240_000).unwrap()).unwrap();
    }
    if let Some(batch) = packer.take() {
        store.put(&name(restart), batch.events()).await.unwrap();
    }
}

pub(super) struct Logs {
    pub(super) world: World,
    machine: Arc<Kubelet>,
    store: Arc<MemoryStore>,
}

impl Logs {
    pub(super) async fn start() -> Self {
        let (machine, store) = (Arc::new(Kubelet::default()), Arc::new(MemoryStore::new()));
        let world = start_with(machine.clone(), Some(store.clone())).await;
        Self { world, machine, store }
    }

    pub(super) async fn get(&self, query: &str) -> Response<Incoming> {
        let path = format!("/containerLogs/ns/logged/c?{query}");
        self.world.send(Some("system:apiserver"), Request::get(path)).await
    }

    async fn text(&self, query: &str) -> (StatusCode, String) {
        let response = self.get(query).await;
        (response.status(), text(response).await)
    }

    /// The container has said a few lines, and this behind them.
    pub(super) fn says(&self, last: &'static str) {
        let mut records = lines(4);
        if !last.is_empty() {
            let record = records.last().unwrap().clone();
            let body = Body::Line { text: last.into(), end: End::Partial };
            records.push(Record { seq: record.seq + 1, body, ..record });
        }
        self.machine.change(|machine| machine.records = records);
    }

    fn is_now(&self, status: Value) {
        self.world.pods.apply(&pod("logged", UID, status));
    }

    /// The machine is gone, and the archive has its log.
    async fn outlive(&self, records: &[Record]) {
        file(&self.store, 0, records).await;
        self.machine.change(|machine| machine.is_gone = true);
        self.is_now(ended(0));
    }
}

/// The next bytes of an answer, as text.
pub(super) async fn more(response: &mut Response<Incoming>) -> Option<String> {
    let frame = tokio::time::timeout(Duration::from_secs(20), response.body_mut().frame()).await.unwrap()?;
    Some(String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
}

const QUERIES: [&str; 16] = [
    "",
    "timestamps=true",
    "tailLines=0",
    "tailLines=1",
    "tailLines=17",
    "tailLines=17&timestamps=true",
    "tailLines=1000",
    "limitBytes=1",
    "limitBytes=150&timestamps=true",
    "limitBytes=40&tailLines=7",
    "sinceTime=2026-11-21T03:29:13Z",
    "sinceTime=2026-11-21T03:29:13.489039417Z&timestamps=true",
    "sinceTime=2026-11-21T03:29:14Z&tailLines=3",
    "sinceTime=2027-01-01T00:00:00Z",
    "stream=Stdout",
    "stream=Stderr&limitBytes=70",
];

#[tokio::test]
async fn every_option_gives_from_the_archive_what_the_kubelet_gave() {
    let logs = Logs::start().await;
    let records = with_end(lines(57));
    logs.machine.change(|machine| (machine.records, machine.has_ended) = (records.clone(), true));
    let mut live = Vec::new();
    for query in QUERIES {
        for follow in ["", "&follow=true"] {
            live.push(logs.text(&format!("{query}{follow}")).await);
        }
    }
    assert_eq!(logs.store.calls("page"), 0);
    logs.outlive(&records).await;
    logs.store.set_page(9);
    let mut live = live.into_iter();
    for query in QUERIES {
        for follow in ["", "&follow=true"] {
            let (status, expected) = live.next().unwrap();
            assert_eq!(status, StatusCode::OK);
            assert_eq!(logs.text(&format!("{query}{follow}")).await, (status, expected), "{query}{follow}");
        }
    }
}

#[tokio::test]
async fn a_machine_that_goes_in_the_middle_leaves_no_gap_and_repeats_nothing() {
    let records = with_end(lines(57));
    for query in [
        "",
        "timestamps=true",
        "stream=Stdout",
        "tailLines=33",
        "limitBytes=300",
        "sinceTime=2026-11-21T03:29:13Z",
    ] {
        let options = Options::parse(&format!("{query}&follow=true")).unwrap();
        let whole = String::from_utf8(told(&records, &options)).unwrap();
        let logs = Logs::start().await;
        file(&logs.store, 0, &records).await;
        logs.store.set_page(13);
        for cut in [0, 10, 31, 32, 200, 811, 812, 813, 850, 1_400] {
            logs.machine.change(|machine| {
                *machine = Machine {
                    records: records.clone(),
                    has_ended: true,
                    cut_after: Some(cut),
                    ..Machine::default()
                };
            });
            let mut answer = logs.get(&format!("{query}&follow=true")).await;
            // Until the connection breaks there is a machine, and from then on there is none.
            logs.machine.change(|machine| machine.is_gone = true);
            let mut seen = String::new();
            while let Some(bytes) = more(&mut answer).await {
                seen += &bytes;
            }
            assert_eq!(seen, whole, "{query} cut after {cut}");
        }
    }
}

#[tokio::test]
async fn what_is_archived_later_follows_and_the_containers_end_ends_it() {
    let logs = Logs::start().await;
    let records = with_end(lines(40));
    logs.machine.change(|machine| machine.records = records[..12].to_vec());
    file(&logs.store, 0, &records[..3]).await;
    let mut answer = logs.get("follow=true").await;
    let mut seen = more(&mut answer).await.unwrap();
    // What was sent is not archived yet, nor is anything later.
    logs.machine.change(|machine| machine.is_cut = true);
    for part in [3..8, 8..20, 20..41] {
        tokio::time::sleep(Duration::from_millis(300)).await;
        file(&logs.store, 0, &records[part]).await;
    }
    while let Some(bytes) = more(&mut answer).await {
        seen += &bytes;
    }
    assert_eq!(seen.into_bytes(), told(&records, &Options::default()));
}

#[tokio::test]
async fn a_machine_that_is_back_goes_on_at_once_also_without_an_archive() {
    for has_archive in [true, false] {
        let (machine, store) = (Arc::new(Kubelet::default()), Arc::new(MemoryStore::new()));
        let archive = has_archive.then(|| store.clone() as Arc<dyn Store>);
        let logs = Logs { world: start_with(machine.clone(), archive).await, machine, store };
        let records = with_end(lines(40));
        logs.machine.change(|machine| machine.records = records[..12].to_vec());
        let mut answer = logs.get("follow=true&tailLines=5").await;
        let mut seen = more(&mut answer).await.unwrap();
        logs.machine.change(|machine| {
            machine.breaks += 1;
            machine.records = records[..30].to_vec();
        });
        seen += &more(&mut answer).await.unwrap();
        logs.machine.change(|machine| (machine.records, machine.has_ended) = (records.clone(), true));
        while let Some(bytes) = more(&mut answer).await {
            seen += &bytes;
        }
        assert_eq!(seen.into_bytes(), told(&records[7..], &Options::default()));
        let asked = logs.machine.state.borrow().asked.clone();
        assert_eq!(asked[0], "follow=true&timestamps=true&tailLines=5");
        assert_eq!(asked[1], "follow=true&timestamps=true&sinceTime=2026-11-21T03:29:11.489039417Z");
    }
}

#[tokio::test]
async fn a_file_that_was_rotated_meanwhile_is_made_up_for_from_the_archive() {
    let logs = Logs::start().await;
    let records = with_end(lines(60));
    logs.machine.change(|machine| machine.records = records[..12].to_vec());
    file(&logs.store, 0, &records).await;
    let mut answer = logs.get("follow=true").await;
    let mut seen = more(&mut answer).await.unwrap();
    logs.machine.change(|machine| {
        machine.breaks += 1;
        machine.records = records[40..50].to_vec();
    });
    while let Some(bytes) = more(&mut answer).await {
        seen += &bytes;
    }
    assert_eq!(seen.into_bytes(), told(&records, &Options::default()));
}

#[tokio::test]
async fn a_throttled_archive_is_waited_for_and_a_denied_one_says_so_in_a_sentence() {
    let logs = Logs::start().await;
    logs.outlive(&with_end(lines(2))).await;
    logs.store.fail([StoreError::Throttled("slow".into())]);
    let begin = Instant::now();
    assert_eq!(logs.text("").await, (StatusCode::OK, "the same\nline 1\n".into()));
    assert!(begin.elapsed() >= Duration::from_millis(500));
    for query in ["", "follow=true"] {
        logs.store.fail([StoreError::Denied("AccessDeniedException: logs:GetLogEvents".into())]);
        let denied = "pod \"logged\" has no machine that can be asked, and its log cannot be read from CloudWatch Logs: denied: AccessDeniedException: logs:GetLogEvents";
        assert_eq!(logs.text(query).await, (StatusCode::BAD_REQUEST, denied.into()));
    }
}

#[tokio::test]
async fn without_a_machine_and_an_archive_there_is_a_sentence_or_the_kubelets_words() {
    let logs = Logs::start().await;
    logs.machine.change(|machine| machine.is_gone = true);
    logs.is_now(ended(0));
    let none =
        "pod \"logged\" has no machine that can be asked, and the archive has no log of its container \"c\"";
    assert_eq!(logs.text("").await, (StatusCode::BAD_REQUEST, none.into()));
    assert_eq!(logs.text("follow=true").await, (StatusCode::BAD_REQUEST, none.into()));
    logs.is_now(json!({"restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}));
    let waiting = "container \"c\" in pod \"logged\" is waiting to start: trying and failing to pull image";
    assert_eq!(logs.text("").await, (StatusCode::BAD_REQUEST, waiting.into()));
    let previous = "previous terminated container \"c\" in pod \"logged\" not found";
    assert_eq!(logs.text("previous=true").await, (StatusCode::BAD_REQUEST, previous.into()));
    let other = logs.world.send(Some("system:apiserver"), Request::get("/containerLogs/ns/logged/d")).await;
    assert_eq!(other.status(), StatusCode::NOT_FOUND);
    assert_eq!(text(other).await, "container \"d\" not found in pod \"logged\"");
    let bad = logs.text("tailLines=-1").await;
    assert_eq!(bad, (StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "Invalid request."}"#.into()));

    let machine = Arc::new(Kubelet::default());
    machine.change(|machine| machine.is_gone = true);
    let logs = Logs { world: start_with(machine.clone(), None).await, machine, store: logs.store };
    let none = "pod \"logged\" has no machine that can be asked, and its logs are not archived";
    assert_eq!(logs.text("").await, (StatusCode::BAD_REQUEST, none.into()));
}

#[tokio::test]
async fn the_run_before_is_in_the_archive_when_the_kubelet_has_dropped_it() {
    let logs = Logs::start().await;
    file(&logs.store, 2, &with_end(lines(2))).await;
    file(&logs.store, 4, &with_end(lines(3))).await;
    let previous = "previous terminated container \"c\" in pod \"logged\" not found";
    logs.is_now(running(4));
    logs.machine.change(|machine| machine.says = Some((StatusCode::BAD_REQUEST, previous)));
    for query in ["previous=true", "previous=true&follow=true"] {
        assert_eq!(logs.text(query).await, (StatusCode::OK, "the same\nline 1\n".into()));
    }
    // The kubelet says so with status 200 when it has begun to answer.
    let removed = "unable to retrieve container logs for containerd://4";
    logs.machine.change(|machine| machine.says = Some((StatusCode::OK, removed)));
    for query in ["", "follow=true"] {
        assert_eq!(logs.text(query).await, (StatusCode::OK, "the same\nline 1\nline 2\n".into()));
    }
    // What the archive does not have either is told in the kubelet's words.
    logs.is_now(running(5));
    let removed = "unable to retrieve container logs for containerd://5";
    logs.machine.change(|machine| machine.says = Some((StatusCode::OK, removed)));
    for query in ["", "follow=true"] {
        assert_eq!(logs.text(query).await, (StatusCode::OK, removed.into()));
    }
    // Without a machine: the newest one before the present.
    logs.machine.change(|machine| machine.is_gone = true);
    assert_eq!(logs.text("previous=true").await.1, "the same\nline 1\nline 2\n");
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_a_few_pages_whatever_the_size_of_the_log() {
    let logs = Logs::start().await;
    let long = |seq: u64| Record {
        body: Body::Line { text: "x".repeat(100_000).into(), end: End::Full },
        ..lines(seq + 1).pop().unwrap()
    };
    for part in 0..20 {
        let records: Vec<_> = (part * 10..part * 10 + 10).map(long).collect();
        file(&logs.store, 0, &records).await;
    }
    file(&logs.store, 0, &with_end(vec![long(199)])[1..]).await;
    logs.machine.change(|machine| machine.is_gone = true);
    logs.is_now(ended(0));
    logs.store.set_page(10);
    for query in ["", "follow=true"] {
        let before = logs.store.calls("page");
        let answer = logs.get(query).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        let pages = logs.store.calls("page") - before;
        assert!(pages < 15, "{pages} pages were read for nobody");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes().len(), 200 * 100_001);
    }
}
