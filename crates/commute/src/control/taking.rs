//! Taking: administration of a broker that has none but hands events out. An operator is a group like any other, and gives back what
//! it does not decide about.
//!
//! That is enough for dead letters, which wait in a group of their own. Nothing else is answered.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use commute_core::admin::{Admin, Ended, StoredEvent};
use commute_core::{
    BoxFuture, Delivery, Result, Settlement, SharedBroker, Subscription, SubscriptionName, SubscriptionSpec,
};
use tokio::sync::Mutex;

/// So many events of a group are held at once at most; a listing ends there.
const AT_MOST: usize = 65_536;
/// A server that has handed out nothing for so long has nothing left.
const QUIET: Duration = Duration::from_secs(3);

/// What an operator has taken.
pub(super) struct Taking {
    broker: SharedBroker,
    groups: Mutex<HashMap<SubscriptionName, Taken>>,
    quiet: Duration,
}

/// An open group: positions are numbers that are given out here, in the order of arrival.
struct Taken {
    subscription: Subscription,
    held: BTreeMap<u64, Delivery>,
    next: u64,
}

impl Taking {
    pub(super) fn new(broker: SharedBroker) -> Self {
        Taking { broker, groups: Mutex::default(), quiet: QUIET }
    }

    async fn open<'a>(
        &self,
        groups: &'a mut HashMap<SubscriptionName, Taken>,
        name: &SubscriptionName,
    ) -> Result<&'a mut Taken> {
        if !groups.contains_key(name) {
            let spec = SubscriptionSpec::new(name.topic.clone(), name.group.as_str()).credit(AT_MOST);
            let subscription = self.broker.subscribe(spec).await?;
            groups.insert(name.clone(), Taken { subscription, held: BTreeMap::new(), next: 0 });
        }
        groups.get_mut(name).ok_or_else(|| commute_core::Error::new(commute_core::Code::NotFound, name.to_string()))
    }

    /// Gives back what was not decided about.
    ///
    /// # Errors
    /// The broker's; what is not given back is when the connection ends.
    pub(super) async fn give_back(&self) -> Result<()> {
        for (_, taken) in self.groups.lock().await.drain() {
            let back = taken.held.into_values().map(|delivery| Settlement::Return { tag: delivery.tag }).collect();
            taken.subscription.settler.settle(back).await?;
        }
        Ok(())
    }
}

impl Taken {
    /// Takes until there is something behind a position, enough of it, or nothing more comes.
    async fn fill(&mut self, from: u64, max: usize, quiet: Duration) -> Result<()> {
        while self.held.range(from..).take(max).count() < max && self.held.len() < AT_MOST {
            let receiving = self.subscription.receiver.receive(max);
            let Ok(received) = tokio::time::timeout(quiet, receiving).await else { return Ok(()) };
            let received = received?;
            if received.is_empty() {
                return Ok(());
            }
            for delivery in received {
                self.held.insert(self.next, delivery);
                self.next += 1;
            }
        }
        Ok(())
    }
}

impl Admin for Taking {
    fn unsettled(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>>> {
        Box::pin(async move {
            let mut groups = self.groups.lock().await;
            let taken = self.open(&mut groups, &name).await?;
            let from = after.map_or(0, |after| after + 1);
            taken.fill(from, max, self.quiet).await?;
            let shown = taken.held.range(from..).take(max).map(|(position, delivery)| StoredEvent {
                topic: name.topic.to_string(),
                position: *position,
                published: delivery.published,
                not_before: delivery.not_before,
                event: (*delivery.envelope).clone(),
            });
            Ok(shown.collect())
        })
    }

    fn keep(&self, name: SubscriptionName) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut groups = self.groups.lock().await;
            self.open(&mut groups, &name).await.map(drop)
        })
    }

    /// Publishes, then acknowledges: a copy that was published by a call that was cut off has the same id.
    fn end(&self, name: SubscriptionName, ended: Vec<Ended>) -> BoxFuture<'_, Result<Vec<bool>>> {
        Box::pin(async move {
            let mut groups = self.groups.lock().await;
            let taken = self.open(&mut groups, &name).await?;
            let (mut now, mut settlements) = (Vec::with_capacity(ended.len()), Vec::new());
            for Ended { position, publish } in ended {
                let delivery = taken.held.remove(&position);
                now.push(delivery.is_some());
                settlements.extend(delivery.map(|delivery| Settlement::Ack { tag: delivery.tag, publish, mark: true }));
            }
            taken.subscription.settler.settle(settlements).await?;
            Ok(now)
        })
    }
}

#[cfg(all(test, feature = "embedded"))]
mod tests {
    use commute_core::{Code, Envelope, Outgoing, Timestamp, Topic};

    use super::*;

    fn name() -> SubscriptionName {
        "commute.dead@orders.dead".parse().unwrap()
    }

    fn outgoing(topic: &str) -> Outgoing {
        let envelope = Envelope::new("test", "t", Timestamp(0), Default::default());
        Outgoing { topic: Topic::new(topic).unwrap(), envelope, not_before: None }
    }

    #[tokio::test]
    async fn what_is_taken_is_ended_once_and_the_rest_goes_back() {
        let broker = crate::connect("memory:").await.unwrap();
        broker.publish((0..5).map(|_| outgoing("orders.dead")).collect()).await.unwrap();
        // What is in memory is handed out at once.
        let brief = |broker| Taking { quiet: Duration::from_millis(200), ..Taking::new(broker) };
        let taking = brief(broker.clone());
        let first = taking.unsettled(name(), None, 2).await.unwrap();
        assert_eq!(first.iter().map(|stored| stored.position).collect::<Vec<_>>(), [0, 1]);
        let rest = taking.unsettled(name(), Some(1), 10).await.unwrap();
        assert_eq!(rest.len(), 3, "the same events are not taken twice");
        let end = |position| vec![Ended { position, publish: vec![outgoing("orders")] }];
        assert_eq!(taking.end(name(), end(1)).await.unwrap(), [true]);
        assert_eq!(taking.end(name(), end(1)).await.unwrap(), [false]);
        assert_eq!(taking.topics(None, 1).await.unwrap_err().code(), Code::NeedNotMet);
        taking.give_back().await.unwrap();
        let orders = "any@orders".parse().unwrap();
        assert_eq!(taking.unsettled(orders, None, 10).await.unwrap().len(), 1, "what took its place, once");
        let again = brief(broker).unsettled(name(), None, 10).await.unwrap();
        assert_eq!(again.len(), 4);
        assert!(again.iter().all(|stored| stored.event.id != first[1].event.id));
    }
}
