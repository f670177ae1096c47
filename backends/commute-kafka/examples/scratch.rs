//! Scratch.
use commute_core::*;
use std::time::{Duration, Instant};
use bytes::Bytes;
fn ev(key: &str, n: usize) -> Envelope {
    let mut e = Envelope::new("s", "t", Timestamp(1_000_000), Bytes::from(vec![b'x'; n]));
    e.extensions.set("partitionkey", key).unwrap(); e
}
#[tokio::main]
async fn main() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_env_filter(std::env::var("RUST_LOG").unwrap_or("warn".into())).init();
    let url = std::env::var("COMMUTE_TEST_KAFKA").unwrap();
    let parts = std::env::args().nth(1).unwrap_or("1".into());
    let t = Instant::now();
    let b = (commute_kafka::DRIVER.connect)(Address::parse(&format!("{url}?partitions={parts}&session_timeout_ms=6000")).unwrap()).await.unwrap();
    println!("connect {:?}", t.elapsed());
    let topic = Topic::new(format!("scratch.{}", fastrand::u32(..))).unwrap();
    let out = |key: &str, n| Outgoing { topic: topic.clone(), envelope: ev(key, n), not_before: None };
    let t = Instant::now();
    b.publish(vec![out("a", 10)]).await.unwrap();
    println!("first publish {:?}", t.elapsed());
    let t = Instant::now();
    for _ in 0..3000 { b.publish(vec![out("a", 10)]).await.unwrap(); }
    println!("publish one by one {:?} each", t.elapsed() / 100);
    for _ in 0..std::env::var("ROUNDS").map_or(3, |r| r.parse().unwrap()) {
        let t = Instant::now();
        let s = b.subscribe(SubscriptionSpec::new(topic.clone(), "g")).await.unwrap();
        println!("subscribe {:?}", t.elapsed());
        let Subscription { mut receiver, settler } = s;
        let t = Instant::now();
        let d = receiver.receive(10).await.unwrap();
        println!("first receive {:?}", t.elapsed());
        let t = Instant::now();
        settler.settle(d.iter().map(|d| Settlement::Ack { tag: d.tag, publish: vec![], mark: false }).collect()).await.unwrap();
        println!("settle {:?}", t.elapsed());
        let d = receiver.receive(10).await.unwrap();
        let t = Instant::now();
        settler.settle(d.iter().map(|d| Settlement::Park { tag: d.tag, attempts: 1, lanes: vec![], reason: None }).collect()).await.unwrap();
        println!("park {:?}", t.elapsed());
        let d = receiver.receive(10).await.unwrap();
        let t = Instant::now();
        for d in d { settler.settle(vec![Settlement::Ack { tag: d.tag, publish: vec![], mark: false }]).await.unwrap(); }
        println!("10 settles {:?}", t.elapsed());
        let t = Instant::now();
        settler.backlog().await.unwrap();
        println!("backlog {:?}", t.elapsed());
        drop(receiver);
    }
    if std::env::var("ROUNDS").is_ok() { return }
    // throughput
    let n = 200_000usize;
    let t = Instant::now();
    let mut tasks = vec![];
    for k in 0..8 {
        let (b, topic) = (b.clone(), topic.clone());
        tasks.push(tokio::spawn(async move {
            for c in 0..n / 8 / 500 {
                let batch = (0..500).map(|i| Outgoing { topic: topic.clone(), envelope: ev(&format!("{}", (c * 500 + i + k) % 100), 200), not_before: None }).collect();
                b.publish(batch).await.unwrap();
            }
        }));
    }
    for t in tasks { t.await.unwrap(); }
    println!("publish {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
    let Subscription { mut receiver, settler } = b.subscribe(SubscriptionSpec::new(topic.clone(), "tp").credit(4096)).await.unwrap();
    let t = Instant::now();
    let mut seen = 0;
    while seen < n {
        let d = receiver.receive(1000).await.unwrap();
        seen += d.len();
        let s = settler.clone();
        tokio::spawn(async move { s.settle(d.iter().map(|d| Settlement::Ack { tag: d.tag, publish: vec![], mark: false }).collect()).await.unwrap(); });
    }
    println!("consume+ack {:.0}/s", n as f64 / t.elapsed().as_secs_f64());
    drop(receiver);
    let other = Topic::new(format!("{topic}.o")).unwrap();
    let Subscription { mut receiver, settler } = b.subscribe(SubscriptionSpec::new(topic.clone(), "tp2").credit(4096)).await.unwrap();
    let t = Instant::now();
    let mut seen = 0;
    while seen < n / 4 {
        let d = receiver.receive(200).await.unwrap();
        seen += d.len();
        let (s, other) = (settler.clone(), other.clone());
        tokio::spawn(async move { s.settle(d.iter().map(|d| Settlement::Ack { tag: d.tag, publish: vec![Outgoing { topic: other.clone(), envelope: ev("a", 200), not_before: None }], mark: false }).collect()).await.unwrap(); });
    }
    println!("consume+ack+publish {:.0}/s", seen as f64 / t.elapsed().as_secs_f64());
    let t = Instant::now();
    b.close().await.unwrap();
    println!("close {:?}", t.elapsed());
    let _ = Duration::ZERO;
}
