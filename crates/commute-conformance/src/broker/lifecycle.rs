//! Lifecycle: closing keeps everything that was accepted, ends whoever waits, and is the end.

use commute_core::{Code, SubscriptionSpec};

use crate::fixture::Ending;
use crate::trial::{Trial, ack, event, numbers, poll_once, to, waiting};

pub(super) async fn closing_keeps_what_was_accepted(mut trial: Trial) {
    let topic = trial.topic("accepted");
    trial.publish_numbers(&topic, 1000..1010).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.take(10).await;
    let broker = trial.broker().clone();
    let settler = reader.settler.clone();
    let mut settling = settler.settle(taken[..5].iter().map(|taken| ack(taken.tag)).collect());
    let mut publishing: Vec<_> = (0..100).map(|n| (n, broker.publish(vec![to(&topic, event(n))]))).collect();
    let mut acked = poll_once(&mut settling).await;
    let mut receipts = Vec::new();
    for (_, publish) in &mut publishing {
        receipts.push(poll_once(publish).await);
    }
    trial.within("close", broker.close()).await.expect("closing works");
    if acked.is_none() {
        acked = Some(trial.within("the settlement", settling).await);
    }
    assert!(acked.is_some_and(|acked| acked.is_ok()), "a settlement that was begun before the close is done");
    for ((n, publish), receipt) in publishing.into_iter().zip(receipts) {
        let receipt = match receipt {
            Some(receipt) => receipt,
            None => trial.within("a receipt", publish).await,
        };
        assert!(receipt.is_ok(), "publish {n}, which was begun before the close, is done: {receipt:?}");
    }
    drop(broker);
    trial.restart(Ending::Close).await;
    let mut reader = trial.open(&topic, "group").await;
    let mut rest = numbers(&trial.rest(&topic, &mut reader).await);
    rest.sort_unstable();
    assert_eq!(rest, (0..100).chain(1005..1010).collect::<Vec<_>>());
}

pub(super) async fn closing_twice_is_closing_once(trial: Trial) {
    let broker = trial.broker().clone();
    trial.publish_numbers(&trial.topic("twice"), [0]).await;
    let (first, second) = trial.within("two closes", async { tokio::join!(broker.close(), broker.close()) }).await;
    first.expect("closing works");
    second.expect("closing at the same time works");
    trial.within("another close", broker.close()).await.expect("closing again works");
}

pub(super) async fn publishing_after_close_is_refused(trial: Trial) {
    let topic = trial.topic("closed");
    trial.publish_numbers(&topic, [0]).await;
    trial.within("close", trial.broker().close()).await.expect("closing works");
    let refused = trial.within("an answer", trial.broker().publish(vec![to(&topic, event(1))])).await;
    assert_eq!(refused.expect_err("it is closed").code(), Code::Closed);
}

pub(super) async fn subscribing_after_close_is_refused(trial: Trial) {
    let spec = SubscriptionSpec::new(trial.topic("closed"), "group").credit(1);
    trial.within("close", trial.broker().close()).await.expect("closing works");
    let refused = trial.within("an answer", trial.broker().subscribe(spec)).await;
    assert_eq!(refused.expect_err("it is closed").code(), Code::Closed);
}

pub(super) async fn closing_ends_a_waiting_receiver(trial: Trial) {
    let topic = trial.topic("waiting");
    let mut reader = trial.open(&topic, "group").await;
    let waiting = waiting(async move {
        let first = reader.receiver().receive(1).await.expect("receiving works").len();
        (first, reader.receiver().receive(1).await.expect("receiving works").len())
    });
    let waiting = waiting.await;
    trial.within("close", trial.broker().close()).await.expect("closing works");
    let (first, second) = trial.within("the waiting receiver", waiting).await.expect("it ends");
    assert_eq!((first, second), (0, 0), "an empty answer means that the subscription was closed, also the next time");
}

pub(super) async fn a_dropped_publish_leaves_the_broker_usable(trial: Trial) {
    let topic = trial.topic("dropped");
    for n in 0..100 {
        let mut publish = trial.broker().publish(vec![to(&topic, event(n))]);
        let _ = poll_once(&mut publish).await;
        drop(publish);
    }
    // Never polled: it did not happen.
    drop(trial.broker().publish(vec![to(&topic, event(555))]));
    trial.publish_numbers(&topic, [1000]).await;
    let mut reader = trial.open(&topic, "group").await;
    let rest = numbers(&trial.rest(&topic, &mut reader).await);
    crate::trial::assert_each_once(&rest);
    assert!(rest.contains(&1000) && !rest.contains(&555), "{rest:?}");
}

pub(super) async fn the_backlog_counts_what_was_not_received(trial: Trial) {
    let topic = trial.topic("backlog");
    trial.publish_numbers(&topic, 0..10).await;
    let mut reader = trial.open(&topic, "group").await;
    let expect = |backlog: Option<u64>, expected: u64| {
        assert!(backlog.is_none_or(|backlog| backlog == expected), "a backlog of {backlog:?} instead of {expected}");
    };
    expect(reader.backlog().await, 10);
    let taken = reader.take(4).await;
    expect(reader.backlog().await, 6);
    reader.ack(&taken).await;
    expect(reader.backlog().await, 6);
    trial.publish_numbers(&topic, 10..15).await;
    expect(reader.backlog().await, 11);
    reader.take(11).await;
    expect(reader.backlog().await, 0);
}
