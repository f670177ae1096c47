//! Events that are set aside, in order.

use commute_core::{Code, Delivery, DeliveryTag, Lane, Mode, Settlement, SharedBroker, Subscription};

use crate::Harness;
use crate::kit::{ack_all, event, numbers, publish, receive, settle, silence, subscribe, tags};

fn park(delivery: &Delivery, lane: u64, reason: Option<&str>) -> Settlement {
    Settlement::Park {
        tag: delivery.tag,
        attempts: 4,
        lanes: vec![(Lane(lane), Mode::Exclusive), (Lane(u64::MAX - lane), Mode::READ)],
        reason: reason.map(str::to_owned),
    }
}

/// Five events, of which 1, 3 and 0 are parked in that order, and the others acknowledged.
async fn with_parked(broker: &SharedBroker) -> Option<Subscription> {
    if !broker.capabilities().durable_parking {
        return None;
    }
    publish(broker, (0..5).map(|n| event("a", n))).await;
    let mut subscription = subscribe(broker, "a", "g").await;
    let taken = receive(&mut subscription, 5).await;
    let parked = [park(&taken[1], 1, Some("broken")), park(&taken[3], 3, None), park(&taken[0], 0, None)];
    settle(&subscription, parked).await;
    ack_all(&subscription, &[taken[2].clone(), taken[4].clone()]).await;
    Some(subscription)
}

async fn parked_tags(subscription: &Subscription) -> Vec<DeliveryTag> {
    subscription.settler.parked().await.expect("parked").iter().map(|parked| parked.tag).collect()
}

/// Neither now nor after a crash.
pub async fn a_parked_event_is_not_delivered(harness: &impl Harness) {
    let broker = harness.connect().await;
    let Some(mut subscription) = with_parked(&broker).await else { return };
    silence(&mut subscription).await;
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    silence(&mut subscribe(&broker, "a", "g").await).await;
}

/// With everything that was said of them.
pub async fn parked_events_survive_a_crash_in_their_order(harness: &impl Harness) {
    let broker = harness.connect().await;
    let Some(subscription) = with_parked(&broker).await else { return };
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    let subscription = subscribe(&broker, "a", "g").await;
    let parked = subscription.settler.parked().await.expect("parked");
    let reasons: Vec<_> = parked.iter().map(|parked| parked.reason.as_deref()).collect();
    assert_eq!(reasons, [Some("broken"), None, None]);
    let lanes: Vec<_> = parked.iter().map(|parked| parked.lanes[0]).collect();
    assert_eq!(lanes, [1, 3, 0].map(|lane| (Lane(lane), Mode::Exclusive)));
    assert!(parked.iter().all(|parked| parked.attempts == 4 && parked.lanes.len() == 2));
    let tags: Vec<_> = parked.iter().map(|parked| parked.tag).collect();
    let read = subscription.settler.read(&tags).await.expect("read");
    assert_eq!(read.iter().map(crate::kit::number).collect::<Vec<_>>(), [1, 3, 0]);
}

/// It is with whoever took it back, and not delivered to anybody.
pub async fn an_unparked_event_is_in_flight_again(harness: &impl Harness) {
    let broker = harness.connect().await;
    let Some(mut subscription) = with_parked(&broker).await else { return };
    let all = parked_tags(&subscription).await;
    let back = subscription.settler.unpark(all[..2].to_vec()).await.expect("unparked");
    assert_eq!(numbers(&back), [1, 3]);
    assert!(back.iter().all(|delivery| delivery.attempt == 1));
    assert_eq!(parked_tags(&subscription).await.len(), 1);
    silence(&mut subscription).await;
    ack_all(&subscription, &back).await;
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    silence(&mut subscription).await;
    assert_eq!(parked_tags(&subscription).await.len(), 1);
}

/// Neither lost nor still parked.
pub async fn an_unparked_event_that_was_not_settled_comes_back_after_a_crash(harness: &impl Harness) {
    let broker = harness.connect().await;
    let Some(subscription) = with_parked(&broker).await else { return };
    let all = parked_tags(&subscription).await;
    subscription.settler.unpark(all).await.expect("unparked");
    drop(subscription);
    harness.crash(broker).await;
    let broker = harness.connect().await;
    let mut subscription = subscribe(&broker, "a", "g").await;
    assert_eq!(numbers(&receive(&mut subscription, 3).await), [0, 1, 3], "in the order of the topic");
    assert!(parked_tags(&subscription).await.is_empty());
}

/// Not even for the others that were named with it.
pub async fn unparking_what_is_not_parked_does_nothing(harness: &impl Harness) {
    let broker = harness.connect().await;
    let Some(mut subscription) = with_parked(&broker).await else { return };
    publish(&broker, [event("a", 5)]).await;
    let taken = receive(&mut subscription, 1).await;
    let mut wanted = parked_tags(&subscription).await;
    wanted.extend(tags(&taken));
    let refused = subscription.settler.unpark(wanted).await.expect_err("not parked");
    assert_eq!(refused.code(), Code::NotParked);
    assert_eq!(parked_tags(&subscription).await.len(), 3);
}
