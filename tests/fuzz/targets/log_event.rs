//! An event of the archive's log streams, into which others may write too.
#![no_main]

use orca::logs::record::{Checkpoint, Record};

libfuzzer_sys::fuzz_target!(|message: &str| {
    drop(message.parse::<orca::logs::names::StreamName>());
    if let Ok(record) = Record::decode(message) {
        assert_eq!(Record::decode(&record.encode(Checkpoint::With)), Ok(record));
    }
});
