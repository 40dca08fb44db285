//! An OpenSSH server for tests: its own process, keys and configuration, on loopback, and an echo server behind it.

#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::fs;
use std::net::TcpListener as StdListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use orca::tunnel::ByteStream;
use orca::tunnel::ssh::{Compression, SshConnection, SshOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Child;
use tokio::time::sleep;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// An sshd of this test's own; it ends with the value.
pub(crate) struct Sshd {
    _process: Child,
    pub(crate) dir: PathBuf,
    pub(crate) port: u16,
    /// Of an echo server that sshd may connect to.
    pub(crate) echo: u16,
    /// That sshd may listen on.
    pub(crate) forward: u16,
    pub(crate) echoing: tokio::task::JoinSet<()>,
}

impl Sshd {
    /// `None`, and a loud word, where there is none.
    pub(crate) async fn start(name: &str) -> Option<Self> {
        let Some(program) =
            ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].into_iter().find(|path| Path::new(path).exists())
        else {
            eprintln!("\n*** SKIPPED {name}: there is no sshd here; `apt-get install openssh-server` ***\n");
            return None;
        };
        if !fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            eprintln!("\n*** SKIPPED {name}: the login is root's, and this is not root ***\n");
            return None;
        }
        let dir = std::env::temp_dir().join(format!("orca-ssh-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        for key in ["host", "client", "stranger"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
                .arg(dir.join(key))
                .stdin(Stdio::null())
                .status();
            assert!(made.unwrap().success());
        }
        fs::copy(dir.join("client.pub"), dir.join("authorized_keys")).unwrap();
        let (mut tasks, listener) =
            (tokio::task::JoinSet::new(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let echo = listener.local_addr().unwrap().port();
        tasks.spawn(echo_server(listener));
        let (port, forward) = (free_port(), free_port());
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {dir}/host\nPidFile none\nAuthorizedKeysFile {dir}/authorized_keys\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin prohibit-password\nMaxSessions 100\nPermitOpen 127.0.0.1:{echo} localhost:{echo}\n\
             PermitListen 127.0.0.1:{forward}\nLogLevel VERBOSE\n",
            dir = dir.display()
        );
        fs::write(dir.join("sshd_config"), config).unwrap();
        let process = tokio::process::Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(dir.join("sshd_config"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(dir.join("log")).unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Some(Self { _process: process, dir, port, echo, forward, echoing: tasks })
    }

    pub(crate) async fn stream(&self) -> ByteStream {
        for _ in 0..500 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)).await {
                return Box::new(stream);
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("sshd does not listen: {}", fs::read_to_string(self.dir.join("log")).unwrap());
    }

    /// Its port, once it listens.
    pub(crate) async fn listening(&self) -> u16 {
        drop(self.stream().await);
        self.port
    }

    pub(crate) fn public_key(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(format!("{name}.pub"))).unwrap().trim().to_owned()
    }

    pub(crate) fn options(&self) -> SshOptions {
        SshOptions {
            private_key: fs::read_to_string(self.dir.join("client")).unwrap(),
            host_key: Some(self.public_key("host")),
            compression: Compression::Off,
        }
    }

    pub(crate) async fn connect(&self) -> SshConnection {
        SshConnection::connect(self.stream().await, &self.options(), DEADLINE).await.unwrap()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let removed = fs::remove_dir_all(&self.dir);
        drop(removed);
    }
}

pub(crate) fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn echo_server(listener: TcpListener) {
    let mut clients = tokio::task::JoinSet::new();
    while let Ok((mut stream, _)) = listener.accept().await {
        clients.spawn(async move {
            let (mut read, mut write) = stream.split();
            drop(tokio::io::copy(&mut read, &mut write).await);
            drop(write.shutdown().await);
        });
    }
}

/// A few bytes of everything, not compressible.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
    .take(len)
    .collect()
}
