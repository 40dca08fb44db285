//! What tests and people may change while the service runs.

use std::num::NonZeroUsize;

use serde::{Deserialize, Serialize};

use super::operation::Throttling;
use super::read::{Bounds, PAGE_BYTES};
use super::store::Room;

/// The service's settings. The caps are the local cloud's own, so that its memory has an end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// How long after they were put events can be read; default 1 s.
    pub ingestion_delay_ms: u32,
    /// Default off.
    pub throttle: Throttling,
    /// The most events of a page, whatever limit was asked for; default 10,000, as the service has it.
    pub max_page_events: NonZeroUsize,
    /// Whether each page of events is followed by an empty one with another token, as the service may do; default not.
    pub empty_pages: bool,
    /// Default 512 MiB, counted as PutLogEvents counts.
    pub max_stream_bytes: u64,
    /// In all streams; default 1 GiB.
    pub max_stored_bytes: u64,
    /// Default 10,000.
    pub max_groups: usize,
    /// In all groups; default 100,000.
    pub max_streams: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ingestion_delay_ms: 1000,
            throttle: Throttling::Off,
            max_page_events: NonZeroUsize::MIN.saturating_add(9_999),
            empty_pages: false,
            max_stream_bytes: 512 << 20,
            max_stored_bytes: 1 << 30,
            max_groups: 10_000,
            max_streams: 100_000,
        }
    }
}

impl Settings {
    pub(super) fn room(&self) -> Room {
        Room {
            groups: self.max_groups,
            streams: self.max_streams,
            stream_bytes: self.max_stream_bytes,
            bytes: self.max_stored_bytes,
        }
    }

    /// The bounds of a page with so many events at most.
    pub(super) fn bounds(&self, limit: usize) -> Bounds {
        let events = limit.min(self.max_page_events.get());
        Bounds { events, bytes: PAGE_BYTES, empty_pages: self.empty_pages }
    }
}
