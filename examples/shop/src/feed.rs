//! Feeding: orders become events, in the order of the input, each once however often the input is fed.

use std::time::{Duration, Instant};

use commute::{EventId, Message, Publisher, SharedBroker};

use crate::events::{Line, OrderCancelled, OrderPlaced};
use crate::orders_csv::{self, Order};

/// One batch is one write to the disk; more than this gains nothing.
const BATCH: usize = 256;

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

    async fn publish(&mut self, batch: &mut Vec<Message>) -> commute::Result<()> {
        let receipts = self.publisher.send(&self.topic, batch.drain(..)).await?;
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
