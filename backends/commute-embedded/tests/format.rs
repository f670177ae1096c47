//! The format: today's program writes these bytes, and reads what every earlier one wrote.
//!
//! `formats/1.txt` holds the files of a small log in hexadecimal, in format 1. Such a file never changes; a new format adds
//! one.

mod support;

use commute_core::admin::Begin;
use commute_core::{Broker, Lane, Mode, Settlement, Subscription, SubscriptionSpec, Timestamp};
use commute_embedded::storage::Memory;
use commute_embedded::{Embedded, Options};
use support::{drain, event, open, small, topic};

const FORMAT_1: &str = include_str!("formats/1.txt");
const FORMAT_2: &str = include_str!("formats/2.txt");

async fn open_as(broker: &Embedded, topic_name: &str, group: &str) -> Subscription {
    broker.subscribe(SubscriptionSpec::new(topic(topic_name), group)).await.unwrap()
}

/// One of everything that the log remembers.
async fn written() -> Memory {
    let disk = Memory::new();
    let options = || Options { seed: Some(7), segment_bytes: 4 << 10, ..small() };
    let broker = Embedded::in_memory(&disk, options()).unwrap();
    let mut full = event("full", "orders");
    full.envelope.subject = Some("536365".into());
    full.envelope.data_content_type = Some("text/plain".into());
    full.envelope.data_schema = Some("urn:x".into());
    full.envelope.extensions.set("partitionkey", "ä").unwrap();
    let mut later = event("later", "orders");
    later.not_before = Some(Timestamp(1_800_000_000_000_001));
    broker.publish(vec![full, event("bare", "orders"), event("parked", "orders"), later]).await.unwrap();
    let mut orders = open(&broker, "orders", 10).await.unwrap();
    let taken = orders.receiver.receive(3).await.unwrap();
    let tag = |n: usize| taken[n].tag;
    let park = |n: usize, mode, reason: Option<&str>| Settlement::Park {
        tag: tag(n),
        attempts: 2,
        lanes: vec![(Lane(7), mode), (Lane(u64::MAX), Mode::Shared(9))],
        reason: reason.map(Into::into),
    };
    let settlements = vec![
        Settlement::Ack { tag: tag(0), publish: vec![event("result", "results")], mark: true },
        Settlement::Defer { tag: tag(1), attempts: 3, not_before: Timestamp(1_800_000_000_000_002) },
        park(2, Mode::Exclusive, Some("broken")),
    ];
    orders.settler.settle(settlements).await.unwrap();
    let parked = orders.settler.parked().await.unwrap();
    orders.settler.unpark(vec![parked[0].tag]).await.unwrap();
    orders.settler.settle(vec![park(2, Mode::READ, None)]).await.unwrap();
    let mut again = open_as(&broker, "results", "again").await;
    let taken = again.receiver.receive(1).await.unwrap();
    let ack = Settlement::Ack { tag: taken[0].tag, publish: Vec::new(), mark: true };
    again.settler.settle(vec![ack]).await.unwrap();
    broker.close().await.unwrap();
    // Behind the snapshot.
    let broker = Embedded::in_memory(&disk, options()).unwrap();
    let name = "again@results".parse().unwrap();
    assert_eq!(broker.admin().unwrap().replay(name, Begin::Start).await.unwrap(), 0);
    broker.publish(vec![event("behind", "results")]).await.unwrap();
    drop(broker);
    disk.after_kill()
}

/// What is expected of such a log, whoever wrote it.
async fn check(disk: &Memory) {
    let broker = Embedded::in_memory(disk, small()).unwrap();
    let known = ["full", "bare", "parked", "later"].map(|name| event(name, "orders")).to_vec();
    let known = broker.publish(known).await.unwrap();
    assert!(known.iter().zip(0..).all(|(known, n)| known.duplicate && known.position == Some(n)), "{known:?}");
    let mut orders = open(&broker, "orders", 10).await.unwrap();
    let taken = orders.receiver.receive(10).await.unwrap();
    assert_eq!(taken.len(), 1, "one is handled, one is parked, one is not due");
    assert_eq!((taken[0].envelope.id.as_str(), taken[0].attempt), ("bare", 4));
    assert_eq!(taken[0].not_before, Some(Timestamp(1_800_000_000_000_002)));
    let parked = orders.settler.parked().await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].lanes, [(Lane(7), Mode::READ), (Lane(u64::MAX), Mode::Shared(9))]);
    assert_eq!((parked[0].attempts, parked[0].reason.as_deref()), (2, None));
    let mut results = open(&broker, "results", 10).await.unwrap();
    let ids: Vec<_> = drain(&mut results).await.unwrap().iter().map(|taken| taken.envelope.id.to_string()).collect();
    assert_eq!(ids, ["result", "behind"]);
    let mut again = open(&broker, "orders", 10).await.unwrap();
    drop(orders);
    let full = broker.publish(vec![event("full-again", "orders")]).await.unwrap();
    assert_eq!(full[0].position, Some(4));
    let ids: Vec<_> =
        again.receiver.receive(10).await.unwrap().iter().map(|taken| taken.envelope.id.to_string()).collect();
    assert_eq!(ids, ["bare", "full-again"]);
}

fn to_text(disk: &Memory) -> String {
    let mut text = String::new();
    for name in disk.list().iter().filter(|name| !name.ends_with(".new")) {
        let bytes = disk.bytes(name).unwrap();
        text.push_str(&format!("{name}\n"));
        for line in bytes.chunks(32) {
            text.push_str(&format!("  {}\n", line.iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
        }
    }
    text
}

fn from_text(text: &str) -> Memory {
    let disk = Memory::new();
    let mut name = "";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => {
                name = line;
                disk.put(name, Vec::new());
            }
            Some(hex) => {
                let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
                let bytes = (0..hex.len()).step_by(2).map(byte);
                disk.put(name, disk.bytes(name).unwrap().into_iter().chain(bytes).collect());
            }
        }
    }
    disk
}

#[tokio::test]
async fn the_bytes_of_format_2_do_not_change() {
    let written = to_text(&written().await);
    assert!(written == FORMAT_2, "these bytes are written now:\n{written}");
}

#[tokio::test]
async fn a_log_of_format_2_is_read() {
    let disk = from_text(FORMAT_2);
    check(&disk).await;
    let broker = Embedded::in_memory(&disk, small()).unwrap();
    let mut again = open_as(&broker, "results", "again").await;
    let ids: Vec<_> = drain(&mut again).await.unwrap().iter().map(|taken| taken.envelope.id.to_string()).collect();
    assert_eq!(ids, ["result", "behind"], "what was handled before the replay is handled again");
}

#[tokio::test]
async fn a_log_of_format_1_is_read_and_goes_on() {
    let disk = from_text(FORMAT_1);
    check(&disk).await;
    let broker = Embedded::in_memory(&disk, small()).unwrap();
    broker.close().await.unwrap();
    let broker = Embedded::in_memory(&disk, small()).unwrap();
    let topics = broker.admin().unwrap().topics(None, 10).await.unwrap();
    let found: Vec<_> =
        topics.iter().map(|topic| (topic.topic.as_str(), topic.next, topic.youngest.is_some())).collect();
    assert_eq!(found, [("orders", 5, true), ("results", 2, true)]);
}
