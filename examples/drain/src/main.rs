//! A service that says what it does, for trying signals.
//!
//! `drain DIRECTORY [MILLISECONDS]` handles one event slowly and drains on the first interrupt or terminate signal; a
//! second one stops it at once.

use std::time::Duration;

use commute::prelude::*;

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "example.work")]
struct Work {
    milliseconds: u64,
}

async fn work(event: Work) {
    println!("begun");
    tokio::time::sleep(Duration::from_millis(event.milliseconds)).await;
    println!("done");
}

#[tokio::main]
async fn main() -> commute::Result<()> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "data".to_owned());
    let broker = commute::connect(&format!("embedded:{directory}")).await?;
    if let Some(milliseconds) = std::env::args().nth(2).and_then(|text| text.parse().ok()) {
        Publisher::new(broker.clone(), "example").publish("work", &Work { milliseconds }).await?;
    }
    App::new("drain").broker(broker).on("work", handler(work).exclusive()).run().await?;
    println!("stopped");
    Ok(())
}
