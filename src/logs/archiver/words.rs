//! What a machine said last, as a log of its own.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::outbox::{Outbox, Pause};
use super::{Shared, Words};
use crate::clock;
use crate::logs::batch::Packer;
use crate::logs::cri::Stream;
use crate::logs::names::StreamName;
use crate::logs::reader::Reader;
use crate::logs::record::{Body, End, Eof, Record};
use crate::logs::stamp::Stamp;

/// They are lost if CloudWatch takes nothing for so long.
const PATIENCE: Duration = Duration::from_secs(600);

/// Files them, unless that was done before.
pub(super) async fn file(shared: Arc<Shared>, words: Words) -> Option<String> {
    let name = StreamName::new(&words.namespace, &words.pod, &words.uid, words.source, words.number).ok()?;
    let filing = async {
        let stream = name.to_string();
        let mut pause = Pause::new();
        loop {
            match shared.store.streams(&stream).await {
                Ok(there) if there.contains(&stream) => return,
                Ok(_) => break,
                Err(error) => pause.after(&shared, &error).await,
            }
        }
        let mut outbox = Outbox::new(Arc::clone(&shared), stream);
        let mut packer = Packer::new(0, shared.retention);
        for record in records(&words.text, Stamp::utc(clock::now())) {
            if let Ok(Some(batch)) = packer.push(&record, clock::now()) {
                outbox.send(batch).await;
            }
        }
        if let Some(batch) = packer.take() {
            outbox.send(batch).await;
        }
        outbox.settle().await;
    };
    if timeout(PATIENCE, filing).await.is_err() {
        tracing::warn!(pod.uid = words.uid, "a machine's last words are lost: CloudWatch Logs took none");
    }
    None
}

/// A record for each line, and the end.
fn records(text: &str, stamp: Stamp) -> Vec<Record> {
    let mut bodies = Vec::new();
    let mut reader = Reader::at(0);
    let mut line = |text: &[u8]| bodies.push(Body::Line { text: text.to_vec().into(), end: End::Full });
    reader.feed(text.as_bytes(), |piece| line(piece.bytes));
    reader.finish(|piece| line(piece.bytes));
    bodies.push(Body::Eof(Eof::default()));
    let record = |(seq, body)| Record { seq, stamp, stream: Stream::Stdout, body, origin: None };
    (0..).zip(bodies).map(record).collect()
}
