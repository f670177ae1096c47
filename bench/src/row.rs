//! Rows: one figure each, for people and for programs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) bench: &'static str,
    pub(crate) row: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) better: &'static str,
    pub(crate) target: Option<f64>,
}

/// Shows all rows, and which miss their target.
pub(crate) fn show(rows: &[Row]) {
    for row in rows {
        let target = match row.target {
            None => String::new(),
            Some(target) => {
                let met = if row.better == "higher" { row.value >= target } else { row.value <= target };
                format!("  target {target} {}", if met { "met" } else { "MISSED" })
            }
        };
        println!("{:<9} {:<52} {:>12.2} {}{target}", row.bench, row.row, row.value, row.unit);
    }
}

/// Writes one JSON object per line.
pub(crate) fn save(rows: &[Row], file: &Path) -> Result<()> {
    let mut text = String::new();
    for row in rows {
        text.push_str(&serde_json::to_string(row)?);
        text.push('\n');
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// The middle one.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// CPU time of this process so far, from the kernel's own accounting.
pub(crate) fn cpu() -> Result<Duration> {
    cpu_of("self")
}

/// The same of another process.
pub(crate) fn cpu_of(process: &str) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("CPU time is read from /proc")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |n: usize| fields.get(n).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    // Fields 14 and 15 of the line, in hundredths of a second on Linux.
    Ok(Duration::from_millis((ticks(11) + ticks(12)) * 10))
}
