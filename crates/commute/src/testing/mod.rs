//! Testing: the production app in a test, on a clock that stands still.
//!
//! [`TestApp`] runs an [`App`](crate::App) as it is (its plan, scheduler, retries, parking, stores) on a broker in
//! memory, or on any other by its URL. The test publishes, drives the app to rest, lets time pass, makes handlers fail,
//! crashes the app, and asserts what was handled, published, given up and set aside. A failed assertion prints the
//! journey of the events in question.
//!
//! For `dev-dependencies`: `commute = { version = "…", features = ["testing"] }`. The guide is `docs/guide/testing.md`.

mod assert;
mod attempt;
mod broker;
mod failing;
mod gate;
mod journal;
mod journey;
mod parked;
mod production;
mod quiet;
mod rule;
mod seen;
mod shared;
mod start;
mod test_app;
mod time;

pub use failing::Failing;
pub use parked::ParkedEvent;
pub use production::{IntoApp, Production};
pub use seen::Seen;
pub use start::Start;
pub use test_app::TestApp;
