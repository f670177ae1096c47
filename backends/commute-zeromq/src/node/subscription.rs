//! An open subscription of a session: its two ends, what was received and not yet sent, and which tags are its own.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commute_core::{Code, Delivery, DeliveryTag, Error, Receiver, Result, Settler, Subscription};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// So many events at once; more would only make a message wait for its last one.
const MOST: usize = 512;

/// Cheap to clone; the deliveries go back when the last clone is gone.
#[derive(Clone)]
pub(crate) struct Open {
    inlet: Arc<tokio::sync::Mutex<Inlet>>,
    pub(crate) settler: Arc<dyn Settler>,
    /// The incarnations that this session was told of: nothing else is its to settle.
    told: Arc<Mutex<BTreeSet<u32>>>,
    ended: CancellationToken,
}

struct Inlet {
    receiver: Box<dyn Receiver>,
    /// Received, and too much for the last message.
    kept: VecDeque<Delivery>,
}

/// How much to take, and how long to wait for it.
pub(crate) struct Want {
    pub(crate) max: usize,
    pub(crate) bytes: usize,
    pub(crate) wait: Duration,
}

impl Open {
    pub(crate) fn new(subscription: Subscription) -> Self {
        let inlet = Inlet { receiver: subscription.receiver, kept: VecDeque::new() };
        Open {
            inlet: Arc::new(tokio::sync::Mutex::new(inlet)),
            settler: subscription.settler,
            told: Arc::default(),
            ended: CancellationToken::new(),
        }
    }

    /// Whoever takes lets go of it.
    pub(crate) fn end(&self) {
        self.ended.cancel();
    }

    /// The session is about to be told of these.
    pub(crate) fn tell(&self, tags: impl IntoIterator<Item = DeliveryTag>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.extend(tags.into_iter().map(|tag| tag.incarnation));
    }

    /// # Errors
    /// `AccessRefused` when one of them is another's.
    pub(crate) fn check(&self, tags: impl IntoIterator<Item = DeliveryTag>) -> Result<()> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match tags.into_iter().find(|tag| !told.contains(&tag.incarnation)) {
            None => Ok(()),
            Some(DeliveryTag { position, incarnation }) => {
                let detail = format!("delivery {position} of incarnation {incarnation} is not this session's");
                Err(Error::new(Code::AccessRefused, detail))
            }
        }
    }

    /// Up to `max` deliveries, and up to `bytes` of them unless one alone is larger; none when there are none in time. Who asks
    /// first gets first. Takes nothing while nobody is there to get it.
    pub(crate) async fn take(&self, want: Want, mut present: watch::Receiver<bool>) -> Result<Vec<Delivery>> {
        let taking = async {
            let mut inlet = self.inlet.lock().await;
            let Inlet { receiver, kept } = &mut *inlet;
            while kept.is_empty() {
                there(&mut present, true).await;
                // Receiving is cancel safe.
                tokio::select! {
                    biased;
                    () = there(&mut present, false) => {}
                    received = receiver.receive(want.max.clamp(1, MOST)) => match received? {
                        // The node's broker was closed, so the node will end; the next one goes on.
                        none if none.is_empty() => std::future::pending().await,
                        received => kept.extend(received),
                    }
                }
            }
            Ok(within(kept, &want))
        };
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Ok(Vec::new()),
            taken = tokio::time::timeout(want.wait, taking) => {
                let taken = taken.unwrap_or_else(|_| Ok(Vec::new()))?;
                self.tell(taken.iter().map(|delivery| delivery.tag));
                Ok(taken)
            }
        }
    }
}

async fn there(present: &mut watch::Receiver<bool>, wanted: bool) {
    if present.wait_for(|there| *there == wanted).await.is_err() {
        // The session is over.
        std::future::pending::<()>().await;
    }
}

fn within(kept: &mut VecDeque<Delivery>, want: &Want) -> Vec<Delivery> {
    let (mut taken, mut size) = (Vec::new(), 0);
    while taken.len() < want.max.max(1)
        && let Some(next) = kept.front()
    {
        size += next.envelope.size();
        if size > want.bytes && !taken.is_empty() {
            break;
        }
        taken.extend(kept.pop_front());
    }
    taken
}
