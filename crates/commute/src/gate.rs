//! The gate of a subscription: shut while an operator has paused it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use crate::settle_queue::SettleQueue;

/// Counts its turns: it begins open, so it is shut when the count is odd. It is turned under the engine's lock.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    turns: AtomicU64,
    turned: Notify,
}

impl Gate {
    pub(crate) fn turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.turns() % 2 == 1
    }

    /// Opens or shuts it; answers whether it was not so before.
    pub(crate) fn turn(&self, shut: bool) -> bool {
        if self.is_shut() == shut {
            return false;
        }
        self.turns.fetch_add(1, Ordering::AcqRel);
        self.turned.notify_one();
        true
    }

    /// As if it had been shut for a moment: nothing more is received until what goes back is back.
    pub(crate) fn blink(&self) {
        self.turns.fetch_add(2, Ordering::AcqRel);
        self.turned.notify_one();
    }

    /// Waits until it is not any more as it was. One task waits, the consumer.
    pub(crate) async fn turned(&self, turn: u64) {
        while self.turns() == turn {
            self.turned.notified().await;
        }
    }

    /// Waits until it is open. If it has been shut since `turn`, all that went back is with the broker again when this
    /// returns: an event that comes again before an earlier one is back would pass it. Cancel safe.
    pub(crate) async fn opened(&self, turn: &mut u64, settling: &SettleQueue) {
        loop {
            let now = self.turns();
            if now == *turn {
                return;
            }
            if self.is_shut() {
                self.turned(now).await;
                continue;
            }
            settling.flushed().await;
            *turn = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use commute_core::{DeliveryTag, Settlement};
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_gate_that_was_shut_opens_when_all_that_went_back_is_back() {
        let (gate, settling) = (Gate::default(), Arc::new(SettleQueue::default()));
        let mut turn = 0;
        assert!(gate.opened(&mut turn, &settling).now_or_never().is_some());
        assert!(gate.turn(true) && !gate.turn(true));
        assert!(gate.opened(&mut turn, &settling).now_or_never().is_none());
        let tag = DeliveryTag { position: 0, incarnation: 0 };
        settling.push([(0, Settlement::Return { tag })]);
        assert!(gate.turn(false));
        assert!(gate.opened(&mut turn, &settling).now_or_never().is_none(), "an event is on its way back");
        settling.forget_all();
        gate.opened(&mut turn, &settling).await;
        assert_eq!((turn, gate.turned(turn).now_or_never()), (2, None));
    }
}
