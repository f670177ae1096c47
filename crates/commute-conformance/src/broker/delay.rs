//! Events that are published to be delivered later.

use std::time::Duration;

use commute_core::{Clock, Outgoing, SystemClock};

use crate::Harness;
use crate::kit::{event, numbers, publish, receive, silence, subscribe};

const LATER: Duration = Duration::from_secs(3600);

fn delayed(n: u64) -> Outgoing {
    Outgoing { not_before: Some(SystemClock.now().plus(LATER)), ..event("a", n) }
}

/// And then it is.
pub async fn an_event_is_not_delivered_before_its_time(harness: &impl Harness) {
    let broker = harness.connect().await;
    if !broker.capabilities().delayed_publish {
        return;
    }
    publish(&broker, [delayed(1)]).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    silence(&mut subscription).await;
    harness.advance(LATER * 2).await;
    assert_eq!(numbers(&receive(&mut subscription, 1).await), [1]);
}

/// A delay delays nothing else.
pub async fn a_delayed_event_lets_others_pass(harness: &impl Harness) {
    let broker = harness.connect().await;
    if !broker.capabilities().delayed_publish {
        return;
    }
    publish(&broker, [delayed(1), event("a", 2)]).await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    assert_eq!(numbers(&receive(&mut subscription, 1).await), [2]);
    harness.advance(LATER * 2).await;
    assert_eq!(numbers(&receive(&mut subscription, 1).await), [1]);
}

/// It is part of the event.
pub async fn a_delay_survives_a_crash(harness: &impl Harness) {
    let broker = harness.connect().await;
    if !broker.capabilities().delayed_publish {
        return;
    }
    publish(&broker, [delayed(1)]).await;
    harness.crash(broker).await;
    let broker = harness.connect().await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    silence(&mut subscription).await;
    harness.advance(LATER * 2).await;
    assert_eq!(numbers(&receive(&mut subscription, 1).await), [1]);
}
