//! Looking at a large log without an owner: how long it takes, and how much memory.
//!
//! Topics, groups and the last ten events are asked for by a process of its own, because its memory is what is measured.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use commute_core::admin::Begin;
use commute_core::{Address, Envelope, Outgoing, Settlement, SharedBroker, SubscriptionSpec, Timestamp, Topic};
use commute_embedded::DRIVER;

use crate::row::{Row, cpu, median};

const BATCH: usize = 1000;
/// An operator waits no longer, in milliseconds, and gives no more memory, in MiB.
const TIME: f64 = 200.0;
const MEMORY: f64 = 100.0;

/// Publishes and settles, so that the topic and the group remember as many ids as they can.
async fn fill(broker: &SharedBroker, events: usize) -> Result<()> {
    let topic = Topic::new("bench")?;
    let mut subscription = broker.subscribe(SubscriptionSpec::new(topic.clone(), "group").credit(events)).await?;
    let data = Bytes::from_static(br#"{"order":536365,"customer":"17850","total":139.12}"#);
    for _ in 0..events / BATCH {
        let event = || {
            let envelope = Envelope::new("bench", "bench.event", Timestamp(0), data.clone());
            Outgoing { topic: topic.clone(), envelope, not_before: None }
        };
        broker.publish((0..BATCH).map(|_| event()).collect()).await?;
        let mut left = BATCH;
        while left > 0 {
            let taken = subscription.receiver.receive(left).await?;
            left -= taken.len();
            // One in a thousand stays, so that there is something to look at.
            let acks = taken.iter().filter(|taken| taken.tag.position % 2000 != 7);
            let acks = acks.map(|taken| Settlement::Ack { tag: taken.tag, publish: Vec::new(), mark: true });
            subscription.settler.settle(acks.collect()).await?;
        }
    }
    Ok(())
}

fn url(directory: &Path) -> String {
    format!("embedded:{}?retention_bytes=100000000000", directory.display())
}

/// What the child does: looks, and prints microseconds, KiB, and microseconds of CPU.
pub(crate) async fn at(url: &str) -> Result<()> {
    let files = DRIVER.files.context("the driver has files")?;
    let began = Instant::now();
    let admin = (files.read)(Address::parse(url)?).await?;
    let (topics, groups) = (admin.topics(None, 100).await?, admin.groups(None).await?);
    let page = admin.read(Topic::new("bench")?, Begin::Last(10), 10).await?;
    let took = began.elapsed();
    ensure!(topics.len() == 1 && groups.len() == 1 && page.events.len() == 10, "{topics:?} {groups:?} {page:?}");
    println!("{} {} {}", took.as_micros(), peak()?, cpu()?.as_micros());
    Ok(())
}

/// The most memory that this process had at once, in KiB.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is read from /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("the kernel counts memory")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Looks from a process of its own: milliseconds, MiB, and milliseconds of CPU, which a busy machine does not change.
fn child(url: &str) -> Result<[f64; 3]> {
    let output = Command::new(std::env::current_exe()?).args(["look-at", "--url", url]).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let numbers = text.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let [micros, kib, cpu] = numbers[..] else { anyhow::bail!("three numbers, not {text:?}") };
    Ok([micros / 1e3, kib / 1024.0, cpu / 1e3])
}

/// All rows.
pub(crate) async fn measure(events: usize, repeat: usize) -> Result<Vec<Row>> {
    let directory = tempfile::tempdir()?;
    let url = url(&directory.path().join("log"));
    let mut rows = Vec::new();
    let mut row = |row: String, value, unit, target| {
        rows.push(Row { bench: "look", row, value, unit, better: "lower", target });
    };
    let broker = commute::connect(&url).await?;
    fill(&broker, events).await?;
    // Without a close this is what a kill leaves behind.
    drop(broker);
    for ending in ["killed", "closed"] {
        let looks = (0..repeat).map(|_| child(&url)).collect::<Result<Vec<_>>>()?;
        let middle = |n: usize| median(looks.iter().map(|look| look[n]).collect());
        row(format!("topics, groups, last 10 of {events}; owner {ending}"), middle(0), "ms", Some(TIME));
        row(format!("the same, CPU; owner {ending}"), middle(2), "ms", None);
        row(format!("the same, memory; owner {ending}"), middle(1), "MiB", Some(MEMORY));
        let (began, used) = (Instant::now(), cpu()?);
        let broker = commute::connect(&url).await?;
        row(format!("open as an owner; the last one was {ending}"), began.elapsed().as_secs_f64() * 1e3, "ms", None);
        row(format!("the same, CPU; the last one was {ending}"), (cpu()? - used).as_secs_f64() * 1e3, "ms", None);
        broker.close().await?;
    }
    Ok(rows)
}
