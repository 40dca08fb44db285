//! A SPDY client of exec, attach or port-forward, as ORCA serves it itself: the first byte says how its words are cut.
#![no_main]

use orca::streams::mux::{HELD_MAX, Mux, Read};
use orca::streams::spdy::Spdy;
use orca::streams::wire::Wire;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [chunk, bytes @ ..] = bytes else { return };
    let chunk = usize::from(*chunk) + 1;
    // How its bytes are cut makes no difference: to what it said, what answers it, and whether it is understood.
    let said = |chunk: usize| {
        let (mut spdy, mut out) = (Spdy::default(), Vec::new());
        let (mut data, mut events) = (std::collections::BTreeMap::<u32, Vec<u8>>::new(), Vec::new());
        let understood = bytes.chunks(chunk).all(|part| {
            let told = spdy.receive(part, &mut out, &mut |event| match event {
                orca::streams::wire::Event::Data { id, bytes } => data.entry(id).or_default().extend(bytes),
                event => events.push(format!("{event:?}")),
            });
            told.is_ok()
        });
        (data, events, out, understood)
    };
    assert_eq!(said(chunk), said(bytes.len().max(1)));
    // Served, it costs no more than it may.
    let mut mux = Mux::new(Wire::Spdy(Spdy::default()), 8);
    let (mut buffer, mut out, mut streams) = ([0; 64], Vec::new(), Vec::new());
    for part in bytes.chunks(chunk) {
        if mux.receive(&mut part.to_vec()).is_err() {
            return mux.give_up();
        }
        while let Some(opened) = mux.opened() {
            mux.accept(opened.id);
            streams.push(opened.id);
        }
        for id in &streams {
            if let Read::Bytes(count) = mux.read(*id, &mut buffer) {
                mux.write(*id, &buffer[..count]);
            }
        }
        assert!(mux.held() <= HELD_MAX);
        out.clear();
        mux.fill(&mut out);
    }
    mux.finish(orca::streams::ws::Close::Done);
});
