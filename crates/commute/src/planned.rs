//! The plan: an app's subscriptions and handlers as they were checked, ready to be opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use commute_core::{Mapping, Route, Topic};
use commute_scheduler::ParkScope;

use crate::handler::Parts;
use crate::retry::{Budget, Exhausted};

/// A subscription, ready to be opened.
pub(crate) struct Planned {
    pub(crate) route: Arc<Route>,
    pub(crate) handlers: Vec<PlannedHandler>,
    pub(crate) by_type: BTreeMap<&'static str, usize>,
    pub(crate) any: Option<usize>,
    pub(crate) ignore_unknown: bool,
    /// How messages of other producers become events.
    pub(crate) mapping: Option<Arc<Mapping>>,
    /// The queue that is consumed as it is.
    pub(crate) queue: Option<Arc<str>>,
    /// Some handler may be exclusive, so the others share the subscription's own lane.
    pub(crate) mixed: bool,
    pub(crate) dead_letters: Topic,
}

/// A handler with its topics checked.
pub(crate) struct PlannedHandler {
    pub(crate) parts: Parts,
    pub(crate) topics: BTreeMap<&'static str, Topic>,
    pub(crate) when_exhausted: Exhausted,
    pub(crate) dead_letters: Topic,
    pub(crate) budget: Budget,
}

impl PlannedHandler {
    /// Which lanes an event of this handler holds when it is set aside.
    pub(crate) fn park_scope(&self) -> ParkScope {
        match self.when_exhausted {
            Exhausted::ParkPrimary => ParkScope::Primary,
            // An event of a skipping handler that meets a parked one must not lose its place anywhere.
            Exhausted::Park | Exhausted::Skip => ParkScope::All,
        }
    }
}
