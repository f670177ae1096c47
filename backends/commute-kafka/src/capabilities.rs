//! Capabilities: what this server gives, from its settings where they are for us to see.

use commute_core::{Capabilities, Durability, GroupOrder, Ordering};

use crate::options::Options;
use crate::settings::Settings;

/// What the largest event may have, however much the server takes.
const MAX_EVENT_BYTES: usize = 1_000_000;
/// What a record takes beside the event: the names of its headers, its key a second time, why it was parked.
const OVERHEAD: usize = 48 << 10;
/// What a server takes as one batch unless told otherwise.
const MESSAGE_BYTES: usize = 1_048_588;
/// What the metadata of a commit may have, however much the server takes: a part of what it takes unless told otherwise.
const MAX_METADATA_BYTES: usize = 3_800;

/// The server's limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The largest batch.
    pub(crate) message_bytes: usize,
    /// The metadata of a commit.
    pub(crate) metadata_bytes: usize,
    /// Of topics that are created.
    pub(crate) replication: i32,
    pub(crate) in_sync: i32,
}

impl Limits {
    pub(crate) fn of(settings: Option<&Settings>, options: &Options) -> Self {
        let number = |name: &str| settings?.number::<i32>(name);
        let size = |name: &str| settings?.number::<usize>(name);
        let default = number("default.replication.factor").unwrap_or(1);
        Limits {
            message_bytes: size("message.max.bytes").unwrap_or(MESSAGE_BYTES),
            metadata_bytes: size("offset.metadata.max.bytes")
                .map_or(MAX_METADATA_BYTES, |limit| limit.min(MAX_METADATA_BYTES)),
            replication: if options.replication > 0 { options.replication } else { default },
            in_sync: number("min.insync.replicas").unwrap_or(1),
        }
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities { max_event_bytes: self.event_bytes(), ..capabilities(self.replication >= 2 && self.in_sync >= 2) }
    }

    /// The largest event.
    pub(crate) fn event_bytes(&self) -> usize {
        self.message_bytes.saturating_sub(OVERHEAD).min(MAX_EVENT_BYTES)
    }

    /// Whether this is less than what every server gives that was not told otherwise.
    pub(crate) fn has_small_events(&self) -> bool {
        self.message_bytes < MESSAGE_BYTES
    }

    /// As [`Self::has_small_events`], for commits.
    pub(crate) fn has_small_metadata(&self) -> bool {
        self.metadata_bytes < MAX_METADATA_BYTES
    }
}

/// What a server gives with the usual limits, with and without replication (two in-sync replicas at least).
pub fn capabilities(replicated: bool) -> Capabilities {
    Capabilities {
        durability: if replicated { Durability::Replicated } else { Durability::Written },
        ordering: Ordering::Partition,
        group_order: GroupOrder::Partition,
        shared: true,
        atomic_settle: false,
        confirmed_acks: true,
        durable_retry: true,
        durable_parking: true,
        delayed_publish: false,
        retained: true,
        positions: true,
        replay: false,
        dedup_window: None,
        inbox_retention: None,
        max_event_bytes: MAX_EVENT_BYTES,
    }
}
