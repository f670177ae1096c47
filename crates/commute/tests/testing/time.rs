//! Time: it stands still until the test lets it pass, and then every timer has its turn.

use std::time::Duration;

use commute::testing::TestApp;
use commute::{Clock, Code};
use tokio::time::Instant;

use super::*;

#[tokio::test]
async fn a_back_off_does_not_pass_by_itself() -> commute::Result<()> {
    let log = Log::default();
    let mut app = TestApp::start(app(&log)).await?;
    let began = Instant::now();
    app.fail(PINGS, PING).attempts(1..=2).retry("down");
    let id = app.publish(PINGS, &ping("a", 1)).await?;
    app.idle().await?;
    app.handled::<Ping>(PINGS).none();
    assert_eq!(began.elapsed(), Duration::ZERO);
    app.advance(Duration::from_millis(100)).await?;
    app.handled::<Ping>(PINGS).none();
    app.advance(Duration::from_secs(60)).await?;
    app.handled::<Ping>(PINGS).once();
    app.published::<Pong>(PONGS).with(|pong| pong.n == 1).once();
    let journey = app.journey(&id);
    for line in ["+0.000 attempt 1 of app failed: down (CM0027)", "+0.000 waits in app until +0.100", "+0.10"] {
        assert!(journey.contains(line), "{line}: {journey}");
    }
    assert!(began.elapsed() >= Duration::from_secs(60) && began.elapsed() < Duration::from_secs(61));
    app.stop().await
}

#[tokio::test]
async fn a_delayed_event_is_handled_when_it_is_due_and_not_before() -> commute::Result<()> {
    let log = Log::default();
    let mut app = TestApp::start(app(&log)).await?;
    app.publish_after(PINGS, &ping("a", 1), Duration::from_secs(3600)).await?;
    app.publish(PINGS, &ping("b", 2)).await?;
    app.idle().await?;
    assert_eq!(log.seen(), [2]);
    app.advance(Duration::from_secs(3599)).await?;
    assert_eq!(log.seen(), [2]);
    app.advance(Duration::from_secs(1)).await?;
    assert_eq!(log.seen(), [2, 1]);
    app.stop().await
}

#[tokio::test]
async fn a_handler_that_sleeps_wakes_when_the_test_lets_time_pass() -> commute::Result<()> {
    async fn doze(_: Ping) {
        tokio::time::timeout(Duration::from_secs(2), std::future::pending::<()>()).await.unwrap_err();
    }
    let mut app = TestApp::start(App::new("app").on(PINGS, handler(doze))).await?;
    app.publish(PINGS, &ping("a", 1)).await?;
    app.idle().await?;
    app.handled::<Ping>(PINGS).none();
    app.advance(Duration::from_secs(2)).await?;
    app.handled::<Ping>(PINGS).once();
    // A stop waits for handlers, so time passes for them.
    app.publish(PINGS, &ping("a", 2)).await?;
    app.idle().await?;
    app.stop().await
}

#[tokio::test]
async fn work_on_another_thread_is_waited_for_and_costs_no_time() -> commute::Result<()> {
    async fn elsewhere(_: Ping) {
        let work = || (0..3_000_000_u64).fold(0, |sum, n| std::hint::black_box(sum ^ n));
        tokio::task::spawn_blocking(work).await.unwrap();
    }
    let mut app = TestApp::start(App::new("app").on(PINGS, handler(elsewhere))).await?;
    let began = Instant::now();
    for n in 0..5 {
        app.publish(PINGS, &ping("a", n)).await?;
    }
    app.idle().await?;
    app.handled::<Ping>(PINGS).times(5);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_is_paused_already_is_as_good() -> commute::Result<()> {
    let mut app = TestApp::start(app(&Log::default())).await?;
    app.publish(PINGS, &ping("a", 1)).await?;
    app.idle().await?;
    app.handled::<Ping>(PINGS).once();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_whose_time_cannot_be_paused_is_refused() {
    let error = TestApp::start(app(&Log::default())).await.unwrap_err();
    assert_eq!(error.code(), Code::NeedNotMet);
    assert!(error.detail().contains("#[tokio::test]"), "{error}");
}

#[tokio::test]
async fn publishers_and_the_broker_take_the_time_of_the_test() -> commute::Result<()> {
    let mut app = TestApp::start(app(&Log::default())).await?;
    app.advance(Duration::from_secs(24 * 3600)).await?;
    app.publisher().publish_after(PINGS, &ping("a", 1), Duration::from_secs(10)).await?;
    app.idle().await?;
    app.handled::<Ping>(PINGS).none();
    app.advance(Duration::from_secs(10)).await?;
    app.handled::<Ping>(PINGS).once();
    let _: commute::Timestamp = commute::SystemClock.now();
    Ok(())
}
