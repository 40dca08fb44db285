//! The registry as machines see it: connections to the services' address are passed on to where it really listens.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A containerd pulls three layers at a time; this is enough for tens of machines, and more wait.
const CONNECTIONS: usize = 256;

/// Passes on every connection until it is dropped.
pub(super) async fn forward(listener: TcpListener, to: SocketAddr) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&free).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((mut from, _)) => {
                connections.spawn(async move {
                    // A registry that is away is a closed connection to the machine, as any would be.
                    if let Ok(mut to) = TcpStream::connect(to).await {
                        drop(
                            tokio::io::copy_bidirectional_with_sizes(&mut from, &mut to, 64 << 10, 64 << 10)
                                .await,
                        );
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection to the registry");
                // Out of file descriptors, most likely: let some go.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}
