//! Runs the fan-out in memory, and says who did what.

use fan_out::{Done, OrderPlaced, app};

#[tokio::main]
async fn main() -> commute::Result<()> {
    let done = Done::default();
    let running = app(done.clone()).broker(commute::connect("memory:").await?).start().await?;
    let orders: Vec<_> = (1..=3).map(|order| OrderPlaced { order, customer: format!("customer {order}") }).collect();
    running.publisher().publish_batch("orders", &orders).await?;
    running.idle().await?;
    for who in ["billing", "search", "audit"] {
        println!("{who} has seen {:?}", done.by(who));
    }
    running.stop().await?;
    Ok(())
}
