//! Keys that are no field.
use commute_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", key = "oder", crate = "commute_core")]
struct Misspelt {
    order: String,
    customer: String,
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", key = "customer name", crate = "commute_core")]
struct NoPath {
    customer: String,
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "day.closed", key = "day", crate = "commute_core")]
struct NoFields;

#[derive(Serialize, Deserialize, Event)]
#[event(type = "door", key = "0", crate = "commute_core")]
enum Door {
    Opened(String),
}

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", key(), crate = "commute_core")]
struct NoneNamed {
    order: String,
}

fn main() {}
