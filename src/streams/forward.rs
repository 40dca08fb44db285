//! Port-forward: pairs of streams, and a connection to a port for each.

use std::collections::BTreeSet;
use std::num::NonZeroU16;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::Ending;
use super::backend::Backend;
use super::connection::{Connection, Presence};
use super::pairs::{Half, Pair, Pairs, Step};
use super::ws::Close;
use crate::tunnel::ByteStream;

/// Copy buffers of a connection, each way.
const BUFFER: usize = 16 * 1024;
/// How long a client may go on after the port has ended: most neither end nor reset their side then.
const LINGER: Duration = Duration::from_mins(5);
/// The same for channels, which clients cannot end one by one.
const LINGER_OF_CHANNEL: Duration = Duration::from_secs(1);

/// Whose ports they are, for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pod<'a> {
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
}

/// Serves connections until the client has gone, and takes leave. With `ports`, those are connected to at once, over
/// channels; else the client says what it wants, one by one.
pub(super) async fn serve(
    connection: &Connection,
    pod: Pod<'_>,
    ports: Option<&[NonZeroU16]>,
    backend: &dyn Backend,
    until: impl Future<Output = Ending>,
) {
    let mut until = std::pin::pin!(until);
    let (began, mut pairs) = (Instant::now(), Pairs::default());
    let mut carried: FuturesUnordered<BoxFuture<'_, u32>> = FuturesUnordered::new();
    let mut under_way = BTreeSet::new();
    let linger = if ports.is_some() { LINGER_OF_CHANNEL } else { LINGER };
    for (pair, greeting) in ports.into_iter().flat_map(channels) {
        connection.say(pair.data, &greeting);
        connection.say(pair.error, &greeting);
        under_way.insert(pair.data);
        carried.push(Box::pin(carry(connection, pod, pair, linger, backend)));
    }
    let (mut next, mut close) = (Presence::Leaving, Close::Done);
    loop {
        let late = pairs.deadline().map(|until| began + until);
        tokio::select! {
            // Streams that came before the client took leave are served.
            biased;
            ending = until.as_mut() => {
                close = Close::Away;
                match ending {
                    Ending::Everywhere => connection.hurry(),
                    Ending::Here(why) => tracing::debug!(pod.name = pod.name, why, "a port-forward is ended"),
                }
                break;
            }
            opened = connection.opened() => {
                match pairs.take(opened.id, &opened.headers, began.elapsed()) {
                    Step::Refuse => connection.refuse(opened.id),
                    Step::Wait => connection.accept(opened.id),
                    Step::Ready(pair) => {
                        connection.accept(opened.id);
                        under_way.insert(pair.data);
                        carried.push(Box::pin(carry(connection, pod, pair, linger, backend)));
                    }
                }
            }
            Some(data) = carried.next() => {
                under_way.remove(&data);
                if carried.is_empty() && (ports.is_some() || next > Presence::Leaving) {
                    break;
                }
            }
            () = sleep_until(late.unwrap_or(began)), if late.is_some() => {
                for stream in pairs.late(began.elapsed()) {
                    match stream.half {
                        Half::Data => connection.cancel(stream.id),
                        Half::Error => {
                            connection.say(stream.id, b"timed out waiting for the data stream of a request");
                            connection.forget(stream.id);
                        }
                    }
                }
            }
            presence = connection.reached(next) => {
                if presence > Presence::Leaving || carried.is_empty() {
                    break;
                }
                // What has begun goes on.
                next = Presence::Idle;
            }
        }
    }
    drop(carried);
    // What breaks off must not look as if it had come to its end.
    under_way.into_iter().for_each(|data| connection.cancel(data));
    connection.finish(close);
}

/// The pairs of those ports, in a fixed place each, and what is said first in both: the port, lower byte first.
fn channels(ports: &[NonZeroU16]) -> impl Iterator<Item = (Pair, [u8; 2])> {
    let data = (0..).step_by(2);
    data.zip(ports)
        .map(|(data, port)| (Pair { port: *port, data, error: data + 1 }, port.get().to_le_bytes()))
}

/// Carries one connection to its end; which one it was.
async fn carry(
    connection: &Connection,
    pod: Pod<'_>,
    pair: Pair,
    linger: Duration,
    backend: &dyn Backend,
) -> u32 {
    connection.abandon(pair.error);
    match backend.forward(pair.port).await {
        Ok(stream) => {
            let (reader, writer) = (connection.reader(pair.data), connection.writer(pair.data));
            if exchange(reader, writer, stream, linger).await == End::Broken {
                // Without a word: kubectl ends all its connections when it reads one.
                connection.cancel(pair.data);
            }
        }
        Err(error) => {
            let Pod { name, uid } = pod;
            let port = pair.port;
            tracing::debug!(%error, port, pod.name = name, pod.uid = uid, "forwarding a port failed");
            let text = format!("error forwarding port {port} to pod {name}, uid {uid}: {error}");
            connection.say(pair.error, text.as_bytes());
        }
    }
    connection.forget(pair.data);
    connection.forget(pair.error);
    pair.data
}

/// How a connection, or one direction of it, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Everything was said.
    Whole,
    /// The client wants no more of it.
    Dropped,
    /// The port broke it off.
    Broken,
}

async fn exchange(
    from_client: impl AsyncRead + Unpin,
    to_client: impl AsyncWrite + Unpin,
    port: ByteStream,
    linger: Duration,
) -> End {
    let (from_port, to_port) = tokio::io::split(port);
    let mut up = std::pin::pin!(up(from_client, to_port));
    let mut down = std::pin::pin!(down(from_port, to_client));
    tokio::select! {
        end = &mut up => match end {
            End::Dropped => End::Dropped,
            // A port that takes nothing any more may still have something to say.
            End::Whole | End::Broken => down.await,
        },
        end = &mut down => match end {
            End::Whole => {
                // However that ends, what the port said is whole, and may not have gone yet.
                if timeout(linger, up).await.is_err() {
                    tracing::debug!("a client does not end its side of a forwarded connection");
                }
                End::Whole
            }
            End::Dropped | End::Broken => end,
        },
    }
}

async fn up(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        let Ok(count) = from.read(&mut buffer).await else { return End::Dropped };
        let said = async {
            match buffer.get(..count).unwrap_or_default() {
                [] => to.shutdown().await,
                bytes => {
                    to.write_all(bytes).await?;
                    to.flush().await
                }
            }
        };
        match said.await {
            Ok(()) if count == 0 => return End::Whole,
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "a forwarded port takes no more");
                return End::Broken;
            }
        }
    }
}

async fn down(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(count) => count,
            Err(error) => {
                tracing::debug!(%error, "a forwarded port broke off");
                return End::Broken;
            }
        };
        let said = match buffer.get(..count).unwrap_or_default() {
            [] => to.shutdown().await,
            bytes => to.write_all(bytes).await,
        };
        match said {
            Ok(()) if count == 0 => return End::Whole,
            Ok(()) => {}
            Err(_) => return End::Dropped,
        }
    }
}

#[cfg(test)]
mod tests;
