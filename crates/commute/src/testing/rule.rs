//! Rules: which attempts fail on purpose, and how.

use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use commute_core::{Context, EventId};

/// What happens to an attempt.
#[derive(Debug, Clone)]
pub(super) enum Strike {
    Retry(Arc<str>),
    Reject(Arc<str>),
    Panic(Arc<str>),
    Slow,
    Crash,
    CrashAfter,
}

/// Which attempts, and what happens to them.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    pub(super) topic: String,
    pub(super) event_type: String,
    pub(super) subscription: Option<String>,
    pub(super) key: Option<String>,
    pub(super) event: Option<EventId>,
    pub(super) attempts: (Bound<u32>, Bound<u32>),
    /// How often it still happens.
    pub(super) left: Option<u32>,
    pub(super) strike: Strike,
}

impl Rule {
    pub(super) fn meets(&self, context: &Context) -> bool {
        let envelope = &context.envelope;
        let is =
            |wanted: &Option<String>, found: Option<&str>| wanted.as_deref().is_none_or(|wanted| found == Some(wanted));
        self.left != Some(0)
            && context.route.topic.as_str() == self.topic
            && *envelope.event_type == *self.event_type
            && is(&self.subscription, Some(&context.route.subscription))
            && is(&self.key, envelope.partition_key())
            && self.event.as_ref().is_none_or(|event| *event == envelope.id)
            && self.attempts.contains(&context.attempt)
    }
}
