//! The contract of commute: the words that every room uses, and what each promises.
//!
//! | Word | Here |
//! |---|---|
//! | event, envelope, topic, id | [`Event`], [`Envelope`], [`Topic`], [`EventId`] |
//! | footprint, lane, conflict | [`Footprint`], [`Lane`], [`Footprint::conflicts_with`] |
//! | publish, subscribe, settle | [`Broker`], [`Receiver`], [`Settler`], [`Settlement`] |
//! | answer, outcome, rejection | [`Answer`], [`Outcome`], [`HandlerError`] |
//! | store, inbox, outbox | [`Store`], [`Transact`], [`Outbox`] |
//! | admin, operate, control | [`Admin`], [`Operate`], [`control::Request`] |
//! | error, code, remedy | [`Error`], [`Code`] |
//!
//! No I/O, no async runtime, and no backend is known here. Applications depend on the `commute` crate; this one is for
//! those who write a backend or a store.

pub mod admin;
pub mod broker;
pub mod capabilities;
pub mod clock;
pub mod cloudevents;
pub mod context;
pub mod control;
pub mod dead_letter;
pub mod driver;
pub mod envelope;
pub mod error;
pub mod event;
pub mod footprint;
pub mod foreign;
mod future;
pub mod handler;
mod handler_error;
pub mod id;
pub mod key;
pub mod operate;
pub mod outcome;
mod outgoing;
pub mod store;
pub mod subscription;
mod text;
mod texts;
pub mod topic;
pub mod watermark;

pub use admin::{Admin, SharedAdmin, SubscriptionName};
pub use broker::{BoxFuture, Broker, Outgoing, Receipt, Server, SharedBroker};
pub use capabilities::{Capabilities, Durability, GroupOrder, Ordering};
pub use clock::{Clock, SystemClock, Timestamp};
pub use context::{Context, FromContext, Headers, Meta, Needs, Route, State, States};
pub use dead_letter::DeadLetter;
pub use driver::{Address, Driver, Files};
pub use envelope::{Envelope, Extensions, extension};
pub use error::{BoxError, Code, Error, Result};
pub use event::{Emitted, Event, Incoming, Types};
pub use footprint::{Access, Footprint, Mode, commutes, reads, writes};
pub use foreign::Mapping;
pub use handler::Handler;
pub use id::EventId;
pub use key::{Key, KeyPart, KeyText, Lane};
pub use operate::{Attached, Operate, Operation, Report};
pub use outcome::{Answer, HandlerError, IntoOutcome, Outcome, Reject};
pub use store::{Committed, Done, Outbox, Stage, Store, Transact, Unit, UnitError};
pub use subscription::{
    Change, Delivery, DeliveryTag, Parked, Receiver, Settlement, Settler, Subscription, SubscriptionSpec,
};
pub use texts::Texts;
pub use topic::Topic;
