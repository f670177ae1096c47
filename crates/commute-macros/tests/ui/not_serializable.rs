//! An event that cannot be written as JSON.
use commute_macros::Event;

#[derive(Event)]
#[event(type = "order.placed", crate = "commute_core")]
struct Placed {
    order: String,
}

fn main() {}
