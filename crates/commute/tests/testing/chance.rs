//! Chance: one seed decides it all, and the same seed decides the same.

use std::collections::BTreeSet;

use commute::testing::TestApp;

use super::*;

async fn order(seed: u64) -> commute::Result<(Vec<u64>, String)> {
    let log = Log::default();
    let jittered = handler(answer).publishes(PONGS).retry(Backoff::exponential());
    let app = App::new("app").state(log.clone()).on(PINGS, jittered);
    let mut app = TestApp::start(app).shuffled().duplicates(0.3).seed(seed).await?;
    app.fail(PINGS, PING).key("b").attempts(..=1).retry("down");
    for n in 0..30 {
        app.publish(PINGS, &ping(["a", "b", "c"][n as usize % 3], n)).await?;
    }
    app.advance(Duration::from_secs(60)).await?;
    app.handled::<Ping>(PINGS).at_least(30);
    Ok((log.seen(), app.journeys()))
}

#[tokio::test]
async fn a_seed_repeats_everything_and_another_one_does_not() -> commute::Result<()> {
    let mut orders = BTreeSet::new();
    for seed in 0..5 {
        let (first, journeys) = order(seed).await?;
        let (second, the_same) = order(seed).await?;
        assert_eq!(first, second, "seed {seed}");
        assert_eq!(journeys, the_same, "seed {seed}");
        orders.insert(first);
    }
    assert!(orders.len() > 1, "{orders:?}");
    Ok(())
}

#[tokio::test]
async fn shuffled_events_of_a_key_keep_their_order_and_others_do_not() -> commute::Result<()> {
    let log = Log::default();
    let mut turned = false;
    for seed in 0..5 {
        let mut app = TestApp::start(app(&log)).shuffled().seed(seed).await?;
        for n in 0..12 {
            app.publish(PINGS, &ping(["a", "b"][n as usize % 2], n)).await?;
        }
        app.idle().await?;
        app.handled::<Ping>(PINGS).times(12).in_order(|ping| ping.key.clone());
        turned |= !app.handled::<Ping>(PINGS).values().is_sorted_by_key(|ping| ping.n);
    }
    assert!(turned, "no seed changed anything");
    Ok(())
}
