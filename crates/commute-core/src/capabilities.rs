//! Capabilities: facts about a backend, as plain data with one home.
//!
//! The start-up plan, the conformance suite, the CLI and the documentation read these and nothing else.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a receipt means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The event is in memory; it dies with the process that holds it.
    Memory,
    /// The server has handed the event to its operating system: it survives the end of the server's process, not a
    /// power failure.
    Written,
    /// The event is on disk and synced.
    Synced,
    /// The event is on several machines.
    Replicated,
}

/// In which order one subscriber receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ordering {
    /// None.
    None,
    /// Per partition of the topic.
    Partition,
    /// The topic's own.
    Topic,
}

/// What several instances of a group can keep in order between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupOrder {
    /// Nothing: each instance keeps the order of what it happens to receive.
    None,
    /// Events with the same partition key go to the same instance while any of them is unsettled.
    Key,
    /// Events of one partition go to the same instance, and events with the same partition key to one partition.
    Partition,
    /// One instance at a time gets everything; the others stand by.
    SingleActive,
}

/// What a backend gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// What a receipt means.
    pub durability: Durability,
    /// In which order one subscriber receives.
    pub ordering: Ordering,
    /// What several instances of a group can keep in order.
    pub group_order: GroupOrder,
    /// Several processes can use it at once.
    pub shared: bool,
    /// Settling and publishing are one atomic step.
    pub atomic_settle: bool,
    /// An acknowledgement is durable when settling returns. Otherwise it is on its way: it can be lost with the connection,
    /// and the event is delivered again, which a running instance notices.
    pub confirmed_acks: bool,
    /// Attempts and back-off survive a restart.
    pub durable_retry: bool,
    /// Parked events survive a restart.
    pub durable_parking: bool,
    /// An event can be published to be delivered later.
    pub delayed_publish: bool,
    /// A new group begins at the beginning of the topic: what was handled is kept for those who come later.
    pub retained: bool,
    /// A receipt says where the event stands in its topic.
    pub positions: bool,
    /// A subscription can be read again from an earlier position.
    pub replay: bool,
    /// For how long a second publish of an id is noticed; `None` when never.
    pub dedup_window: Option<Duration>,
    /// For how long the inbox remembers a handled id; `None` when there is no inbox.
    pub inbox_retention: Option<Duration>,
    /// The largest event, payload and attributes, in bytes.
    pub max_event_bytes: usize,
}
