//! Progress: a live line per service on a terminal, plain lines once a second elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use commute::Stats;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::shop::Watch;

/// Shows until it is finished.
pub struct Shown {
    task: JoinHandle<()>,
    bars: Option<(MultiProgress, Vec<ProgressBar>)>,
}

/// Begins to show progress on standard error.
pub fn show(watch: Watch) -> Shown {
    if std::io::stderr().is_terminal() {
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        let bars: Vec<_> =
            watch.stats().iter().map(|_| all.add(ProgressBar::new_spinner().with_style(style.clone()))).collect();
        let task = tokio::spawn(repeat(watch, Duration::from_millis(200), {
            let bars = bars.clone();
            move |n, line| bars[n].set_message(line)
        }));
        return Shown { task, bars: Some((all, bars)) };
    }
    let task = tokio::spawn(repeat(watch, Duration::from_secs(1), |_, line| eprintln!("{line}")));
    Shown { task, bars: None }
}

impl Shown {
    /// Shows no more.
    pub fn finish(self) {
        self.task.abort();
        if let Some((all, bars)) = self.bars {
            for bar in bars {
                bar.finish_and_clear();
            }
            let _ = all.clear();
        }
    }
}

async fn repeat(watch: Watch, every: Duration, show: impl Fn(usize, String)) {
    let mut ticks = tokio::time::interval(every);
    let mut before: Vec<(Instant, u64)> = Vec::new();
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let stats = watch.stats();
        for (n, app) in stats.iter().enumerate() {
            let (then, handled) = before.get(n).copied().unwrap_or((now, 0));
            let rate = (app.handled() - handled) as f64 / (now - then).as_secs_f64().max(1e-3);
            if !before.is_empty() {
                show(n, line(app, rate));
            }
        }
        before = stats.iter().map(|app| (now, app.handled())).collect();
    }
}

fn line(app: &Stats, rate: f64) -> String {
    let sum = |of: fn(&commute::SubscriptionStats) -> u64| -> u64 { app.subscriptions.iter().map(of).sum() };
    format!(
        "{:>10}: {:>7} handled {rate:>7.0}/s {:>5} in flight {:>6} waiting {:>5} retrying {:>4} dead",
        app.app,
        app.handled(),
        app.running,
        app.waiting,
        sum(|sub| sub.retrying),
        sum(|sub| sub.dead),
    )
}
