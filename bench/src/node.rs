//! A commute node over loopback, against the embedded log in process and against an echo of the same frames without any storage.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use commute::{Node, NodeOptions, SharedBroker};
use commute_core::{Envelope, Outgoing, Settlement, SubscriptionSpec, Timestamp, Topic};
use tokio::task::JoinSet;
use zeromq::{DealerSocket, RouterSocket, Socket, SocketRecv, SocketSend, ZmqMessage};

use crate::row::{Row, median};

const PAYLOAD: usize = 512;
const MANY: usize = 64;

fn topic() -> Result<Topic> {
    Ok(Topic::new("bench")?)
}

fn event() -> Result<Outgoing> {
    let data = Bytes::from(vec![b'x'; PAYLOAD]);
    let envelope = Envelope::new("bench", "bench.event", Timestamp(1_800_000_000_000_000), data);
    Ok(Outgoing { topic: topic()?, envelope, not_before: None })
}

/// So many publishers, each with one event under way. Events per second, and the median time of one publish.
async fn publish(broker: &SharedBroker, publishers: usize, events: usize) -> Result<(f64, Duration)> {
    let began = Instant::now();
    let mut running = JoinSet::new();
    for _ in 0..publishers {
        let broker = broker.clone();
        running.spawn(async move {
            let mut times = Vec::with_capacity(events / publishers);
            for _ in 0..events / publishers {
                let asked = Instant::now();
                broker.publish(vec![event()?]).await?;
                times.push(asked.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::with_capacity(events);
    while let Some(done) = running.join_next().await {
        times.extend(done??);
    }
    let rate = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    Ok((rate, times.get(times.len() / 2).copied().unwrap_or_default()))
}

/// Publishes while a group receives and acknowledges. Events per second, from the first publish to the last acknowledgement.
async fn handle(broker: &SharedBroker, publishers: usize, events: usize) -> Result<f64> {
    let mut subscription = broker.subscribe(SubscriptionSpec::new(topic()?, "bench").credit(4096)).await?;
    // What earlier rows have left is not measured.
    let before = subscription.settler.backlog().await?.context("a backlog")?;
    take(&mut subscription, before).await?;
    let began = Instant::now();
    let publisher = broker.clone();
    let publishing = tokio::spawn(async move { publish(&publisher, publishers, events).await });
    let all = (events / publishers * publishers) as u64;
    take(&mut subscription, all).await?;
    let rate = all as f64 / began.elapsed().as_secs_f64();
    publishing.await??;
    Ok(rate)
}

/// Receives so many and acknowledges them, while it receives the next, as the engine does.
async fn take(subscription: &mut commute_core::Subscription, count: u64) -> Result<()> {
    let (mut received, mut acks) = (0, Vec::new());
    while received < count {
        let settling = subscription.settler.settle(std::mem::take(&mut acks));
        let (taken, settled) = tokio::join!(subscription.receiver.receive(512), settling);
        settled?;
        let taken = taken?;
        received += taken.len() as u64;
        acks = taken.iter().map(|one| Settlement::Ack { tag: one.tag, publish: Vec::new(), mark: true }).collect();
    }
    Ok(subscription.settler.settle(acks).await?)
}

/// The median time of one message of the same frames to a ROUTER and back, by the crate `zeromq`.
async fn echo(times: usize) -> Result<Duration> {
    let mut router = RouterSocket::new();
    let place = router.bind("tcp://127.0.0.1:0").await?;
    let echoing = tokio::spawn(async move {
        while let Ok(message) = router.recv().await {
            if router.send(message).await.is_err() {
                return;
            }
        }
    });
    let mut dealer = DealerSocket::new();
    dealer.connect(&place.to_string()).await?;
    let header = r#"{"events":[{"topic":"bench","size":512,"event":{"specversion":"1.0","id":"0197-0000-0000-0000-000000000000"}}]}"#;
    let frames = [Bytes::from("PUBLISH"), Bytes::from("1"), Bytes::from(header), Bytes::from(vec![b'x'; PAYLOAD])];
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let mut message = ZmqMessage::from("CM1");
        frames.iter().cloned().for_each(|frame| message.push_back(frame));
        let asked = Instant::now();
        dealer.send(message).await?;
        dealer.recv().await?;
        took.push(asked.elapsed());
    }
    echoing.abort();
    took.sort_unstable();
    Ok(took.get(times / 2).copied().unwrap_or_default())
}

/// A node with threads of its own, as in a process of its own.
struct Served {
    runtime: Option<tokio::runtime::Runtime>,
    node: Arc<Node>,
}

impl Served {
    async fn on(broker: SharedBroker) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let node = runtime
            .spawn(async move { Node::serve(broker, "zmq://127.0.0.1:0", NodeOptions::default()).await })
            .await??;
        Ok(Served { runtime: Some(runtime), node: Arc::new(node) })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// All rows.
pub(crate) async fn measure(events: usize, repeat: usize) -> Result<Vec<Row>> {
    let few = (events / 50).max(MANY);
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let mut found: [Vec<f64>; 9] = Default::default();
    for _ in 0..repeat {
        let folders = (tempfile::tempdir()?, tempfile::tempdir()?);
        let open = |folder: &tempfile::TempDir| format!("embedded:{}", folder.path().join("log").display());
        let embedded = commute::connect(&open(&folders.0)).await?;
        let behind = commute::connect(&open(&folders.1)).await?;
        let served = Served::on(behind.clone()).await?;
        let node = commute::connect(&served.node.url()).await?;
        let measured = [
            micros(echo(few).await?),
            micros(publish(&embedded, 1, few).await?.1),
            micros(publish(&node, 1, few).await?.1),
            publish(&embedded, MANY, events).await?.0,
            publish(&node, MANY, events).await?.0,
            handle(&embedded, 1, few).await?,
            handle(&node, 1, few).await?,
            handle(&embedded, MANY, events).await?,
            handle(&node, MANY, events).await?,
        ];
        found.iter_mut().zip(measured).for_each(|(all, one)| all.push(one));
        node.close().await?;
        drop(served);
        behind.close().await?;
        embedded.close().await?;
    }
    let [echo, one_embedded, one_node, many_embedded, many_node, h1_embedded, h1_node, h64_embedded, h64_node] =
        found.map(median);
    let row = |row: &str, value, unit, better, target| Row {
        bench: "node",
        row: row.to_owned(),
        value,
        unit,
        better,
        target,
    };
    let time = |name: &str, value| row(name, value, "us", "lower", None);
    let rate = |name: &str, value| row(name, value, "events/s", "higher", None);
    Ok(vec![
        time("1 publisher, raw echo of the frames", echo),
        time("1 publisher, embedded", one_embedded),
        time("1 publisher, node", one_node),
        row("1 publisher, node to echo and embedded", one_node / (echo + one_embedded), "ratio", "lower", Some(1.2)),
        rate("64 publishers, embedded", many_embedded),
        rate("64 publishers, node", many_node),
        row("64 publishers, node to embedded", many_node / many_embedded, "ratio", "higher", Some(0.5)),
        rate("1 publisher to handled, embedded", h1_embedded),
        rate("1 publisher to handled, node", h1_node),
        rate("64 publishers to handled, embedded", h64_embedded),
        rate("64 publishers to handled, node", h64_node),
        row("64 publishers to handled, node to embedded", h64_node / h64_embedded, "ratio", "higher", Some(0.5)),
    ])
}
