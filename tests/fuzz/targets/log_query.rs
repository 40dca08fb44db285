//! The query of a request for logs.
#![no_main]

libfuzzer_sys::fuzz_target!(|query: &str| {
    drop(orca::logs::query::Options::parse(query));
});
