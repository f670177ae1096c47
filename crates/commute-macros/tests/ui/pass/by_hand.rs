//! What the derives write, and what a person would write instead, are interchangeable.
use commute_core::{Answer, Code, Emitted, Envelope, Error, Event as _, Incoming, Result, Types};
use commute_macros::{Event, Events};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Event)]
#[event(type = "order.placed", key = "order", crate = "commute_core")]
struct Placed {
    order: String,
}

#[derive(Serialize, Deserialize)]
struct Cancelled {
    order: String,
}

impl commute_core::Event for Cancelled {
    const TYPE: &'static str = "order.cancelled";
    fn key(&self) -> Option<String> {
        Some(self.order.to_string())
    }
}

#[derive(Events)]
#[event(crate = "commute_core")]
enum Derived {
    Placed(Placed),
    Cancelled(Cancelled),
}

enum ByHand {
    Placed(Placed),
    Cancelled(Cancelled),
}

impl Incoming for ByHand {
    fn types() -> Types {
        Types::Only(vec![Placed::TYPE, Cancelled::TYPE])
    }

    fn decode(envelope: &Envelope) -> Result<Self> {
        match &*envelope.event_type {
            Placed::TYPE => Placed::decode(envelope).map(ByHand::Placed),
            Cancelled::TYPE => Cancelled::decode(envelope).map(ByHand::Cancelled),
            _ => Err(Error::new(Code::UnknownType, "neither")),
        }
    }

    fn key(&self) -> Option<String> {
        match self {
            ByHand::Placed(event) => commute_core::Event::key(event),
            ByHand::Cancelled(event) => commute_core::Event::key(event),
        }
    }
}

impl Answer for ByHand {
    fn emits(types: &mut Vec<&'static str>) {
        types.extend([Placed::TYPE, Cancelled::TYPE]);
    }

    fn emit(self, events: &mut Vec<Emitted>) -> Result<()> {
        match self {
            ByHand::Placed(event) => events.push(Emitted::encode(&event)?),
            ByHand::Cancelled(event) => events.push(Emitted::encode(&event)?),
        }
        Ok(())
    }
}

fn main() {
    assert_eq!(Derived::types(), ByHand::types());
}
