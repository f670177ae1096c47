//! The shop as a whole: starts its services, knows when everything is settled, and stops them.

use std::sync::Arc;
use std::time::Duration;

use commute::{App, Contract, Running, Stats};
use commute_sqlite::Sqlite;

use crate::services::{Setting, inventory, orders, payment, shipping, users};

type Service = fn(&Setting) -> commute::Result<(App, Sqlite)>;

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
    /// Starts those of the five services whose names are wanted.
    ///
    /// # Errors
    /// When a database or the broker cannot be used.
    pub async fn open(setting: &Setting, wanted: impl Fn(&str) -> bool) -> commute::Result<Self> {
        let services: [(&str, Service); 5] = [
            ("users", users::users),
            ("orders", orders::orders),
            ("inventory", inventory::inventory),
            ("payment", payment::payment),
            ("shipping", shipping::shipping),
        ];
        let mut running = Vec::with_capacity(services.len());
        for (_, service) in services.into_iter().filter(|(name, _)| wanted(name)) {
            let (app, _db) = service(setting)?;
            running.push(app.start().await?);
        }
        Ok(Shop { services: Arc::new(running) })
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

    /// Waits until nothing has come for so long, where services elsewhere may still send something.
    ///
    /// # Errors
    /// When a service fails.
    pub async fn quiet(&self, time: Duration) -> commute::Result<()> {
        let mut before = None;
        loop {
            self.settled().await?;
            let received: u64 = self.stats().iter().flat_map(|app| &app.subscriptions).map(|sub| sub.received).sum();
            if before == Some(received) {
                return Ok(());
            }
            before = Some(received);
            tokio::time::sleep(time).await;
        }
    }

    /// Waits until a service fails.
    pub async fn failed(&self) -> commute::Error {
        let failures: Vec<_> = self.services.iter().map(|service| Box::pin(service.failed())).collect();
        match failures.is_empty() {
            true => std::future::pending().await,
            false => futures_util::future::select_all(failures).await.0,
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
