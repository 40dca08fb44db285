//! The path of a request to the node's endpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|path: &str| {
    drop(orca::endpoint::route::Route::parse(path));
});
