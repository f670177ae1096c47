//! Control: how an operator reaches a broker and the services on it, from another process.
//!
//! ```text
//! operator                                    owner of the events
//! Console ─► client ─► Unix socket, 0600 ─► server ─► Broker, Admin, Operate
//!    └────► files, when nobody owns them
//! ```
//!
//! On the socket both sides speak lines of JSON: the server greets with `{"commute":1}`, the version of what follows; then each
//! [`commute_core::control::Request`] is a line and its `Reply` is one, in order.

mod client;
mod console;
mod front;
mod server;
mod socket;
mod taking;

pub use console::{Console, Intent, Reached};
pub(crate) use front::{Front, served};

#[derive(serde::Serialize, serde::Deserialize)]
struct Hello {
    /// The version of the protocol.
    commute: u32,
}

const VERSION: u32 = 1;

#[cfg(test)]
mod tests;
