//! Capabilities: what a RabbitMQ server gives, by how it is used.

use commute_core::{Capabilities, Durability, GroupOrder, Ordering};

use crate::options::{Instances, Options, QueueType};

/// RabbitMQ 4 takes bodies of 16 MiB unless told otherwise; a parked event needs room for what is known about it.
pub(crate) const MAX_EVENT_BYTES: usize = (16 << 20) - (256 << 10);

/// Attributes travel in one frame, and servers take frames of 128 KiB unless told otherwise.
pub(crate) const MAX_ATTRIBUTE_BYTES: usize = 96 << 10;

/// What a server gives when it is used like this.
pub fn capabilities(options: &Options) -> Capabilities {
    Capabilities {
        durability: match options.queue_type {
            QueueType::Quorum => Durability::Synced,
            QueueType::Classic => Durability::Written,
        },
        ordering: Ordering::Topic,
        group_order: match options.instances {
            Instances::One => GroupOrder::SingleActive,
            Instances::Many { .. } => GroupOrder::None,
        },
        shared: true,
        atomic_settle: false,
        confirmed_acks: false,
        durable_retry: true,
        durable_parking: true,
        delayed_publish: false,
        retained: false,
        positions: false,
        replay: false,
        dedup_window: None,
        inbox_retention: None,
        max_event_bytes: MAX_EVENT_BYTES,
    }
}
