//! Stops and crashes: what is stored goes on, on every storage; the same body runs on each.

use commute::testing::TestApp;
use commute_sqlite::{Sqlite, Tx};

use super::*;

/// The body that runs on several brokers.
async fn survives(url: &str) -> commute::Result<()> {
    let log = Log::default();
    let mut app = TestApp::start(again(&log)).on(url).await?;
    app.fail(PINGS, PING).key("a").attempts(1..=2).retry("down");
    app.fail(PINGS, PING).key("c").crash();
    app.publish(PINGS, &ping("a", 1)).await?;
    app.publish(PINGS, &ping("b", 2)).await?;
    app.publish_after(PINGS, &ping("d", 4), Duration::from_secs(5)).await?;
    app.restart().await?;
    let crashed = app.publish(PINGS, &ping("c", 3)).await?;
    app.idle().await?;
    app.advance(Duration::from_secs(6)).await?;
    app.handled::<Ping>(PINGS).times(4).in_order(|ping| ping.key.clone());
    app.published::<Pong>(PONGS).times(4);
    app.no_effect_twice();
    app.dead_letters().none();
    app.parked().none();
    let journey = app.journey(&crashed);
    assert!(journey.contains("CRASH") && journey.contains("cut off by the crash"), "{journey}");
    app.stop().await
}

#[tokio::test]
async fn restarts_and_crashes_lose_nothing_in_memory() -> commute::Result<()> {
    survives("memory:").await
}

#[tokio::test]
async fn restarts_and_crashes_lose_nothing_in_a_directory() -> commute::Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("embedded:{}", directory.path().join("log").display());
    survives(&url).await?;
    // What an earlier test left there does not swallow what this one publishes.
    survives(&url).await
}

/// What every broker can do: fail, come back, crash, dead letter. Time is real on a server, so the back-off is waited for.
async fn comes_through(url: &str) -> commute::Result<()> {
    let log = Log::default();
    let mut app = TestApp::start(again(&log)).on(url).await?;
    app.fail(PINGS, PING).key("a").attempts(1..=2).retry("down");
    app.fail(PINGS, PING).key("c").crash();
    app.fail(PINGS, PING).key("d").reject("never");
    for (n, key) in (1..).zip(["a", "b", "a", "d"]) {
        app.publish(PINGS, &ping(key, n)).await?;
    }
    app.idle().await?;
    app.advance(Duration::from_secs(1)).await?;
    // Alone, because without a store a crash repeats whatever was not settled.
    app.publish(PINGS, &ping("c", 5)).await?;
    app.idle().await?;
    app.handled::<Ping>(PINGS).times(4).in_order(|ping| ping.key.clone());
    app.published::<Pong>(PONGS).times(4);
    app.dead_letters().of::<Ping>().once();
    app.parked().none();
    app.restart().await?;
    app.publish(PINGS, &ping("b", 6)).await?;
    app.idle().await?;
    app.handled::<Ping>(PINGS).times(5);
    app.stop().await
}

#[tokio::test]
async fn the_same_body_comes_through_in_memory() -> commute::Result<()> {
    comes_through("memory:").await
}

#[cfg(feature = "server-tests")]
#[tokio::test(flavor = "multi_thread")]
async fn the_same_body_comes_through_on_a_server() -> commute::Result<()> {
    let url = std::env::var("COMMUTE_TEST_SERVER").expect("COMMUTE_TEST_SERVER is the URL of a server");
    comes_through(&url).await
}

#[tokio::test]
async fn a_crash_after_the_effect_repeats_it_without_a_store() -> commute::Result<()> {
    let log = Log::default();
    let mut app = TestApp::start(again(&log)).await?;
    app.fail(PINGS, PING).crash_after();
    app.publish(PINGS, &ping("a", 1)).await?;
    app.idle().await?;
    assert_eq!(log.seen(), [1, 1]);
    assert!(failing(|| app.no_effect_twice()).contains("CRASH"));
    app.published::<Pong>(PONGS).once();
    Ok(())
}

#[tokio::test]
async fn whoever_publishes_does_not_crash_with_the_app() -> commute::Result<()> {
    let log = Log::default();
    let mut app = TestApp::start(again(&log)).await?;
    app.fail(PINGS, PING).crash();
    // The app crashes while this goes on.
    for n in 0..200 {
        app.publish(PINGS, &ping("a", n)).await?;
    }
    app.idle().await?;
    app.published::<Ping>(PINGS).times(200);
    app.handled::<Ping>(PINGS).times(200).in_order(|ping| ping.key.clone());
    assert!(app.journeys().contains("CRASH"), "{}", app.journeys());
    Ok(())
}

/// Counts pings in a database, which each start of the app opens anew.
fn counting(directory: &std::path::Path) -> impl FnMut() -> commute::Result<App> + use<> {
    let file = directory.join("app.db");
    move || {
        let setup = "CREATE TABLE IF NOT EXISTS seen (n INTEGER)";
        let db = Sqlite::builder(&file).setup(move |db| db.execute_batch(setup)).open()?;
        fn count(ping: Ping, tx: &Tx<'_>) -> Result<Pong, HandlerError> {
            tx.execute("INSERT INTO seen VALUES (?1)", [ping.n as i64])?;
            Ok(Pong { n: ping.n })
        }
        let counting = handler(db.transaction(count)).publishes(PONGS).retry(backoff());
        Ok(App::new("app").store(db).on(PINGS, counting))
    }
}

fn rows(directory: &std::path::Path) -> i64 {
    let db = Sqlite::builder(directory.join("app.db")).open().unwrap();
    db.read_blocking(|db| db.query_row("SELECT count(*) FROM seen", [], |row| row.get(0))).unwrap()
}

#[tokio::test]
async fn a_crash_after_the_commit_repeats_nothing_with_a_store() -> commute::Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let mut app = TestApp::start(counting(directory.path())).await?;
    app.fail(PINGS, PING).times(2).crash_after();
    for n in 0..4 {
        app.publish(PINGS, &ping("a", n)).await?;
    }
    app.idle().await?;
    app.handled::<Ping>(PINGS).times(4).in_order(|ping| ping.key.clone());
    app.published::<Pong>(PONGS).times(4);
    app.no_effect_twice();
    assert!(app.journeys().contains("CRASH"), "{}", app.journeys());
    app.stop().await?;
    assert_eq!(rows(directory.path()), 4);
    Ok(())
}

#[tokio::test]
async fn events_that_come_again_have_no_second_effect_in_a_store() -> commute::Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let mut app = TestApp::start(counting(directory.path())).duplicates(1.0).await?;
    for n in 0..4 {
        app.publish(PINGS, &ping("a", n)).await?;
    }
    app.idle().await?;
    app.handled::<Ping>(PINGS).times(4);
    app.published::<Pong>(PONGS).times(4);
    app.no_effect_twice();
    assert!(app.journeys().contains("had taken effect before"), "{}", app.journeys());
    app.stop().await?;
    assert_eq!(rows(directory.path()), 4);
    Ok(())
}

#[tokio::test]
async fn several_apps_share_one_broker_and_come_to_rest_together() -> commute::Result<()> {
    let log = Log::default();
    async fn note(pong: Pong, State(log): State<Log>) {
        log.add(pong.n + 100);
    }
    let second = App::new("second").state(log.clone()).on(PONGS, handler(note));
    let mut app = TestApp::start(app(&log)).and(second).await?;
    app.publish(PINGS, &ping("a", 1)).await?;
    app.idle().await?;
    assert_eq!(log.seen(), [1, 101]);
    app.handled_by::<Pong>("second", PONGS).once();
    Ok(())
}

#[tokio::test]
async fn an_app_that_was_made_once_cannot_start_again_and_says_what_to_write() -> commute::Result<()> {
    let mut app = TestApp::start(app(&Log::default())).await?;
    let error = app.restart().await.unwrap_err();
    assert!(error.detail().contains("TestApp::start(||"), "{error}");
    Ok(())
}
