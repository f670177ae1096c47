//! Membership: being one of a group, and knowing who of this process is about to leave it.
//!
//! Whoever opens a group that another subscription of this process is leaving waits for that. The group would hand out its
//! partitions a second time otherwise, and the newcomer would begin with none of them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use tokio::sync::watch;

use crate::assignment::Watch;

/// Those who are leaving: the group, and a channel that closes when one has left.
static LEAVING: Mutex<Vec<(String, watch::Receiver<()>)>> = Mutex::new(Vec::new());

/// A consumer that belongs to a group, until it is dropped.
pub(crate) struct Member {
    consumer: BaseConsumer<Watch>,
    /// Closes after the consumer has left.
    _gone: watch::Sender<()>,
}

impl Member {
    pub(crate) fn new(consumer: BaseConsumer<Watch>) -> (Self, watch::Receiver<()>) {
        let (gone, seen) = watch::channel(());
        (Member { consumer, _gone: gone }, seen)
    }

    pub(crate) fn consumer(&self) -> &BaseConsumer<Watch> {
        &self.consumer
    }
}

/// Somebody is about to leave a group.
pub(crate) fn leaving(group: String, gone: watch::Receiver<()>) {
    let mut leaving = LEAVING.lock().unwrap_or_else(PoisonError::into_inner);
    leaving.retain(|(_, gone)| gone.has_changed().is_ok());
    leaving.push((group, gone));
}

/// Waits until nobody is leaving a group any more.
pub(crate) async fn left(group: &str, patience: Duration) {
    let until = Instant::now() + patience;
    let mine: Vec<_> = {
        let leaving = LEAVING.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.iter().filter(|(known, _)| known == group).map(|(_, gone)| gone.clone()).collect()
    };
    for gone in mine {
        wait_for(gone, until.saturating_duration_since(Instant::now())).await;
    }
}

/// Waits until one has left; whether it has.
pub(crate) async fn wait_for(mut gone: watch::Receiver<()>, patience: Duration) -> bool {
    // Nothing is ever sent: the end of the channel is the message.
    tokio::time::timeout(patience, gone.changed()).await.is_ok()
}
