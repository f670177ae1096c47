//! One name on the wire cannot stand for many types.
use commute_macros::{Event, Events};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", crate = "commute_core")]
struct Placed<T> {
    order: T,
}

#[derive(Events)]
#[event(crate = "commute_core")]
enum Order<T> {
    Placed(T),
}

fn main() {}
