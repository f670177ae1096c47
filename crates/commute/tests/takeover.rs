//! What is ours may change: deliveries go to another instance, and parked lanes come from one.

mod kit;
mod script;

use std::sync::Arc;
use std::time::Duration;

use commute::prelude::*;
use commute::{Code, Error, Key, Lane, Running, Timestamp};
use commute_core::{Change, DeliveryTag, Mode, Parked};
use kit::{Log, Ping, started};
use script::Script;
use tokio::sync::Semaphore;

fn tens(ping: &Ping) -> Footprint {
    writes(("ten", ping.n / 10)).into()
}

fn lane(ten: u64) -> Lane {
    ("ten", ten).lane()
}

/// Runs until the test lets it end.
async fn held(ping: Ping, State(gate): State<Arc<Semaphore>>, State(log): State<Log>) {
    log.add(format!("{} begins", ping.n));
    gate.acquire().await.unwrap().forget();
    log.add(format!("{} ends", ping.n));
}

async fn app(script: &Script, gate: &Arc<Semaphore>, log: &Log) -> Running {
    let handler = handler(held).footprint(tens);
    let app = App::new("app").broker(script.broker.clone()).state(gate.clone()).state(log.clone());
    started(app.on("pings", handler)).await
}

async fn begun(log: &Log, what: &str) {
    while !log.so_far().iter().any(|line| line == what) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_begun_goes_back_and_what_runs_may_finish() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(0)), Log::default());
    let app = app(&script, &gate, &log).await;
    // 10 runs, 11 and 12 wait behind it; 20 belongs to another assignment.
    script.deliver(1, [10, 11, 12]).await;
    script.deliver(2, [20]).await;
    begun(&log, "20 begins").await;
    script.change.send(Change::Revoked(1)).await.unwrap();
    assert_eq!(script.settled(2).await, ["return 1/11", "return 1/12"]);
    gate.add_permits(2);
    assert_eq!(script.settled(2).await, ["ack 1/10", "ack 2/20"]);
    // What was in the hands of the consumer when it happened is not begun either.
    script.deliver(1, [30]).await;
    assert_eq!(script.settled(1).await, ["return 1/30"]);
    assert!(!log.so_far().iter().any(|line| line.starts_with("11") || line.starts_with("30")));
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_comes_of_an_assignment_that_went_goes_back_at_once_and_waits_behind_nothing() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(0)), Log::default());
    let app = app(&script, &gate, &log).await;
    script.deliver(1, [10]).await;
    begun(&log, "10 begins").await;
    script.change.send(Change::Revoked(1)).await.unwrap();
    heard(&script).await;
    // Its lane is taken by the one that runs.
    script.deliver(1, [11]).await;
    assert_eq!(script.settled(1).await, ["return 1/11"]);
    gate.add_permits(1);
    assert_eq!(script.settled(1).await, ["ack 1/10"]);
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_back_does_not_overlap_with_its_earlier_run() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(0)), Log::default());
    let app = app(&script, &gate, &log).await;
    script.deliver(1, [10]).await;
    begun(&log, "10 begins").await;
    script.change.send(Change::Revoked(1)).await.unwrap();
    script.change.send(Change::Assigned(2)).await.unwrap();
    script.deliver(2, [10]).await;
    gate.add_permits(2);
    script.settled(2).await;
    assert_eq!(log.so_far(), ["10 begins", "10 ends", "10 begins", "10 ends"]);
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn lanes_that_another_instance_parked_are_parked_here_and_go_with_their_assignment() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(100)), Log::default());
    let app = app(&script, &gate, &log).await;
    let tag = DeliveryTag { position: 10, incarnation: 3 };
    let lanes = vec![(lane(1), Mode::Exclusive)];
    let parked = Parked { tag, attempts: 5, lanes, reason: Some("no".into()), since: Timestamp(0) };
    script.ends.parked.lock().unwrap().push(parked);
    script.change.send(Change::Assigned(3)).await.unwrap();
    script.deliver(3, [11, 20]).await;
    // 11 waits behind the parked event of its lane.
    assert_eq!(script.settled(2).await, ["park 3/11", "ack 3/20"]);
    assert_eq!(app.parked_lanes(), [lane(1)]);
    script.change.send(Change::Revoked(3)).await.unwrap();
    script.change.send(Change::Assigned(4)).await.unwrap();
    script.ends.parked.lock().unwrap().clear();
    script.deliver(4, [12]).await;
    assert_eq!(script.settled(1).await, ["ack 4/12"]);
    assert!(app.parked_lanes().is_empty());
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_contract_says_what_the_server_is_and_what_it_gives_less() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(0)), Log::default());
    let running = app(&script, &gate, &log).await;
    let contract = running.contract();
    assert_eq!(contract.server.as_ref().and_then(|server| server.version.as_deref()), Some("3.1"));
    // First the server, then what several instances would keep less.
    assert_eq!(contract.warnings[0], "Script 3.1: it is slow on Mondays");
    assert!(contract.warnings[1].contains("several instances"), "{:?}", contract.warnings);
    let text = contract.to_string();
    assert!(text.contains("\n  server: Script 3.1\n") && text.contains("warning: Script 3.1: it is slow"), "{text}");
    running.stop().await.unwrap();
}

/// Waits until the consumer has heard of every change: it acts on one when it takes it.
async fn heard(script: &Script) {
    while script.change.capacity() < script.change.max_capacity() {
        tokio::task::yield_now().await;
    }
}

/// Runs until the test lets it end, and fails then if its number says so.
async fn failing(ping: Ping, State(gate): State<Arc<Semaphore>>, State(log): State<Log>) -> Result<(), HandlerError> {
    held(ping.clone(), State(gate), State(log)).await;
    match ping.n {
        10 => Err(HandlerError::retry("broken")),
        _ => Ok(()),
    }
}

/// 10 runs when its assignment goes, and fails afterwards; 11 belongs to the next assignment. Answers what is settled.
async fn one_fails_after_its_assignment_went(backoff: Backoff, on_failure: OnFailure) -> Vec<String> {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(0)), Log::default());
    let handler = handler(failing).footprint(tens).retry(backoff).on_failure(on_failure);
    let app = App::new("app").broker(script.broker.clone()).state(gate.clone()).state(log.clone());
    let app = started(app.look_ahead(1).on("pings", handler.when_exhausted(Exhausted::Park))).await;
    script.deliver(1, [10]).await;
    begun(&log, "10 begins").await;
    script.change.send(Change::Revoked(1)).await.unwrap();
    heard(&script).await;
    gate.add_permits(2);
    script.deliver(2, [11]).await;
    let mut settled = Vec::new();
    while !settled.contains(&"ack 2/11".to_owned()) {
        settled.extend(script.settled(1).await);
    }
    assert!(app.parked_lanes().is_empty());
    assert_eq!((app.stats().subscriptions[0].parked, app.stats().subscriptions[0].retrying), (0, 0));
    app.stop().await.unwrap();
    settled
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_for_the_last_time_after_its_assignment_went_is_not_parked_here() {
    let settled = one_fails_after_its_assignment_went(Backoff::never(), OnFailure::HoldLane).await;
    assert_eq!(settled, ["return 1/10", "ack 2/11"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_fails_after_its_assignment_went_does_not_wait_here_for_its_next_attempt() {
    for on_failure in [OnFailure::HoldLane, OnFailure::ReleaseLane] {
        let backoff = Backoff::fixed(Duration::from_secs(3600));
        let settled = one_fails_after_its_assignment_went(backoff, on_failure).await;
        assert_eq!(settled, ["defer 1/10", "return 1/10", "ack 2/11"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_cannot_be_read_again_because_its_assignment_went_stops_nothing() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(1)), Log::default());
    let app = App::new("app").broker(script.broker.clone()).state(gate.clone()).state(log.clone());
    let app = started(app.look_ahead(1).on("pings", handler(held).footprint(tens))).await;
    script.ends.reading.shut();
    // One payload is held, so that of 11 is read again when 10 is over.
    script.deliver(1, [10, 11]).await;
    script.ends.reading.held().await;
    script.change.send(Change::Revoked(1)).await.unwrap();
    heard(&script).await;
    script.ends.unreadable.lock().unwrap().push_back(Err(Error::new(Code::NotFound, "it went")));
    script.ends.reading.open();
    gate.add_permits(1);
    script.deliver(2, [12]).await;
    assert_eq!(script.settled(3).await, ["ack 1/10", "return 1/11", "ack 2/12"]);
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_app_is_not_idle_while_deliveries_wait_for_a_change_to_be_heard() {
    let (script, gate, log) = (Script::new(), Arc::new(Semaphore::new(1)), Log::default());
    let app = app(&script, &gate, &log).await;
    script.ends.looking.shut();
    *script.ends.along.lock().unwrap() = Some(Change::Assigned(1));
    script.deliver(1, [10]).await;
    script.ends.looking.held().await;
    assert!(!app.is_idle().await.unwrap());
    script.ends.looking.open();
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["10 begins", "10 ends"]);
    app.stop().await.unwrap();
}
