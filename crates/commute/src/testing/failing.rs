//! Failures on purpose: how a test says which attempts fail.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use commute_core::EventId;

use super::rule::{Rule, Strike};
use super::shared::Shared;
use crate::lock::lock;

/// A failure under construction: which attempts it meets. The last word says what happens to them, and nothing happens
/// without it. See [`TestApp::fail`](super::TestApp::fail).
#[must_use = "say what happens: retry, reject, panic, slow, crash or crash_after"]
pub struct Failing<'a> {
    shared: &'a Shared,
    rule: Rule,
}

impl<'a> Failing<'a> {
    pub(super) fn new(shared: &'a Shared, topic: &str, event_type: &str) -> Self {
        let rule = Rule {
            topic: topic.to_owned(),
            event_type: event_type.to_owned(),
            subscription: None,
            key: None,
            event: None,
            attempts: (Bound::Unbounded, Bound::Unbounded),
            left: None,
            strike: Strike::Slow,
        };
        Failing { shared, rule }
    }

    /// Only in this subscription, where several take the topic.
    pub fn by(mut self, subscription: &str) -> Self {
        self.rule.subscription = Some(subscription.to_owned());
        self
    }

    /// Only events with this key.
    pub fn key(mut self, key: &str) -> Self {
        self.rule.key = Some(key.to_owned());
        self
    }

    /// Only this event.
    pub fn event(mut self, event: &EventId) -> Self {
        self.rule.event = Some(event.clone());
        self
    }

    /// Only these attempts, counted from 1; all of them when not said.
    pub fn attempts(mut self, attempts: impl RangeBounds<u32>) -> Self {
        self.rule.attempts = (attempts.start_bound().cloned(), attempts.end_bound().cloned());
        self
    }

    /// Only so many times over all events; without end when not said (a crash: once).
    pub fn times(mut self, times: u32) -> Self {
        self.rule.left = Some(times);
        self
    }

    /// The attempt fails, and its retry policy decides.
    pub fn retry(self, reason: &str) {
        self.add(Strike::Retry(reason.into()));
    }

    /// The event is rejected.
    pub fn reject(self, reason: &str) {
        self.add(Strike::Reject(reason.into()));
    }

    /// The handler panics.
    pub fn panic(self, message: &str) {
        self.add(Strike::Panic(message.into()));
    }

    /// The handler never answers; its timeout ends it, if it has one.
    pub fn slow(self) {
        self.add(Strike::Slow);
    }

    /// The app crashes before the handler begins, and starts again on the same storage.
    pub fn crash(mut self) {
        self.rule.left = self.rule.left.or(Some(1));
        self.add(Strike::Crash);
    }

    /// The app crashes when the handler has done its work (what a store commits is committed) and before anybody else
    /// knows, and starts again on the same storage.
    pub fn crash_after(mut self) {
        self.rule.left = self.rule.left.or(Some(1));
        self.add(Strike::CrashAfter);
    }

    fn add(mut self, strike: Strike) {
        self.rule.strike = strike;
        lock(&self.shared.rules).push(self.rule);
    }
}

impl fmt::Debug for Failing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failing({} of {})", self.rule.event_type, self.rule.topic)
    }
}
