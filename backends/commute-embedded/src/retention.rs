//! Retention: which segments may go.
//!
//! A segment goes as a whole, oldest first, when it is too old or the log too large — but never with an event that some
//! subscription of its topic has not settled, and never with one that no subscription has seen before it is too old.

use commute_core::Timestamp;

use crate::journal::log::Log;
use crate::options::Options;
use crate::state::State;

/// Forgets segments that may go; answers which, oldest first. They are needed until the next snapshot is durable.
pub(crate) fn forget(state: &mut State, log: &mut Log, options: &Options) -> Vec<u32> {
    let now = options.clock.now();
    state.topics.iter_mut().for_each(|topic| topic.forget_delays(now));
    let sizes = log.sizes();
    let mut total: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
    let mut gone = Vec::new();
    // The segment that is being written stays.
    for (segment, bytes) in sizes.iter().copied().take(sizes.len().saturating_sub(1)) {
        let old = is_old(state, segment, now, options);
        let wanted = old || total > options.retention_bytes;
        if !wanted || !may_go(state, segment, old) {
            break;
        }
        state.forget_segment(segment);
        log.forget(segment);
        total -= bytes;
        gone.push(segment);
    }
    gone
}

/// Whether nobody still wants an event of a segment.
fn may_go(state: &State, segment: u32, old: bool) -> bool {
    (0..).zip(&state.topics).all(|(n, topic)| {
        let behind = topic.first_behind(segment);
        match state.settled_below(n) {
            Some(below) => behind <= below,
            None => old || behind == topic.first,
        }
    })
}

/// Whether every event of a segment is older than the retention age.
fn is_old(state: &State, segment: u32, now: Timestamp, options: &Options) -> bool {
    state.youngest.get(&segment).is_none_or(|youngest| now.since(*youngest) > options.retention_age)
}
