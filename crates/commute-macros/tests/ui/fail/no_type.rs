//! An event without a name on the wire.
use commute_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
struct OrderPlaced {
    order: String,
}

#[derive(Serialize, Deserialize, Event)]
#[event(version = 2, key = "order")]
struct OrderCancelled {
    order: String,
}

fn main() {}
