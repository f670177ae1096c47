//! The shop as a whole: starts its services, knows when everything is settled, and stops them.

use std::sync::Arc;
use std::time::Duration;

use commute::{Contract, Running, Stats};

use crate::services::{Setting, inventory, orders, payment, shipping, users};

/// The running services.
pub struct Shop {
    services: Arc<Vec<Running>>,
}

/// Looks at the services while they run.
#[derive(Clone)]
pub struct Watch {
    services: Arc<Vec<Running>>,
}

impl Shop {
    /// Starts the five services.
    ///
    /// # Errors
    /// When a database or the broker cannot be used.
    pub async fn open(setting: &Setting) -> commute::Result<Self> {
        let apps = [
            users::users(setting)?,
            orders::orders(setting)?,
            inventory::inventory(setting)?,
            payment::payment(setting)?,
            shipping::shipping(setting)?,
        ];
        let mut services = Vec::with_capacity(apps.len());
        for (app, _db) in apps {
            services.push(app.start().await?);
        }
        Ok(Shop { services: Arc::new(services) })
    }

    /// What the services are promised.
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.services.iter().map(Running::contract)
    }

    /// For showing progress.
    pub fn watch(&self) -> Watch {
        Watch { services: self.services.clone() }
    }

    /// Waits until nothing is left to handle anywhere.
    ///
    /// An event handled by one service can be the cause of the next one's, so all must be idle twice in a row with
    /// nothing received in between.
    ///
    /// # Errors
    /// When a service fails.
    pub async fn settled(&self) -> commute::Result<()> {
        let mut before = None;
        loop {
            let mut idle = true;
            for service in self.services.iter() {
                service.idle().await?;
            }
            for service in self.services.iter() {
                idle &= service
                    .is_idle()
                    .await
                    .or_else(|error| if error.is_retryable() { Ok(false) } else { Err(error) })?;
            }
            let received: u64 = self.stats().iter().flat_map(|app| &app.subscriptions).map(|sub| sub.received).sum();
            if idle && before == Some(received) {
                return Ok(());
            }
            before = idle.then_some(received);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// What the services have done.
    pub fn stats(&self) -> Vec<Stats> {
        self.watch().stats()
    }

    /// Stops the services and answers how many events are not settled.
    ///
    /// # Errors
    /// When a service had failed.
    pub async fn stop(self) -> commute::Result<usize> {
        let parked: u64 = self.stats().iter().flat_map(|app| &app.subscriptions).map(|sub| sub.parked).sum();
        let mut unsettled = usize::try_from(parked).unwrap_or(usize::MAX);
        // Whoever watches holds them for an instant only.
        let mut services = self.services;
        let services = loop {
            match Arc::try_unwrap(services) {
                Ok(services) => break services,
                Err(shared) => services = shared,
            }
            tokio::task::yield_now().await;
        };
        for service in services {
            let left = service.stop().await?;
            unsettled += left.unhandled + left.staged;
        }
        Ok(unsettled)
    }
}

impl Watch {
    /// What the services have done.
    pub fn stats(&self) -> Vec<Stats> {
        self.services.iter().map(Running::stats).collect()
    }
}
