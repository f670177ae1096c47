//! Delay: an event that was published for later comes later, and nothing waits for it.

use commute_core::{Outgoing, Settlement, Timestamp};

use crate::fixture::Ending;
use crate::trial::{Trial, event, to};

fn later(trial: &Trial, topic: &commute_core::Topic, number: u64) -> Outgoing {
    Outgoing { not_before: Some(trial.now().plus(trial.while_())), ..to(topic, event(number)) }
}

pub(super) async fn a_delayed_event_is_delivered_when_it_is_due_and_not_before(trial: Trial) {
    let topic = trial.topic("delayed");
    let mut reader = trial.open(&topic, "group").await;
    let delayed = later(&trial, &topic, 1);
    let due = delayed.not_before.expect("it is delayed");
    trial.publish_all(vec![to(&topic, event(0)), delayed, to(&topic, event(2))]).await;
    let taken = reader.expect(&[0, 2]).await;
    reader.ack(&taken).await;
    assert!(trial.now() < due, "this machine was too slow for this case");
    assert!(reader.quietly(10).await.is_empty() || trial.now() >= due, "nothing comes early");
    trial.pass(trial.while_()).await;
    let taken = reader.expect(&[1]).await;
    assert!(trial.now() >= due);
    assert_eq!((taken[0].attempt, taken[0].not_before), (1, None), "it is a first attempt, and due");
    reader.ack(&taken).await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
}

pub(super) async fn a_delayed_event_survives_a_restart(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("delayed");
        let delayed = later(&trial, &topic, 1);
        let due = delayed.not_before.expect("it is delayed");
        trial.publish_all(vec![delayed, to(&topic, event(2))]).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.expect(&[2]).await;
        reader.ack(&taken).await;
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        assert!(reader.quietly(10).await.is_empty() || trial.now() >= due, "nothing comes early");
        trial.pass(trial.while_()).await;
        let taken = reader.expect(&[1]).await;
        reader.ack(&taken).await;
        trial.expect_rest(&topic, &mut reader, &[]).await;
    }
}

pub(super) async fn an_event_whose_time_has_come_is_delivered_at_once(trial: Trial) {
    let topic = trial.topic("past");
    let past = Outgoing { not_before: Some(Timestamp(1)), ..to(&topic, event(0)) };
    let now = Outgoing { not_before: Some(trial.now()), ..to(&topic, event(1)) };
    trial.publish_all(vec![past, now]).await;
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &[0, 1]).await;
}

pub(super) async fn an_event_published_by_an_ack_can_be_delayed(trial: Trial) {
    let (topic, other) = (trial.topic("source"), trial.topic("target"));
    trial.publish_numbers(&topic, [0]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.expect(&[0]).await;
    let delayed = later(&trial, &other, 1);
    let due = delayed.not_before.expect("it is delayed");
    reader.settle(vec![Settlement::Ack { tag: taken[0].tag, publish: vec![delayed], mark: true }]).await;
    let mut target = trial.open(&other, "group").await;
    assert!(target.quietly(10).await.is_empty() || trial.now() >= due, "nothing comes early");
    trial.pass(trial.while_()).await;
    target.expect(&[1]).await;
}
