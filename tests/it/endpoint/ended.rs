//! Output that is still on its way when the process has ended, and a client that pings meanwhile.

use http::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// More than lies in the sockets between the guest and a client that does not read.
const FRAMES: u32 = 1024;
const BODY: u32 = 16 * 1024;

struct Protocol {
    upgrade: &'static str,
    /// Header of a frame with [`BODY`] bytes.
    header: [u8; 8],
    ping: &'static [u8],
    answer: &'static [u8],
}

const SPDY: Protocol = Protocol {
    upgrade: "SPDY/3.1",
    header: [0, 0, 0, 3, 0, 0, 0x40, 0],
    ping: &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
    answer: &[0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1],
};

/// Its header is four bytes long: the other four are the body's first.
const WEBSOCKET: Protocol = Protocol {
    upgrade: "websocket",
    header: [0x82, 126, 0x40, 4, 0, 0, 0, 0],
    ping: &[0x89, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2],
    answer: &[0x8a, 2, b'h', b'i'],
};

fn frame(protocol: &Protocol, number: u32) -> Vec<u8> {
    let body = std::iter::repeat_n(number.to_be_bytes(), BODY as usize / 4);
    protocol.header.into_iter().chain(body.flatten()).collect()
}

/// A kubelet that has said everything into its socket and closed it. When a byte comes now, the kernel answers with a
/// reset and throws away what was not sent yet.
pub(super) async fn kubelet(upgrade: &str, stream: impl AsyncRead + AsyncWrite) {
    let protocol = if upgrade == SPDY.upgrade { &SPDY } else { &WEBSOCKET };
    let (mut reads, mut writes) = tokio::io::split(stream);
    let says = async {
        for number in 0..FRAMES {
            writes.write_all(&frame(protocol, number)).await?;
        }
        writes.shutdown().await
    };
    tokio::select! {
        biased;
        _ = reads.read_u8() => {}
        said = says => said.unwrap(),
    }
}

async fn arrives_whole(protocol: &Protocol) {
    let world = super::start().await;
    let request = Request::post("/exec/ns/running/ended")
        .header("connection", "Upgrade")
        .header("upgrade", protocol.upgrade);
    let mut response = world.send(Some("system:apiserver"), request).await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    let mut answered = 0;
    for number in 0..FRAMES {
        if number % 256 == 0 {
            stream.write_all(protocol.ping).await.unwrap();
        }
        let (mut next, frame) = (vec![0; protocol.answer.len()], frame(protocol, number));
        stream.read_exact(&mut next).await.unwrap();
        while next == protocol.answer {
            answered += 1;
            stream.read_exact(&mut next).await.unwrap();
        }
        next.resize(frame.len(), 0);
        stream.read_exact(&mut next[protocol.answer.len()..]).await.unwrap();
        assert!(next == frame, "frame {number} is another");
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    // A ping that is read after the guest's last word is not answered: there is nobody left to wait for.
    let answered = rest.len() / protocol.answer.len() + answered;
    assert!((3..=4).contains(&answered), "{answered} of 4 pings answered");
}

#[tokio::test]
async fn what_a_process_said_arrives_whole_although_a_spdy_client_pings() {
    arrives_whole(&SPDY).await;
}

#[tokio::test]
async fn what_a_process_said_arrives_whole_although_a_websocket_client_pings() {
    arrives_whole(&WEBSOCKET).await;
}
