//! Asks for three things, the last one of a service that is away, and says what came back.

use std::time::Duration;

use commute::{Message, Requests};
use request_reply::{Counted, Priced, ProductAsked, pricing, stock};

#[tokio::main]
async fn main() -> commute::Result<()> {
    let broker = commute::connect("memory:").await?;
    let pricing = pricing(broker.clone()).start().await?;
    let mut away = Some(stock(broker.clone()).start().await?);
    let requests = Requests::open(broker.clone(), "shop").await?;
    for product in ["white hanging heart", "lost umbrella", "white metal lantern"] {
        if product == "white metal lantern"
            && let Some(stock) = away.take()
        {
            stock.stop().await?;
        }
        let asked = ProductAsked { product: product.to_owned() };
        let asked = requests.ask("products", Message::of(&asked)?).await?.expect_from(["pricing", "stock"]);
        let results = requests.collect(&asked, Duration::from_millis(500)).await?;
        println!("{product}");
        println!("  costs {:?}, there are {:?}", results.value::<Priced>()?, results.value::<Counted>()?);
        for (subscription, (_, reason)) in results.failures().filter_map(|f| Some((&f.subscription, f.failure()?))) {
            println!("  {subscription} says: {reason}");
        }
        for name in &results.missing {
            println!("  {name}: not yet");
        }
    }
    requests.close().await;
    pricing.stop().await?;
    Ok(())
}
