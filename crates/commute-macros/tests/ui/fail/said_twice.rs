//! One thing said twice.
use commute_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", type = "order.cancelled", crate = "commute_core")]
struct Named {
    order: String,
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", key = "order", crate = "commute_core")]
#[event(key = "order")]
struct Keyed {
    order: String,
}

fn main() {}
