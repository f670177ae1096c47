//! Counts a thousand views in memory, and says how long it took beside one after the other.

use std::time::Instant;

use counter::{Viewed, Views, app};

#[tokio::main]
async fn main() -> commute::Result<()> {
    let views = Views::default();
    let running = app(views.clone()).broker(commute::connect("memory:").await?).start().await?;
    let events: Vec<_> = (0..1000).map(|_| Viewed { page: "/".to_owned() }).collect();
    let began = Instant::now();
    running.publisher().publish_batch("pages", &events).await?;
    running.idle().await?;
    let took = began.elapsed();
    println!("{} views of one page, 10 ms each: {took:.1?}; one after the other would be 10 s", views.of("/"));
    running.stop().await?;
    Ok(())
}
