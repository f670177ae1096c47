//! An attribute that there is not.
use commute_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(name = "order.placed", crate = "commute_core")]
struct Placed {
    order: String,
}

fn main() {}
