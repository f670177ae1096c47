//! The end that takes deliveries.

use std::sync::Arc;

use commute_core::{BoxFuture, Delivery, Receiver, Result};
use tokio::sync::watch;

use crate::membership::leaving;
use crate::state::{Command, Over, Shared};

/// The end that takes. Dropping it leaves the group.
pub(crate) struct Inlet {
    pub(crate) shared: Arc<Shared>,
    pub(crate) gone: watch::Receiver<()>,
}

impl Receiver for Inlet {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                // Registered before looking, so that nothing is missed in between.
                changed.as_mut().enable();
                {
                    let mut state = self.shared.state();
                    if let Some(end) = state.end() {
                        return end.map(|()| Vec::new());
                    }
                    let taken = state.take(max.max(1), self.shared.spec.credit.max(1));
                    if state.full && state.has_room() {
                        self.shared.turn();
                    }
                    if !taken.is_empty() {
                        return Ok(taken);
                    }
                }
                changed.await;
            }
        })
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        end(&self.shared, &self.gone);
    }
}

/// Ends a subscription, after what was asked of it; it leaves the group by itself.
pub(crate) fn end(shared: &Shared, gone: &watch::Receiver<()>) {
    leaving(shared.group(), gone.clone());
    shared.state().over.get_or_insert(Over::Ended);
    shared.ask(Command::End);
    shared.changed.notify_waiters();
}
