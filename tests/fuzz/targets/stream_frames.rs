//! A stream of exec, attach or port-forward: the first byte says which protocol, the second how it is cut.
#![no_main]

use orca::endpoint::frames::{Merge, Pings, Protocol, Sieve};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [protocol, chunk, bytes @ ..] = bytes else { return };
    let protocol = if protocol % 2 == 0 { Protocol::Spdy } else { Protocol::WebSocket };
    let chunk = usize::from(*chunk) + 1;
    // Passed, every byte arrives; answered, how the bytes were cut makes no difference.
    let sift = |pings: fn() -> Pings, chunk: usize| {
        let (mut sieve, mut on) = (Sieve::new(protocol), Vec::new());
        let answers: Vec<_> =
            bytes.chunks(chunk).flat_map(|chunk| sieve.sift(chunk, pings(), &mut on)).collect();
        on.extend(sieve.rest());
        (on, answers)
    };
    assert_eq!(sift(|| Pings::Passed, chunk).0, bytes);
    assert_eq!(sift(|| Pings::Answered, chunk), sift(|| Pings::Answered, bytes.len().max(1)));
    let (mut merge, mut out) = (Merge::new(protocol), Vec::new());
    bytes.chunks(chunk).for_each(|chunk| merge.pass(chunk, &mut out));
    assert_eq!(out, bytes);
});
