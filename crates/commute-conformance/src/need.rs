//! Needs: what a case asks of a backend beyond the least, as names for facts of its capabilities.

use commute_core::{Broker, GroupOrder, Ordering};

use crate::fixture::Fixture;

/// Something that not every backend gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The data can be opened again after the connection ended.
    Restart,
    /// One receiver gets events of one key, at least, in order.
    Order,
    /// Receivers of a group keep the order of a key between them.
    KeyGroups,
    /// Settling and publishing are one step.
    AtomicSettle,
    /// Attempts and back-off survive a restart.
    DurableRetry,
    /// Parked events survive a restart.
    DurableParking,
    /// A new group begins at the beginning of the topic.
    Retained,
    /// Events can be published to be delivered later.
    Delay,
    /// A second publish of an id is noticed.
    Dedup,
    /// Handled ids are remembered.
    Inbox,
    /// An id can be stored a second time while the inbox remembers it: there is no dedup window, or it is the shorter
    /// one and the clock can be moved out of it.
    SecondPublish,
    /// An operator can look at it and change something.
    Admin,
    /// A group can handle events once more.
    Replay,
}

impl Need {
    /// Whether the backend gives it.
    pub fn is_met(self, broker: &dyn Broker, fixture: &dyn Fixture) -> bool {
        let capabilities = broker.capabilities();
        match self {
            Need::Restart => fixture.restarts(),
            Need::Order => capabilities.ordering != Ordering::None,
            Need::KeyGroups => {
                matches!(capabilities.group_order, GroupOrder::Key | GroupOrder::Partition | GroupOrder::SingleActive)
            }
            Need::AtomicSettle => capabilities.atomic_settle,
            Need::DurableRetry => capabilities.durable_retry,
            Need::DurableParking => capabilities.durable_parking,
            Need::Retained => capabilities.retained,
            Need::Delay => capabilities.delayed_publish,
            Need::Dedup => capabilities.dedup_window.is_some(),
            Need::Inbox => capabilities.inbox_retention.is_some(),
            Need::SecondPublish => match (capabilities.dedup_window, capabilities.inbox_retention) {
                (None, Some(_)) => true,
                (Some(dedup), Some(inbox)) => dedup < inbox && fixture.clock().is_some(),
                (_, None) => false,
            },
            Need::Admin => broker.admin().is_some(),
            Need::Replay => capabilities.replay && broker.admin().is_some(),
        }
    }
}
