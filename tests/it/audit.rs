//! What was done to the cloud is on record once, with who, what, why and how it went.

use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

use orca::cloud::{Cloud as _, CloudError};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::support::{World, mk_pod};

/// The lines of `orca::audit` that this thread writes while it lives.
pub(crate) struct Record {
    lines: Lines,
    _subscriber: tracing::subscriber::DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Record {
    pub(crate) fn start() -> Self {
        // While there is only one subscriber, `tracing` asks the thread that comes to a line first whether anybody
        // wants it, and remembers the answer for all.
        static SECOND: OnceLock<tracing::Dispatch> = OnceLock::new();
        let nobody = || tracing_subscriber::fmt().with_env_filter(EnvFilter::new("off")).finish();
        SECOND.get_or_init(|| tracing::Dispatch::new(nobody()));
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new("orca::audit=info"))
            .with_writer(lines.clone())
            .with_ansi(false)
            .with_target(false)
            .with_level(false)
            .without_time()
            .finish();
        Self { lines, _subscriber: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let bytes = self.lines.0.lock().unwrap().clone();
        // The pass that a line was written in is known by the pod's UID, which the line has, too.
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| line[line.find("action=").unwrap()..].to_owned()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_launch_and_an_end_are_recorded_once_with_who_what_why_and_how_it_went() {
    let record = Record::start();
    let world = World::start();
    world.cloud.next_error(
        orca::cloud::memory::Call::Launch,
        CloudError::Transient { code: "InternalError".to_owned(), message: "try again".to_owned() },
    );
    let uid = world.api.create(mk_pod("a"));
    world.until_running("a").await;
    let machine = world.machine(&uid);
    world.api.delete("a", 30);
    world.until("all is gone", |world| world.cloud.alive().is_empty()).await;

    let token = machine.client_token.unwrap();
    let (id, pod) = (machine.id, format!("pod.uid=\"{uid}\" pod=\"default/a\""));
    let detail = format!("detail=\"g5.xlarge (on-demand) in subnet-a with token {token}\"");
    assert_eq!(
        record.lines(),
        [
            format!(
                "action=\"RunInstances\" {pod} instance.id=\"\" {detail} why=\"the pod has no machine: listed, first\" \
                 result=\"transient\" error=no definite answer (InternalError): try again"
            ),
            format!(
                "action=\"RunInstances\" {pod} instance.id=\"{id}\" {detail} \
                 why=\"the call of an earlier intent again\" result=\"ok\""
            ),
            format!(
                "action=\"TerminateInstances\" {pod} instance.id=\"{id}\" detail=\"\" why=\"no pod\" result=\"ok\""
            ),
        ]
    );
}

#[tokio::test]
async fn the_ec2_adapter_leaves_the_record_to_its_callers() {
    let record = Record::start();
    let fake = crate::ec2::fake::Fake::start(|_, _, _| (200, String::new())).await;
    let ec2 = fake.ec2().await;
    drop(ec2.terminate("i-0001").await);
    drop(ec2.tag("i-0001", &[("a".to_owned(), "b".to_owned())].into()).await);
    drop(ec2.launch(&crate::ec2::spec()).await);
    drop(ec2.discard(orca::cloud::LeftoverKind::Volume, "vol-0001").await);
    assert!(!fake.asked("TerminateInstances").is_empty());
    assert_eq!(record.lines(), [""; 0]);
}

/// The archive's own writing would be a record of the logs beside the logs; sessions are connections.
const UNRECORDED: [&str; 3] = ["create_log_stream", "put_log_events", "terminate_session"];

/// Fields of answers that sound like calls.
const FIELDS: [&str; 2] = ["create_time", "tag_set"];

#[test]
fn every_call_that_changes_something_in_the_cloud_has_its_line() {
    let mut sources = Vec::new();
    let mut open = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut changing = std::collections::BTreeSet::new();
    for text in sources.iter().filter(|text| text.contains("aws_sdk_")) {
        for method in text.split('.').filter_map(|rest| rest.split_once("()").map(|(method, _)| method)) {
            let verbs = ["run_", "terminate_", "create_", "put_", "delete_", "tag_", "modify_", "stop_"];
            let is_call = method.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
                && verbs.iter().any(|verb| method.starts_with(verb));
            if is_call && !UNRECORDED.contains(&method) && !FIELDS.contains(&method) {
                changing.insert(method.to_owned());
            }
        }
    }
    let expected = [
        "create_log_group",
        "create_tags",
        "delete_network_interface",
        "delete_volume",
        "put_retention_policy",
        "run_instances",
        "terminate_instances",
    ];
    assert_eq!(changing.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    for method in &changing {
        let words = method.split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
        let action = format!("\"{}\"", words.collect::<String>());
        let recorded = [format!("action: {action}"), format!("record({action}")];
        let has_line = sources.iter().any(|text| recorded.iter().any(|line| text.contains(line)));
        assert!(has_line, "{action} is not recorded");
    }
}
