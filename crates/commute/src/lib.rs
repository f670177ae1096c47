//! commute: events that commute run in parallel, events that do not keep their order, every event takes effect once.
//!
//! Begin with [`App`], [`handler()`] and [`connect`]; the [`prelude`] has what most services need.

// The rooms of an event's journey, in its order.
mod app;
mod config;
mod consumer;
mod contract;
mod control;
mod counters;
mod dead_letter;
mod depth;
mod drivers;
mod durations;
#[cfg(feature = "admin")]
mod endpoints;
mod engine;
mod gate;
mod handler;
mod limits;
mod lock;
pub mod metrics;
pub mod middleware;
mod monitor;
mod operate;
mod outcome;
#[cfg(doctest)]
mod pages;
mod parking;
mod pause;
mod plan;
mod planned;
mod prepare;
mod publish;
mod published;
mod pull;
mod rate;
mod relay;
mod reply;
mod results;
mod retry;
mod running;
mod sampler;
mod settle;
mod settle_queue;
mod shutdown;
mod start;
mod stats;
mod timer;
mod trace;
mod worker;

pub mod prelude;
#[cfg(feature = "testing")]
pub mod testing;

pub use app::App;
pub use commute_core::admin;
pub use commute_core::foreign::{Origin, field, header, text};
pub use commute_core::operate::{HeadState, LaneHead, LaneInfo, Released};
pub use commute_core::{
    Access, Answer, Capabilities, Clock, Code, Context, DeadLetter, Envelope, Error, Event, EventId, Footprint,
    FromContext, Handler, HandlerError, Headers, Incoming, IntoOutcome, Key, KeyPart, Lane, Mapping, Meta, Needs,
    Outcome, Receipt, Reject, Result, SharedBroker, State, SubscriptionName, SystemClock, Timestamp, Topic, commutes,
    reads, writes,
};
#[cfg(feature = "macros")]
pub use commute_macros::{Event, Events};
pub use config::{Checked, CheckedBroker, Config, ConfigKey, Setting};
pub use contract::{Contract, HandlerContract, SubscriptionContract};
pub use control::{Console, Intent, Reached};
pub use drivers::connect;
#[cfg(feature = "zeromq")]
pub use drivers::{Node, NodeOptions};
pub use durations::Distribution;
pub use handler::{HandlerService, HandlerSpec, Invocation, handler};
pub use monitor::{Health, Left, Monitor};
pub use pause::PausedBecause;
pub use publish::{Message, Publisher};
pub use published::TopicStats;
pub use pull::{Pulled, Puller, PullerBuilder};
pub use results::{Answered, Asked, Expect, HandledResult, Requests, RequestsBuilder, ResultOutcome, Results};
pub use retry::{Backoff, Exhausted, OnFailure};
pub use running::Running;
pub use stats::{Stats, SubscriptionStats};
pub use trace::{TraceParent, Traces};

/// For code that the derive macros write.
#[doc(hidden)]
pub mod __private {
    pub use commute_core::*;
}
