//! Failing events: tried again in their place, given up, or set aside; and nothing else is touched.

mod kit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use commute::prelude::*;
use commute::{Key, Running};
use kit::{Log, Ping, broker, started};

/// Events whose number is a multiple of ten share a lane with their successors up to the next one.
fn tens(ping: &Ping) -> Footprint {
    writes(("ten", ping.n / 10)).into()
}

/// Fails the named attempts of the named numbers.
#[derive(Clone, Default)]
struct Broken {
    number: u64,
    attempts: u32,
    mended: Arc<AtomicU32>,
}

async fn sometimes(
    ping: Ping,
    meta: Meta,
    State(broken): State<Broken>,
    State(log): State<Log>,
) -> Result<(), HandlerError> {
    if ping.n == broken.number && meta.attempt <= broken.attempts && broken.mended.load(Ordering::Relaxed) == 0 {
        return Err(HandlerError::retry("broken"));
    }
    log.add(format!("{}", ping.n));
    Ok(())
}

fn backoff() -> Backoff {
    Backoff::fixed(Duration::from_secs(1)).attempts(3)
}

async fn app(broken: &Broken, log: &Log, exhausted: Exhausted, on_failure: OnFailure) -> Running {
    let handler = handler(sometimes).footprint(tens).retry(backoff()).when_exhausted(exhausted).on_failure(on_failure);
    started(App::new("app").broker(broker().await).state(broken.clone()).state(log.clone()).on("pings", handler)).await
}

async fn publish(app: &Running, numbers: impl IntoIterator<Item = u64>) {
    let pings: Vec<_> = numbers.into_iter().map(Ping::new).collect();
    app.publisher().publish_batch("pings", &pings).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_retrying_event_keeps_its_place_and_delays_only_what_conflicts_with_it() {
    let (broken, log) = (Broken { number: 10, attempts: 2, ..Broken::default() }, Log::default());
    let app = app(&broken, &log, Exhausted::Park, OnFailure::HoldLane).await;
    publish(&app, [10, 11, 20, 12, 21]).await;
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["20", "21", "10", "11", "12"]);
    assert_eq!(app.stats().subscriptions[0].failed, 2);
}

#[tokio::test(start_paused = true)]
async fn a_released_lane_lets_later_events_pass() {
    let (broken, log) = (Broken { number: 10, attempts: 1, ..Broken::default() }, Log::default());
    let app = app(&broken, &log, Exhausted::Park, OnFailure::ReleaseLane).await;
    publish(&app, [10, 11, 12]).await;
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["11", "12", "10"]);
}

#[tokio::test(start_paused = true)]
async fn an_exhausted_event_that_is_skipped_is_a_dead_letter_and_its_lane_goes_on() {
    let (broken, log) = (Broken { number: 10, attempts: 99, ..Broken::default() }, Log::default());
    let app = app(&broken, &log, Exhausted::Skip, OnFailure::HoldLane).await;
    publish(&app, [10, 11]).await;
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["11"]);
    let stats = &app.stats().subscriptions[0];
    assert_eq!((stats.failed, stats.dead, stats.parked), (3, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_parked_lane_holds_what_conflicts_and_comes_back_in_order() {
    let (broken, log) = (Broken { number: 10, attempts: 99, ..Broken::default() }, Log::default());
    let app = app(&broken, &log, Exhausted::Park, OnFailure::HoldLane).await;
    publish(&app, [10, 11, 20]).await;
    app.idle().await.unwrap();
    publish(&app, [12, 21]).await;
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["20", "21"]);
    assert_eq!(app.stats().subscriptions[0].parked, 3);
    let lane = ("ten", 1_u64).lane();
    assert_eq!(app.parked_lanes(), [lane]);
    broken.mended.store(1, Ordering::Relaxed);
    assert_eq!(app.release(lane).await.unwrap(), 3);
    publish(&app, [13]).await;
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["10", "11", "12", "13"]);
    assert_eq!(app.stats().subscriptions[0].parked, 0);
    assert!(app.release(lane).await.is_err(), "it is not parked any more");
}

#[tokio::test(start_paused = true)]
async fn a_rejected_event_is_not_tried_again_and_delays_nothing() {
    let (broker, log) = (broker().await, Log::default());
    async fn reject(ping: Ping, State(log): State<Log>) -> Result<(), HandlerError> {
        log.add(ping.n.to_string());
        if ping.n == 1 { Err(HandlerError::reject("no")) } else { Ok(()) }
    }
    let app = started(App::new("app").broker(broker).state(log.clone()).on("pings", handler(reject).exclusive())).await;
    publish(&app, [1, 2]).await;
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["1", "2"]);
    assert_eq!(app.stats().subscriptions[0].dead, 1);
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_timeout_are_failures_like_any_other() {
    let (broker, log) = (broker().await, Log::default());
    async fn badly(ping: Ping, meta: Meta, State(log): State<Log>) {
        match (ping.n, meta.attempt) {
            (1, 1) => panic!("on purpose"),
            (2, 1) => std::future::pending().await,
            _ => log.add(format!("{} attempt {}", ping.n, meta.attempt)),
        }
    }
    let handler = handler(badly).independent().timeout(Duration::from_secs(1)).retry(backoff());
    let app = started(App::new("app").broker(broker).state(log.clone()).on("pings", handler)).await;
    publish(&app, [1, 2, 3]).await;
    app.idle().await.unwrap();
    let mut seen = log.taken();
    seen.sort();
    assert_eq!(seen, ["1 attempt 2", "2 attempt 2", "3 attempt 1"]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_does_not_hold_what_was_claimed_with_it() {
    let (broker, log) = (broker().await, Log::default());
    async fn slow(ping: Ping, State(log): State<Log>) {
        if ping.n < 4 {
            tokio::time::timeout(Duration::from_millis(500), std::future::pending::<()>()).await.unwrap_err();
        }
        log.add(ping.n.to_string());
    }
    // Four slow events of one key before many instant ones, and hardly any workers.
    let lanes = |ping: &Ping| writes(("slow", if ping.n < 4 { 0 } else { ping.n })).into();
    let app = App::new("app").broker(broker).state(log.clone()).workers(2).on("pings", handler(slow).footprint(lanes));
    let app = started(app).await;
    publish(&app, 0..200).await;
    app.idle().await.unwrap();
    let seen = log.taken();
    assert_eq!(seen[196..], ["0", "1", "2", "3"], "the instant ones did not wait");
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_dead_letter_would_be_too_large_is_parked_and_the_others_go_on() {
    let (broken, log) = (Broken::default(), Log::default());
    let broker = broker().await;
    let handler = handler(sometimes).footprint(tens);
    let app = App::new("app").broker(broker.clone()).state(broken).state(log.clone()).on("pings", handler);
    let app = started(app).await;
    // No JSON, so it cannot be decoded; as base64 in a dead letter it is a third larger.
    let data = vec![0_u8; broker.capabilities().max_event_bytes - 10_000];
    let envelope = commute::Envelope::new("test", "test.ping", commute::Timestamp(0), data.into());
    let outgoing = commute_core::Outgoing { topic: commute::Topic::new("pings").unwrap(), envelope, not_before: None };
    broker.publish(vec![outgoing]).await.unwrap();
    publish(&app, [1]).await;
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["1"]);
    let stats = &app.stats().subscriptions[0];
    assert_eq!((stats.dead, stats.parked), (0, 1));
    app.stop().await.unwrap();
}
