//! Conformance: the promises that every broker makes, tested once, for everyone.
//!
//! A backend implements [`Harness`] in one short test file and calls [`broker_suite!`], which makes one test of every
//! case:
//!
//! ```ignore
//! commute_conformance::broker_suite!(MyHarness::new());
//! ```
//!
//! A case that needs a capability which the broker does not declare says so and ends.

pub mod broker;
pub mod harness;
mod kit;

pub use harness::Harness;
