//! Feeding: orders become events, in the order of the input, each once however often the input is fed.

use std::time::{Duration, Instant};

use commute::{EventId, Message, Publisher, SharedBroker};

use crate::events::{Line, OrderCancelled, OrderPlaced};
use crate::orders_csv::{self, Order};

/// One batch is one write to the disk; more than this gains nothing.
const BATCH: usize = 256;

/// How long a broker may be away before the feed gives up: longer than a server needs to start again.
const PATIENCE: Duration = Duration::from_secs(300);
/// After what time it is tried again.
const AGAIN: Duration = Duration::from_millis(500);

/// Publishes orders.
pub struct Feed {
    publisher: Publisher,
    topic: String,
    began: Instant,
    fed: Fed,
}

/// What was published.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fed {
    /// Orders.
    pub orders: u64,
    /// Orders that an earlier run had published.
    pub duplicates: u64,
    /// How long it took.
    pub took: Duration,
}

impl Feed {
    /// Feeds a topic of a broker.
    pub fn new(broker: SharedBroker, topic: String) -> Self {
        Feed { publisher: Publisher::new(broker, "shop"), topic, began: Instant::now(), fed: Fed::default() }
    }

    /// Publishes every order up to the first error.
    ///
    /// # Errors
    /// The input's or the broker's; what came before it is published.
    pub async fn publish_all(
        &mut self,
        orders: impl IntoIterator<Item = Result<Order, orders_csv::Error>>,
    ) -> anyhow::Result<()> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut malformed = None;
        for order in orders {
            match order {
                Ok(order) => batch.push(message(order)?),
                Err(error) => {
                    malformed = Some(error);
                    break;
                }
            }
            if batch.len() == BATCH {
                self.publish(&mut batch).await?;
            }
        }
        self.publish(&mut batch).await?;
        malformed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// What was published so far.
    pub fn fed(&self) -> Fed {
        Fed { took: self.began.elapsed(), ..self.fed }
    }

    /// Nobody knows which events of a failed call were stored. They are sent again with the same ids, so that each takes effect
    /// once.
    async fn publish(&mut self, batch: &mut Vec<Message>) -> commute::Result<()> {
        let until = Instant::now() + PATIENCE;
        let receipts = loop {
            match self.publisher.send(&self.topic, batch.iter().cloned()).await {
                Err(error) if error.is_retryable() && Instant::now() < until => tokio::time::sleep(AGAIN).await,
                sent => break sent?,
            }
        };
        batch.clear();
        self.fed.orders += receipts.len() as u64;
        self.fed.duplicates += receipts.iter().filter(|receipt| receipt.duplicate).count() as u64;
        Ok(())
    }
}

/// The event's id is the order's, so that feeding the same input again publishes nothing twice.
fn message(order: Order) -> commute::Result<Message> {
    let id = EventId::new(format!("order:{}", order.id))?;
    let lines = order.lines.into_iter();
    let lines = lines.map(|line| Line { product: line.product, quantity: line.quantity, price: line.price }).collect();
    let (order, customer, cancelled) = (order.id, order.customer, order.cancelled);
    let message = match cancelled {
        true => Message::of(&OrderCancelled { order, customer, lines }),
        false => Message::of(&OrderPlaced { order, customer, lines }),
    };
    // Orders meet in their products, not in their own key. Where a broker cuts topics into partitions, what may conflict
    // must be in one of them, or nobody knows which came first.
    Ok(message?.id(id).extension("partitionkey", "orders"))
}
