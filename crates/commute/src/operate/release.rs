//! Releasing: parked events come back in order, with everything that hangs together with them.

use std::collections::HashSet;

use commute_core::operate::Released;
use commute_core::{Code, DeliveryTag, Error, Result};

use super::find;
use super::pause::lanes_called;
use crate::engine::{Engine, SetAside};
use crate::parking::{close, connected, take_back};

/// Answers how many came back.
pub(crate) async fn release(engine: &Engine, n: usize, what: &Released) -> Result<usize> {
    let (_closed, parked) = close(engine).await;
    let nothing = |what: String| {
        let name = engine.subscriptions[n].named();
        Error::new(Code::NotParked, format!("{what} is not parked in {name}"))
    };
    let some: HashSet<DeliveryTag> = match what {
        Released::All => tags(&parked, n, |_| true),
        Released::Key(key) => {
            let lanes = lanes_called(engine, key);
            tags(&parked, n, |event| event.lanes.iter().any(|(lane, _)| lanes.contains(lane)))
        }
        Released::Event(id) => {
            find::parked(engine, n, &parked, id).await.map(|(event, _)| event.tag).into_iter().collect()
        }
    };
    let none = || {
        nothing(match what {
            Released::All => "anything".to_owned(),
            Released::Key(key) => format!("key {key}"),
            Released::Event(id) => format!("event {id}"),
        })
    };
    if some.is_empty() {
        return Err(none());
    }
    let is_one = |event: &SetAside| event.subscription == n && some.contains(&event.tag);
    let together = connected(&parked, is_one);
    let count = take_back(engine, &together).await?;
    if count == 0 {
        // Another instance was faster.
        return Err(none());
    }
    tracing::warn!(app = %engine.name, count, "released by an operator");
    Ok(count)
}

fn tags(parked: &[SetAside], n: usize, which: impl Fn(&SetAside) -> bool) -> HashSet<DeliveryTag> {
    parked.iter().filter(|event| event.subscription == n && which(event)).map(|event| event.tag).collect()
}
