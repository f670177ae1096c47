//! Three subscriptions to one topic do not notice each other.

use std::time::Duration;

use commute::testing::TestApp;
use fan_out::{Done, OrderPlaced, app};

async fn three_orders(app: &mut TestApp) -> commute::Result<()> {
    for (order, customer) in [(1, "ada"), (2, "bob"), (3, "ada")] {
        app.publish("orders", &OrderPlaced { order, customer: customer.to_owned() }).await?;
    }
    app.idle().await
}

#[tokio::test]
async fn each_subscription_gets_every_event_once_and_in_its_order() -> commute::Result<()> {
    let done = Done::default();
    let mut app = TestApp::start(app(done.clone())).await?;
    three_orders(&mut app).await?;
    for subscription in ["shop", "shop.search", "shop.audit"] {
        app.handled_by::<OrderPlaced>(subscription, "orders").times(3);
    }
    app.no_effect_twice();
    app.handled_by::<OrderPlaced>("shop", "orders").in_order(|event| event.customer.clone());
    assert_eq!(done.by("audit"), [1, 2, 3]);
    Ok(())
}

#[tokio::test]
async fn one_that_fails_delays_no_other() -> commute::Result<()> {
    let done = Done::default();
    let mut app = TestApp::start(app(done.clone())).await?;
    app.fail("orders", "example.order.placed").by("shop.audit").retry("the disk is full");
    three_orders(&mut app).await?;
    assert_eq!((done.by("billing").len(), done.by("search").len(), done.by("audit").len()), (3, 3, 0));
    app.mend();
    app.advance(Duration::from_secs(1)).await?;
    assert_eq!(done.by("audit"), [1, 2, 3], "and it loses neither an event nor its order");
    assert_eq!((done.by("billing").len(), done.by("search").len()), (3, 3));
    Ok(())
}
