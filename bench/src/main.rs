//! Benchmarks: `cargo xtask bench journey|dispatch|store|look|node [--json FILE]`. Figures are ratios to a limit measured in
//! the same run; absolute numbers are the machine's.

mod app;
mod journey;
mod look;
mod node;
mod raw;
mod row;
mod store;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, ValueEnum};

/// Measures commute.
#[derive(Parser)]
struct Args {
    /// What to measure.
    bench: Bench,
    /// Write one JSON object per row.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// How many events per row.
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// How often every row is measured; the median is shown.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Where to look.
    #[arg(long, hide = true)]
    url: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// Publish, handle, acknowledge on the embedded log: 1 KiB of JSON, a handler that does nothing, 1, 64 and 4,096 keys.
    Journey,
    /// The same on storage in memory.
    Dispatch,
    /// Transactional handlers in SQLite: shared commits against one transaction each.
    Store,
    /// Looking at a log without an owner: time and memory. Meant for `--events 5000000`.
    Look,
    /// A node over loopback: 512 B, 1 and 64 publishers, to the receipt and to handled, beside the embedded log and an echo.
    Node,
    /// One look, in a process of its own.
    #[value(hide = true)]
    LookAt,
    /// One node, in a process of its own.
    #[value(hide = true)]
    NodeAt,
}

fn main() -> Result<()> {
    let args = Args::parse();
    if matches!(args.bench, Bench::NodeAt) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(node::serve(args.url.as_deref().unwrap_or_default()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rows = runtime.block_on(async {
        match args.bench {
            Bench::Journey => journey::measure(journey::Medium::Disk, args.events, args.repeat).await,
            Bench::Dispatch => journey::measure(journey::Medium::Memory, args.events, args.repeat).await,
            Bench::Store => store::measure(args.events.min(20_000), args.repeat).await,
            Bench::Look => look::measure(args.events, args.repeat).await,
            Bench::Node => node::measure(args.events, args.repeat).await,
            Bench::LookAt => look::at(args.url.as_deref().unwrap_or_default()).await.map(|()| Vec::new()),
            Bench::NodeAt => Ok(Vec::new()),
        }
    })?;
    row::show(&rows);
    args.json.map_or(Ok(()), |file| row::save(&rows, &file))
}
