//! Sampling: once a second, where the counters stand, and whether a reader has paused or goes on.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::engine::Engine;
use crate::pause::PausedBecause;

const PERIOD: Duration = Duration::from_secs(1);

/// Runs until everything ends.
pub(crate) async fn sample(engine: Arc<Engine>) {
    loop {
        tokio::select! {
            () = engine.stop.everything.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let now = Instant::now();
        engine.published.sample(now);
        for (n, subscription) in engine.subscriptions.iter().enumerate() {
            let counters = &subscription.counters;
            counters.sample(now, counters.handled.load(Ordering::Relaxed));
            // A reader at its limit pauses and goes on many times a second; the log hears of it once a second at most.
            if let Some(changed) = counters.pause.changed() {
                say(&engine, n, changed);
            }
        }
    }
}

fn say(engine: &Engine, n: usize, changed: Option<PausedBecause>) {
    let (app, route) = (&engine.name, &engine.subscriptions[n].planned.route);
    let (subscription, topic) = (&route.subscription, &route.topic);
    match changed {
        None => tracing::debug!(%app, %subscription, %topic, "the reader goes on"),
        // Workers that have enough to do are no news.
        Some(PausedBecause::WindowFull) => {
            tracing::debug!(%app, %subscription, %topic, because = %PausedBecause::WindowFull, "the reader pauses");
        }
        Some(because) => {
            let busiest = engine.dispatch().scheduler.busiest_lanes(1).pop();
            let lane = busiest.as_ref().map(|lane| tracing::field::display(lane.lane));
            let behind = busiest.as_ref().map_or(0, |lane| lane.waiting);
            tracing::warn!(%app, %subscription, %topic, %because, lane, behind, "the reader pauses");
        }
    }
}
