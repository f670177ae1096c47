//! Counts a thousand views in memory, and says how long it took beside one after the other.

use std::time::Instant;

use counter::{TAKES, Viewed, Views, app};

#[tokio::main]
async fn main() -> commute::Result<()> {
    let views = Views::default();
    let running = app(views.clone()).broker(commute::connect("memory:").await?).start().await?;
    let events: Vec<_> = (0..1000).map(|_| Viewed { page: "/".to_owned() }).collect();
    let began = Instant::now();
    running.publisher().publish_batch("pages", &events).await?;
    running.idle().await?;
    let took = began.elapsed();
    let alone = TAKES * 1000;
    println!("{} views of one page, {TAKES:?} each: {took:.1?}; one after the other: {alone:?}", views.of("/"));
    running.stop().await?;
    Ok(())
}
