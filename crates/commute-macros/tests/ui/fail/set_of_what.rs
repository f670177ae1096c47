//! Sets that are no sets of events.
use commute_macros::{Event, Events};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", crate = "commute_core")]
struct OrderPlaced;

#[derive(Events)]
#[event(crate = "commute_core")]
struct NoEnum(OrderPlaced);

#[derive(Events)]
#[event(crate = "commute_core")]
enum Nothing {}

#[derive(Events)]
#[event(crate = "commute_core")]
enum Fields {
    Placed { order: OrderPlaced },
}

#[derive(Events)]
#[event(crate = "commute_core")]
enum Two {
    Placed(OrderPlaced, String),
}

#[derive(Events)]
#[event(crate = "commute_core")]
enum Twice {
    Placed(OrderPlaced),
    Again(OrderPlaced),
}

#[derive(Events)]
#[event(type = "order", crate = "commute_core")]
enum Named {
    Placed(OrderPlaced),
}

fn main() {}
