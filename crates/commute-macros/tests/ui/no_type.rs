//! An event without its name on the wire.
use commute_macros::{Event, Events};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
struct Placed {
    order: String,
}

#[derive(Events)]
enum Nothing {}

fn main() {}
