//! The vendor's own client, session-manager-plugin, through the SSM service. It is not built here:
//! `ORCA_SSM_PLUGIN` names it (`tests/cluster/build.sh ssm-plugin` builds it).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail it")]

#[expect(dead_code, reason = "the other tests use the rest")]
#[path = "support/fake.rs"]
mod fake;

use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use fake::{ECHO, INSTANCE, SOURCE, SOURCE_BYTES, Service, pattern};
use localstack::ssm::Cut;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(30);

/// The plugin has races of its own: on a busy host it may lose what comes right after its handshake, or give up a
/// connection that it should dial again. Each is rare; a fault of ours would be there every time.
const ATTEMPTS: usize = 3;

/// Tries it with a service and a plugin of its own each time, until it works.
async fn attempt<T: Future<Output = ()> + Send + 'static>(scenario: fn() -> T) {
    for number in 1..=ATTEMPTS {
        match tokio::spawn(scenario()).await {
            Ok(()) => return,
            Err(error) if number == ATTEMPTS => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {}
        }
    }
}

/// The plugin in a session of `document`.
struct Plugin {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    session: Value,
}

impl Plugin {
    /// `None`, said loudly, where there is no plugin.
    async fn start(service: &Service, document: &str, parameters: Value) -> Option<Self> {
        let binary = std::env::var_os("ORCA_SSM_PLUGIN")?;
        let request = json!({ "Target": INSTANCE, "DocumentName": document, "Parameters": parameters });
        let session = service.call("StartSession", request.clone()).await.unwrap();
        let mut child = Command::new(binary)
            .args([&session.to_string(), "us-east-1", "StartSession", "", &request.to_string()])
            .arg(format!("http://{}", service.address))
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, input, output, session })
    }

    /// The first line of its output that has `text` in it.
    async fn line(&mut self, text: &str) -> String {
        let search = async {
            let mut seen = String::new();
            loop {
                let start = seen.len();
                if self.output.read_line(&mut seen).await.unwrap() == 0 {
                    panic!("the plugin ended after `{seen}`");
                }
                if seen[start..].contains(text) {
                    return seen[start..].to_owned();
                }
            }
        };
        timeout(DEADLINE, search).await.unwrap_or_else(|_| panic!("no line with `{text}`"))
    }

    /// Ends its session, and so itself.
    async fn end(mut self, service: &Service) {
        let id = &self.session["SessionId"];
        service.call("TerminateSession", json!({ "SessionId": id })).await.unwrap();
        let status = timeout(DEADLINE, self.child.wait()).await.expect("the plugin goes on").unwrap();
        assert!(status.success());
    }

    /// The port that it opened.
    async fn port(&mut self) -> u16 {
        let line = self.line(" opened for sessionId ").await;
        line.strip_prefix("Port ").unwrap().split(' ').next().unwrap().parse().unwrap()
    }
}

/// Past the capture of passing tests' output: who runs the tests must see it.
fn skipped() {
    let text = "SKIPPED: ORCA_SSM_PLUGIN does not name the vendor's session-manager-plugin\n";
    std::io::stderr().write_all(text.as_bytes()).unwrap();
}

/// Sends `bytes` and reads as many back.
async fn echo(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let mut back = vec![0; bytes.len()];
    let both = async { tokio::try_join!(writer.write_all(bytes), reader.read_exact(&mut back)) };
    timeout(DEADLINE, both).await.unwrap().unwrap();
    back
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_forwards_many_connections_over_one_session() {
    attempt(forwards).await;
}

async fn forwards() {
    let service = Service::start().await;
    let parameters = json!({ "portNumber": [ECHO.to_string()], "localPortNumber": ["0"] });
    let Some(mut plugin) = Plugin::start(&service, "AWS-StartPortForwardingSession", parameters).await else {
        return skipped();
    };
    let port = plugin.port().await;
    let sent = pattern(100_000);
    let mut connections = tokio::task::JoinSet::new();
    for skipped in 0..5 {
        let sent = sent[skipped..].to_vec();
        connections.spawn(async move {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            assert!(echo(&mut stream, &sent).await == sent);
        });
    }
    while let Some(done) = connections.join_next().await {
        done.unwrap();
    }
    let checked = service.world.checked.lock().unwrap().clone();
    assert!(checked[0].contains("/us-east-1/ssmmessages/aws4_request"), "{checked:?}");
    assert!(checked[0].contains("SignedHeaders=host;x-amz-date"), "{checked:?}");
    plugin.end(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_resumes_after_a_cut_and_loses_nothing() {
    attempt(resumes).await;
}

async fn resumes() {
    // It gives up when it cannot send, so only the machine's side sends while the cut lasts.
    let service = Service::start().await;
    service.ssm.configure(&json!({ "pace": "agent" })).unwrap();
    let parameters = json!({ "portNumber": [SOURCE.to_string()], "localPortNumber": ["0"] });
    let Some(mut plugin) = Plugin::start(&service, "AWS-StartPortForwardingSession", parameters).await else {
        return skipped();
    };
    let port = plugin.port().await;
    let expected = pattern(SOURCE_BYTES);
    for cut in [Some(300), None] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut got = vec![0; 20_000];
        timeout(DEADLINE, stream.read_exact(&mut got)).await.unwrap().unwrap();
        if let Some(duration_ms) = cut {
            service.world.cut(Cut { instance_id: Some(INSTANCE.to_owned()), duration_ms });
        }
        timeout(DEADLINE, stream.read_to_end(&mut got)).await.unwrap().unwrap();
        assert!(got == expected, "{} of {}", got.len(), expected.len());
    }
    assert!(service.world.checked.lock().unwrap().len() >= 2, "it did not dial again");
    plugin.end(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_carries_one_raw_stream_over_its_standard_streams() {
    attempt(carries).await;
}

async fn carries() {
    let service = Service::start().await;
    let parameters = json!({ "portNumber": [ECHO.to_string()] });
    let Some(mut plugin) = Plugin::start(&service, "AWS-StartSSHSession", parameters).await else {
        return skipped();
    };
    plugin.line("Starting session with SessionId").await;
    let sent = pattern(50_000);
    let mut back = vec![0; sent.len()];
    let (input, output) = (&mut plugin.input, &mut plugin.output);
    let both = async { tokio::try_join!(input.write_all(&sent), output.read_exact(&mut back)) };
    timeout(DEADLINE, both).await.unwrap().unwrap();
    assert!(back == sent);
    plugin.end(&service).await;
}
