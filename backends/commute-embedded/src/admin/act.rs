//! Acting: an owner's administration. Each order is one command of the writer, and one group of the log.

use commute_core::admin::{
    Admin, Begin, Ended, GroupInfo, Page, ParkedEvent, StoredEvent, SubscriptionName, TopicInfo, Traced,
};
use commute_core::{BoxFuture, Code, Error, EventId, Result, Topic};

use super::Look;
use crate::ask::{ask, refuse_large};
use crate::broker::Embedded;
use crate::writer::command::{Command, Over};

impl Admin for Embedded {
    fn topics(&self, after: Option<Topic>, max: usize) -> BoxFuture<'_, Result<Vec<TopicInfo>>> {
        Box::pin(async move { self.look.topics(after, max) })
    }

    fn groups(&self, topic: Option<Topic>) -> BoxFuture<'_, Result<Vec<GroupInfo>>> {
        Box::pin(async move { self.look.groups(topic) })
    }

    fn read(&self, topic: Topic, from: Begin, max: usize) -> BoxFuture<'_, Result<Page>> {
        Box::pin(self.look.read(topic, from, max))
    }

    fn unsettled(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>>> {
        Box::pin(self.look.unsettled(name, after, max))
    }

    fn parked(
        &self,
        name: SubscriptionName,
        after: Option<u64>,
        max: usize,
    ) -> BoxFuture<'_, Result<Vec<ParkedEvent>>> {
        Box::pin(self.look.parked(name, after, max))
    }

    fn journey(&self, id: EventId, max: usize) -> BoxFuture<'_, Result<Vec<Traced>>> {
        Box::pin(self.look.journey(id, max))
    }

    fn keep(&self, name: SubscriptionName) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let SubscriptionName { topic, group } = name;
            let (topic, group) = (topic.as_str().into(), group.into());
            ask(&self.look.shared, |reply| Command::Keep { topic, group, reply }).await
        })
    }

    fn end(&self, name: SubscriptionName, ended: Vec<Ended>) -> BoxFuture<'_, Result<Vec<bool>>> {
        Box::pin(self.look.end(name, ended))
    }

    fn unpark(&self, name: SubscriptionName, positions: Vec<u64>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            self.look.open()?;
            let (_, subscription) = self.look.known(&name)?;
            ask(&self.look.shared, |reply| Command::Release { subscription, positions, reply }).await
        })
    }

    fn replay(&self, name: SubscriptionName, from: Begin) -> BoxFuture<'_, Result<u64>> {
        Box::pin(async move {
            self.look.open()?;
            let (topic, subscription) = self.look.known(&name)?;
            let from = self.look.begin(topic, from).await?;
            ask(&self.look.shared, |reply| Command::Replay { subscription, from, reply }).await
        })
    }
}

impl Look {
    /// The numbers of a topic and of a subscription of it.
    fn known(&self, name: &SubscriptionName) -> Result<(u32, u32)> {
        match self.find(name) {
            (Some(topic), Some(subscription)) => Ok((topic, subscription)),
            _ => Err(Error::new(Code::NotFound, format!("there is no group {name}"))),
        }
    }

    async fn end(&self, name: SubscriptionName, ended: Vec<Ended>) -> Result<Vec<bool>> {
        self.open()?;
        refuse_large(ended.iter().flat_map(|ended| &ended.publish), &self.shared.options)?;
        let (topic, subscription) = self.known(&name)?;
        // What is settled is not read, because it need not be stored any more.
        let mut wanted = Vec::new();
        {
            let state = self.shared.state();
            let (stored, known) = (&state.topics[topic as usize], &state.subscriptions[subscription as usize]);
            for (n, Ended { position, .. }) in ended.iter().enumerate() {
                if *position >= stored.next {
                    let detail = format!("{} has no event {position}; the next will be {}", name.topic, stored.next);
                    return Err(Error::new(Code::NotFound, detail));
                }
                if *position >= stored.first && !known.done.is_done(*position) {
                    wanted.push(n);
                }
            }
        }
        let events = self.events(topic, wanted.iter().map(|n| ended[*n].position).collect()).await?;
        let mut answers = vec![false; ended.len()];
        let mut ended: Vec<_> = ended.into_iter().map(Some).collect();
        let over = wanted.iter().zip(&events).filter_map(|(n, event)| {
            let Ended { position, publish } = ended[*n].take()?;
            Some(Over { position, id: event.id, publish: publish.into_iter().map(Into::into).collect() })
        });
        let over = over.collect();
        let done = ask(&self.shared, |reply| Command::End { subscription, ended: over, reply }).await?;
        for (n, done) in wanted.into_iter().zip(done) {
            answers[n] = done;
        }
        Ok(answers)
    }
}
