//! Versions begin with 1 and fit into 16 bits.
use commute_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", version = 0, crate = "commute_core")]
struct Zero;

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", version = 65536, crate = "commute_core")]
struct Large;

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", version = "1", crate = "commute_core")]
struct Text;

fn main() {}
