//! Outgoing: an envelope on its way to a broker.

use crate::clock::Timestamp;
use crate::envelope::Envelope;
use crate::topic::Topic;

/// An envelope with its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Where to.
    pub topic: Topic,
    /// What.
    pub envelope: Envelope,
    /// Do not deliver before this time.
    pub not_before: Option<Timestamp>,
}
