//! Capabilities: what this server gives, from its settings where they are for us to see.

use commute_core::{Capabilities, Durability, GroupOrder, Ordering};
use rdkafka::admin::ConfigResource;

use crate::options::Options;

/// What the largest event may have, however much the server takes.
const MAX_EVENT_BYTES: usize = 1_000_000;
/// What a record takes beside the event: the names of its headers, its key a second time, why it was parked.
const OVERHEAD: usize = 48 << 10;

/// The server's limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The largest batch.
    pub(crate) message_bytes: usize,
    /// The metadata of a commit.
    pub(crate) metadata_bytes: usize,
    replication: i32,
    in_sync: i32,
}

impl Limits {
    pub(crate) fn of(settings: Option<&ConfigResource>, options: &Options) -> Self {
        let number = |name: &str| settings?.get(name)?.value.as_ref()?.parse::<i32>().ok();
        let size = |name: &str| number(name).and_then(|n| usize::try_from(n).ok());
        let default = number("default.replication.factor").unwrap_or(1);
        Limits {
            message_bytes: size("message.max.bytes").unwrap_or(1_048_588),
            metadata_bytes: size("offset.metadata.max.bytes").unwrap_or(4_096).saturating_sub(296).min(3_800),
            replication: if options.replication > 0 { options.replication } else { default },
            in_sync: number("min.insync.replicas").unwrap_or(1),
        }
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        let max_event_bytes = self.message_bytes.saturating_sub(OVERHEAD).min(MAX_EVENT_BYTES);
        Capabilities { max_event_bytes, ..capabilities(self.replication >= 2 && self.in_sync >= 2) }
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
