//! A pod's log as Server-Sent Events: it goes on for ever, also when the pod is gone, and its end is the client's.

use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, header};
use serde_json::json;
use tokio::sync::watch;

use super::log::{Cursor, Line, Log, Source};
use super::pods::Stream;

/// Events that are sent at once.
const BATCH: usize = 256;

struct Reader {
    log: Arc<Log>,
    changes: watch::Receiver<u64>,
    cursor: Cursor,
    source: Option<Source>,
    /// Events until it is cut.
    left: Option<usize>,
    is_cut: bool,
}

/// The answer that a stream is.
#[must_use]
pub fn response(stream: Stream) -> Response {
    let Stream { log, begin, source, cut } = stream;
    let changes = log.changes();
    let reader = Reader { log, changes, cursor: begin, source, left: cut, is_cut: false };
    let mut response = Response::new(Body::from_stream(stream::unfold(reader, next)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

async fn next(mut reader: Reader) -> Option<(io::Result<Bytes>, Reader)> {
    if reader.is_cut {
        // What is there goes out first.
        tokio::task::yield_now().await;
        return Some((Err(io::Error::other("asked to cut the stream")), reader));
    }
    loop {
        // Before looking: a line that comes meanwhile is a change.
        reader.changes.mark_unchanged();
        let most = reader.left.map_or(BATCH, |left| BATCH.min(left + 1));
        let lines = reader.log.after(reader.cursor, reader.source, most);
        if let Some(last) = lines.last() {
            reader.cursor = last.cursor;
            return Some((Ok(reader.write(&lines)), reader));
        }
        if reader.changes.changed().await.is_err() {
            // Its pod is forgotten: there will be no more lines, and nobody says so.
            std::future::pending::<()>().await;
        }
    }
}

impl Reader {
    fn write(&mut self, lines: &[Line]) -> Bytes {
        let mut text = String::new();
        for line in lines {
            let one = event(line);
            match &mut self.left {
                Some(0) => {
                    // The first half of an event is none.
                    let middle = (0..=one.len() / 2).rev().find(|at| one.is_char_boundary(*at)).unwrap_or(0);
                    text.push_str(&one[..middle]);
                    self.is_cut = true;
                    break;
                }
                Some(left) => *left -= 1,
                None => {}
            }
            text.push_str(&one);
        }
        Bytes::from(text)
    }
}

fn event(line: &Line) -> String {
    let data = json!({ "ts": line.cursor.at, "source": line.source, "line": line.text });
    format!("id: {}\ndata: {data}\n\n", line.cursor)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt;
    use jiff::Timestamp;
    use tokio::time::timeout;

    use super::*;
    use crate::runpod::log::Start;

    fn stream(log: &Arc<Log>, start: Start, cut: Option<usize>) -> Body {
        response(Stream { begin: log.begin(start, None), log: log.clone(), source: None, cut }).into_body()
    }

    async fn frame(body: &mut Body) -> Option<Result<String, axum::Error>> {
        let frame = timeout(Duration::from_secs(60), body.frame()).await.ok()??;
        Some(frame.map(|frame| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()))
    }

    fn say(log: &Log, text: &str) {
        log.add(Source::Container, text.to_owned(), Timestamp::UNIX_EPOCH);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_come_as_they_are_written_and_the_stream_outlives_its_pod() {
        let log = Arc::new(Log::default());
        say(&log, "first");
        say(&log, "a \"b\"\nc");
        let mut body = stream(&log, Start::Tail(100), None);
        assert_eq!(
            frame(&mut body).await.unwrap().unwrap(),
            "id: 1970-01-01T00:00:00Z/000000000001\n\
             data: {\"line\":\"first\",\"source\":\"container\",\"ts\":\"1970-01-01T00:00:00Z\"}\n\n\
             id: 1970-01-01T00:00:00Z/000000000002\n\
             data: {\"line\":\"a \\\"b\\\"\\nc\",\"source\":\"container\",\"ts\":\"1970-01-01T00:00:00Z\"}\n\n"
        );
        assert!(frame(&mut body).await.is_none(), "it waits");
        say(&log, "later");
        assert!(frame(&mut body).await.unwrap().unwrap().contains("later"));
        drop(log);
        assert!(frame(&mut body).await.is_none(), "it still waits");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_cut_ends_in_the_middle_of_an_event() {
        let log = Arc::new(Log::default());
        ["one", "two", "three"].iter().for_each(|text| say(&log, text));
        let mut body = stream(&log, Start::Tail(100), Some(1));
        let text = frame(&mut body).await.unwrap().unwrap();
        assert_eq!(text.matches("id: ").count(), 2, "{text}");
        assert!(text.contains("one") && !text.contains("two") && !text.ends_with("\n\n"), "{text}");
        assert!(frame(&mut body).await.unwrap().is_err());
    }
}
