//! What users hear last when the process ends.

use hyper_util::rt::TokioIo;
use orca::endpoint::frames::{Ending, FAREWELL, Merge, Protocol};

use super::logs::Logs;
use super::*;

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_command_that_is_cut_fails_with_a_sentence() {
    for (upgrade, protocol, said) in [
        ("SPDY/3.1", Protocol::Spdy, &[0, 0, 0, 3, 0, 0, 0, 2, b'h', b'i'][..]),
        ("websocket", Protocol::WebSocket, &[0x82, 2, b'h', b'i'][..]),
    ] {
        let world = start().await;
        let request =
            Request::post("/exec/ns/running/c").header("connection", "Upgrade").header("upgrade", upgrade);
        let mut response = world.send(Some("system:apiserver"), request).await;
        let mut stream = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
        stream.write_all(said).await.unwrap();
        let mut heard = vec![0; said.len()];
        stream.read_exact(&mut heard).await.unwrap();
        let hears = async {
            stream.read_to_end(&mut heard).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let ((), cut) = tokio::join!(hears, world.streams.close(DEADLINE));
        assert_eq!(cut, 0);
        let farewell = Merge::new(protocol).farewell(Ending::Status);
        assert_eq!(heard, [said, &farewell].concat(), "{upgrade}");
    }
}

#[tokio::test]
async fn a_log_that_is_followed_ends_with_a_line_that_says_so() {
    for (query, cut) in [("follow=true", ""), ("follow=true&timestamps=true", ""), ("follow=true", "half")] {
        let logs = Logs::start().await;
        logs.says(cut);
        let mut answer = logs.get(query).await;
        let said = logs::more(&mut answer).await.unwrap();
        assert_eq!(said.ends_with('\n'), cut.is_empty(), "{said:?}");
        let hears = async {
            let mut last = String::new();
            while let Some(bytes) = logs::more(&mut answer).await {
                last += &bytes;
            }
            last
        };
        let (last, cut_off) = tokio::join!(hears, logs.world.streams.close(DEADLINE));
        assert_eq!(cut_off, 0);
        let line = last.strip_prefix(if cut.is_empty() { "" } else { "\n" }).unwrap();
        let line = line.strip_suffix('\n').unwrap();
        match line.split_once(' ') {
            Some((at, line)) if query.contains("timestamps") => {
                at.parse::<jiff::Timestamp>().unwrap();
                assert_eq!(line, FAREWELL);
            }
            _ => assert_eq!(line, FAREWELL),
        }
    }
}

#[tokio::test]
async fn a_client_that_does_not_listen_is_cut_and_told_of_in_the_report() {
    let world = start().await;
    let endless =
        world.send(Some("system:apiserver"), Request::get("/containerLogs/ns/running/endless")).await;
    assert_eq!(endless.status(), StatusCode::OK);
    assert_eq!(world.streams.close(Duration::from_millis(200)).await, 1);
    drop(endless);
    tokio::time::timeout(DEADLINE, async {
        while !world.streams.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a client that has gone is waited for no more");
}
