//! Futures: what the methods of traits answer that are called without knowing who is behind them.

use std::future::Future;
use std::pin::Pin;

/// A future that can be sent between threads, boxed so that brokers can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
