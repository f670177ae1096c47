//! What most services need, in one line: `use commute::prelude::*;`.

pub use commute_core::{DeadLetter, Footprint, HandlerError, Headers, Meta, Reject, State, commutes, reads, writes};
pub use serde::{Deserialize, Serialize};

pub use crate::{App, Backoff, Exhausted, OnFailure, Publisher, handler};
#[cfg(feature = "macros")]
pub use crate::{Event, Events};
#[cfg(not(feature = "macros"))]
pub use commute_core::Event;
