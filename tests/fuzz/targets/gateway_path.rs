//! What a guest asks of the API server: its first byte is the method, the first `?` begins the query.
#![no_main]

use http::Method;

libfuzzer_sys::fuzz_target!(|asked: &str| {
    let Some((method, target)) = asked.split_at_checked(1) else { return };
    let method = match method {
        "g" => Method::GET,
        "p" => Method::PATCH,
        "d" => Method::DELETE,
        "o" => Method::POST,
        "u" => Method::PUT,
        _ => return,
    };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if let Ok(taken) = orca::gateway::taken_for(&method, path, query, "orca") {
        // Nothing that has another meaning in a path upstream.
        assert!(!taken.contains(['/', '%', '?', '#', '\\']) && !taken.contains(".."), "{taken}");
        let foreign = path.contains("/nodes/") && !path.contains("/nodes/orca");
        assert!(!foreign, "{taken}");
    }
});
