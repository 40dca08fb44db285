//! A machine whose kept log files are in memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream, DuplexStream, duplex};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock;
use crate::link::{LinkState, LinkStatus, Links, Machine as Described};
use crate::tunnel::{ByteStream, TunnelError};

pub(super) const UID: &str = "uid-1";

#[derive(Debug)]
pub(super) struct Machine {
    this: Weak<Self>,
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Counts writes.
    written: watch::Sender<u64>,
    attached: Mutex<Option<bool>>,
    changes: broadcast::Sender<String>,
    sessions: Mutex<JoinSet<()>>,
}

impl Machine {
    pub(super) fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            files: Mutex::default(),
            written: watch::Sender::new(0),
            attached: Mutex::new(Some(true)),
            changes: broadcast::Sender::new(64),
            sessions: Mutex::default(),
        })
    }

    /// Appends lines to a kept file of `main`.
    pub(super) fn write(&self, run: u32, file: u32, lines: Range<u32>) {
        let mut files = self.files();
        let file = files.entry(format!("main/{run}.log.{file:08}")).or_default();
        for line in lines {
            let at = clock::now();
            file.extend_from_slice(format!("{at:.9} stdout F line {line}\n").as_bytes());
        }
        drop(files);
        self.written.send_modify(|writes| *writes += 1);
    }

    /// Breaks all sessions.
    pub(super) fn cut(&self) {
        self.sessions.lock().unwrap().abort_all();
    }

    pub(super) fn set_attached(&self, attached: bool) {
        *self.attached.lock().unwrap() = Some(attached);
        if !attached {
            self.cut();
        }
        drop(self.changes.send(UID.to_owned()));
    }

    pub(super) fn set_gone(&self) {
        *self.attached.lock().unwrap() = None;
        self.cut();
        drop(self.changes.send(UID.to_owned()));
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.files().keys().cloned().collect()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().unwrap()
    }

    async fn serve(self: Arc<Self>, stream: DuplexStream) -> std::io::Result<()> {
        let mut stream = BufStream::new(stream);
        loop {
            let mut written = self.written.subscribe();
            written.mark_unchanged();
            let mut question = String::new();
            if stream.read_line(&mut question).await? == 0 {
                return Ok(());
            }
            let words: Vec<_> = question.split_whitespace().collect();
            let answer = match words[..] {
                ["list"] => {
                    let files = self.files();
                    let lines = files.iter().map(|(name, bytes)| format!("{} {name}\n", bytes.len()));
                    (lines.collect::<String>() + ".\n").into_bytes()
                }
                ["wait", seconds] => {
                    let patience = Duration::from_secs(seconds.parse().unwrap());
                    let mut line = String::new();
                    let something = async {
                        tokio::select! {
                            _ = written.changed() => {}
                            _ = stream.read_line(&mut line) => {}
                        }
                    };
                    drop(timeout(patience, something).await);
                    b".\n".to_vec()
                }
                ["read", name, offset, count] => match self.files().get(name) {
                    Some(bytes) => {
                        let (offset, count): (usize, usize) =
                            (offset.parse().unwrap(), count.parse().unwrap());
                        let chunk = &bytes[offset..offset + count];
                        [format!("{count}\n").as_bytes(), chunk, b".\n"].concat()
                    }
                    None => b"gone\n".to_vec(),
                },
                ["drop", name] => {
                    self.files().remove(name);
                    b".\n".to_vec()
                }
                _ => Vec::new(),
            };
            stream.write_all(&answer).await?;
            stream.flush().await?;
        }
    }
}

#[async_trait]
impl Links for Machine {
    fn ensure(&self, _machine: Described) {}
    fn status(&self, pod_uid: &str) -> Option<LinkStatus> {
        let attached = (*self.attached.lock().unwrap()).filter(|_| pod_uid == UID)?;
        let since = clock::now();
        let state = if attached {
            LinkState::Attached { since, boot_id: "boot".to_owned() }
        } else {
            LinkState::Dialing { since, error: None, was_attached: true }
        };
        Some(LinkStatus {
            instance_id: "i-1".to_owned(),
            state,
            shown: true,
            reached: Some(since),
            attached: Some(since),
            notice: None,
            usable: None,
            has_nvidia: false,
        })
    }
    fn revoke(&self, _pod_uid: &str) -> bool {
        true
    }
    fn shut_down(&self, _pod_uid: &str) {}
    fn is_ending(&self, _pod_uid: &str) -> bool {
        false
    }
    fn remove(&self, _pod_uid: &str) {}
    fn uids(&self) -> Vec<String> {
        vec![UID.to_owned()]
    }
    fn pod(&self, pod_uid: &str) -> Option<(String, String)> {
        (pod_uid == UID).then(|| ("ns".to_owned(), "pod".to_owned()))
    }
    fn subscribe(&self) -> broadcast::Receiver<String> {
        self.changes.subscribe()
    }
    async fn kubelet_stream(&self, _pod_uid: &str, _deadline: Duration) -> Result<ByteStream, TunnelError> {
        Err(TunnelError::NotYet("has no kubelet".to_owned()))
    }
    async fn command(&self, pod_uid: &str, command: &str, _: Duration) -> Result<ByteStream, TunnelError> {
        assert_eq!((pod_uid, command), (UID, "exec bash /etc/orca/serve-logs ns_pod_uid-1"));
        let (near, far) = duplex(4 << 10);
        let this = self.this.upgrade().unwrap();
        self.sessions.lock().unwrap().spawn(async move { drop(this.serve(far).await) });
        Ok(Box::new(near))
    }
    async fn scrape_stream(&self, _pod_uid: &str, _deadline: Duration) -> Result<ByteStream, TunnelError> {
        Err(TunnelError::NotYet("has no kubelet".to_owned()))
    }
    fn kubelet_tls(&self, _pod_uid: &str) -> Option<Arc<rustls::ClientConfig>> {
        None
    }
}
