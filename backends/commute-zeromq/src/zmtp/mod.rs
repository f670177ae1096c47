//! ZMTP 3.1 with the NULL mechanism (RFC 37): greeting, READY and frames.
//!
//! Limits are checked before anything is buffered.
//!
//! Only what a ROUTER and its DEALERs need is here. Nobody is believed: a length is compared with its limit before a byte of what
//! it announces is read.

mod codec;
mod greeting;
mod writing;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use codec::Zmtp;
pub(crate) use codec::{Item, Limits};
pub(crate) use greeting::{Role, Wires, greet};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use writing::written;
