//! A subscription on a node: the end that takes, and the end that settles.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use commute_core::{
    BoxFuture, Change, Code, Delivery, DeliveryTag, Envelope, Error, Parked, Receiver, Result, Settlement, Settler,
    Subscription, SubscriptionSpec,
};
use tokio::sync::{Notify, oneshot};

use super::link::Link;
use super::outstanding::{Asked, To};

/// What both ends and the link know of a subscription.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) spec: SubscriptionSpec,
    /// What the node calls it in this session; 0 until it has named it.
    number: AtomicU32,
    /// The incarnation of what was received last.
    incarnation: AtomicU32,
    absorbed: AtomicU64,
    changes: Mutex<VecDeque<Change>>,
    changed: Notify,
    /// Who waits until it is open.
    waiting: Mutex<Option<To<()>>>,
}

impl Open {
    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    /// The node has opened it.
    pub(crate) fn opened(&self, number: u32) {
        self.number.store(number, Ordering::Release);
        if let Some(to) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = to.send(Ok(()));
        }
    }

    pub(crate) fn wait_for(&self, to: Option<To<()>>) {
        if to.is_some() {
            *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = to;
        }
    }

    /// Deliveries came. An incarnation that is new here is announced before they are handed on.
    pub(crate) fn saw(&self, taken: &[Delivery]) {
        let Some(now) = taken.last().map(|delivery| delivery.tag.incarnation) else { return };
        let before = self.incarnation.swap(now, Ordering::AcqRel);
        if before != 0 && before != now {
            self.change(Change::Assigned(now));
        }
    }

    /// The session is over: whatever was received in it belongs to nobody now.
    pub(crate) fn lost(&self) {
        self.number.store(0, Ordering::Release);
        match self.incarnation.load(Ordering::Acquire) {
            0 => {}
            incarnation => self.change(Change::Revoked(incarnation)),
        }
    }

    fn change(&self, change: Change) {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.back() != Some(&change) {
            changes.push_back(change);
        }
        drop(changes);
        self.changed.notify_one();
    }

    pub(crate) fn absorbed(&self, absorbed: u64) {
        self.absorbed.store(absorbed, Ordering::Relaxed);
    }
}

/// Opens a subscription.
pub(crate) async fn open(link: &Arc<Link>, spec: SubscriptionSpec) -> Result<Subscription> {
    let mapping = spec.mapping.is_some();
    let open = Arc::new(Open {
        spec,
        number: AtomicU32::new(0),
        incarnation: AtomicU32::new(0),
        absorbed: AtomicU64::new(0),
        changes: Mutex::default(),
        changed: Notify::new(),
        waiting: Mutex::default(),
    });
    if mapping {
        tracing::debug!("every event on a node is a CloudEvent; the mapping has nothing to do");
    }
    let (to, opened) = oneshot::channel();
    link.ask(Asked::Subscribe { open: open.clone(), to: Some(to) }).await?;
    answered(opened).await?;
    let receiver = Inlet { link: link.clone(), open: open.clone(), asked: None, kept: VecDeque::new() };
    let settler = Outlet { link: link.clone(), open };
    Ok(Subscription { receiver: Box::new(receiver), settler: Arc::new(settler) })
}

async fn answered<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    answer.await.unwrap_or_else(|_| Err(Error::new(Code::Closed, "the connection to the node is closed")))
}

struct Inlet {
    link: Arc<Link>,
    open: Arc<Open>,
    /// Asked for, and not come yet. Kept between calls, so that dropping a receive loses nothing.
    asked: Option<oneshot::Receiver<Result<Option<Vec<Delivery>>>>>,
    kept: VecDeque<Delivery>,
}

impl Receiver for Inlet {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        let max = max.max(1);
        Box::pin(async move {
            loop {
                if !self.kept.is_empty() {
                    let few = max.min(self.kept.len());
                    return Ok(self.kept.drain(..few).collect());
                }
                if self.asked.is_none() {
                    let (to, answer) = oneshot::channel();
                    let take = Asked::Take { open: self.open.clone(), max, to };
                    if self.link.ask(take).await.is_err() {
                        return Ok(Vec::new());
                    }
                    self.asked = Some(answer);
                }
                let Some(asked) = &mut self.asked else { continue };
                let taken = asked.await;
                self.asked = None;
                match taken {
                    Ok(Ok(taken)) => self.kept.extend(taken.into_iter().flatten()),
                    Ok(Err(error)) if error.code() == Code::Closed => return Ok(Vec::new()),
                    Ok(Err(error)) => return Err(error),
                    Err(_) => return Ok(Vec::new()),
                }
            }
        })
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.link.leave(self.open.clone());
    }
}

struct Outlet {
    link: Arc<Link>,
    open: Arc<Open>,
}

impl Outlet {
    async fn ask<T>(&self, asked: impl FnOnce(Arc<Open>, To<T>) -> Asked) -> Result<T> {
        let (to, answer) = oneshot::channel();
        self.link.ask(asked(self.open.clone(), to)).await?;
        answered(answer).await
    }
}

impl Settler for Outlet {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.ask(|open, to| Asked::Settle { open, settlements, to }))
    }

    fn read(&self, tags: &[DeliveryTag]) -> BoxFuture<'_, Result<Vec<Envelope>>> {
        let tags = tags.to_vec();
        Box::pin(self.ask(|open, to| Asked::Read { open, tags, to }))
    }

    fn parked(&self) -> BoxFuture<'_, Result<Vec<Parked>>> {
        Box::pin(self.ask(|open, to| Asked::Parked { open, to }))
    }

    fn unpark(&self, tags: Vec<DeliveryTag>) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        Box::pin(self.ask(|open, to| Asked::Unpark { open, tags, to }))
    }

    fn backlog(&self) -> BoxFuture<'_, Result<Option<u64>>> {
        Box::pin(self.ask(|open, to| Asked::Backlog { open, to }))
    }

    fn changed(&self) -> BoxFuture<'_, Change> {
        Box::pin(async {
            loop {
                let next = self.open.changes.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                if let Some(change) = next {
                    return change;
                }
                self.open.changed.notified().await;
            }
        })
    }

    fn absorbed(&self) -> u64 {
        self.open.absorbed.load(Ordering::Relaxed)
    }
}
