//! Orders of an operator under crashes: each has happened as a whole or not at all.

mod support;

use std::sync::Arc;

use commute_core::admin::{Begin, Ended};
use commute_core::{Admin, Broker, Code, Settlement, SubscriptionName};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options, Window};
use support::{drain, event, open, segments, small, topic};

const LOG: &str = "0000000001.log";

fn options() -> Options {
    Options { segment_bytes: 1 << 20, ..small() }
}

fn name() -> SubscriptionName {
    "group@orders".parse().unwrap()
}

fn admin(broker: &Embedded) -> &dyn Admin {
    broker.admin().unwrap()
}

/// Two events handled, one parked, one failed, two open. Nobody runs.
async fn prepared(disk: &Memory) -> Arc<Embedded> {
    let broker = Embedded::in_memory(disk, options()).unwrap();
    let orders = ["a", "b", "c", "d", "e", "f"].map(|id| event(id, "orders"));
    broker.publish(orders.to_vec()).await.unwrap();
    let mut orders = open(&broker, "orders", 10).await.unwrap();
    let tags: Vec<_> = drain(&mut orders).await.unwrap().iter().map(|taken| taken.tag).collect();
    let ack = |tag| Settlement::Ack { tag, publish: Vec::new(), mark: true };
    let park = Settlement::Park { tag: tags[2], attempts: 1, lanes: Vec::new(), reason: Some("broken".into()) };
    let defer = Settlement::Defer { tag: tags[4], attempts: 1, not_before: commute_core::Timestamp(7) };
    orders.settler.settle(vec![ack(tags[0]), ack(tags[3]), park, defer]).await.unwrap();
    broker
}

#[derive(Debug, Clone, Copy)]
enum Order {
    End,
    Keep,
    Unpark,
    Replay,
}

const ORDERS: [Order; 4] = [Order::End, Order::Keep, Order::Unpark, Order::Replay];

impl Order {
    async fn give(self, broker: &Embedded) -> commute_core::Result<()> {
        let admin = admin(broker);
        match self {
            Order::End => {
                let ended = |position, ids: &[&str]| Ended {
                    position,
                    publish: ids.iter().map(|id| event(id, "results")).collect(),
                };
                // One that is open, the parked one, one that is done, and the one that failed.
                let ended = vec![ended(1, &["b1", "b2"]), ended(2, &["c1"]), ended(3, &["d1"]), ended(4, &[])];
                assert_eq!(admin.end(name(), ended).await?, [true, true, false, true]);
                Ok(())
            }
            Order::Keep => admin.keep("late@others".parse().unwrap()).await,
            Order::Unpark => admin.unpark(name(), vec![2]).await,
            Order::Replay => admin.replay(name(), Begin::Position(2)).await.map(drop),
        }
    }

    /// What there is when the order was carried out.
    fn done(self) -> &'static str {
        match self {
            Order::End => "open f | parked | results b1 b2 c1 | kept 0",
            Order::Keep => "open b e f | parked c | results | kept 1",
            Order::Unpark => "open b c e f | parked | results | kept 0",
            Order::Replay => "open b c d e f | parked | results | kept 0",
        }
    }
}

const BEFORE: &str = "open b e f | parked c | results | kept 0";

/// What whoever opens the log finds.
async fn found(disk: &Memory) -> String {
    let broker = Embedded::in_memory(disk, options()).unwrap();
    let admin = admin(&broker);
    let id = |stored: &commute_core::admin::StoredEvent| format!(" {}", stored.event.id);
    let open: String = admin.unsettled(name(), None, 100).await.unwrap().iter().map(id).collect();
    let parked = admin.parked(name(), None, 100).await.unwrap();
    let parked: String = parked.iter().map(|parked| id(&parked.stored)).collect();
    let results = match admin.read(topic("results"), Begin::Start, 100).await {
        Ok(page) => page.events.iter().map(id).collect(),
        Err(error) if error.code() == Code::NotFound => String::new(),
        Err(error) => panic!("{error}"),
    };
    let kept = admin.groups(Some(topic("others"))).await.unwrap().len();
    // What is listed as open is what is delivered.
    let mut orders = support::open(&broker, "orders", 100).await.unwrap();
    let taken: String =
        drain(&mut orders).await.unwrap().iter().map(|taken| format!(" {}", taken.envelope.id)).collect();
    assert_eq!(taken, open);
    format!("open{open} | parked{parked} | results{results} | kept {kept}")
}

#[tokio::test]
async fn an_order_whose_log_is_cut_anywhere_was_carried_out_or_not_begun() {
    for order in ORDERS {
        let disk = Memory::new();
        let broker = prepared(&disk).await;
        let before = disk.bytes(LOG).unwrap();
        order.give(&broker).await.unwrap();
        let after = disk.bytes(LOG).unwrap();
        assert_eq!(segments(&disk)[0], LOG);
        assert!(before.len() < after.len() && after.starts_with(&before), "one group is appended");
        for length in before.len()..after.len() {
            let cut = disk.after_kill();
            cut.put(LOG, after[..length].to_vec());
            assert_eq!(found(&cut).await, BEFORE, "{order:?} cut to {length} of {}", after.len());
        }
        assert_eq!(found(&disk.after_kill()).await, order.done(), "{order:?}");
        assert_eq!(found(&disk.after_power_loss(|| false)).await, order.done(), "{order:?} is durable when answered");
    }
}

#[tokio::test]
async fn an_order_that_the_disk_refused_was_carried_out_or_not_begun() {
    let mut random = fastrand::Rng::with_seed(9);
    for order in ORDERS {
        let disk = Memory::new();
        let broker = prepared(&disk).await;
        disk.fail_sync(disk.syncs() + 1);
        assert_eq!(order.give(&broker).await.unwrap_err().code(), Code::Poisoned);
        for _ in 0..20 {
            let found = found(&disk.after_power_loss(|| random.bool())).await;
            assert!([BEFORE, order.done()].contains(&found.as_str()), "{order:?}: {found}");
        }
    }
}

#[tokio::test]
async fn what_was_ordered_survives_the_snapshot_too() {
    for order in ORDERS {
        let disk = Memory::new();
        let broker = prepared(&disk).await;
        order.give(&broker).await.unwrap();
        broker.close().await.unwrap();
        assert_eq!(found(&disk).await, order.done(), "{order:?}");
    }
}

#[test]
fn an_event_that_is_ended_while_it_is_being_received_is_not_delivered() {
    // One thread reads files, so that it can be kept busy.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        // Nothing of the tail is in memory, so receiving reads the file between claiming and handing over; and no inbox
        // helps.
        let disk = Memory::new();
        let inbox_window = Window { time: std::time::Duration::ZERO, count: 0 };
        let broker = Embedded::in_memory(&disk, Options { tail_bytes: 0, inbox_window, ..options() }).unwrap();
        broker.publish(["a", "b"].map(|id| event(id, "orders")).to_vec()).await.unwrap();
        let mut orders = open(&broker, "orders", 10).await.unwrap();
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let busy = tokio::task::spawn_blocking(move || held.recv());
        let mut receiving = orders.receiver.receive(10);
        std::future::poll_fn(|context| {
            assert!(receiving.as_mut().poll(context).is_pending(), "it has claimed, and waits for the file");
            std::task::Poll::Ready(())
        })
        .await;
        drop(release);
        assert!(busy.await.unwrap().is_err());
        let ended = vec![Ended { position: 0, publish: Vec::new() }];
        assert_eq!(admin(&broker).end(name(), ended).await.unwrap(), [true]);
        let taken: Vec<_> = receiving.await.unwrap().iter().map(|taken| taken.envelope.id.to_string()).collect();
        assert_eq!(taken, ["b"]);
    });
}

#[test]
fn an_event_that_is_given_back_while_others_are_being_received_keeps_its_place_among_them() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let disk = Memory::new();
        let broker = Embedded::in_memory(&disk, Options { tail_bytes: 0, ..options() }).unwrap();
        broker.publish(["a", "b", "c"].map(|id| event(id, "orders")).to_vec()).await.unwrap();
        let mut orders = open(&broker, "orders", 10).await.unwrap();
        let taken = orders.receiver.receive(2).await.unwrap();
        orders.settler.settle(vec![Settlement::Return { tag: taken[0].tag }]).await.unwrap();
        let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
        let busy = tokio::task::spawn_blocking(move || held.recv());
        let mut receiving = orders.receiver.receive(10);
        std::future::poll_fn(|context| {
            assert!(receiving.as_mut().poll(context).is_pending(), "it has claimed the first and the last");
            std::task::Poll::Ready(())
        })
        .await;
        orders.settler.settle(vec![Settlement::Return { tag: taken[1].tag }]).await.unwrap();
        drop(release);
        assert!(busy.await.unwrap().is_err());
        let mut seen: Vec<_> = receiving.await.unwrap().iter().map(|taken| taken.envelope.id.to_string()).collect();
        while seen.len() < 3 {
            seen.extend(orders.receiver.receive(10).await.unwrap().iter().map(|taken| taken.envelope.id.to_string()));
        }
        assert_eq!(seen, ["a", "b", "c"]);
    });
}

#[tokio::test]
async fn what_is_replayed_is_retained() {
    let clock = commute_conformance::ManualClock::new();
    let disk = Memory::new();
    let options = Options { clock: clock.clone(), ..small() };
    let broker = Embedded::in_memory(&disk, options.clone()).unwrap();
    for n in 0..40 {
        broker.publish(vec![event(&n.to_string(), "orders")]).await.unwrap();
    }
    let mut orders = open(&broker, "orders", 100).await.unwrap();
    let taken = drain(&mut orders).await.unwrap();
    let acks = taken.iter().map(|taken| Settlement::Ack { tag: taken.tag, publish: Vec::new(), mark: true });
    orders.settler.settle(acks.collect()).await.unwrap();
    drop(orders);
    assert_eq!(admin(&broker).replay(name(), Begin::Last(30)).await.unwrap(), 10);
    clock.advance(std::time::Duration::from_secs(30 * 24 * 3600));
    broker.close().await.unwrap();
    let broker = Embedded::in_memory(&disk, options).unwrap();
    let page = admin(&broker).read(topic("orders"), Begin::Start, 100).await.unwrap();
    assert!(page.events[0].position > 0 && page.events[0].position <= 10, "the oldest may go, what is replayed not");
    assert_eq!(admin(&broker).unsettled(name(), None, 100).await.unwrap().len(), 30);
}
