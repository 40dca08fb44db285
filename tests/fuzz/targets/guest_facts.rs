//! What a machine prints about itself.
#![no_main]

libfuzzer_sys::fuzz_target!(|output: &str| {
    drop(orca::guest::GuestFacts::parse(output));
});
