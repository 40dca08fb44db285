//! What a machine answers about its kept logs: its first byte says what it was asked.
#![no_main]

use std::cell::RefCell;
use std::io::Cursor;
use std::time::Duration;

use orca::logs::machine::Session;
use tokio::runtime::{Builder, Runtime};

/// Bytes that are asked for.
const CHUNK: usize = 5;

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime without I/O"));
}

async fn converse(questions: u8, answers: &[u8]) {
    let machine = tokio::io::join(Cursor::new(answers.to_vec()), tokio::io::sink());
    let mut session = Session::new(Box::new(machine));
    for bit in 0..4 {
        let broke = match questions >> (2 * bit) & 3 {
            0 => match session.list().await {
                Ok(kept) => {
                    for run in &kept {
                        assert!(
                            !run.container.contains(['/', ' ']) && !run.container.starts_with('.'),
                            "{run:?}"
                        );
                        assert!(run.files.is_sorted_by_key(|file| file.serial), "{run:?}");
                    }
                    false
                }
                Err(_) => true,
            },
            1 => session.wait(Duration::ZERO, std::future::pending()).await.is_err(),
            2 => match session.read(("main", 0), 0, 0, CHUNK).await {
                Ok(chunk) => {
                    assert!(chunk.is_none_or(|chunk| chunk.len() == CHUNK));
                    false
                }
                Err(_) => true,
            },
            _ => session.drop(("main", 0), 0).await.is_err(),
        };
        if broke {
            return;
        }
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((questions, answers)) = bytes.split_first() else { return };
    RUNTIME.with_borrow(|runtime| runtime.block_on(converse(*questions, answers)));
});
