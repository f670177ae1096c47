//! Failures on purpose: each kind ends as it would in production.

use commute::Code;
use commute::testing::TestApp;

use super::*;

#[tokio::test]
async fn a_rejected_event_is_a_dead_letter_with_code_and_reason() -> commute::Result<()> {
    let mut app = TestApp::start(app(&Log::default())).await?;
    app.fail(PINGS, PING).key("a").reject("no");
    app.publish(PINGS, &ping("a", 1)).await?;
    app.publish(PINGS, &ping("b", 2)).await?;
    app.idle().await?;
    app.dead_letters().of::<Ping>().once().all(|letter| letter.code == "CM0022" && letter.reason == "no");
    app.dead_letters().of::<Pong>().none();
    app.handled::<Ping>(PINGS).once().all(|ping| ping.key == "b");
    let message = failing(|| app.dead_letters().none());
    assert!(message.contains("given up by app: no (CM0022); dead letter to pings.dead"), "{message}");
    Ok(())
}

#[tokio::test]
async fn panics_and_handlers_that_do_not_answer_are_tried_again() -> commute::Result<()> {
    let mut app = TestApp::start(app(&Log::default())).await?;
    app.fail(PINGS, PING).attempts(1..2).panic("boom");
    app.fail(PINGS, PING).attempts(2..=2).slow();
    let id = app.publish(PINGS, &ping("a", 1)).await?;
    app.idle().await?;
    app.advance(Duration::from_secs(1)).await?;
    app.handled::<Ping>(PINGS).none();
    app.advance(Duration::from_secs(10)).await?;
    app.handled::<Ping>(PINGS).once();
    let journey = app.journey(&id);
    for line in [
        "attempt 1 of app failed: the handler panicked: boom (CM0025)",
        "attempt 2 of app failed: the handler did not answer in time (CM0024)",
    ] {
        assert!(journey.contains(line), "{line}: {journey}");
    }
    Ok(())
}

#[tokio::test]
async fn a_parked_lane_is_named_and_says_who_waits_behind_whom() -> commute::Result<()> {
    let log = Log::default();
    let mut app = TestApp::start(again(&log)).await?;
    app.fail(PINGS, PING).key("a").by("app").retry("broken");
    let broken = app.publish(PINGS, &ping("a", 3)).await?;
    app.publish(PINGS, &ping("a", 4)).await?;
    app.publish(PINGS, &ping("b", 5)).await?;
    app.advance(Duration::from_secs(1)).await?;
    app.handled::<Ping>(PINGS).once().all(|ping| ping.n == 5);
    app.parked().times(2).all(|parked| parked.lanes == ["key:a"]);
    app.parked().with(|parked| parked.reason.as_deref() == Some("broken (CM0027)")).once();
    app.parked().with(|parked| parked.behind.as_ref() == Some(&broken)).once();
    let message = failing(|| app.parked().none());
    assert!(message.contains(&format!("parked by app on key:a behind {broken}")), "{message}");

    app.mend();
    app.restart().await?;
    app.parked().times(2);
    assert_eq!(app.release(("key", "a")).await?, 2);
    app.idle().await?;
    app.parked().none();
    app.handled::<Ping>(PINGS).times(3).in_order(|ping| ping.key.clone());
    assert_eq!(app.release(("key", "a")).await.unwrap_err().code(), Code::NotParked);
    Ok(())
}
