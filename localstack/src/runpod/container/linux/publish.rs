//! A container's TCP ports as they are reached from outside: listeners of ours on the public address, whose connections
//! are passed on to the container.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::Mapping;
use crate::runpod::order::Port;

/// Connections of a port at the same time; more wait in the listener's queue.
const CONNECTIONS: usize = 256;

/// Ports that are open. Closed when it is dropped.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) mappings: Vec<Mapping>,
    _listeners: Vec<AbortOnDropHandle<()>>,
}

impl Published {
    /// Opens a port on `public` for each port of the container.
    pub(super) async fn bind(ports: &[Port], public: Ipv4Addr, container: Ipv4Addr) -> anyhow::Result<Self> {
        let mut mappings = Vec::new();
        let mut listeners = Vec::new();
        for port in ports {
            let listener =
                TcpListener::bind((public, 0)).await.with_context(|| format!("listening on `{public}`"))?;
            let open = listener.local_addr().context("own address")?.port();
            // One that is the same on both sides is what the number is made from.
            let private = u16::try_from(port.number).unwrap_or(open);
            mappings.push(Mapping { port: *port, private, public: open, ip: public });
            let served = tokio::spawn(forward(listener, (container, private)));
            listeners.push(AbortOnDropHandle::new(served));
        }
        Ok(Self { mappings, _listeners: listeners })
    }

    /// Whether it is of these ports.
    pub(super) fn is_of(&self, ports: &[Port]) -> bool {
        self.mappings.iter().map(|mapping| mapping.port).eq(ports.iter().copied())
    }
}

async fn forward(listener: TcpListener, to: (Ipv4Addr, u16)) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&free).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((mut from, _)) => {
                connections.spawn(async move {
                    // Where nobody listens the connection is closed again.
                    if let Ok(mut to) = TcpStream::connect(to).await {
                        drop(from.set_nodelay(true).and_then(|()| to.set_nodelay(true)));
                        // How a stream ends is between its two ends.
                        drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
                    }
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection to a pod");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_port_leads_to_the_containers_and_is_closed_with_it() {
        let container = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let inside = container.local_addr().unwrap().port();
        let ports = [Port::parse(&format!("{inside}/tcp")).unwrap(), Port::parse("70000/tcp").unwrap()];
        let published = Published::bind(&ports, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST).await.unwrap();
        let [first, same] = published.mappings[..] else { panic!("{published:?}") };
        assert_eq!((first.private, same.private), (inside, same.public));
        assert!(published.is_of(&ports) && !published.is_of(&ports[..1]));
        let serve = async {
            let (mut stream, _) = container.accept().await.unwrap();
            stream.write_all(b"hello").await.unwrap();
        };
        let dial = async {
            let mut text = String::new();
            let mut stream = TcpStream::connect((first.ip, first.public)).await.unwrap();
            stream.read_to_string(&mut text).await.unwrap();
            text
        };
        assert_eq!(tokio::join!(serve, dial).1, "hello");
        drop(published);
        tokio::task::yield_now().await;
        assert!(TcpStream::connect((first.ip, first.public)).await.is_err());
    }
}
