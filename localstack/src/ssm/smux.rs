//! The agent's end of a multiplexed port session: smux version 1 over one byte stream, a TCP connection per stream.
//!
//! As in the original there is no half-close (either end's EOF closes the whole connection), no window per stream,
//! and one budget of received bytes for the whole session: one stream that nobody reads stops all the others.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout};

use crate::machine::Machines;

const VERSION: u8 = 1;
const SYN: u8 = 0;
const FIN: u8 = 1;
const PSH: u8 = 2;
const NOP: u8 = 3;
/// Most payload of one frame that is sent.
const MAX_FRAME: usize = 32_768;
/// Bytes received and not yet written to their connections, for the whole session.
const RECEIVE_BUDGET: usize = 4 << 20;
/// Frames waiting for the session's one writer.
const QUEUE: usize = 64;
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether the session sends keep-alives; agents leave them to clients before 1.2.332.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    Off,
    On,
}

/// Where streams are connected to.
#[derive(Clone, Debug)]
pub struct Port {
    pub machines: Arc<dyn Machines>,
    pub instance_id: String,
    pub port: u16,
}

impl Port {
    /// A connection to it.
    pub async fn dial(&self) -> io::Result<UnixStream> {
        self.machines.dial(&self.instance_id, self.port).await
    }
}

/// Received bytes of one stream, holding their part of the budget until they are written or dropped.
struct Chunk {
    data: Bytes,
    _budget: Option<OwnedSemaphorePermit>,
}

/// Serves streams until `pipe` ends or breaks the protocol. Each refused connection is a message on `refused`.
pub async fn serve<P>(pipe: P, port: Port, keep_alive: KeepAlive, refused: mpsc::Sender<()>) -> io::Result<()>
where
    P: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut reader, writer) = tokio::io::split(pipe);
    let (frames, queue) = mpsc::channel(QUEUE);
    let mut tasks = JoinSet::new();
    tasks.spawn(write_frames(writer, queue, keep_alive));
    let budget = Arc::new(Semaphore::new(RECEIVE_BUDGET));
    let mut streams: HashMap<u32, mpsc::UnboundedSender<Chunk>> = HashMap::new();
    loop {
        let frame = read_frame(&mut reader);
        let read = match keep_alive {
            KeepAlive::Off => frame.await,
            KeepAlive::On => timeout(KEEP_ALIVE_TIMEOUT, frame).await.map_err(io::Error::from).flatten(),
        };
        let Some((command, id, data)) = read? else { return Ok(()) };
        while tasks.try_join_next().is_some() {}
        streams.retain(|_, stream| !stream.is_closed());
        match command {
            NOP => {}
            SYN if streams.contains_key(&id) => {}
            SYN => {
                // Bounded by the budget: every chunk in it holds its permits.
                let (stream, chunks) = mpsc::unbounded_channel();
                streams.insert(id, stream);
                tasks.spawn(serve_stream(id, chunks, frames.clone(), port.clone(), refused.clone()));
            }
            FIN => drop(streams.remove(&id)),
            _ if data.is_empty() => {}
            _ => {
                let size = u32::try_from(data.len()).expect("a frame's length has 16 bits");
                let permit =
                    Arc::clone(&budget).acquire_many_owned(size).await.expect("the budget is never closed");
                if let Some(stream) = streams.get(&id) {
                    // A stream closed on this side drops what still comes for it.
                    drop(stream.send(Chunk { data, _budget: Some(permit) }));
                }
            }
        }
    }
}

/// The next frame, or `None` at the end of the pipe.
async fn read_frame<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<(u8, u32, Bytes)>> {
    let mut header = [0; 8];
    if reader.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    reader.read_exact(&mut header[1..]).await?;
    let [version, command, low, high, id @ ..] = header;
    if version != VERSION || command > NOP {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "smux frame of version `{version}`, command `{command}`, expected version 1, command 0 to 3"
            ),
        ));
    }
    let mut data = vec![0; usize::from(u16::from_le_bytes([low, high]))];
    reader.read_exact(&mut data).await?;
    Ok(Some((command, u32::from_le_bytes(id), data.into())))
}

/// A frame's bytes.
#[must_use]
pub fn frame(command: u8, id: u32, data: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(8 + data.len());
    out.put_slice(&[VERSION, command]);
    out.put_u16_le(u16::try_from(data.len()).expect("at most MAX_FRAME bytes are sent"));
    out.put_u32_le(id);
    out.put_slice(data);
    out.freeze()
}

async fn write_frames<W: AsyncWrite + Unpin>(
    mut writer: W,
    mut queue: mpsc::Receiver<Bytes>,
    keep_alive: KeepAlive,
) {
    let mut beat = interval_at(Instant::now() + KEEP_ALIVE_EVERY, KEEP_ALIVE_EVERY);
    loop {
        let next = tokio::select! {
            next = queue.recv() => next,
            _ = beat.tick(), if keep_alive == KeepAlive::On => Some(frame(NOP, 0, &[])),
        };
        let Some(bytes) = next else { return };
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

async fn serve_stream(
    id: u32,
    mut chunks: mpsc::UnboundedReceiver<Chunk>,
    frames: mpsc::Sender<Bytes>,
    port: Port,
    refused: mpsc::Sender<()>,
) {
    match port.dial().await {
        Ok(connection) => {
            let (mut reader, mut writer) = connection.into_split();
            let up = async {
                while let Some(chunk) = chunks.recv().await {
                    if writer.write_all(&chunk.data).await.is_err() {
                        return;
                    }
                }
            };
            let down = async {
                let mut buffer = vec![0; MAX_FRAME];
                while let Ok(read @ 1..) = reader.read(&mut buffer).await {
                    if frames.send(frame(PSH, id, &buffer[..read])).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = up => {}
                () = down => {}
            }
        }
        Err(error) => {
            tracing::debug!(instance.id = port.instance_id, port = port.port, %error, "stream refused");
            // Without a listener the session is over, and so is this stream.
            if refused.send(()).await.is_err() {
                return;
            }
        }
    }
    chunks.close();
    drop(frames.send(frame(FIN, id, &[])).await);
}
