//! Assertions: each one can fail, and says what was expected, what was seen, and the journey of the event.

use commute::testing::TestApp;

use super::*;

async fn two_handled() -> commute::Result<TestApp> {
    let mut app = TestApp::start(app(&Log::default())).await?;
    app.publish(PINGS, &ping("a", 1)).await?;
    app.publish(PINGS, &ping("a", 2)).await?;
    app.idle().await?;
    Ok(app)
}

fn check(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}

#[tokio::test]
async fn counts_are_counted() -> commute::Result<()> {
    let app = two_handled().await?;
    app.handled::<Ping>(PINGS).times(2).at_least(1);
    let journey =
        ["journey of event-1 (test.ping, key a)", "+0.000 published to pings by test", "attempt 1 of app handled"];
    let message = failing(|| app.handled::<Ping>(PINGS).once());
    check(&message, &["handled test.ping of pings", "expected: exactly 1", "actual: 2", "settled by app"]);
    check(&message, &journey);
    check(&failing(|| app.handled::<Ping>(PINGS).none()), &journey);
    check(&failing(|| app.handled::<Ping>(PINGS).times(3)), &journey);
    check(&failing(|| app.handled::<Ping>(PINGS).at_least(3)), &["expected: at least 3", journey[0]]);
    check(&failing(|| app.handled_by::<Ping>("other", PINGS).once()), &["by other", journey[0]]);
    check(&failing(|| app.handled::<Ping>("elsewhere").once()), &["actual: 0", journey[0]]);
    check(&failing(|| app.dead_letters().once()), &["dead letters", "actual: 0", journey[0]]);
    check(&failing(|| app.parked().once()), &["parked events", journey[0]]);
    Ok(())
}

#[tokio::test]
async fn conditions_are_met_or_not() -> commute::Result<()> {
    let app = two_handled().await?;
    app.published::<Pong>(PONGS).with(|pong| pong.n == 2).once();
    app.published::<Pong>(PONGS).without(|pong| pong.n == 3).all(|pong| pong.n < 3).times(2);
    let message = failing(|| app.published::<Pong>(PONGS).with(|pong| pong.n == 3));
    check(&message, &["published test.pong to pongs", "none of 2", "(test.pong)"]);
    check(&failing(|| app.published::<Pong>(PONGS).without(|pong| pong.n == 2)), &["1 of 2", "(test.pong)"]);
    check(&failing(|| app.published::<Pong>(PONGS).all(|pong| pong.n == 1)), &["1 of 2", "(test.pong)"]);
    assert_eq!(app.published::<Pong>(PONGS).values(), [Pong { n: 1 }, Pong { n: 2 }]);
    Ok(())
}

#[tokio::test]
async fn what_was_caused_stands_below_its_cause() -> commute::Result<()> {
    let app = two_handled().await?;
    let journey = app.journeys();
    check(&journey, &["journey of event-1", "\n  journey of ", "\n    +0.000 published to pongs by app"]);
    Ok(())
}

#[tokio::test]
async fn an_order_that_was_not_kept_is_found() -> commute::Result<()> {
    let mut app = TestApp::start(again(&Log::default())).await?;
    app.publish(PINGS, &ping("a", 1)).await?;
    app.publish(PINGS, &ping("b", 2)).await?;
    app.idle().await?;
    app.handled::<Ping>(PINGS).in_order(|ping| ping.key.clone());
    app.published::<Pong>(PONGS).in_order(|_| ());

    let released = || {
        let answering = handler(answer).publishes(PONGS).retry(backoff()).on_failure(OnFailure::ReleaseLane);
        App::new("app").state(Log::default()).on(PINGS, answering)
    };
    let mut app = TestApp::start(released).await?;
    app.fail(PINGS, PING).times(1).retry("down");
    app.publish(PINGS, &ping("a", 1)).await?;
    app.publish(PINGS, &ping("a", 2)).await?;
    app.advance(Duration::from_secs(1)).await?;
    let message = failing(|| app.handled::<Ping>(PINGS).in_order(|ping| ping.key.clone()));
    check(&message, &["event-1 came after event-2 with key \"a\"", "failed: down (CM0027)"]);
    check(&failing(|| app.published::<Pong>(PONGS).in_order(|_| ())), &["came after"]);
    Ok(())
}

#[tokio::test]
async fn events_of_one_key_that_overlapped_are_found() -> commute::Result<()> {
    async fn doze(_: Ping) {
        tokio::time::timeout(Duration::from_secs(2), std::future::pending::<()>()).await.unwrap_err();
    }
    let mut app = TestApp::start(App::new("app").on(PINGS, handler(doze).independent())).await?;
    app.publish(PINGS, &ping("a", 1)).await?;
    app.publish(PINGS, &ping("a", 2)).await?;
    app.advance(Duration::from_secs(10)).await?;
    check(&failing(|| app.handled::<Ping>(PINGS).in_order(|ping| ping.key.clone())), &["overlapped", "journey of"]);
    Ok(())
}

#[tokio::test]
async fn an_event_that_took_effect_twice_is_found() -> commute::Result<()> {
    let mut app = TestApp::start(again(&Log::default())).seed(3).duplicates(1.0).await?;
    app.no_effect_twice();
    app.publish(PINGS, &ping("a", 1)).await?;
    app.idle().await?;
    let message = failing(|| app.no_effect_twice());
    check(
        &message,
        &["one of app 2 times", "seed: 3 (COMMUTE_TEST_SEED=3", "journey of event-1", "lost acknowledgement"],
    );
    Ok(())
}
