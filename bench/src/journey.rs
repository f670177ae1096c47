//! Publish → handled → acknowledged, by number of keys, against the raw log and a plain channel in the same run.

use std::time::Instant;

use anyhow::Result;
use commute::{App, handler};

use crate::app::{Measured, finish, messages, publish};
use crate::raw;
use crate::row::{Row, cpu, median};

/// Where the log is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Medium {
    Disk,
    Memory,
}

async fn nothing(_: Measured) {}

/// One pass: events per second, CPU microseconds per event.
async fn pass(medium: Medium, events: usize, keys: u64) -> Result<(f64, f64)> {
    let directory = tempfile::tempdir()?;
    let broker = match medium {
        Medium::Disk => commute::connect(&format!("embedded:{}", directory.path().join("log").display())).await?,
        Medium::Memory => commute::connect("memory:").await?,
    };
    let app = App::new("bench").broker(broker.clone()).on("bench", handler(nothing)).start().await?;
    let messages = messages(events, keys)?;
    let (began, cpu_before) = (Instant::now(), cpu()?);
    publish(&broker, messages, raw::BATCH).await?;
    app.idle().await?;
    let (took, used) = (began.elapsed(), cpu()? - cpu_before);
    finish(app).await?;
    broker.close().await?;
    Ok((events as f64 / took.as_secs_f64(), used.as_secs_f64() * 1e6 / events as f64))
}

/// All rows.
pub(crate) async fn measure(medium: Medium, events: usize, repeat: usize) -> Result<Vec<Row>> {
    let bench = if medium == Medium::Disk { "journey" } else { "dispatch" };
    let directory = tempfile::tempdir()?;
    let keys = [1, 64, 4096];
    let (mut logs, mut channels) = (Vec::new(), Vec::new());
    let (mut rates, mut costs) = (vec![Vec::new(); keys.len()], vec![Vec::new(); keys.len()]);
    // In turn, so that a machine whose speed drifts is fair to all.
    for _ in 0..repeat {
        logs.push(raw::log(directory.path(), events, 1024)?);
        channels.push(raw::channel(events, 1024).await?);
        for (n, keys) in keys.into_iter().enumerate() {
            let (rate, cost) = pass(medium, events, keys).await?;
            rates[n].push(rate);
            costs[n].push(cost);
        }
    }
    let (log, channel) = (median(logs), median(channels));
    let row = |row: String, value, unit, better| Row { bench, row, value, unit, better, target: None };
    let mut rows = vec![
        row("raw log, 1 KiB, 256 per sync".to_owned(), log, "events/s", "higher"),
        row("plain channel, 1 KiB".to_owned(), channel, "events/s", "higher"),
    ];
    for ((keys, rates), costs) in keys.into_iter().zip(rates).zip(costs) {
        let (rate, cost) = (median(rates), median(costs));
        rows.push(row(format!("{keys} keys"), rate, "events/s", "higher"));
        rows.push(row(format!("{keys} keys, CPU"), cost, "us/event", "lower"));
        rows.push(row(format!("{keys} keys, to the raw log"), rate / log, "ratio", "higher"));
        rows.push(row(format!("{keys} keys, to a plain channel"), rate / channel, "ratio", "higher"));
    }
    Ok(rows)
}
