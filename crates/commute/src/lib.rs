//! commute: events that commute run in parallel, events that do not keep their order, every event takes effect once.
//!
//! Begin with [`App`], [`handler()`] and [`connect`]; the [`prelude`] has what most services need.

// The rooms of an event's journey, in its order.
mod app;
mod config;
mod consumer;
mod contract;
mod depth;
mod drivers;
mod engine;
mod handler;
pub mod middleware;
mod outcome;
mod parking;
mod plan;
mod publish;
mod relay;
mod retry;
mod running;
mod settle;
mod shutdown;
mod stats;
mod timer;
mod trace;
mod worker;

pub mod prelude;

pub use app::App;
pub use commute_core::foreign::{Origin, field, header, text};
pub use commute_core::{
    Access, Answer, Capabilities, Clock, Code, Context, DeadLetter, Envelope, Error, Event, EventId, Footprint,
    FromContext, Handler, HandlerError, Headers, Incoming, IntoOutcome, Key, KeyPart, Lane, Mapping, Meta, Needs,
    Outcome, Receipt, Reject, Result, SharedBroker, State, SystemClock, Timestamp, Topic, commutes, reads, writes,
};
#[cfg(feature = "macros")]
pub use commute_macros::{Event, Events};
pub use config::{Checked, CheckedBroker, Config, ConfigKey, Setting};
pub use contract::{Contract, HandlerContract, SubscriptionContract};
pub use drivers::connect;
pub use handler::{HandlerService, HandlerSpec, Invocation, handler};
pub use publish::{Message, Publisher};
pub use retry::{Backoff, Exhausted, OnFailure};
pub use running::{Left, Running};
pub use stats::{Stats, SubscriptionStats};

/// For code that the derive macros write.
#[doc(hidden)]
pub mod __private {
    pub use commute_core::*;
}

/// The code blocks of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
