//! A container's log file: its first byte says into which chunks the rest is cut.
#![no_main]

use std::hint::black_box;

use orca::logs::cri::Line;
use orca::logs::reader::{MAX_PIECE, Piece, Reader};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((chunk, file)) = bytes.split_first() else { return };
    let mut reader = Reader::at(0);
    let mut end = 0;
    let mut seen = |piece: Piece<'_>| {
        assert!(piece.begin == end && piece.bytes.len() <= MAX_PIECE);
        end = piece.end;
        black_box(Line::parse(piece.bytes).is_ok());
    };
    file.chunks(usize::from(*chunk) + 1).for_each(|chunk| reader.feed(chunk, &mut seen));
    reader.finish(&mut seen);
    assert_eq!(end, file.len() as u64);
});
