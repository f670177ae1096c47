//! An open subscription of a session: its two ends, what was received and not yet sent, and which tags are its own.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use commute_core::{
    BoxFuture, Code, Delivery, DeliveryTag, Error, Receiver, Result, Settlement, Settler, Subscription,
};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// So many takes of a subscription may wait at once.
const TAKING: usize = 2;
/// So many events at once; more would only make a message wait for its last one.
const MOST: usize = 512;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Open {
    /// Nothing when nobody receives any more.
    inlet: Arc<tokio::sync::Mutex<Option<Box<dyn Receiver>>>>,
    pub(crate) settler: Arc<dyn Settler>,
    held: Arc<Mutex<Held>>,
    ended: CancellationToken,
    /// Takes that wait are to be answered.
    hurried: Arc<Notify>,
}

/// What is in the hands of this session.
#[derive(Default)]
struct Held {
    tags: HashSet<DeliveryTag>,
    /// Received, and too much for the last message.
    kept: VecDeque<Delivery>,
    /// All that it was ever told of: nothing else is its to settle.
    incarnations: BTreeSet<u32>,
    /// Takes under way.
    taking: usize,
}

/// How much to take, and how long to wait for it.
pub(crate) struct Want {
    pub(crate) max: usize,
    pub(crate) bytes: usize,
    pub(crate) wait: Duration,
}

impl Open {
    pub(crate) fn new(subscription: Subscription) -> Self {
        Open {
            inlet: Arc::new(tokio::sync::Mutex::new(Some(subscription.receiver))),
            settler: subscription.settler,
            held: Arc::default(),
            ended: CancellationToken::new(),
            hurried: Arc::default(),
        }
    }

    /// Answers the takes that wait, with nothing: the client cannot say which later answers it has while they are open.
    pub(crate) fn hurry(&self) {
        self.hurried.notify_waiters();
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody receives any more. What was received may still be settled.
    pub(crate) async fn leave(&self) {
        self.ended.cancel();
        self.inlet.lock().await.take();
    }

    /// Gives back what is not settled.
    pub(crate) async fn end(&self) {
        self.leave().await;
        let mut back: Vec<_> = self.held().tags.drain().collect();
        back.sort_unstable();
        let back: Vec<_> = back.into_iter().map(|tag| Settlement::Return { tag }).collect();
        if !back.is_empty()
            && let Err(error) = self.settler.settle(back).await
        {
            tracing::debug!(%error, "what a session held comes back later");
        }
    }

    /// The session has these now.
    pub(crate) fn hold(&self, tags: impl IntoIterator<Item = DeliveryTag>) {
        let mut held = self.held();
        for tag in tags {
            held.incarnations.insert(tag.incarnation);
            held.tags.insert(tag);
        }
    }

    /// The session knows of these, and does not have them.
    pub(crate) fn show(&self, tags: impl IntoIterator<Item = DeliveryTag>) {
        self.held().incarnations.extend(tags.into_iter().map(|tag| tag.incarnation));
    }

    /// # Errors
    /// `AccessRefused` when one of them is another's; nothing is settled then. The broker's.
    pub(crate) fn settle(&self, mut settlements: Vec<Settlement>) -> Result<BoxFuture<'static, Result<()>>> {
        let mut held = self.held();
        let foreign = settlements.iter().map(Settlement::tag).find(|tag| !held.incarnations.contains(&tag.incarnation));
        if let Some(DeliveryTag { position, incarnation }) = foreign {
            let detail = format!("delivery {position} of incarnation {incarnation} is not this session's");
            return Err(Error::new(Code::AccessRefused, detail));
        }
        // What was received behind it, and not handed on, goes back with it: it would come first otherwise.
        let mut kept = VecDeque::new();
        if settlements.iter().any(|one| matches!(one, Settlement::Return { .. })) {
            std::mem::swap(&mut kept, &mut held.kept);
            settlements.extend(kept.iter().map(|delivery| Settlement::Return { tag: delivery.tag }));
        }
        let over = |one: &Settlement| (!matches!(one, Settlement::Defer { .. })).then(|| one.tag());
        // Before it takes effect, because what goes back can come again before this hears of it.
        let over: Vec<_> = settlements.iter().filter_map(over).filter(|tag| held.tags.remove(tag)).collect();
        drop(held);
        let open = self.clone();
        Ok(Box::pin(async move {
            let settled = open.settler.settle(settlements).await;
            if settled.is_err() {
                open.hold(over);
                let mut held = open.held();
                kept.append(&mut held.kept);
                held.kept = kept;
            }
            settled
        }))
    }

    /// Up to `max` deliveries, and up to `bytes` of them unless one alone is larger; none when there are none in time. Who asks
    /// first gets first. Takes nothing while nobody is there to get it.
    ///
    /// # Errors
    /// `NotUnderstood` when it waits twice already. The broker's.
    pub(crate) async fn take(&self, want: Want, mut present: watch::Receiver<bool>) -> Result<Vec<Delivery>> {
        let _taking = Taking::begin(self)?;
        let taking = async {
            let mut inlet = self.inlet.lock().await;
            let Some(receiver) = &mut *inlet else { return Ok(Vec::new()) };
            loop {
                let taken = within(&mut self.held().kept, &want);
                if !taken.is_empty() {
                    return Ok(taken);
                }
                there(&mut present, true).await;
                // Receiving is cancel safe.
                tokio::select! {
                    biased;
                    () = there(&mut present, false) => {}
                    received = receiver.receive(want.max.clamp(1, MOST)) => match received? {
                        // The node's broker was closed, so the node will end; the next one goes on.
                        none if none.is_empty() => std::future::pending().await,
                        received => {
                            self.hold(received.iter().map(|delivery| delivery.tag));
                            self.held().kept.extend(received);
                        }
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = self.ended.cancelled() => Ok(Vec::new()),
            () = self.hurried.notified() => Ok(Vec::new()),
            taken = tokio::time::timeout(want.wait, taking) => taken.unwrap_or_else(|_| Ok(Vec::new())),
        }
    }
}

/// A take under way.
struct Taking<'a>(&'a Open);

impl<'a> Taking<'a> {
    fn begin(open: &'a Open) -> Result<Self> {
        let mut held = open.held();
        if held.taking >= TAKING {
            return Err(Error::new(Code::NotUnderstood, format!("more than {TAKING} TAKEs of a subscription at once")));
        }
        held.taking += 1;
        Ok(Taking(open))
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        self.0.held().taking -= 1;
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

#[cfg(test)]
mod tests {
    use commute_core::{Broker, Envelope, Outgoing, SubscriptionSpec, Timestamp, Topic};
    use commute_embedded::storage::Memory;
    use commute_embedded::{Embedded, Options};
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn nothing_is_taken_for_a_client_that_is_not_there() {
        let options = Options { prepare: false, ..Options::default() };
        let broker = Embedded::in_memory(&Memory::new(), options).unwrap();
        let topic = Topic::new("tests").unwrap();
        let open = Open::new(broker.subscribe(SubscriptionSpec::new(topic.clone(), "g")).await.unwrap());
        let (there, present) = watch::channel(true);
        let want = |wait| Want { max: 9, bytes: 1 << 20, wait: Duration::from_millis(wait) };
        // One waits when its client goes.
        let mut waiting = Box::pin(open.take(want(50), present.clone()));
        assert!(poll!(&mut waiting).is_pending());
        there.send_replace(false);
        let envelope = Envelope::new("tests", "tests.event", Timestamp(1), "1".into());
        broker.publish(vec![Outgoing { topic, envelope, not_before: None }]).await.unwrap();
        assert!(waiting.await.unwrap().is_empty());
        // The next finds nobody there.
        assert!(open.take(want(50), present.clone()).await.unwrap().is_empty());
        there.send_replace(true);
        assert_eq!(open.take(want(30_000), present).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_did_not_fit_is_still_there_when_giving_back_fails() {
        let options = Options { prepare: false, max_event_bytes: 4 << 10, ..Options::default() };
        let broker = Embedded::in_memory(&Memory::new(), options).unwrap();
        let topic = Topic::new("tests").unwrap();
        let event = |bytes| {
            let envelope = Envelope::new("tests", "tests.event", Timestamp(1), vec![b'x'; bytes].into());
            Outgoing { topic: topic.clone(), envelope, not_before: None }
        };
        broker.publish((0..3).map(|_| event(1 << 10)).collect()).await.unwrap();
        let open = Open::new(broker.subscribe(SubscriptionSpec::new(topic.clone(), "g")).await.unwrap());
        let (_there, present) = watch::channel(true);
        let want = || Want { max: 9, bytes: 3 << 10, wait: Duration::from_secs(30) };
        let taken = open.take(want(), present.clone()).await.unwrap();
        let tags: Vec<_> = taken.iter().map(|taken| taken.tag).collect();
        assert_eq!(tags.len(), 2);
        let too_large = Settlement::Ack { tag: tags[0], publish: vec![event(8 << 10)], mark: true };
        let settled = open.settle(vec![too_large, Settlement::Return { tag: tags[1] }]).unwrap().await;
        assert_eq!(settled.unwrap_err().code(), Code::PayloadTooLarge);
        assert_eq!(open.take(want(), present).await.unwrap().len(), 1);
    }
}
