//! Benchmarks: `cargo xtask bench journey|dispatch|store [--json FILE]`. Figures are ratios to a limit that is measured in
//! the same run; absolute numbers are the machine's.

mod app;
mod journey;
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
}

#[derive(Clone, Copy, ValueEnum)]
enum Bench {
    /// Publish, handle, acknowledge on the embedded log: 1 KiB of JSON, a handler that does nothing, 1, 64 and 4,096 keys.
    Journey,
    /// The same on storage in memory.
    Dispatch,
    /// Transactional handlers in SQLite: shared commits against one transaction each.
    Store,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let rows = runtime.block_on(async {
        match args.bench {
            Bench::Journey => journey::measure(journey::Medium::Disk, args.events, args.repeat).await,
            Bench::Dispatch => journey::measure(journey::Medium::Memory, args.events, args.repeat).await,
            Bench::Store => store::measure(args.events.min(20_000), args.repeat).await,
        }
    })?;
    row::show(&rows);
    args.json.map_or(Ok(()), |file| row::save(&rows, &file))
}
