//! Two connections made one: a client's, and that of its pod's kubelet.
//!
//! All bytes are passed but a client's pings, which are answered here: a byte that reaches a kubelet whose stream has
//! ended already makes it throw away what is still on its way to us (`docs/decisions/005-pings-are-answered-here.md`).

use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::frames::{Ending, Merge, Pings, Protocol, Sieve};

/// How long one side may go on after the other has ended.
const LINGER: Duration = Duration::from_mins(5);
/// How long a client that was told of the process's end may take to read that and to end, too.
const FAREWELL: Duration = Duration::from_secs(1);
/// Copy buffers of a spliced stream, each way: an SSH packet.
const BUFFER: usize = 32 * 1024;
/// When the guest has said nothing for so long, nothing is on its way, and a ping goes through: container runtimes end a
/// stream that is idle (by default after 4 h), and to them a ping is a sign of life.
const QUIET: Duration = Duration::from_mins(10);
/// Answers that may wait for the guest's frame to end. Clients send a ping when the one before is answered.
const ANSWERS: usize = 8;

/// Since when the guest has said nothing, and nothing of it waits for the client; `None` while something does.
type Silence = watch::Receiver<Option<Instant>>;

/// Passes bytes both ways until the guest has said everything, or the client has gone; or until it is `closing`, which the
/// client is told behind the frame under way.
pub async fn exchange(
    (protocol, ending): (Option<Protocol>, Ending),
    client: impl AsyncRead + AsyncWrite,
    guest: impl AsyncRead + AsyncWrite,
    closing: &CancellationToken,
) -> anyhow::Result<()> {
    let (mut from_client, to_client) = tokio::io::split(client);
    let told = {
        let (from_guest, to_guest) = tokio::io::split(guest);
        let (answers, due) = mpsc::channel(ANSWERS);
        let (silent, silence) = watch::channel(None);
        let mut down = pin!(down(protocol, from_guest, to_client, due, (&silent, ending, closing)));
        let up = pin!(up(protocol, &mut from_client, to_guest, &answers, &silence));
        tokio::select! {
            told = &mut down => told,
            asked = up, if !closing.is_cancelled() => {
                let told = tokio::time::timeout(LINGER, down).await;
                asked?;
                return Ok(told.context("the client has gone, and the guest does not end")??);
            }
        }
    };
    // The client ends when it has read everything. Closed before, with a ping unread, its connection would be reset, and
    // what it has not read yet would be lost. Who ends the process does not wait for long.
    let patience = if closing.is_cancelled() { FAREWELL } else { LINGER };
    let mut ignored = tokio::io::sink();
    if tokio::time::timeout(patience, tokio::io::copy(&mut from_client, &mut ignored)).await.is_err() {
        tracing::debug!("a client does not end its stream");
    }
    Ok(told?)
}

/// From the client to the guest, until the client ends. That the guest takes nothing any more is no reason to stop: the
/// client's pings want answers as long as the guest still talks.
async fn up(
    protocol: Option<Protocol>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    answers: &mpsc::Sender<Vec<u8>>,
    silence: &Silence,
) -> std::io::Result<()> {
    let mut sieve = protocol.map(Sieve::new);
    let (mut buffer, mut on) = (vec![0; BUFFER], Vec::new());
    let mut deaf = false;
    let ended = loop {
        let count = match end_of(from.read(&mut buffer).await) {
            Ok(Some(count)) => count,
            ended => break ended.map(drop),
        };
        on.clear();
        match &mut sieve {
            Some(sieve) => {
                let quiet = silence.borrow().is_some_and(|since| since.elapsed() >= QUIET);
                let pings = if quiet { Pings::Passed } else { Pings::Answered };
                for answer in sieve.sift(&buffer[..count], pings, &mut on) {
                    if answers.try_send(answer).is_err() {
                        tracing::debug!("a client pings faster than it reads");
                    }
                }
            }
            None => on.extend_from_slice(&buffer[..count]),
        }
        deaf = deaf || send(&mut to, &on).await.is_err();
    };
    on = sieve.map(Sieve::rest).unwrap_or_default();
    if !deaf && send(&mut to, &on).await.is_ok() {
        to.shutdown().await?;
    }
    ended
}

/// From the guest to the client, until the guest ends; answers come between its frames.
async fn down(
    protocol: Option<Protocol>,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut answers: mpsc::Receiver<Vec<u8>>,
    (silent, ending, closing): (&watch::Sender<Option<Instant>>, Ending, &CancellationToken),
) -> std::io::Result<()> {
    let mut merge = protocol.map(Merge::new);
    let (mut buffer, mut out) = (vec![0; BUFFER], Vec::new());
    let mut heard = Instant::now();
    let ended = loop {
        out.clear();
        silent.send_replace(Some(heard));
        // Behind a frame under way nothing would be read as what it is.
        let is_between = merge.as_ref().is_none_or(Merge::is_between);
        tokio::select! {
            biased;
            () = closing.cancelled(), if is_between => {
                if let Some(merge) = &merge {
                    send(&mut to, &merge.farewell(ending)).await?;
                }
                break Ok(());
            }
            read = from.read(&mut buffer) => {
                let count = match end_of(read) {
                    Ok(Some(count)) => count,
                    ended => break ended.map(drop),
                };
                match &mut merge {
                    Some(merge) if closing.is_cancelled() => {
                        merge.pass_frame(&buffer[..count], &mut out);
                    }
                    Some(merge) => merge.pass(&buffer[..count], &mut out),
                    None => out.extend_from_slice(&buffer[..count]),
                }
                heard = Instant::now();
            }
            Some(answer) = answers.recv() => {
                if let Some(merge) = &mut merge { merge.answer(&answer, &mut out) }
            }
        }
        silent.send_replace(None);
        send(&mut to, &out).await?;
    };
    to.shutdown().await?;
    ended
}

async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    to.write_all(bytes).await?;
    to.flush().await
}

/// How much was read; `None` at the end, which a TLS peer may forget to announce.
fn end_of(read: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match read {
        Ok(0) => Ok(None),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            tracing::debug!("a stream ended without a word: what was said may not be all");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, join, split};

    use super::*;

    const PING: [u8; 12] = [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1];
    /// Header of a data frame of stream 1, with 100 000 bytes to follow.
    const DATA: [u8; 8] = [0, 0, 0, 1, 0, 1, 0x86, 0xa0];

    struct Ends {
        reads: ReadHalf<DuplexStream>,
        writes: WriteHalf<DuplexStream>,
        /// The guest's end.
        guest: DuplexStream,
    }

    /// A splice with a tunnel that holds `depth` bytes each way.
    fn splice(depth: usize) -> (Ends, tokio::task::JoinHandle<anyhow::Result<()>>) {
        let (client, user) = duplex(1024);
        let (near, guest) = duplex(depth);
        let (reads, writes) = split(user);
        let spliced = tokio::spawn(async move {
            let spoken = (Some(Protocol::Spdy), Ending::Status);
            exchange(spoken, client, near, &CancellationToken::new()).await
        });
        (Ends { reads, writes, guest }, spliced)
    }

    #[tokio::test]
    async fn a_ping_is_answered_when_the_guests_frame_has_ended_and_never_reaches_the_guest() {
        let (mut ends, spliced) = splice(1024);
        ends.guest.write_all(&DATA).await.unwrap();
        ends.writes.write_all(&PING).await.unwrap();
        let frame = [&DATA[..], &[7; 100_000]].concat();
        let says = async {
            ends.guest.write_all(&frame[DATA.len()..]).await.unwrap();
            let mut asked = [0; 3];
            ends.guest.read_exact(&mut asked).await.unwrap();
            ends.guest.shutdown().await.unwrap();
            asked
        };
        let hears = async {
            let mut told = vec![0; frame.len() + PING.len()];
            ends.reads.read_exact(&mut told).await.unwrap();
            ends.writes.write_all(b"end").await.unwrap();
            ends.writes.shutdown().await.unwrap();
            told
        };
        let (asked, told) = tokio::join!(says, hears);
        assert!(told == [&frame[..], &PING].concat());
        // Not a frame, and yet passed on when nothing follows.
        assert_eq!(&asked, b"end");
        spliced.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_ping_goes_through_when_the_guest_has_been_silent_for_long() {
        let (mut ends, _spliced) = splice(1024);
        let mut told = PING;
        tokio::time::sleep(QUIET - Duration::from_secs(1)).await;
        ends.writes.write_all(&PING).await.unwrap();
        ends.reads.read_exact(&mut told).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        ends.writes.write_all(&PING).await.unwrap();
        ends.guest.read_exact(&mut told).await.unwrap();
        // The guest's answer, after which it is not silent any more.
        ends.guest.write_all(&PING).await.unwrap();
        ends.reads.read_exact(&mut told).await.unwrap();
        ends.writes.write_all(&PING).await.unwrap();
        ends.reads.read_exact(&mut told).await.unwrap();
        assert_eq!(told, PING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_whose_client_does_not_read_is_not_silent() {
        let (mut ends, _spliced) = splice(1024);
        let frame = [&DATA[..], &[7; 100_000]].concat();
        let (mut hears, mut says) = split(ends.guest);
        let talks = tokio::spawn(async move { says.write_all(&frame).await });
        tokio::time::sleep(3 * QUIET).await;
        ends.writes.write_all(&PING).await.unwrap();
        let mut told = vec![0; DATA.len() + 100_000 + PING.len()];
        ends.reads.read_exact(&mut told).await.unwrap();
        assert!(told.ends_with(&PING));
        talks.await.unwrap().unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(1), hears.read_u8()).await;
        assert!(heard.is_err(), "the ping went through: {heard:?}");
    }

    #[tokio::test]
    async fn a_guest_that_hears_nothing_any_more_is_heard_to_the_end() {
        let (mut says, hears) = duplex(1024);
        let (deaf, ear) = duplex(16);
        drop(ear);
        let (client, user) = duplex(1024);
        let (mut reads, mut writes) = split(user);
        writes.write_all(b"are you there?").await.unwrap();
        let talk = async {
            // Its bytes have failed by now, and only then does the guest go on.
            tokio::task::yield_now().await;
            says.write_all(&[7; 100_000]).await.unwrap();
            says.shutdown().await.unwrap();
        };
        let hear = async {
            let mut heard = Vec::new();
            reads.read_to_end(&mut heard).await.unwrap();
            writes.shutdown().await.unwrap();
            heard
        };
        let closing = CancellationToken::new();
        let (ended, (), heard) =
            tokio::join!(exchange((None, Ending::Other), client, join(hears, deaf), &closing), talk, hear);
        ended.unwrap();
        assert_eq!(heard.len(), 100_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_told_when_the_process_ends_behind_the_frame_under_way() {
        for (protocol, frame) in [
            (Protocol::Spdy, &[0, 0, 0, 3, 0, 0, 0, 2, 7, 7][..]),
            (Protocol::WebSocket, &[0x82, 2, 7, 7][..]),
        ] {
            for said in 1..=frame.len() {
                let (client, mut user) = duplex(1024);
                let (near, mut guest) = duplex(1024);
                let closing = CancellationToken::new();
                let close = async {
                    guest.write_all(&frame[..said]).await.unwrap();
                    let mut heard = vec![0; said];
                    user.read_exact(&mut heard).await.unwrap();
                    closing.cancel();
                    tokio::task::yield_now().await;
                    // The rest of the frame, and one that nobody hears any more.
                    let rest =
                        if said == frame.len() { Vec::new() } else { [&frame[said..], frame].concat() };
                    guest.write_all(&rest).await.unwrap();
                    user.read_to_end(&mut heard).await.unwrap();
                    user.shutdown().await.unwrap();
                    heard
                };
                let spoken = (Some(protocol), Ending::Status);
                let (ended, heard) = tokio::join!(exchange(spoken, client, near, &closing), close);
                ended.unwrap();
                let farewell = Merge::new(protocol).farewell(Ending::Status);
                assert_eq!(heard, [frame, &farewell].concat(), "{protocol:?} {said}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_talks_without_a_pause_does_not_keep_the_process_from_its_end() {
        let (client, mut user) = duplex(1024);
        let (near, mut guest) = duplex(1024);
        let frame = [0, 0, 0, 3, 0, 0, 0, 3, 7, 7, 7];
        let talks = tokio::spawn(async move { while guest.write_all(&frame).await.is_ok() {} });
        let closing = CancellationToken::new();
        let hears = async {
            let mut heard = vec![0; 100_000];
            user.read_exact(&mut heard).await.unwrap();
            closing.cancel();
            user.read_to_end(&mut heard).await.unwrap();
            // It does not end by itself.
            (heard, user)
        };
        let spoken = (Some(Protocol::Spdy), Ending::Status);
        let began = Instant::now();
        let (ended, (heard, _user)) = tokio::join!(exchange(spoken, client, near, &closing), hears);
        ended.unwrap();
        assert!(began.elapsed() <= FAREWELL);
        let farewell = Merge::new(Protocol::Spdy).farewell(Ending::Status);
        let said = heard.strip_suffix(&farewell[..]).expect("the farewell comes last");
        assert!(said.chunks(frame.len()).all(|chunk| chunk == frame), "and behind a whole frame");
        talks.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_listened_to_until_it_ends_but_not_for_ever() {
        let start = Instant::now();
        let (mut ends, spliced) = splice(1024);
        drop(ends.guest);
        tokio::time::sleep(LINGER / 2).await;
        ends.writes.write_all(&PING).await.unwrap();
        assert!(!spliced.is_finished());
        ends.writes.shutdown().await.unwrap();
        spliced.await.unwrap().unwrap();
        assert!(start.elapsed() < LINGER);

        let (ends, spliced) = splice(1024);
        drop(ends.guest);
        spliced.await.unwrap().unwrap();
        drop((ends.reads, ends.writes));
    }
}
