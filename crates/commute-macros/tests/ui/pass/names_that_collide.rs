//! The derives do not care what else is called `Option`, `String`, `Vec` or `Result`.
#![allow(dead_code)]

mod shadowed {
    use commute_macros::{Event, Events};
    use serde::{Deserialize, Serialize};

    struct Option;
    struct String;
    struct Vec;
    struct Result;
    struct Some;
    struct Ok;

    #[derive(Serialize, Deserialize, Event)]
    #[event(type = "order.placed", key("r#type", "number"), crate = "commute_core")]
    pub struct Placed {
        r#type: u8,
        number: u32,
    }

    #[derive(Events)]
    #[event(crate = "commute_core")]
    pub enum Order {
        Placed(Placed),
    }
}

fn main() {}
