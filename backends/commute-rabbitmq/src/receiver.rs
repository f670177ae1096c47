//! The receiver: takes what is ready, under credit.

use std::sync::Arc;

use commute_core::{BoxFuture, Delivery, Error, Receiver, Result};

use crate::attend::Shared;

/// The end that takes deliveries. Dropping it leaves the subscription: what is unsettled goes to whoever is next.
pub(crate) struct Inlet {
    pub(crate) shared: Arc<Shared>,
}

impl Receiver for Inlet {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(async move {
            loop {
                let arrived = self.shared.arrived.notified();
                tokio::pin!(arrived);
                // Registered before looking, so that what arrives in between is noticed.
                arrived.as_mut().enable();
                {
                    let mut state = self.shared.state();
                    if let Some(failure) = &state.failure {
                        let said = Error::new(failure.code(), failure.detail());
                        return Err(said.caused_by(failure.to_string()));
                    }
                    if state.closed {
                        return Ok(Vec::new());
                    }
                    let taken = state.take(max);
                    if !taken.is_empty() {
                        return Ok(taken);
                    }
                }
                arrived.await;
            }
        })
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}
