//! The journal: everything that happened to every event, in order, with the time.

use std::sync::Arc;
use std::time::Duration;

use commute_core::{Code, Envelope, EventId, Lane, Mode, Timestamp};

/// One thing that happened.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Since the test began.
    pub(super) at: Duration,
    /// To which event; `None`: to the app.
    pub(super) event: Option<EventId>,
    pub(super) what: What,
}

/// What can happen.
#[derive(Debug, Clone)]
pub(super) enum What {
    Published {
        topic: Arc<str>,
        envelope: Arc<Envelope>,
        due: Option<Timestamp>,
        taken: Taken,
    },
    Delivered {
        place: Place,
        attempt: u32,
    },
    Began {
        place: Place,
        attempt: u32,
    },
    Ended {
        place: Place,
        attempt: u32,
        /// The entry of its beginning.
        began: usize,
        how: How,
    },
    /// The same delivery is handled once more, as if its acknowledgement had been lost.
    Again {
        place: Place,
    },
    Deferred {
        place: Place,
        until: Timestamp,
    },
    DeadLettered {
        place: Place,
        code: String,
        reason: String,
        topic: Arc<str>,
    },
    Parked {
        place: Place,
        holds: Vec<(Lane, Mode)>,
        /// What a person calls what it holds.
        lanes: Vec<String>,
        reason: Option<String>,
        behind: Option<EventId>,
    },
    Released {
        place: Place,
    },
    Settled {
        place: Place,
    },
    Returned {
        place: Place,
    },
    Crashed,
    Started,
}

/// Whether a topic took what was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taken {
    Yes,
    Duplicate,
    Refused(String),
}

/// How an attempt ended.
#[derive(Debug, Clone)]
pub(super) enum How {
    /// It took effect.
    Handled,
    /// The store knew that it had taken effect before.
    Known,
    Failed {
        code: Code,
        reason: String,
    },
    /// The transaction was lost and will run again.
    Lost(String),
    /// The app crashed meanwhile.
    Cut,
}

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) subscription: Arc<str>,
}

impl What {
    /// The envelope, where an event enters the journal.
    pub(super) fn published(&self) -> Option<(&Arc<str>, &Arc<Envelope>)> {
        match self {
            What::Published { topic, envelope, taken: Taken::Yes, .. } => Some((topic, envelope)),
            _ => None,
        }
    }
}
