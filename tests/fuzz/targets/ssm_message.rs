//! A frame of the SSM data channel, as the far end sends it.
#![no_main]

libfuzzer_sys::fuzz_target!(|frame: &[u8]| {
    drop(orca::tunnel::ssm::codec::Message::decode(&bytes::Bytes::copy_from_slice(frame)));
});
