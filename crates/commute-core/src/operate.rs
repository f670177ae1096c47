//! Operating: what a person asks of a service while it runs.
//!
//! A service attaches itself to its broker when the broker is where operators come in ([`Attached`]); each operation is an
//! order or a question, and its report is data.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::admin::SubscriptionName;
use crate::clock::Timestamp;
use crate::error::{Code, Error, Result};
use crate::future::BoxFuture;
use crate::id::EventId;

/// A running service, as an operator sees it.
pub trait Operate: Send + Sync {
    /// The name of the app.
    fn app(&self) -> String;

    /// Which of several processes it runs in; nothing when that is the one that answers operators.
    fn instance(&self) -> Option<String> {
        None
    }

    /// By what name it is asked: `app`, or `app/instance`.
    fn name(&self) -> String {
        self.instance().map_or_else(|| self.app(), |instance| format!("{}/{instance}", self.app()))
    }

    /// Does it, or answers it.
    ///
    /// # Errors
    /// `NotFound` when the app has no such subscription or event; `NotParked`; `GroupBusy` for an event that a worker has; the
    /// broker's.
    fn operate(&self, operation: Operation) -> BoxFuture<'_, Result<Report>>;
}

/// An order or a question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Operation {
    /// What it has done, and what it holds now: `Report::Json` of its `Stats`.
    Stats,
    /// What it is promised: `Report::Json` of its `Contract`.
    Contract,
    /// The lanes with the most events first, at most `max`: `Report::Lanes`.
    Lanes {
        /// How many.
        max: usize,
    },
    /// Begins no event of a subscription, or none that touches a key, until it is resumed or the app ends. What runs is finished;
    /// what waits behind keeps its order. A paused subscription gives back what it has not begun, so that no other waits for
    /// it; a paused key holds its lane, which all subscriptions of the app share. `Report::Done` counts 1, or 0 when it was
    /// paused already.
    Pause {
        /// Which subscription.
        subscription: SubscriptionName,
        /// Only events that touch this key, in the words of `LaneInfo::key`; every key that reads so, seen before or not.
        key: Option<String>,
    },
    /// Ends a pause. `Report::Done` counts how many there were: 0 or 1.
    Resume {
        /// Which subscription.
        subscription: SubscriptionName,
        /// The key it was paused for.
        key: Option<String>,
    },
    /// Gives up an event that waits, backs off or is parked: it becomes a dead letter and its lanes go on. One that was not
    /// received yet can be skipped while its subscription is paused.
    Skip {
        /// Which subscription.
        subscription: SubscriptionName,
        /// Which event.
        event: EventId,
    },
    /// Brings parked events back in order, with everything that hangs together with them by lanes. `Report::Done` counts them.
    Release {
        /// Which subscription.
        subscription: SubscriptionName,
        /// What to release.
        what: Released,
    },
}

impl Operation {
    /// Whether it changes something, so that it matters whether it was done when nobody says so.
    pub fn acts(&self) -> bool {
        !matches!(self, Operation::Stats | Operation::Contract | Operation::Lanes { .. })
    }
}

/// What to release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Released {
    /// An event, and what hangs together with it.
    Event(EventId),
    /// A key, in the words of `LaneInfo::key`.
    Key(String),
    /// Everything.
    All,
}

/// The answer to an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Data of the service's own.
    Json(Value),
    /// Lanes.
    Lanes(Vec<LaneInfo>),
    /// It was done, to so many events or pauses.
    Done(u64),
}

/// A lane that somebody waits in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneInfo {
    /// Its name, from the footprint of an event in it; its number in hexadecimal where no footprint names it.
    pub key: String,
    /// How many events are in it, whatever their state.
    pub events: usize,
    /// How many of them are parked.
    pub parked: usize,
    /// An operator has paused it.
    pub paused: bool,
    /// The event at its head.
    pub head: Option<LaneHead>,
}

/// The event that the others in a lane wait for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneHead {
    /// Its subscription.
    pub subscription: SubscriptionName,
    /// Its id, where it is known without reading it.
    pub event: Option<EventId>,
    /// Which attempt it is at, from 1.
    pub attempt: u32,
    /// When the broker took it in; for one that an earlier process parked, when it happened.
    pub published: Timestamp,
    /// What it does.
    pub state: HeadState,
    /// Other keys that it waits in, at most a few.
    pub waits_for: Vec<String>,
}

/// What the head of a lane does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadState {
    /// A worker has it.
    Running,
    /// It could run, if a worker were free.
    Ready,
    /// It waits for an earlier event in another lane.
    Waiting,
    /// It failed, and is tried again in so many milliseconds.
    BackingOff(u64),
    /// It is parked, for this reason when it is its own.
    Parked(Option<String>),
    /// An operator holds the lane.
    Paused,
}

/// The services that operators find when they come in through a broker: those of this process, and those whose process lets this
/// one ask them.
#[derive(Default)]
pub struct Attached {
    services: Mutex<Vec<Weak<dyn Operate>>>,
    told: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Attached {
    /// One that tells whenever a service was added.
    pub fn telling(told: impl Fn() + Send + Sync + 'static) -> Self {
        Attached { services: Mutex::default(), told: Some(Box::new(told)) }
    }

    /// Adds a service; it is forgotten when it ends.
    pub fn attach(&self, service: &Arc<dyn Operate>) {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.retain(|known| known.strong_count() > 0);
        services.push(Arc::downgrade(service));
        drop(services);
        if let Some(told) = &self.told {
            told();
        }
    }

    /// Those that run now.
    pub fn running(&self) -> Vec<Arc<dyn Operate>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Weak::upgrade).collect()
    }
}

/// Asks the one of this name, or the first app that is called so.
///
/// # Errors
/// `NotFound` when there is none; the service's.
pub async fn ask(services: Vec<Arc<dyn Operate>>, name: &str, operation: Operation) -> Result<Report> {
    let exact = services.iter().find(|service| service.name() == name);
    let service = exact.or_else(|| services.iter().find(|service| service.app() == name));
    let missing = || Error::new(Code::NotFound, format!("no app {name:?} runs here"));
    service.ok_or_else(missing)?.operate(operation).await
}

impl std::fmt::Debug for Attached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.running().iter().map(|service| service.name())).finish()
    }
}
