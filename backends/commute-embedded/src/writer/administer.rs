//! Enacting what an operator orders: each order is one group, so a crash finds it done or not begun.

use commute_core::{Code, Error, Result};
use hashbrown::HashSet;

use super::command::Over;
use super::enact::Group;
use crate::records::Record;
use crate::state::subscription::Subscribed;

impl Group<'_> {
    fn known(&mut self, subscription: u32) -> &mut Subscribed {
        &mut self.state.subscriptions[subscription as usize]
    }

    /// Nobody may have the subscription open.
    fn idle(&mut self, subscription: u32) -> Result<()> {
        match self.known(subscription).delivering.receivers() {
            0 => Ok(()),
            some => {
                let group = self.known(subscription).group.clone();
                Err(Error::new(Code::GroupBusy, format!("{some} instances of {group} have the subscription open")))
            }
        }
    }

    /// Parked events are in flight again, all of them or none.
    pub(super) fn unpark(&mut self, subscription: u32, positions: impl Iterator<Item = u64> + Clone) -> Result<()> {
        let known = self.known(subscription);
        let mut once = HashSet::new();
        if let Some(wrong) = positions.clone().find(|position| !known.is_parked(*position) || !once.insert(*position)) {
            return Err(Error::new(Code::NotParked, format!("event {wrong} is not parked")));
        }
        positions.for_each(|position| self.note(Record::Unpark { subscription, position }));
        Ok(())
    }

    /// Parked events are in nobody's hands: whoever receives next gets them in their place.
    pub(super) fn release(&mut self, subscription: u32, positions: &[u64]) -> Result<()> {
        self.idle(subscription)?;
        self.unpark(subscription, positions.iter().copied())?;
        self.known(subscription).delivering.again.extend(positions);
        Ok(())
    }

    /// Answers whether the event was ended now. Whoever has it in hand loses it.
    pub(super) fn end(&mut self, subscription: u32, over: Over) -> bool {
        let Over { position, id, publish } = over;
        let known = self.known(subscription);
        if known.done.is_done(position) {
            return false;
        }
        known.delivering.settle(position);
        if known.is_parked(position) {
            self.note(Record::Unpark { subscription, position });
        }
        self.note(Record::Ack { subscription, position, at: self.now, mark: Some(id) });
        for event in publish {
            self.publish(event);
        }
        true
    }

    /// Answers from where on.
    pub(super) fn replay(&mut self, subscription: u32, from: u64) -> Result<u64> {
        self.idle(subscription)?;
        let (_, topic) = self.state.both(subscription);
        let position = from.clamp(topic.first, topic.next);
        self.note(Record::Replay { subscription, position });
        Ok(position)
    }
}
