//! A WebSocket client of exec, attach or port-forward, as ORCA serves it itself: the first byte says what is spoken, the
//! second how its words are cut.
#![no_main]

use orca::streams::mux::{HELD_MAX, Mux, Read};
use orca::streams::spdy::Spdy;
use orca::streams::wire::{Event, Wire};
use orca::streams::ws::WebSocket;
use orca::streams::ws::channels::{Channels, Closing, Encoding};

/// Of a command.
const CHANNELS: u8 = 5;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [spoken, chunk, bytes @ ..] = bytes else { return };
    let chunk = usize::from(*chunk) + 1;
    let channels =
        |encoding, closing| Wire::Channels(WebSocket::default(), Channels::new(CHANNELS, encoding, closing));
    let wire = || match spoken % 4 {
        0 => channels(Encoding::Binary, Closing::Never),
        1 => channels(Encoding::Binary, Closing::BySignal),
        2 => channels(Encoding::Base64, Closing::Never),
        _ => Wire::Tunnelled(WebSocket::default(), Spdy::default()),
    };
    // How its bytes are cut makes no difference, as long as they are understood.
    let said = |chunk: usize| {
        let (mut wire, mut out) = (wire(), Vec::new());
        let (mut data, mut events) = (std::collections::BTreeMap::<u32, Vec<u8>>::new(), Vec::new());
        let understood = bytes.chunks(chunk).all(|part| {
            let told = wire.receive(&mut part.to_vec(), &mut out, &mut |event| match event {
                Event::Data { id, bytes } => data.entry(id).or_default().extend(bytes),
                event => events.push(format!("{event:?}")),
            });
            told.is_ok()
        });
        understood.then_some((data, events))
    };
    assert_eq!(said(chunk), said(bytes.len().max(1)));
    // Served, it costs no more than it may.
    let mut mux = if spoken % 4 == 3 { Mux::new(wire(), 8) } else { Mux::with_channels(wire(), CHANNELS) };
    let (mut buffer, mut out) = ([0; 64], Vec::new());
    for part in bytes.chunks(chunk) {
        if mux.receive(&mut part.to_vec()).is_err() {
            return mux.give_up();
        }
        for id in 0..CHANNELS.into() {
            if let Read::Bytes(count) = mux.read(id, &mut buffer) {
                mux.write(id, &buffer[..count]);
            }
        }
        assert!(mux.held() <= HELD_MAX);
        out.clear();
        mux.fill(&mut out);
    }
    mux.finish(orca::streams::ws::Close::Done);
});
