//! A variant that holds no event.
use commute_macros::Events;

#[derive(Events)]
#[event(crate = "commute_core")]
enum Order {
    Placed { order: String },
}

fn main() {}
