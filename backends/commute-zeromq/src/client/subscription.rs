//! A subscription on a node: the end that takes, and the end that settles.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use commute_core::{
    BoxFuture, Change, Delivery, DeliveryTag, Envelope, Error, Parked, Receiver, Result, Settlement, Settler,
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
    known: Mutex<Known>,
    changed: Notify,
    /// For whoever receives: something came, or nothing will any more.
    came: Notify,
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
    /// Came, and not handed on.
    kept: VecDeque<Delivery>,
    /// How many the receiver waits for.
    wanted: usize,
    /// The node was asked for some.
    taking: bool,
    /// Nobody receives for a while, so what comes goes back.
    unwanted: bool,
    /// On its way back, and not said yet.
    back: Vec<Settlement>,
    /// So many settlements that give something back are under way. What comes meanwhile stands behind what goes back, so it goes
    /// back, too, and everything comes again in its order.
    returning: usize,
    over: Option<Result<()>>,
    receiver_gone: bool,
    settler_gone: bool,
    /// The node knows that nobody receives.
    left: bool,
    forgotten: bool,
}

/// What the link has to do for a subscription.
pub(crate) enum Need {
    /// Ask for so many.
    Take(usize),
    /// Give these back.
    GiveBack(Vec<Settlement>),
    /// Nobody receives any more.
    Leave,
    /// Nobody has anything to do with it any more.
    Forget,
}

impl Open {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn number(&self) -> u32 {
        self.number.load(Ordering::Acquire)
    }

    /// What has to be done now. Each is answered once.
    pub(crate) fn need(&self) -> Option<Need> {
        let mut known = self.known();
        if known.receiver_gone && known.settler_gone {
            return Some(Need::Forget);
        }
        if known.receiver_gone {
            return (!std::mem::replace(&mut known.left, true)).then_some(Need::Leave);
        }
        if !known.back.is_empty() {
            return Some(Need::GiveBack(std::mem::take(&mut known.back)));
        }
        let asks = known.wanted > 0 && !known.taking && known.returning == 0 && known.kept.is_empty();
        known.taking |= asks;
        asks.then_some(Need::Take(known.wanted))
    }

    /// Whether somebody still receives.
    pub(crate) fn is_received(&self) -> bool {
        !self.known().receiver_gone
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

    /// It cannot be opened: whoever waits for it is told.
    pub(crate) fn refused(&self, error: Error) {
        if let Some(to) = self.known().waiting.take() {
            let _ = to.send(Err(error));
        }
    }

    /// Deliveries came. Answers those that must go back.
    pub(crate) fn took(&self, taken: Vec<Delivery>) -> Vec<Settlement> {
        self.saw(taken.iter().map(|delivery| delivery.tag));
        let mut known = self.known();
        known.taking = false;
        if (known.returning > 0 || known.unwanted) && !taken.is_empty() {
            known.returning += 1;
            return give_back(taken);
        }
        known.kept.extend(taken);
        drop(known);
        self.came.notify_one();
        Vec::new()
    }

    /// Something is given back: answers what has to go with it.
    pub(crate) fn returning(&self) -> Vec<Settlement> {
        let mut known = self.known();
        known.returning += 1;
        give_back(std::mem::take(&mut known.kept))
    }

    /// A settlement that gave something back is over.
    pub(crate) fn returned(&self) {
        let mut known = self.known();
        known.returning = known.returning.saturating_sub(1);
    }

    /// Nothing comes any more: it was closed, or it failed.
    pub(crate) fn end(&self, how: Result<()>) {
        let mut known = self.known();
        known.taking = false;
        known.over.get_or_insert(how);
        drop(known);
        self.came.notify_one();
    }

    /// Its session is over and nobody receives: it is not opened again, and nothing can be asked of it.
    pub(crate) fn forget(&self) {
        self.known().forgotten = true;
    }

    pub(crate) fn is_forgotten(&self) -> bool {
        self.known().forgotten
    }

    /// These tags are about to be handed on. An incarnation after a loss is announced before.
    pub(crate) fn saw(&self, tags: impl IntoIterator<Item = DeliveryTag>) {
        self.is_now(tags.into_iter().last().map(|tag| tag.incarnation));
    }

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
        known.kept.clear();
        known.back.clear();
        (known.taking, known.returning) = (false, 0);
        if let Some(before) = known.incarnation.take() {
            known.again = true;
            known.changes.push_back(Change::Revoked(before));
            drop(known);
            self.changed.notify_one();
        }
    }

    pub(crate) fn is_ours(&self, tag: DeliveryTag) -> bool {
        self.known().incarnation == Some(tag.incarnation)
    }

    pub(crate) fn absorbed(&self, absorbed: u64) {
        self.absorbed.store(absorbed, Ordering::Relaxed);
    }
}

fn give_back(deliveries: impl IntoIterator<Item = Delivery>) -> Vec<Settlement> {
    deliveries.into_iter().map(|delivery| Settlement::Return { tag: delivery.tag }).collect()
}

/// Opens a subscription.
pub(crate) async fn open(link: &Arc<Link>, spec: SubscriptionSpec) -> Result<Subscription> {
    let mapping = spec.mapping.is_some();
    let open = Arc::new(Open {
        spec,
        number: AtomicU32::new(0),
        absorbed: AtomicU64::new(0),
        known: Mutex::default(),
        changed: Notify::new(),
        came: Notify::new(),
    });
    if mapping {
        tracing::debug!("every event on a node is a CloudEvent; the mapping has nothing to do");
    }
    // Made before, so that who does not wait for the answer leaves it, too.
    let receiver = Inlet { link: link.clone(), open: open.clone() };
    let settler = Outlet { link: link.clone(), open: open.clone() };
    let (to, opened) = oneshot::channel();
    link.ask(Asked::Subscribe { open, to: Some(to) }).await?;
    answered(opened).await?;
    Ok(Subscription { receiver: Box::new(receiver), settler: Arc::new(settler) })
}

struct Inlet {
    link: Arc<Link>,
    open: Arc<Open>,
}

impl Receiver for Inlet {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, Result<Vec<Delivery>>> {
        let max = max.max(1);
        Box::pin(async move {
            loop {
                let _wanting = {
                    let mut known = self.open.known();
                    match &known.over {
                        Some(Ok(())) => return Ok(Vec::new()),
                        Some(Err(error)) => return Err(Error::new(error.code(), error.detail())),
                        None => {}
                    }
                    if !known.kept.is_empty() {
                        let few = max.min(known.kept.len());
                        return Ok(known.kept.drain(..few).collect());
                    }
                    (known.wanted, known.unwanted) = (max, false);
                    Wanting(&self.open)
                };
                self.link.attend();
                self.open.came.notified().await;
            }
        })
    }

    fn give_back(&mut self) {
        let mut known = self.open.known();
        known.unwanted = true;
        let kept = std::mem::take(&mut known.kept);
        if !kept.is_empty() {
            known.returning += 1;
            known.back.extend(give_back(kept));
        }
        drop(known);
        self.link.attend();
    }
}

/// As long as somebody waits, the node is asked.
struct Wanting<'a>(&'a Open);

impl Drop for Wanting<'_> {
    fn drop(&mut self) {
        self.0.known().wanted = 0;
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.open.known().receiver_gone = true;
        self.link.attend();
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

impl Drop for Outlet {
    fn drop(&mut self) {
        self.open.known().settler_gone = true;
        self.link.attend();
    }
}

impl Settler for Outlet {
    fn settle(&self, settlements: Vec<Settlement>) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.link.settle(&self.open, settlements))
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
