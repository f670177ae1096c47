//! A hot key, far more events than payloads are held, and what passes it.

mod kit;
mod script;

use std::time::Duration;

use commute::prelude::*;
use kit::{Log, Ping, broker, started};
use script::Script;

#[tokio::test(start_paused = true)]
async fn a_hot_key_does_not_stop_the_reader_and_keeps_its_order_when_payloads_are_read_again() {
    let (broker, log) = (broker().await, Log::default());
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    async fn gated(ping: Ping, State(gate): State<std::sync::Arc<tokio::sync::Semaphore>>, State(log): State<Log>) {
        if ping.n == 0 {
            gate.acquire().await.unwrap().forget();
        }
        log.add(ping.n.to_string());
    }
    // Everything but the last event is one lane, and more of it than payloads are held.
    const HOT: u64 = 6_000;
    let lanes = |ping: &Ping| writes(("lane", u64::from(ping.n == HOT))).into();
    let app = App::new("app").broker(broker).state(gate.clone()).state(log.clone());
    let app = started(app.workers(4).on("pings", handler(gated).footprint(lanes))).await;
    for start in (0..HOT).step_by(500) {
        let pings: Vec<_> = (start..start + 500).map(Ping::new).collect();
        app.publisher().publish_batch("pings", &pings).await.unwrap();
    }
    app.publisher().publish("pings", &Ping::new(HOT)).await.unwrap();
    while app.stats().handled() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(log.taken(), [HOT.to_string()], "it passed the whole hot lane");
    assert_eq!(app.stats().waiting as u64, HOT - 1);
    gate.add_permits(1);
    app.idle().await.unwrap();
    assert_eq!(log.taken(), (0..HOT).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn the_reader_does_not_run_ahead_of_the_payloads_that_are_held_while_there_is_enough_to_do() {
    let (broker, gate) = (broker().await, std::sync::Arc::new(tokio::sync::Semaphore::new(0)));
    async fn gated(_: Ping, State(gate): State<std::sync::Arc<tokio::sync::Semaphore>>) {
        drop(gate.acquire().await.unwrap());
    }
    const ALL: u64 = 8_000;
    const HELD: u64 = 4_096;
    let publisher = Publisher::new(broker.clone(), "test");
    for start in (0..ALL).step_by(500) {
        let pings: Vec<_> = (start..start + 500).map(Ping::new).collect();
        publisher.publish_batch("pings", &pings).await.unwrap();
    }
    // Many lanes, each with more than one event: something is always ready, and most of it waits.
    let lanes = |ping: &Ping| writes(("lane", ping.n % 1_000)).into();
    let app = App::new("app").broker(broker).state(gate.clone());
    let app = started(app.workers(4).on("pings", handler(gated).footprint(lanes))).await;
    let received = || app.stats().subscriptions[0].received;
    while received() < HELD {
        tokio::task::yield_now().await;
    }
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    // Those in the hands of workers are not held any more.
    assert!(received() <= HELD + 4, "{}", received());
    gate.add_permits(1);
    app.idle().await.unwrap();
    assert_eq!(app.stats().handled(), ALL);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_set_aside_when_it_queues_again_makes_room_for_the_next() {
    /// 11 is a little later than the others, and touches two lanes.
    async fn failing(ping: Ping) -> Result<(), HandlerError> {
        match ping.n {
            30 => return Ok(()),
            11 => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => {}
        }
        Err(HandlerError::retry("broken"))
    }
    let lanes = |ping: &Ping| match ping.n {
        11 => [writes(("ten", 1_u64)), writes(("ten", 2_u64))].into(),
        n => writes(("ten", n / 10)).into(),
    };
    let script = Script::new();
    let backoff = Backoff::fixed(Duration::from_millis(100)).attempts(2);
    let handler = handler(failing).footprint(lanes).retry(backoff);
    let handler = handler.when_exhausted(Exhausted::Park).on_failure(OnFailure::ReleaseLane);
    let app = App::new("app").broker(script.broker.clone()).look_ahead(2).on("pings", handler);
    let app = started(app).await;
    for n in [10, 11, 20, 30] {
        script.deliver(1, [n]).await;
    }
    let settled = script.settled(7).await;
    // 10 is parked, 11 queues again behind it, and 20 behind 11: then there is room for two, and nothing runs.
    let told = ["defer 1/10", "park 1/10", "defer 1/11", "park 1/11", "defer 1/20", "park 1/20", "ack 1/30"];
    assert_eq!(settled, told);
    app.stop().await.unwrap();
}
