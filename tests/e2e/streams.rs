//! A pod without a kubelet, as on a cloud that gives containers and no machines: kubectl and a real API server, and behind
//! them exec, attach and port-forward as ORCA speaks them itself, into an sshd.
//!
//! Its node is served by this program; neither ORCA's process nor the local cloud has a part in it.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use orca::endpoint::route::{Route, StreamKind};
use orca::streams::Asked;
use rustls_pki_types::PrivateKeyDer;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use self::container::{Way, grant};
use crate::kubectl::{PROTOCOLS, TERMINAL, copy, noise, over};
use crate::sshd::Sshd;
use crate::world::namespace::Background;
use crate::world::{Namespace, eventually, text};

// What the streams end in.
#[expect(clippy::unwrap_used, reason = "helpers of other tests")]
#[path = "../it/streams/container.rs"]
mod container;

pub(crate) const TESTS: &[crate::Test] =
    &[("streams::a_pod_without_a_kubelet_is_used_as_any_other_through_the_api_server", used)];

/// The node's address: the API server refuses loopback.
const HOST: &str = "10.88.0.10";
const POD: &str = "bare";

fn used(ns: &Namespace<'_>) -> Result<()> {
    let runtime = Runtime::new()?;
    let Some(sshd) = runtime.block_on(Sshd::start("e2e")) else { return Ok(()) };
    let port = serve(&runtime, runtime.block_on(Way::to(&sshd)))?;
    let node = Node::register(ns, port)?;
    ns.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {POD}}}\nspec: {{nodeName: {}, terminationGracePeriodSeconds: 0, \
         containers: [{{name: main, image: none, stdin: true}}]}}",
        node.name
    ))?;
    let running = r#"{"status":{"phase":"Running","containerStatuses":[{"name":"main","image":"none","imageID":"","ready":true,"restartCount":0,"state":{"running":{}}}]}}"#;
    ns.run(&["patch", "pod", POD, "--subresource=status", "--type=merge", "-p", running])?;
    // An API server translates WebSocket to SPDY for nodes that do not say that they speak it.
    for features in ["[]", r#"["ExtendWebSocketsToKubelet"]"#] {
        let declared = format!(r#"{{"status":{{"declaredFeatures":{features}}}}}"#);
        ns.run(&["patch", "node", &node.name, "--subresource=status", "--type=merge", "-p", &declared])?;
        for (protocol, websockets) in PROTOCOLS {
            let what = format!("{protocol} {features}");
            exec(ns, websockets).with_context(|| format!("exec, {what}"))?;
            bulk(ns, websockets).with_context(|| format!("much input and output, {what}"))?;
            cp(ns, websockets).with_context(|| format!("cp, {what}"))?;
            attach(ns, websockets).with_context(|| format!("attach, {what}"))?;
            terminal(ns, websockets).with_context(|| format!("a terminal, {what}"))?;
            forward(ns, websockets, sshd.echo).with_context(|| format!("port-forward, {what}"))?;
            gone(ns, websockets).with_context(|| format!("a client that goes, {what}"))?;
        }
    }
    ns.run(&["delete", "pod", POD, "--grace-period=0", "--force"])?;
    Ok(())
}

/// Serves the node's port; which one it is.
fn serve(runtime: &Runtime, way: Arc<Way>) -> Result<u16> {
    let certificate = rcgen::generate_simple_self_signed([HOST.to_owned()])?;
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).map_err(anyhow::Error::msg)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = runtime.block_on(tokio::net::TcpListener::bind((HOST, 0)))?;
    let port = listener.local_addr()?.port();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, way) = (acceptor.clone(), way.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| {
                    let way = way.clone();
                    async move { Ok::<_, Infallible>(answer(way, request)) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                drop(connection.await);
            });
        }
    });
    Ok(port)
}

fn answer(way: Arc<Way>, request: http::Request<hyper::body::Incoming>) -> Response<Full<bytes::Bytes>> {
    let query = request.uri().query().unwrap_or_default();
    let asked = match Route::parse(request.uri().path()) {
        Ok(Route::Stream { kind: StreamKind::Exec, .. }) => Asked::exec(query),
        Ok(Route::Stream { kind: StreamKind::Attach, .. }) => Asked::attach(query, false),
        Ok(Route::Stream { kind: StreamKind::PortForward, pod, .. }) => Asked::forward(pod, "u-1", query),
        _ => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    grant(way, asked, request)
}

/// A Node object, for as long as it is held.
struct Node<'a> {
    ns: &'a Namespace<'a>,
    name: String,
}

impl<'a> Node<'a> {
    fn register(ns: &'a Namespace<'a>, port: u16) -> Result<Self> {
        let node = Self { ns, name: format!("bare-{}", ns.name) };
        ns.apply(&format!(
            "apiVersion: v1\nkind: Node\nmetadata: {{name: {}}}\nspec: {{unschedulable: true}}",
            node.name
        ))?;
        let status = format!(
            r#"{{"status":{{"addresses":[{{"type":"InternalIP","address":"{HOST}"}}],"daemonEndpoints":{{"kubeletEndpoint":{{"Port":{port}}}}}}}}}"#
        );
        ns.run(&["patch", "node", &node.name, "--subresource=status", "--type=merge", "-p", &status])?;
        Ok(node)
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.ns.run(&["delete", "node", &self.name, "--ignore-not-found", "--wait=false"])
        {
            eprintln!("node {} is left: {error:#}", self.name);
        }
    }
}

fn exec(ns: &Namespace<'_>, websockets: &str) -> Result<()> {
    let run = |script: &str| {
        let command = ns.command(&["exec", POD, "--", "sh", "-c", script]);
        over(command, websockets).output().context("kubectl exec")
    };
    let output = run("echo out; echo err >&2; exit 5")?;
    ensure!(output.stdout == b"out\n", "{:?}", text(&output.stdout));
    let errors = text(&output.stderr);
    ensure!(
        errors.starts_with("err\n") && errors.contains("command terminated with exit code 5"),
        "{errors:?}"
    );
    for (script, code) in [("exit 0", 0), ("exit 5", 5), ("kill -9 $$", 137), ("exit 255", 255)] {
        let output = run(script)?;
        ensure!(output.status.code() == Some(code), "`{script}` became {}", output.status);
    }
    let words = ["a b", "$HOME", "it's", "", "\\", "\u{e9}"];
    let said = ns.run(&[&["exec", POD, "--", "printf", "%s|"], &words[..]].concat())?;
    ensure!(said == words.map(|word| format!("{word}|")).concat(), "{said:?}");
    Ok(())
}

fn bulk(ns: &Namespace<'_>, websockets: &str) -> Result<()> {
    let input = noise(20_000_000);
    let mut child = over(ns.command(&["exec", "-i", POD, "--", "cat"]), websockets)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            drop(stdin.write_all(&input));
            drop(stdin);
        });
        child.wait_with_output()
    })?;
    ensure!(
        output.status.success() && output.stdout == input,
        "{}, {} of {} bytes: {}",
        output.status,
        output.stdout.len(),
        input.len(),
        text(&output.stderr)
    );
    Ok(())
}

fn cp(ns: &Namespace<'_>, websockets: &str) -> Result<()> {
    let folder = std::env::temp_dir().join(format!("orca-streams-{}", ns.name));
    std::fs::create_dir_all(&folder)?;
    let copied = (|| {
        // The container is this machine.
        let (here, there, back) = (folder.join("here"), folder.join("there"), folder.join("back"));
        let bytes = noise(3_000_000);
        std::fs::write(&here, &bytes)?;
        let remote = format!("{POD}:{}", there.display());
        copy(ns, &here, Path::new(&remote), websockets)?;
        copy(ns, Path::new(&remote), &back, websockets)?;
        ensure!(std::fs::read(&there)? == bytes && std::fs::read(&back)? == bytes, "another file arrived");
        Ok(())
    })();
    std::fs::remove_dir_all(&folder)?;
    copied
}

fn attach(ns: &Namespace<'_>, websockets: &str) -> Result<()> {
    let mut child = over(ns.command(&["attach", "-i", POD]), websockets)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map(Background)?;
    child.0.stdin.as_mut().context("stdin")?.write_all(b"hello\n")?;
    let expected = b"attached\nhello\n";
    let mut seen = vec![0; expected.len()];
    child.0.stdout.as_mut().context("stdout")?.read_exact(&mut seen)?;
    ensure!(seen == expected, "{:?}", text(&seen));
    Ok(())
}

fn terminal(ns: &Namespace<'_>, websockets: &str) -> Result<()> {
    let told = "until stty size | tee /dev/tty | grep -q '44 111'; do sleep 0.2; done";
    let kubectl = ns.command(&["exec", "-it", POD, "--", "timeout", "30", "sh", "-c", told]);
    let mut python = Command::new("python3");
    python.args(["-c", TERMINAL]).arg(kubectl.get_program()).args(kubectl.get_args()).stdin(Stdio::null());
    let seen = text(&over(python, websockets).output()?.stdout);
    ensure!(seen.contains("33 99") && seen.contains("44 111"), "the terminal showed {seen:?}");
    Ok(())
}

fn forward(ns: &Namespace<'_>, websockets: &str, echo: u16) -> Result<()> {
    let (_forward, port) = begin_forward(ns, websockets, echo)?;
    let sent = noise(200_000);
    let echoed: Vec<Result<bool>> = std::thread::scope(|scope| {
        let once = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            let mut other = stream.try_clone()?;
            let mut back = vec![0; sent.len()];
            std::thread::scope(|scope| {
                scope.spawn(|| drop(other.write_all(&sent)));
                stream.read_exact(&mut back)
            })?;
            stream.shutdown(Shutdown::Both)?;
            Ok(back == sent)
        };
        let all: Vec<_> = (0..20).map(|_| scope.spawn(once)).collect();
        all.into_iter().map(|one| one.join().unwrap_or(Ok(false))).collect()
    });
    for same in echoed {
        ensure!(same?, "a connection was told another thing than it said");
    }
    // Nothing is to be reached there, and kubectl says why.
    let (mut refused, port) = begin_forward(ns, websockets, 1)?;
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"anybody?")?;
    drop(stream.read(&mut [0; 1]));
    let mut why = String::new();
    refused.0.stderr.take().context("stderr")?.read_to_string(&mut why)?;
    ensure!(why.contains("error forwarding port 1 to pod bare"), "{why:?}");
    Ok(())
}

fn begin_forward(ns: &Namespace<'_>, websockets: &str, port: u16) -> Result<(Background, u16)> {
    let mut forward = over(ns.command(&["port-forward", POD, &format!(":{port}")]), websockets)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map(Background)?;
    let mut line = String::new();
    BufReader::new(forward.0.stdout.as_mut().context("stdout")?).read_line(&mut line)?;
    let port = line.split(" ->").next().and_then(|left| left.rsplit(':').next());
    let port = port.and_then(|port| port.parse().ok()).with_context(|| format!("no port in {line:?}"))?;
    Ok((forward, port))
}

fn gone(ns: &Namespace<'_>, websockets: &str) -> Result<()> {
    let mut child =
        over(ns.command(&["exec", POD, "--", "sh", "-c", "echo $$; exec sleep 1000"]), websockets)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map(Background)?;
    let mut line = String::new();
    BufReader::new(child.0.stdout.as_mut().context("stdout")?).read_line(&mut line)?;
    let process = format!("/proc/{}", line.trim().parse::<u32>().with_context(|| format!("{line:?}"))?);
    ensure!(Path::new(&process).exists(), "{process} is there");
    drop(child);
    eventually("the command to end", Duration::from_secs(20), || {
        Ok(if Path::new(&process).exists() { Err(process.clone()) } else { Ok(()) })
    })
}
