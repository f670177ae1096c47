//! Request and reply: a shop asks two services about a product, and gets values, a reason, or "not yet".
//!
//! ```text
//!                    ┌─► pricing    answers a price, to whoever asked alone
//! shop ─► products ──┤
//!   ▲                └─► stock      answers how many there are, or rejects what it does not know
//!   └── shop.results ◄──┘
//! ```

use commute::SharedBroker;
use commute::prelude::*;

/// What is there to say about a product?
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "example.product.asked", key = "product")]
pub struct ProductAsked {
    /// Which one.
    pub product: String,
}

/// What it costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "example.product.priced")]
pub struct Priced {
    /// In pence.
    pub pence: u64,
}

/// How many there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(type = "example.product.counted")]
pub struct Counted {
    /// Pieces.
    pub units: u64,
}

async fn price(event: ProductAsked) -> Priced {
    Priced { pence: 5 * event.product.len() as u64 }
}

async fn count(event: ProductAsked) -> Result<Counted, HandlerError> {
    match event.product.as_str() {
        "white hanging heart" => Ok(Counted { units: 6 }),
        unknown => Err(HandlerError::reject(format!("no product is called {unknown:?}"))),
    }
}

/// The service that knows prices.
pub fn pricing(broker: SharedBroker) -> App {
    App::new("pricing").broker(broker).on("products", handler(price).replies())
}

/// The service that knows the stock.
pub fn stock(broker: SharedBroker) -> App {
    App::new("stock").broker(broker).on("products", handler(count).replies())
}
