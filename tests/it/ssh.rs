//! `tunnel::ssh` against a real OpenSSH server: its own process, keys and configuration, on loopback.
//!
//! Needs root and `sshd` (Debian: openssh-server); without them every test says so and passes.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

// The server.
pub(crate) mod server;

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use orca::guest::Holder;
use orca::tunnel::ssh::{Compression, SshConnection, SshOptions};
use orca::tunnel::{ByteStream, TunnelError};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use server::{DEADLINE, free_port};
pub(crate) use server::{Sshd, noise};

#[tokio::test]
async fn a_command_leaves_its_output_errors_and_exit_code() {
    let Some(sshd) = Sshd::start("exec").await else { return };
    let ssh = sshd.connect().await;
    assert_eq!(ssh.host_key(), sshd.public_key("host"));
    for code in [0, 7, 255] {
        let command = format!("echo out; echo err >&2; exit {code}");
        let output = ssh.exec(&command, b"", DEADLINE).await.unwrap();
        assert_eq!(
            (output.stdout, output.stderr, output.code),
            (b"out\n".to_vec(), b"err\n".to_vec(), Some(code))
        );
    }
    let killed = ssh.exec("kill -9 $$", b"", DEADLINE).await.unwrap();
    assert_eq!(killed.code, None);
}

#[tokio::test]
async fn input_arrives_whole_and_too_much_output_is_cut_but_drained() {
    let Some(sshd) = Sshd::start("stdin").await else { return };
    let ssh = sshd.connect().await;
    let input = noise(5 * 1024 * 1024);
    let expected = sha256sum(&input);
    let output = ssh.exec("sha256sum", &input, DEADLINE).await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let output = ssh.exec("tee /dev/stderr; exit 3", &input, DEADLINE).await.unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len(), output.code), (1 << 20, 1 << 20, Some(3)));
    assert_eq!(output.stdout, input[..1 << 20]);
    // Who does not read its input is not waited for.
    let output = ssh.exec("exit 4", &input, DEADLINE).await.unwrap();
    assert_eq!(output.code, Some(4));
}

fn sha256sum(input: &[u8]) -> String {
    let mut child = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_left_and_what_it_leaves_behind_is_not_waited_for() {
    let Some(sshd) = Sshd::start("deadline").await else { return };
    let ssh = sshd.connect().await;
    let late = ssh.exec("sleep 5", b"", Duration::from_millis(300)).await;
    assert!(matches!(late, Err(TunnelError::Timeout(..))));
    // The process left behind holds the output open for longer than the deadline.
    let output = ssh.exec("sleep 6 & echo started", b"", Duration::from_secs(5)).await.unwrap();
    assert_eq!((output.stdout, output.code), (b"started\n".to_vec(), Some(0)));
}

#[tokio::test]
async fn streams_are_opened_both_ways_with_half_close() {
    let Some(sshd) = Sshd::start("streams").await else { return };
    let ssh = sshd.connect().await;
    let sent = noise(3 * 1024 * 1024);
    let stream = ssh.open("127.0.0.1", sshd.echo, DEADLINE).await.unwrap();
    assert!(round_trip(stream, &sent).await == sent);

    let mut forwarded = ssh.listen("127.0.0.1", sshd.forward).await.unwrap();
    let serving = async {
        let mut stream = forwarded.recv().await.unwrap();
        let mut echo = TcpStream::connect(("127.0.0.1", sshd.echo)).await.unwrap();
        copy_bidirectional(&mut stream, &mut echo).await.unwrap();
    };
    let asking = async {
        let stream = TcpStream::connect(("127.0.0.1", sshd.forward)).await.unwrap();
        round_trip(Box::new(stream), &sent).await
    };
    let (answer, ()) = timeout(DEADLINE, async { tokio::join!(asking, serving) }).await.unwrap();
    assert!(answer == sent);
}

/// As in a bootstrap: a kubelet dials while the rest still goes over to the script that started it.
#[tokio::test]
async fn input_that_nobody_reads_yet_holds_no_stream_up() {
    let Some(sshd) = Sshd::start("unread").await else { return };
    let ssh = sshd.connect().await;
    let mut forwarded = ssh.listen("127.0.0.1", sshd.forward).await.unwrap();
    let serving = async {
        while let Some(mut stream) = forwarded.recv().await {
            let mut echo = TcpStream::connect(("127.0.0.1", sshd.echo)).await.unwrap();
            copy_bidirectional(&mut stream, &mut echo).await.unwrap();
        }
    };
    // More than a channel's window and the pipe.
    let input = noise(6 * 1024 * 1024);
    let feeding = ssh.exec("sleep 6; cat > /dev/null", &input, DEADLINE);
    let asking = async {
        for _ in 0..20 {
            let stream = TcpStream::connect(("127.0.0.1", sshd.forward)).await.unwrap();
            let asked = timeout(Duration::from_secs(5), round_trip(Box::new(stream), b"hello")).await;
            assert_eq!(asked.expect("its bytes are carried"), b"hello");
        }
    };
    tokio::select! {
        () = asking => {}
        () = serving => panic!("the forwarding ended"),
        done = feeding => panic!("the command ended: {done:?}"),
    }
}

async fn round_trip(stream: ByteStream, sent: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut answer = Vec::new();
    let writing = async {
        write.write_all(sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (read, ()) = tokio::join!(read.read_to_end(&mut answer), writing);
    read.unwrap();
    answer
}

#[tokio::test]
async fn what_sshd_does_not_permit_is_an_error() {
    let Some(sshd) = Sshd::start("permit").await else { return };
    let ssh = sshd.connect().await;
    let other = ssh.open("127.0.0.1", sshd.port, DEADLINE).await;
    assert!(matches!(other, Err(TunnelError::Denied(_))));
    let other = ssh.listen("127.0.0.1", free_port()).await;
    assert!(matches!(other, Err(TunnelError::NotYet(_))));
    assert!(ssh.listen("127.0.0.1", sshd.forward).await.is_ok());
    assert!(ssh.is_open());
}

#[tokio::test]
async fn listening_again_replaces_the_listener_and_a_second_connection_is_told() {
    let Some(sshd) = Sshd::start("again").await else { return };
    let ssh = sshd.connect().await;
    let first = ssh.listen("127.0.0.1", sshd.forward).await.unwrap();
    drop(first);
    let mut unserved = TcpStream::connect(("127.0.0.1", sshd.forward)).await.unwrap();
    assert_eq!(unserved.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let mut second = ssh.listen("127.0.0.1", sshd.forward).await.unwrap();
    let mut served = TcpStream::connect(("127.0.0.1", sshd.forward)).await.unwrap();
    served.write_all(b"x").await.unwrap();
    let mut stream = second.recv().await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');

    let other = sshd.connect().await;
    assert!(matches!(other.listen("127.0.0.1", sshd.forward).await, Err(TunnelError::NotYet(_))));
}

/// A connection that can be frozen, as one whose process's host has vanished: no byte goes over any more, and no end is told.
async fn freezable(sshd: &Sshd) -> (SshConnection, watch::Sender<bool>) {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let mut tcp = sshd.stream().await;
    let (freeze, mut frozen) = watch::channel(false);
    drop(tokio::spawn(async move {
        let cut = async { drop(frozen.wait_for(|frozen| *frozen).await) };
        tokio::select! {
            ended = copy_bidirectional(&mut theirs, &mut tcp) => return drop(ended),
            () = cut => {}
        }
        // Both ends stay open, until the test is over.
        while frozen.changed().await.is_ok() {}
        drop((theirs, tcp));
    }));
    let ssh = SshConnection::connect(Box::new(ours), &sshd.options(), DEADLINE).await.unwrap();
    (ssh, freeze)
}

/// Who listens for the kubelet, by a look over this connection; why it is none of those that may be ended.
async fn holder(ssh: &SshConnection, port: u16) -> Result<Option<Holder>, String> {
    let found = ssh.exec(&Holder::find(port), b"", DEADLINE).await.unwrap();
    let said = String::from_utf8(found.stderr).unwrap();
    if found.code == Some(0) { Ok(Holder::parse(&found.stdout)) } else { Err(said) }
}

/// That what connects to the port reaches whoever has this receiver.
async fn is_heard(sshd: &Sshd, streams: &mut tokio::sync::mpsc::Receiver<ByteStream>) -> bool {
    let mut kubelet = TcpStream::connect(("127.0.0.1", sshd.forward)).await.unwrap();
    kubelet.write_all(b"x").await.unwrap();
    match timeout(Duration::from_secs(5), streams.recv()).await {
        Ok(Some(mut stream)) => stream.read_u8().await.unwrap() == b'x',
        Ok(None) | Err(_) => false,
    }
}

#[tokio::test]
async fn a_session_that_an_earlier_leader_left_behind_is_ended_and_the_next_one_is_heard() {
    let Some(sshd) = Sshd::start("evict").await else { return };
    let (old, freeze) = freezable(&sshd).await;
    let mut unheard = old.listen("127.0.0.1", sshd.forward).await.unwrap();
    assert!(is_heard(&sshd, &mut unheard).await);
    // Somebody's stream, over another connection of the same process.
    let (bystander, _keep) = freezable(&sshd).await;
    freeze.send_replace(true);

    let began = std::time::Instant::now();
    let new = sshd.connect().await;
    assert!(matches!(new.listen("127.0.0.1", sshd.forward).await, Err(TunnelError::NotYet(_))));
    let left = holder(&new, sshd.forward).await.unwrap().expect("the old session listens");
    let end = left.end(sshd.forward);
    assert_eq!(new.exec(&end, b"", DEADLINE).await.unwrap().code, Some(0));
    let mut heard = new.listen("127.0.0.1", sshd.forward).await.unwrap();
    assert!(is_heard(&sshd, &mut heard).await);
    assert!(began.elapsed() < Duration::from_secs(5), "it took {:?}", began.elapsed());
    assert_eq!(bystander.exec("echo here", b"", DEADLINE).await.unwrap().stdout, b"here\n");

    // The same command once more, as if it had been under way for long: it meets the next one, and leaves it.
    let late = bystander.exec(&end, b"", DEADLINE).await.unwrap();
    assert_eq!((late.code, late.stderr), (Some(0), Vec::new()));
    assert!(is_heard(&sshd, &mut heard).await);
    let own = holder(&new, sshd.forward).await.unwrap_err();
    assert!(own.contains("the session that asks"), "{own}");
    assert_ne!(holder(&bystander, sshd.forward).await.unwrap(), Some(left));
}

#[tokio::test]
async fn a_port_that_something_else_has_is_told_and_nothing_is_ended() {
    let Some(sshd) = Sshd::start("taken").await else { return };
    let ssh = sshd.connect().await;
    assert_eq!(holder(&ssh, sshd.forward).await, Ok(None));
    let _pod = TcpListener::bind(("127.0.0.1", sshd.forward)).await.unwrap();
    assert!(matches!(ssh.listen("127.0.0.1", sshd.forward).await, Err(TunnelError::NotYet(_))));
    let other = holder(&ssh, sshd.forward).await.unwrap_err();
    assert!(other.contains("no SSH session of this machine"), "{other}");
}

#[tokio::test]
async fn nothing_listening_on_the_machine_is_not_yet() {
    let Some(mut sshd) = Sshd::start("refused").await else { return };
    let ssh = sshd.connect().await;
    sshd.echoing.shutdown().await;
    let refused = ssh.open("127.0.0.1", sshd.echo, DEADLINE).await;
    assert!(matches!(refused, Err(TunnelError::NotYet(_))));
}

#[tokio::test]
async fn another_host_key_than_the_pinned_one_is_refused() {
    let Some(sshd) = Sshd::start("hostkey").await else { return };
    let options = SshOptions { host_key: Some(sshd.public_key("stranger")), ..sshd.options() };
    match SshConnection::connect(sshd.stream().await, &options, DEADLINE).await {
        Err(TunnelError::HostKey { found, pinned }) => {
            assert_eq!(found, sshd.public_key("host"));
            assert_eq!(pinned, sshd.public_key("stranger"));
        }
        other => panic!("{other:?}"),
    }
    let unreadable = SshOptions { host_key: Some("nonsense".to_owned()), ..sshd.options() };
    let refused = SshConnection::connect(sshd.stream().await, &unreadable, DEADLINE).await;
    assert!(matches!(refused, Err(TunnelError::HostKey { .. })));
    let first = SshOptions { host_key: None, ..sshd.options() };
    let ssh = SshConnection::connect(sshd.stream().await, &first, DEADLINE).await.unwrap();
    assert_eq!(ssh.host_key(), sshd.public_key("host"));
}

#[tokio::test]
async fn another_client_key_is_denied() {
    let Some(sshd) = Sshd::start("clientkey").await else { return };
    let private_key = fs::read_to_string(sshd.dir.join("stranger")).unwrap();
    let options = SshOptions { private_key, ..sshd.options() };
    let denied = SshConnection::connect(sshd.stream().await, &options, DEADLINE).await;
    assert!(matches!(denied, Err(TunnelError::Denied(_))));
}

#[tokio::test]
async fn a_killed_connection_is_noticed_everywhere() {
    let Some(sshd) = Sshd::start("killed").await else { return };
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let mut tcp = sshd.stream().await;
    let mut wire = tokio::task::JoinSet::new();
    wire.spawn(async move { drop(copy_bidirectional(&mut theirs, &mut tcp).await) });
    let ssh = SshConnection::connect(Box::new(ours), &sshd.options(), DEADLINE).await.unwrap();
    let mut stream = ssh.open("127.0.0.1", sshd.echo, DEADLINE).await.unwrap();
    let mut forwarded = ssh.listen("127.0.0.1", sshd.forward).await.unwrap();
    let command = ssh.exec("sleep 5", b"", DEADLINE);
    let killing = async {
        assert!(ssh.is_open());
        sleep(Duration::from_millis(200)).await;
        wire.shutdown().await;
        timeout(DEADLINE, ssh.closed()).await.unwrap()
    };
    let (output, why) = tokio::join!(command, killing);
    assert_eq!(output.unwrap().code, None);
    assert!(!why.is_empty());
    assert!(!ssh.is_open());
    let broken = stream.read(&mut [0; 1]).await.unwrap_err();
    assert_eq!(broken.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(forwarded.recv().await.is_none());
    assert!(matches!(ssh.open("127.0.0.1", sshd.echo, DEADLINE).await, Err(TunnelError::Lost(_))));
}

#[tokio::test]
async fn dropping_the_last_clone_frees_the_stream_even_if_a_channel_is_held_unread() {
    let Some(sshd) = Sshd::start("dropped").await else { return };
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let mut tcp = sshd.stream().await;
    let wire = tokio::spawn(async move { copy_bidirectional(&mut theirs, &mut tcp).await });
    let ssh = SshConnection::connect(Box::new(ours), &sshd.options(), DEADLINE).await.unwrap();
    let clone = ssh.clone();
    drop(ssh);
    let mut stream = clone.open("127.0.0.1", sshd.echo, DEADLINE).await.unwrap();
    // Nobody reads the echo: russh's loop stands still after 100 messages.
    let flood = noise(32 * 1024 * 1024);
    assert!(timeout(Duration::from_secs(2), stream.write_all(&flood)).await.is_err());
    drop(clone);
    let ended = timeout(Duration::from_secs(5), wire).await;
    assert!(ended.is_ok(), "the connection outlives its last handle");
    drop(stream);
}

#[tokio::test]
async fn closing_says_goodbye() {
    let Some(sshd) = Sshd::start("close").await else { return };
    let ssh = sshd.connect().await;
    assert_eq!(ssh.exec("true", b"", DEADLINE).await.unwrap().code, Some(0));
    ssh.close().await;
    assert!(!ssh.is_open());
    assert_eq!(ssh.closed().await, "closed by us");
    let logged = async {
        while !fs::read_to_string(sshd.dir.join("log")).unwrap().contains("Received disconnect") {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let logged = timeout(DEADLINE, logged).await;
    assert!(logged.is_ok(), "{}", fs::read_to_string(sshd.dir.join("log")).unwrap());
}

#[tokio::test]
async fn a_silent_server_is_left_at_the_deadline() {
    let Some(sshd) = Sshd::start("silent").await else { return };
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let silent = SshConnection::connect(Box::new(ours), &sshd.options(), Duration::from_millis(200)).await;
    assert!(matches!(silent, Err(TunnelError::Timeout(..))));
    let mut said = Vec::new();
    let ended = timeout(DEADLINE, theirs.read_to_end(&mut said)).await;
    assert!(ended.is_ok(), "the stream outlives the attempt");
}

#[tokio::test]
async fn compression_shrinks_what_is_on_the_wire() {
    let Some(sshd) = Sshd::start("zlib").await else { return };
    let mut carried = Vec::new();
    for compression in [Compression::Off, Compression::Zlib] {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let mut tcp = sshd.stream().await;
        let wire = tokio::spawn(async move { copy_bidirectional(&mut theirs, &mut tcp).await });
        let options = SshOptions { compression, ..sshd.options() };
        let ssh = SshConnection::connect(Box::new(ours), &options, DEADLINE).await.unwrap();
        let text = "the same line over and over\n".repeat(20_000);
        let output = ssh.exec("cat", text.as_bytes(), DEADLINE).await.unwrap();
        assert!(output.stdout == text.as_bytes());
        ssh.close().await;
        let (up, down) = wire.await.unwrap().unwrap();
        carried.push((up, down));
    }
    let (plain, packed) = (carried[0], carried[1]);
    assert!(packed.0 * 10 < plain.0 && packed.1 * 10 < plain.1, "{carried:?}");
}
