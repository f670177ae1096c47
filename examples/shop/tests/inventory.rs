//! The inventory alone: orders that meet in a product, while its handlers fail, its app crashes, and events come again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use commute::testing::TestApp;
use commute::{App, Event, SharedBroker};
use commute_sqlite::Sqlite;
use shop::events::{Line, ORDERS, OrderCancelled, OrderPlaced, STOCK, StockReserved, StockShort};
use shop::services::inventory::inventory;
use shop::services::{Setting, database};
use shop::trouble::Trouble;

/// The production service, made as often as the test starts it.
fn service(data: &Path) -> impl FnMut(SharedBroker) -> commute::Result<App> + use<> {
    let data = data.to_owned();
    move |broker| {
        let setting = Setting {
            broker,
            namespace: None,
            data: data.clone(),
            workers: 8,
            trouble: Trouble::default(),
            config: Default::default(),
        };
        inventory(&setting).map(|(app, _db)| app)
    }
}

fn lines(wanted: &[(&str, i64)]) -> Vec<Line> {
    let line = |(product, quantity): &(&str, i64)| Line {
        product: (*product).to_owned(),
        quantity: *quantity,
        price: "1.00".parse().unwrap(),
    };
    wanted.iter().map(line).collect()
}

fn placed(order: &str, wanted: &[(&str, i64)]) -> OrderPlaced {
    OrderPlaced { order: order.to_owned(), customer: "c".to_owned(), lines: lines(wanted) }
}

fn stock(data: &Path) -> BTreeMap<String, i64> {
    let db = Sqlite::builder(database(data, "inventory")).open().unwrap();
    let rows = db.read_blocking(|db| {
        let mut rows = db.prepare("SELECT product, units FROM stock")?;
        rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    });
    rows.unwrap()
}

#[tokio::test]
async fn orders_of_one_product_are_served_in_order_while_attempts_fail() -> commute::Result<()> {
    let data = tempfile::tempdir().unwrap();
    let mut app = TestApp::start(service(data.path())).await?;
    app.fail(ORDERS, OrderPlaced::TYPE).key("o-1").attempts(1..=3).retry("down");
    app.publish(ORDERS, &placed("o-1", &[("tea", 600)])).await?;
    app.publish(ORDERS, &placed("o-2", &[("tea", 600), ("cup", 1)])).await?;
    app.publish(ORDERS, &placed("o-3", &[("pot", 1)])).await?;
    app.idle().await?;
    // Only the order that shares nothing with the failing one goes on.
    app.handled::<OrderPlaced>(ORDERS).once().all(|order| order.order == "o-3");
    app.advance(Duration::from_secs(1)).await?;
    app.handled::<OrderPlaced>(ORDERS).times(3);
    app.published::<StockReserved>(STOCK).times(2).without(|stock| stock.order == "o-2");
    app.published::<StockShort>(STOCK).once().with(|short| short.order == "o-2" && short.products == ["tea"]);
    app.dead_letters().none();
    app.stop().await?;
    assert_eq!(stock(data.path()), [("cup".into(), 1000), ("pot".into(), 999), ("tea".into(), 1400)].into());
    Ok(())
}

#[tokio::test]
async fn crashes_and_events_that_come_again_take_nothing_twice() -> commute::Result<()> {
    let data = tempfile::tempdir().unwrap();
    let mut app = TestApp::start(service(data.path())).duplicates(0.5).await?;
    app.fail(ORDERS, OrderPlaced::TYPE).key("o-3").crash_after();
    app.fail(ORDERS, OrderPlaced::TYPE).key("o-7").crash();
    for n in 0..10 {
        app.publish(ORDERS, &placed(&format!("o-{n}"), &[("tea", 10), ("cup", n)])).await?;
    }
    let back = OrderCancelled { order: "o-0".to_owned(), customer: "c".to_owned(), lines: lines(&[("tea", -10)]) };
    app.publish(ORDERS, &back).await?;
    app.idle().await?;
    app.handled::<OrderPlaced>(ORDERS).times(10).in_order(|_| "tea");
    app.published::<StockReserved>(STOCK).times(10);
    app.no_effect_twice();
    app.stop().await?;
    assert_eq!(stock(data.path()), [("cup".into(), 955), ("tea".into(), 910)].into());
    Ok(())
}

#[tokio::test]
async fn an_order_of_nothing_is_rejected_and_the_next_one_served() -> commute::Result<()> {
    let data = tempfile::tempdir().unwrap();
    let mut app = TestApp::start(service(data.path())).await?;
    app.publish(ORDERS, &placed("o-1", &[("tea", -1)])).await?;
    app.publish(ORDERS, &placed("o-2", &[("tea", 1)])).await?;
    app.idle().await?;
    app.dead_letters().of::<OrderPlaced>().once().all(|letter| letter.reason == "nothing with a positive quantity");
    app.handled::<OrderPlaced>(ORDERS).once().all(|order| order.order == "o-2");
    app.stop().await
}
