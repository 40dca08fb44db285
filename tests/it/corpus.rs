//! What fuzzing kept, once more: every target of `tests/fuzz` as it stands, over its corpus.

use std::path::Path;

#[path = "../fuzz/targets/config.rs"]
mod config;
#[path = "../fuzz/targets/endpoint_route.rs"]
mod endpoint_route;
#[path = "../fuzz/targets/gateway_path.rs"]
mod gateway_path;
#[path = "../fuzz/targets/guest_facts.rs"]
mod guest_facts;
#[path = "../fuzz/targets/launch_intent.rs"]
mod launch_intent;
#[path = "../fuzz/targets/log_event.rs"]
mod log_event;
#[path = "../fuzz/targets/log_lines.rs"]
mod log_lines;
#[path = "../fuzz/targets/log_query.rs"]
mod log_query;
#[path = "../fuzz/targets/pod_ask.rs"]
mod pod_ask;
#[path = "../fuzz/targets/served_logs.rs"]
mod served_logs;
#[path = "../fuzz/targets/spdy_connection.rs"]
mod spdy_connection;
#[path = "../fuzz/targets/ssm_message.rs"]
mod ssm_message;
#[path = "../fuzz/targets/stream_frames.rs"]
mod stream_frames;
#[path = "../fuzz/targets/user_data.rs"]
mod user_data;
#[path = "../fuzz/targets/websocket_channels.rs"]
mod websocket_channels;

/// As libFuzzer has it, but that somebody else brings the inputs.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: &str| $body:block) => {
        pub(super) fn replay(bytes: &[u8]) {
            let Ok($input) = std::str::from_utf8(bytes) else { return };
            $body
        }
    };
    (|$input:ident: &[u8]| $body:block) => {
        pub(super) fn replay($input: &[u8]) {
            $body
        }
    };
}

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 15] = [
    ("config", config::replay),
    ("endpoint_route", endpoint_route::replay),
    ("gateway_path", gateway_path::replay),
    ("guest_facts", guest_facts::replay),
    ("launch_intent", launch_intent::replay),
    ("log_event", log_event::replay),
    ("log_lines", log_lines::replay),
    ("log_query", log_query::replay),
    ("pod_ask", pod_ask::replay),
    ("served_logs", served_logs::replay),
    ("spdy_connection", spdy_connection::replay),
    ("ssm_message", ssm_message::replay),
    ("stream_frames", stream_frames::replay),
    ("user_data", user_data::replay),
    ("websocket_channels", websocket_channels::replay),
];

#[test]
fn every_input_that_fuzzing_kept_is_taken() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    for (name, replay) in TARGETS {
        let mut count = 0;
        for entry in std::fs::read_dir(folder.join("corpus").join(name)).unwrap() {
            replay(&std::fs::read(entry.unwrap().path()).unwrap());
            count += 1;
        }
        assert!(count > 0, "no input for `{name}`");
    }
    let targets = std::fs::read_dir(folder.join("targets")).unwrap().count();
    assert_eq!(targets, TARGETS.len(), "a target is not replayed here");
}
