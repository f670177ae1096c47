//! A key that is no field.
use commute_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", key = "oder", crate = "commute_core")]
struct Placed {
    order: String,
}

fn main() {}
