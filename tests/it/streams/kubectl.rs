//! kubectl itself, over SPDY and over WebSocket: here it meets the node without an API server between.

#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::*;

/// A command of kubectl; `None`, and a loud word, where there is none.
async fn kubectl(name: &str, node: &Node, sockets: bool, arguments: &[&str]) -> Option<Command> {
    let sockets = if sockets { "true" } else { "false" };
    let mut command = Command::new("kubectl");
    command
        .args(["--server", &format!("http://127.0.0.1:{}", node.port), "--namespace", "ns"])
        .args(arguments)
        .env("KUBECONFIG", "/dev/null")
        .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", sockets)
        .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", sockets)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let there = Command::new("kubectl").args(["version", "--client"]).output().await;
    if !there.is_ok_and(|output| output.status.success()) {
        eprintln!("\n*** SKIPPED {name}: there is no kubectl here ***\n");
        return None;
    }
    Some(command)
}

#[tokio::test]
async fn kubectl_runs_commands_over_spdy_and_over_websocket() {
    let Some(sshd) = Sshd::start("streams-kubectl").await else { return };
    let node = Node::start(&sshd).await;
    for sockets in [false, true] {
        let arguments = ["exec", "p", "--", "sh", "-c", "echo out; echo err >&2; exit 5"];
        let Some(mut command) = kubectl("kubectl-exec", &node, sockets, &arguments).await else { return };
        let output = timeout(DEADLINE, command.output()).await.unwrap().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), output.stdout), (Some(5), b"out\n".to_vec()), "{error}");
        assert_eq!(error.matches("err\n").count(), 1, "{error}");
        assert!(error.contains("command terminated with exit code 5"), "{error}");

        let arguments = ["exec", "-i", "p", "--", "cat"];
        let mut child = kubectl("kubectl-exec", &node, sockets, &arguments).await.unwrap().spawn().unwrap();
        let input = noise(5_000_000);
        let mut stdin = child.stdin.take().unwrap();
        let feeding = async {
            stdin.write_all(&input).await.unwrap();
            drop(stdin);
        };
        let (output, ()) =
            timeout(DEADLINE, async { tokio::join!(child.wait_with_output(), feeding) }).await.unwrap();
        let output = output.unwrap();
        assert!(
            output.status.success() && output.stdout == input,
            "{} bytes, {output:?}",
            output.stdout.len()
        );

        // Much more than all buffers hold.
        let arguments = ["exec", "p", "--", "head", "-c", "30000000", "/dev/zero"];
        let mut command = kubectl("kubectl-exec", &node, sockets, &arguments).await.unwrap();
        let output = timeout(DEADLINE, command.output()).await.unwrap().unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 30_000_000));
    }
}

#[tokio::test]
async fn kubectl_forwards_ports_over_spdy_and_over_websocket() {
    let Some(sshd) = Sshd::start("streams-kubectl-ports").await else { return };
    let node = Node::start(&sshd).await;
    for sockets in [false, true] {
        let ports = format!(":{}", sshd.echo);
        let arguments = ["port-forward", "--address", "127.0.0.1", "p", &ports];
        let Some(mut command) = kubectl("kubectl-port-forward", &node, sockets, &arguments).await else {
            return;
        };
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(DEADLINE, lines.next_line()).await.unwrap().unwrap().unwrap_or_default();
        let port = line.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
        let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) else { panic!("{line}") };
        let sent = noise(1_000_000);
        let mut connections = JoinSet::new();
        for _ in 0..4 {
            let sent = sent.clone();
            connections.spawn(async move {
                let (mut read, mut write) =
                    TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
                let mut back = vec![0; sent.len()];
                let writing = async { write.write_all(&sent).await.unwrap() };
                let (read, ()) = tokio::join!(read.read_exact(&mut back), writing);
                read.unwrap();
                back == sent
            });
        }
        let came = timeout(DEADLINE, connections.join_all()).await.unwrap();
        assert_eq!(came, [true; 4]);
        child.kill().await.unwrap();
    }
}
