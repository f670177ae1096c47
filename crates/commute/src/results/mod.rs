//! Results: what the subscribed handlers made of an event goes back to whoever asked.
//!
//! ```text
//! requester ─ event, replyto ─► topic ─► subscription A ─ settled, with its result ─┐
//!                                   └──► subscription B ─ settled, with its result ─┤
//! requester ◄─ collect ◄─ its reader ◄─ NAME.results ◄──────────────────────────────┘
//! ```
//!
//! Results are events like any other: durable, ordered per request, and open to other subscribers.

mod asked;
mod desk;
mod handled;
mod requests;

pub use asked::{Asked, Expect, Results};
pub use handled::{Answered, HandledResult, ResultOutcome};
pub use requests::{Requests, RequestsBuilder};
