//! TCP to the machine's private address, where that is routable.

use std::io::ErrorKind;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ByteStream, Target, Transport, TunnelError};

/// Within one VPC an answer takes milliseconds; a machine that is not up yet does not answer at all.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// Streams over TCP.
#[derive(Clone, Copy, Debug, Default)]
pub struct DirectTransport;

#[async_trait]
impl Transport for DirectTransport {
    async fn open(&self, target: &Target) -> Result<ByteStream, TunnelError> {
        let Some(address) = target.private_ip else {
            return Err(TunnelError::NotYet(format!(
                "instance `{}` has no private address",
                target.instance_id
            )));
        };
        let address = (address, target.port);
        let stream = timeout(CONNECT_DEADLINE, TcpStream::connect(address))
            .await
            .map_err(|_| TunnelError::Timeout(CONNECT_DEADLINE, "connecting to the machine"))?
            .map_err(|error| {
                let text = format!("{}:{}: {error}", address.0, address.1);
                match error.kind() {
                    ErrorKind::PermissionDenied => TunnelError::Denied(text),
                    _ => TunnelError::NotYet(text),
                }
            })?;
        stream.set_nodelay(true).map_err(|error| TunnelError::Lost(error.to_string()))?;
        Ok(Box::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn target(private_ip: Option<IpAddr>, port: u16) -> Target {
        Target { instance_id: "i-1".to_owned(), private_ip, port }
    }

    #[tokio::test]
    async fn it_carries_bytes_both_ways() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut ours = DirectTransport.open(&target(Some(Ipv4Addr::LOCALHOST.into()), port)).await.unwrap();
        let (mut theirs, _) = listener.accept().await.unwrap();
        ours.write_all(b"ping").await.unwrap();
        let mut buffer = [0; 4];
        theirs.read_exact(&mut buffer).await.unwrap();
        theirs.write_all(&buffer).await.unwrap();
        ours.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ping");
    }

    #[tokio::test]
    async fn nothing_listening_is_not_yet() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let refused = DirectTransport.open(&target(Some(Ipv4Addr::LOCALHOST.into()), port)).await;
        assert!(matches!(refused, Err(TunnelError::NotYet(_))));
    }

    #[tokio::test]
    async fn a_machine_without_an_address_is_not_dialled() {
        assert!(matches!(DirectTransport.open(&target(None, 22)).await, Err(TunnelError::NotYet(_))));
    }
}
