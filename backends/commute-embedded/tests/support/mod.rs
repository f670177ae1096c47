//! What the tests of crashes and damage share: a scripted run, and what can be seen of a log.

#![allow(dead_code)]

use std::sync::Arc;

use bytes::Bytes;
use commute_conformance::ManualClock;
use commute_core::{
    Broker, Delivery, Envelope, EventId, Lane, Mode, Outgoing, Result, Settlement, Subscription, SubscriptionSpec,
    Timestamp, Topic,
};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};

/// Small segments, so that a short run meets their ends; files no longer than what is in them.
pub(crate) fn small() -> Options {
    Options { segment_bytes: 1 << 10, prepare: false, seed: Some(1), clock: ManualClock::new(), ..Options::default() }
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::new(name).unwrap()
}

pub(crate) fn event(name: &str, topic_name: &str) -> Outgoing {
    let mut envelope = Envelope::new("test", "test.event", Timestamp(5), Bytes::from(format!("payload of {name}")));
    envelope.id = EventId::new(name).unwrap();
    Outgoing { topic: topic(topic_name), envelope, not_before: None }
}

pub(crate) async fn open(broker: &Embedded, topic_name: &str, credit: usize) -> Result<Subscription> {
    broker.subscribe(SubscriptionSpec::new(topic(topic_name), "group").credit(credit)).await
}

/// Everything that can be received now.
pub(crate) async fn drain(subscription: &mut Subscription) -> Result<Vec<Delivery>> {
    let mut taken = Vec::new();
    while subscription.settler.backlog().await? != Some(0) {
        taken.extend(subscription.receiver.receive(100).await?);
    }
    Ok(taken)
}

/// What is confirmed step by step. Every step is one call, and one group of the log.
pub(crate) struct Script {
    broker: Arc<Embedded>,
    orders: Subscription,
    held: Vec<Delivery>,
    step: usize,
}

impl Script {
    pub(crate) const STEPS: usize = 24;

    /// The subscription to which the script listens is there from the beginning.
    pub(crate) async fn begin(disk: &Memory, options: Options) -> Result<Script> {
        let broker = Embedded::in_memory(disk, options)?;
        open(&broker, "results", 1).await?;
        let orders = open(&broker, "orders", 1000).await?;
        Ok(Script { broker, orders, held: Vec::new(), step: 0 })
    }

    /// Does the next step and waits until it is confirmed.
    pub(crate) async fn step(&mut self) -> Result<()> {
        let n = self.step;
        self.step += 1;
        match n % 6 {
            0 => {
                let events = (0..5).map(|k| event(&format!("order-{n}-{k}"), "orders")).collect();
                self.broker.publish(events).await?;
                self.held.extend(drain(&mut self.orders).await?);
                Ok(())
            }
            1 => {
                let publish = (0..3).map(|k| event(&format!("result-{n}-{k}"), "results")).collect();
                self.settle(|tag| Settlement::Ack { tag, publish, mark: true }).await
            }
            2 => self.settle(|tag| Settlement::Defer { tag, attempts: 3, not_before: Timestamp(77) }).await,
            3 => {
                let lanes = vec![(Lane(n as u64), Mode::Exclusive)];
                self.settle(|tag| Settlement::Park { tag, attempts: 2, lanes, reason: Some("broken".into()) }).await
            }
            4 => self.settle(|tag| Settlement::Ack { tag, publish: Vec::new(), mark: false }).await,
            _ => {
                let parked = self.orders.settler.parked().await?;
                let first = parked.iter().map(|parked| parked.tag).take(1).collect();
                self.held.extend(self.orders.settler.unpark(first).await?);
                Ok(())
            }
        }
    }

    async fn settle(&mut self, settlement: impl FnOnce(commute_core::DeliveryTag) -> Settlement) -> Result<()> {
        let tag = self.held.remove(0).tag;
        self.orders.settler.settle(vec![settlement(tag)]).await
    }

    /// Ends well.
    pub(crate) async fn close(self) -> Result<()> {
        self.broker.close().await
    }
}

/// What somebody who opens a log finds in it.
pub(crate) async fn seen(disk: &Memory) -> Result<String> {
    use std::fmt::Write;
    let broker = Embedded::in_memory(disk, small())?;
    let mut text = String::new();
    for name in ["orders", "results"] {
        let mut subscription = open(&broker, name, 10_000).await?;
        for Delivery { envelope, attempt, not_before, .. } in drain(&mut subscription).await? {
            assert_eq!(envelope.data, format!("payload of {}", envelope.id), "no damage is delivered");
            let _ = writeln!(text, "{name} {} attempt {attempt} {not_before:?}", envelope.id);
        }
        for parked in subscription.settler.parked().await? {
            let read = subscription.settler.read(&[parked.tag]).await?;
            let _ = writeln!(text, "{name} parked {} {:?} {:?}", read[0].id, parked.lanes, parked.reason);
        }
        // What the topic has seen, it does not take again.
        let known = broker.publish(vec![event("order-0-0", name), event("result-1-0", name)]).await?;
        let _ = writeln!(text, "{name} knows {:?}", known.iter().map(|receipt| receipt.duplicate).collect::<Vec<_>>());
    }
    Ok(text)
}

/// What is seen after each number of confirmed steps, from none to all.
pub(crate) async fn expected() -> Vec<String> {
    let disk = Memory::new();
    let mut script = Script::begin(&disk, small()).await.unwrap();
    let mut expected = vec![seen(&disk.after_power_loss(|| false)).await.unwrap()];
    for _ in 0..Script::STEPS {
        script.step().await.unwrap();
        expected.push(seen(&disk.after_power_loss(|| false)).await.unwrap());
    }
    expected
}

/// The segments on a disk, oldest first.
pub(crate) fn segments(disk: &Memory) -> Vec<String> {
    disk.list().into_iter().filter(|name| name.ends_with(".log")).collect()
}
