//! The configuration file, as an operator types it.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    drop(orca::config::Config::resolve(text, &orca::config::Facts::default()));
});
