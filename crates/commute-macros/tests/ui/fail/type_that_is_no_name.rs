//! Names that cannot be used.
use commute_macros::Event;
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "", crate = "commute_core")]
struct Empty;

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order placed", crate = "commute_core")]
struct Spaced;

#[derive(Serialize, Deserialize, Event)]
#[event(type = 7, crate = "commute_core")]
struct Number;

fn main() {}
