//! A subscription on a node: the end that takes, and the end that settles.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use commute_core::{
    BoxFuture, Change, Code, Delivery, DeliveryTag, Envelope, Error, Parked, Receiver, Result, Settlement, Settler,
    Subscription, SubscriptionSpec,
};
use tokio::sync::{Notify, oneshot};

use super::link::{Link, answered};
use super::outstanding::{Asked, To};

/// What both ends and the link know of a subscription.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) spec: SubscriptionSpec,
    /// What the node calls it in this session; 0 until it has named it.
    number: AtomicU32,
    absorbed: AtomicU64,
    /// Its receiver was dropped.
    left: AtomicBool,
    known: Mutex<Known>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// Which tags are ours: those of the session that there is.
    incarnation: Option<u32>,
    /// A session was lost, and what comes next is news.
    again: bool,
    changes: VecDeque<Change>,
    /// Who waits until it is open.
    waiting: Option<To<()>>,
}

impl Open {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    /// The node has opened it. With an incarnation, something is parked under it.
    pub(crate) fn opened(&self, number: u32, incarnation: Option<u32>) {
        self.number.store(number, Ordering::Release);
        self.is_now(incarnation);
        if let Some(to) = self.known().waiting.take() {
            let _ = to.send(Ok(()));
        }
    }

    pub(crate) fn wait_for(&self, to: Option<To<()>>) {
        let waiting = &mut self.known().waiting;
        *waiting = to.or_else(|| waiting.take());
    }

    /// Whether somebody waits until it is open for the first time.
    pub(crate) fn is_awaited(&self) -> bool {
        self.known().waiting.is_some()
    }

    /// # Errors
    /// Whoever waits is told that it cannot be opened.
    pub(crate) fn refused(&self, error: Error) {
        if let Some(to) = self.known().waiting.take() {
            let _ = to.send(Err(error));
        }
    }

    /// These tags came, and are about to be handed on.
    pub(crate) fn saw(&self, tags: impl IntoIterator<Item = DeliveryTag>) {
        self.is_now(tags.into_iter().last().map(|tag| tag.incarnation));
    }

    /// An incarnation after a loss is announced before anything of it is handed on.
    fn is_now(&self, incarnation: Option<u32>) {
        let mut known = self.known();
        let Some(now) = incarnation.filter(|now| known.incarnation != Some(*now)) else { return };
        known.incarnation = Some(now);
        if std::mem::take(&mut known.again) {
            known.changes.push_back(Change::Assigned(now));
            drop(known);
            self.changed.notify_one();
        }
    }

    /// The session is over: whatever was received in it belongs to nobody now.
    pub(crate) fn lost(&self) {
        self.number.store(0, Ordering::Release);
        let mut known = self.known();
        if let Some(before) = known.incarnation.take() {
            known.again = true;
            known.changes.push_back(Change::Revoked(before));
            drop(known);
            self.changed.notify_one();
        }
    }

    fn is_ours(&self, tag: DeliveryTag) -> bool {
        self.known().incarnation == Some(tag.incarnation)
    }

    pub(crate) fn absorbed(&self, absorbed: u64) {
        self.absorbed.store(absorbed, Ordering::Relaxed);
    }

    /// Whether its receiver was dropped.
    pub(crate) fn is_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
    }
}

/// Opens a subscription.
pub(crate) async fn open(link: &Arc<Link>, spec: SubscriptionSpec) -> Result<Subscription> {
    let mapping = spec.mapping.is_some();
    let open = Arc::new(Open {
        spec,
        number: AtomicU32::new(0),
        absorbed: AtomicU64::new(0),
        left: AtomicBool::new(false),
        known: Mutex::default(),
        changed: Notify::new(),
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
        self.open.left.store(true, Ordering::Release);
        self.link.leave();
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
        Box::pin(async move {
            // What is not of this session belongs to others, or nobody.
            let ours: Vec<_> = settlements.into_iter().filter(|one| self.open.is_ours(one.tag())).collect();
            if ours.is_empty() { Ok(()) } else { self.link.settle(&self.open, ours).await }
        })
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
                let next = self.open.known().changes.pop_front();
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
