//! A broker that keeps the app waiting, or answers wrongly: nothing is lost, and nothing is waited for without end.

mod kit;
mod script;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use commute::prelude::*;
use commute::{Code, Envelope, Error, Key, Running};
use commute_core::Change;
use kit::{Log, Ping, started};
use script::Script;

fn tens(ping: &Ping) -> Footprint {
    writes(("ten", ping.n / 10)).into()
}

/// Fails until it is mended.
async fn mended(ping: Ping, State(mended): State<Arc<AtomicBool>>, State(log): State<Log>) -> Result<(), HandlerError> {
    if !mended.load(Ordering::SeqCst) {
        return Err(HandlerError::retry("broken"));
    }
    log.add(ping.n.to_string());
    Ok(())
}

fn app(script: &Script, is_mended: &Arc<AtomicBool>, log: &Log) -> App {
    let handler = handler(mended).footprint(tens).retry(Backoff::never()).when_exhausted(Exhausted::Park);
    App::new("app").broker(script.broker.clone()).state(is_mended.clone()).state(log.clone()).on("pings", handler)
}

async fn running(script: &Script, is_mended: &Arc<AtomicBool>, log: &Log) -> Running {
    started(app(script, is_mended, log)).await
}

#[tokio::test(start_paused = true)]
async fn a_release_is_done_to_the_end_even_if_nobody_waits_for_it_any_more() {
    let (script, mended, log) = (Script::new(), Arc::default(), Log::default());
    let app = running(&script, &mended, &log).await;
    script.deliver(1, [10, 11]).await;
    assert_eq!(script.settled(2).await, ["park 1/10", "park 1/11"]);
    mended.store(true, Ordering::SeqCst);
    script.ends.unparking.shut();
    tokio::select! {
        back = app.release(("ten", 1_u64).lane()) => panic!("{back:?}"),
        () = script.ends.unparking.held() => {}
    }
    script.ends.unparking.open();
    script.deliver(1, [12]).await;
    assert_eq!(script.settled(3).await, ["ack 1/10", "ack 1/11", "ack 1/12"]);
    assert_eq!(log.taken(), ["10", "11", "12"]);
    assert!(app.parked_lanes().is_empty());
    app.stop().await.unwrap();
}

/// One payload is held, so that of 11 is read again when 10 is over.
async fn one_is_read_again(script: &Script, answer: Result<Vec<Envelope>, Error>, log: &Log) -> Running {
    script.ends.unreadable.lock().unwrap().push_back(answer);
    let app = started(app(script, &Arc::new(true.into()), log).look_ahead(1)).await;
    script.deliver(1, [10, 11]).await;
    app
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_cannot_be_read_for_a_while_is_read_later() {
    let (script, log) = (Script::new(), Log::default());
    let away = Err(Error::new(Code::BrokerUnavailable, "it is away"));
    let app = one_is_read_again(&script, away, &log).await;
    script.deliver(1, [12]).await;
    assert_eq!(script.settled(3).await, ["ack 1/10", "ack 1/11", "ack 1/12"]);
    assert_eq!(log.taken(), ["10", "11", "12"]);
    assert!(script.ends.unreadable.lock().unwrap().is_empty());
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_is_not_answered_stops_the_app_instead_of_its_lane() {
    let (script, log) = (Script::new(), Log::default());
    let app = one_is_read_again(&script, Ok(Vec::new()), &log).await;
    let failed = tokio::time::timeout(Duration::from_secs(60), app.failed()).await;
    assert_eq!(failed.unwrap().code(), Code::NotFound);
    assert_eq!(log.taken(), ["10"]);
}

#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_longer_than_the_drain_time_for_a_broker_that_does_not_say_what_is_parked() {
    let (script, log) = (Script::new(), Log::default());
    let app = started(app(&script, &Arc::default(), &log).drain(Duration::from_secs(1))).await;
    script.ends.looking.shut();
    script.change.send(Change::Assigned(1)).await.unwrap();
    script.ends.looking.held().await;
    let stopped = tokio::time::timeout(Duration::from_secs(60), app.stop()).await;
    stopped.expect("an end").unwrap();
}
