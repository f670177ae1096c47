//! The scheduler: footprints in, readiness out.
//!
//! A *lane* is the queue of one resource. An event stands in every lane of its footprint, in the order of admission, and
//! may run as soon as nothing before it in any of them conflicts with it:
//!
//! ```text
//!             lane sku:a    lane sku:b    lane order:7
//!   event 1   holds                                      ready
//!   event 2   waits         holds                        waits for 1
//!   event 3                 waits                        waits for 2
//!   event 4                               holds          ready: passes 2 and 3
//! ```
//!
//! Exact: an event is ready if and only if no earlier unfinished event conflicts with it. Deterministic: the same calls
//! give the same answers. `admit` and `complete` cost one step per lane of the footprint, plus one search among the ready
//! for each event that becomes ready. There is no clock, no thread and no payload here.
//!
//! ```
//! use commute_core::{Footprint, writes};
//! use commute_scheduler::{Admission, Options, Scheduler};
//!
//! let mut scheduler = Scheduler::new(Options::default());
//! let (first, _) = scheduler.admit(&writes("a").into(), false)?;
//! let (_second, admission) = scheduler.admit(&Footprint::from([writes("a"), writes("b")]), false)?;
//! assert_eq!(admission, Admission::Waiting);
//!
//! let mut claimed = Vec::new();
//! scheduler.claim(8, &mut claimed);
//! assert_eq!(claimed, [first]);
//! assert_eq!(scheduler.complete(first), 1, "the second became ready");
//! # Ok::<(), commute_scheduler::LaneParked>(())
//! ```

mod fifo;
mod hold;
mod lanes;
mod parking;
mod ready;
mod report;
mod scheduler;
mod span;

pub use parking::{ParkScope, Parked};
pub use ready::Options;
pub use report::{LaneReport, Standing};
pub use scheduler::{Admission, LaneParked, Scheduler, Ticket, Withdrawn};
pub use span::Span;
