//! An open subscription of a session: its two ends, and what was received and not yet sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use commute_core::{Delivery, Receiver, Result, Settler, Subscription};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// So many events at once; more would only make a message wait for its last one.
const MOST: usize = 512;

/// Cheap to clone; the deliveries go back when the last clone is gone.
#[derive(Clone)]
pub(crate) struct Open {
    inlet: Arc<Mutex<Inlet>>,
    pub(crate) settler: Arc<dyn Settler>,
}

struct Inlet {
    receiver: Box<dyn Receiver>,
    /// Received, and too much for the last message.
    kept: VecDeque<Delivery>,
}

impl Open {
    pub(crate) fn new(subscription: Subscription) -> Self {
        let inlet = Inlet { receiver: subscription.receiver, kept: VecDeque::new() };
        Open { inlet: Arc::new(Mutex::new(inlet)), settler: subscription.settler }
    }

    /// Up to `max` deliveries, and up to `bytes` of them unless one alone is larger; none when there are none in time. Fair: who asks first gets
    /// first.
    pub(crate) async fn take(&self, max: usize, bytes: usize, wait: Duration) -> Result<Vec<Delivery>> {
        let mut inlet = self.inlet.lock().await;
        let Inlet { receiver, kept } = &mut *inlet;
        if kept.is_empty() {
            // Receiving is cancel safe: nothing is lost when the time is over.
            match timeout(wait, receiver.receive(max.clamp(1, MOST))).await {
                Ok(received) => kept.extend(received?),
                Err(_) => return Ok(Vec::new()),
            }
        }
        let (mut taken, mut size) = (Vec::new(), 0);
        while taken.len() < max.max(1)
            && let Some(next) = kept.front()
        {
            size += next.envelope.size();
            if size > bytes && !taken.is_empty() {
                break;
            }
            taken.extend(kept.pop_front());
        }
        Ok(taken)
    }
}
