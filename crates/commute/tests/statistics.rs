//! What the statistics say of an app: what it holds, why it pauses, how fast it is, and what it has published.

mod kit;

use std::sync::Arc;
use std::time::Duration;

use commute::PausedBecause;
use commute::prelude::*;
use kit::{Ping, Pong, broker, started};
use tokio::sync::Semaphore;

async fn gated(_: Ping, State(gate): State<Arc<Semaphore>>) {
    gate.acquire().await.unwrap().forget();
}

async fn failing(_: Ping) -> Result<(), HandlerError> {
    Err(HandlerError::retry("not now"))
}

fn pings(count: u64) -> Vec<Ping> {
    (0..count).map(Ping::new).collect()
}

#[tokio::test(start_paused = true)]
async fn a_reader_behind_a_hot_key_says_so_until_there_is_room() {
    let gate = Arc::new(Semaphore::new(0));
    let app = App::new("app").broker(broker().await).state(gate.clone()).look_ahead(3).on("pings", handler(gated));
    let app = started(app).await;
    app.publisher().publish_batch("pings", &pings(8)).await.unwrap();
    let paused = || app.stats().subscriptions[0].paused;
    while paused().is_none() {
        tokio::task::yield_now().await;
    }
    let stats = app.stats().subscriptions.remove(0);
    assert_eq!(stats.paused, Some(PausedBecause::LookAheadFull));
    assert_eq!((stats.in_flight, stats.running, stats.queued, stats.retrying), (3, 1, 2, 0));
    gate.add_permits(8);
    app.idle().await.unwrap();
    let stats = app.stats().subscriptions.remove(0);
    assert_eq!((stats.paused, stats.in_flight, stats.running), (None, 0, 0));
    assert!(stats.pauses.iter().any(|(why, count)| *why == PausedBecause::LookAheadFull && *count > 0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_behind_events_that_back_off_says_so_and_a_stopped_one_drains() {
    let backoff = Backoff::exponential().first(Duration::from_secs(3600)).longest(Duration::from_secs(3600));
    let app = App::new("app").broker(broker().await).look_ahead(2);
    let app = started(app.on("pings", handler(failing).independent().retry(backoff))).await;
    app.publisher().publish_batch("pings", &pings(5)).await.unwrap();
    let monitor = app.monitor();
    while monitor.stats().subscriptions[0].paused != Some(PausedBecause::BackOff) {
        tokio::task::yield_now().await;
    }
    let stats = monitor.stats().subscriptions.remove(0);
    assert_eq!((stats.in_flight, stats.running, stats.queued, stats.retrying, stats.attempts), (2, 0, 0, 2, 2));
    app.stop().await.unwrap();
    assert_eq!(monitor.stats().subscriptions[0].paused, Some(PausedBecause::Draining));
}

#[tokio::test(start_paused = true)]
async fn parked_lanes_are_counted_once_however_many_events_wait_on_them() {
    let app = App::new("app").broker(broker().await);
    let by_parity = handler(failing).footprint(|ping: &Ping| writes(("parity", ping.n % 2)).into());
    let by_parity = by_parity.retry(Backoff::exponential().attempts(1)).when_exhausted(commute::Exhausted::Park);
    let app = started(app.on("pings", by_parity)).await;
    app.publisher().publish_batch("pings", &pings(6)).await.unwrap();
    app.idle().await.unwrap();
    let stats = app.stats();
    assert_eq!((stats.parked_lanes, stats.subscriptions[0].parked_lanes, stats.subscriptions[0].parked), (2, 2, 6));
}

#[tokio::test]
async fn whatever_is_published_is_counted_whichever_way_it_goes_and_both_rates_are_said() {
    async fn answer(ping: Ping) -> Result<Pong, HandlerError> {
        if ping.n == 7 { Err(HandlerError::reject("seven")) } else { Ok(Pong { n: ping.n }) }
    }
    let app = App::new("app").broker(broker().await).on("pings", handler(answer).independent().publishes("pongs"));
    let app = started(app).await;
    app.publisher().publish_batch("pings", &pings(30)).await.unwrap();
    app.idle().await.unwrap();
    let stats = app.stats();
    let published: Vec<_> = stats.topics.iter().map(|topic| (topic.topic.as_str(), topic.published)).collect();
    assert_eq!(published, [("pings", 30), ("pings.dead", 1), ("pongs", 29)]);
    let subscription = &stats.subscriptions[0];
    assert_eq!((subscription.published, subscription.handled, subscription.dead), (30, 29, 1));
    assert!(subscription.published_per_second > subscription.handled_per_second, "{subscription:?}");
    assert!(subscription.handled_per_second > 0.0, "{subscription:?}");
}
