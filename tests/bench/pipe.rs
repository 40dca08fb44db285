//! A pipe in front of the API server, for one client alone: it counts every byte that passes, as they are on the wire.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

/// Where the API server is.
const API_SERVER: &str = "10.88.0.10:6443";

/// Ends, with its connections, when it is dropped.
pub(crate) struct Pipe {
    address: SocketAddr,
    passed: Arc<AtomicU64>,
    _runtime: Runtime,
}

impl Pipe {
    pub(crate) fn open() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let (address, passed) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&passed);
        runtime.spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                tokio::spawn(join(here, Arc::clone(&counter)));
            }
        });
        Ok(Self { address, passed, _runtime: runtime })
    }

    /// For a kubeconfig; the API server's certificate names this address, too.
    pub(crate) fn server(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Bytes of both directions so far.
    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }
}

/// How one connection ends is between its two ends.
async fn join(here: TcpStream, passed: Arc<AtomicU64>) -> Option<()> {
    let there = TcpStream::connect(API_SERVER).await.ok()?;
    here.set_nodelay(true).ok()?;
    there.set_nodelay(true).ok()?;
    let (mut from, mut to) = here.into_split();
    let (mut back, mut forth) = there.into_split();
    tokio::join!(carry(&mut from, &mut forth, &passed), carry(&mut back, &mut to, &passed));
    Some(())
}

async fn carry(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    passed: &AtomicU64,
) -> Option<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        if read == 0 {
            return to.shutdown().await.ok();
        }
        passed.fetch_add(u64::try_from(read).unwrap_or(0), Ordering::Relaxed);
        to.write_all(&buffer[..read]).await.ok()?;
    }
}
