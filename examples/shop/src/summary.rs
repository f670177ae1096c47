//! The table at the end: rates, latencies, what was absorbed and given up, and how parallel it was.

use std::fmt::Write;
use std::time::Duration;

use commute::Stats;

use crate::feed::Fed;
use crate::report::Report;

/// Writes the table.
pub fn table(stats: &[Stats], fed: &Fed, took: Duration, report: &Report) -> String {
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = write(&mut text, stats, fed, took, report);
    text
}

fn write(
    text: &mut String,
    stats: &[Stats],
    fed: &Fed,
    took: Duration,
    report: &Report,
) -> Result<(), std::fmt::Error> {
    let seconds = took.as_secs_f64();
    let handled: u64 = stats.iter().map(Stats::handled).sum();
    writeln!(
        text,
        "{:<34} {:>9} {:>9} {:>10} {:>10} {:>7} {:>7} {:>6}",
        "subscription", "events", "R 1/s", "L p50", "L p99", "failed", "absorb", "dead"
    )?;
    for app in stats {
        for sub in &app.subscriptions {
            writeln!(
                text,
                "{:<34} {:>9} {:>9.0} {:>10} {:>10} {:>7} {:>7} {:>6}",
                format!("{} of {}", sub.subscription, sub.topic),
                sub.handled,
                sub.handled as f64 / seconds,
                short(sub.latency_p50),
                short(sub.latency_p99),
                sub.failed,
                sub.duplicates,
                sub.dead,
            )?;
        }
    }
    writeln!(text)?;
    writeln!(text, "orders published   {:>9}  (of these already there: {})", fed.orders, fed.duplicates)?;
    writeln!(
        text,
        "publish rate P     {:>9.0}  orders/s, N / T",
        fed.orders as f64 / fed.took.as_secs_f64().max(1e-9)
    )?;
    writeln!(
        text,
        "handling rate R    {:>9.0}  events/s, M / T, M = {handled}, T = {}",
        handled as f64 / seconds,
        short(took)
    )?;
    for app in stats {
        let there = app.work.as_secs_f64() / app.critical_path.as_secs_f64().max(1e-9);
        writeln!(
            text,
            "parallelism        {:>9.1}  achieved by {}; there were {there:.1}",
            app.work.as_secs_f64() / seconds,
            app.app
        )?;
    }
    for (reason, count) in &report.rejections {
        writeln!(text, "dead letters       {count:>9}  {reason}")?;
    }
    for (status, count) in &report.totals.by_status {
        writeln!(text, "orders {status:<11} {count:>9}")?;
    }
    Ok(())
}

fn short(time: Duration) -> String {
    format!("{time:.1?}")
}
