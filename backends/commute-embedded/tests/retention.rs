//! Retention: what is settled may go, and nothing else.

mod support;

use std::sync::Arc;
use std::time::Duration;

use commute_conformance::ManualClock;
use commute_core::{Broker, Settlement, Subscription};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};
use support::{drain, event, open, segments, small};

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Log {
    disk: Memory,
    clock: Arc<ManualClock>,
    broker: Arc<Embedded>,
    retention_bytes: u64,
}

impl Log {
    fn new(retention_bytes: u64) -> Self {
        let (disk, clock) = (Memory::new(), ManualClock::new());
        let broker = Self::open(&disk, &clock, retention_bytes);
        Log { disk, clock, broker, retention_bytes }
    }

    fn open(disk: &Memory, clock: &Arc<ManualClock>, retention_bytes: u64) -> Arc<Embedded> {
        Embedded::in_memory(disk, Options { clock: clock.clone(), retention_bytes, ..small() }).unwrap()
    }

    /// A close writes a snapshot, which is when segments go.
    async fn reopen(&mut self) {
        self.broker.close().await.unwrap();
        self.broker = Self::open(&self.disk, &self.clock, self.retention_bytes);
    }

    async fn publish(&self, topic: &str, numbers: std::ops::Range<u32>) {
        for n in numbers {
            self.broker.publish(vec![event(&n.to_string(), topic)]).await.unwrap();
        }
    }

    fn segments(&self) -> usize {
        segments(&self.disk).len()
    }
}

async fn ack(subscription: &Subscription, taken: &[commute_core::Delivery]) {
    let ack = |taken: &commute_core::Delivery| Settlement::Ack { tag: taken.tag, publish: Vec::new(), mark: true };
    subscription.settler.settle(taken.iter().map(ack).collect()).await.unwrap();
}

#[tokio::test]
async fn settled_segments_go_when_they_are_old() {
    let mut log = Log::new(u64::MAX);
    let mut orders = open(&log.broker, "orders", 1000).await.unwrap();
    log.publish("orders", 0..100).await;
    let taken = drain(&mut orders).await.unwrap();
    ack(&orders, &taken).await;
    log.reopen().await;
    let young = log.segments();
    assert!(young > 5, "{young} segments; nothing is old yet");
    log.clock.advance(8 * DAY);
    log.reopen().await;
    assert!(log.segments() <= 2, "{} segments are left", log.segments());
    // Everything else goes on.
    let mut orders = open(&log.broker, "orders", 1000).await.unwrap();
    log.publish("orders", 100..103).await;
    let ids: Vec<_> = drain(&mut orders).await.unwrap().iter().map(|taken| taken.envelope.id.to_string()).collect();
    assert_eq!(ids, ["100", "101", "102"]);
    let late = open(&log.broker, "orders", 1000).await.unwrap();
    assert!(late.settler.backlog().await.unwrap() <= Some(3));
}

#[tokio::test]
async fn settled_segments_go_when_the_log_is_too_large() {
    let mut log = Log::new(4 << 10);
    let mut orders = open(&log.broker, "orders", 1000).await.unwrap();
    for round in 0..10 {
        log.publish("orders", round * 20..round * 20 + 20).await;
        let taken = drain(&mut orders).await.unwrap();
        ack(&orders, &taken).await;
    }
    log.reopen().await;
    assert!(log.segments() <= 7, "{} segments are left", log.segments());
}

#[tokio::test]
async fn an_event_that_is_not_settled_by_everybody_stays() {
    let mut log = Log::new(1);
    let mut orders = open(&log.broker, "orders", 1000).await.unwrap();
    open(&log.broker, "results", 1).await.unwrap();
    log.publish("results", 0..1).await;
    log.publish("orders", 0..100).await;
    let taken = drain(&mut orders).await.unwrap();
    ack(&orders, &taken).await;
    log.clock.advance(30 * DAY);
    let before = log.segments();
    log.reopen().await;
    assert!(log.segments() >= before, "the oldest event is somebody's");
    let mut results = open(&log.broker, "results", 10).await.unwrap();
    assert_eq!(drain(&mut results).await.unwrap().len(), 1);
}

#[tokio::test]
async fn parked_and_deferred_events_stay() {
    let mut log = Log::new(1);
    let mut orders = open(&log.broker, "orders", 1000).await.unwrap();
    log.publish("orders", 0..100).await;
    let taken = drain(&mut orders).await.unwrap();
    let park = Settlement::Park { tag: taken[70].tag, attempts: 1, lanes: Vec::new(), reason: None };
    orders.settler.settle(vec![park]).await.unwrap();
    ack(&orders, &[&taken[..70], &taken[71..]].concat()).await;
    log.clock.advance(30 * DAY);
    let before = log.segments();
    log.reopen().await;
    let orders = open(&log.broker, "orders", 1000).await.unwrap();
    let parked = orders.settler.parked().await.unwrap();
    let back = orders.settler.unpark(vec![parked[0].tag]).await.unwrap();
    assert_eq!(back[0].envelope.id.as_str(), "70");
    assert!(log.segments() + 3 < before, "what lies before it is gone: {} of {before}", log.segments());
}

#[tokio::test]
async fn events_that_nobody_has_seen_stay_until_they_are_old() {
    let mut log = Log::new(1);
    log.publish("orders", 0..100).await;
    log.clock.advance(6 * DAY);
    log.reopen().await;
    let mut orders = open(&log.broker, "orders", 1000).await.unwrap();
    assert_eq!(drain(&mut orders).await.unwrap().len(), 100, "somebody may still come");
    let mut log = Log::new(u64::MAX);
    log.publish("orders", 0..100).await;
    log.clock.advance(8 * DAY);
    log.reopen().await;
    let orders = open(&log.broker, "orders", 1000).await.unwrap();
    let left = orders.settler.backlog().await.unwrap();
    assert!(left < Some(20), "{left:?} are left");
}

#[tokio::test]
async fn ids_are_remembered_although_their_events_are_gone() {
    let mut log = Log::new(1);
    let mut orders = open(&log.broker, "orders", 1000).await.unwrap();
    log.publish("orders", 0..100).await;
    let taken = drain(&mut orders).await.unwrap();
    ack(&orders, &taken).await;
    log.reopen().await;
    assert!(log.segments() <= 3);
    let again = log.broker.publish(vec![event("0", "orders"), event("100", "orders")]).await.unwrap();
    assert_eq!((again[0].duplicate, again[0].position, again[1].duplicate), (true, Some(0), false));
}
