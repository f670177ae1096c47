//! Fan-out: one event, three subscriptions, each with its own order and its own failures.
//!
//! ```text
//!                 ┌─► shop           bills it, per customer in order
//! orders ─────────┼─► shop.search    indexes it, no order at all
//!                 └─► shop.audit     writes it down, one at a time, in the topic's order
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use commute::prelude::*;

/// A customer has ordered.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "example.order.placed", key = "customer")]
pub struct OrderPlaced {
    /// Its number.
    pub order: u32,
    /// Whose.
    pub customer: String,
}

/// What the three have done, in the order in which they did it.
#[derive(Debug, Clone, Default)]
pub struct Done(Arc<Mutex<Vec<(&'static str, u32)>>>);

impl Done {
    fn note(&self, who: &'static str, order: u32) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((who, order));
    }

    /// The orders that one of them has seen.
    pub fn by(&self, who: &str) -> Vec<u32> {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        done.iter().filter(|(by, _)| *by == who).map(|(_, order)| *order).collect()
    }
}

/// Bills an order.
async fn bill(event: OrderPlaced, State(done): State<Done>) {
    done.note("billing", event.order);
}

/// Makes an order findable.
async fn index(event: OrderPlaced, State(done): State<Done>) {
    done.note("search", event.order);
}

/// Writes an order down.
async fn audit(event: OrderPlaced, State(done): State<Done>) {
    done.note("audit", event.order);
}

/// The service. Three subscriptions: what one of them cannot handle delays none of the others.
pub fn app(done: Done) -> App {
    App::new("shop")
        .state(done)
        .on("orders", handler(bill))
        .on("orders", handler(index).named("search").independent())
        .on("orders", handler(audit).named("audit").exclusive())
}
