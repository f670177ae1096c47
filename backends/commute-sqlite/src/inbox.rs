//! The inbox: marks of handled events, and how old ones go away.

use std::time::Duration;

use commute_core::Timestamp;
use rusqlite::{Connection, Result, params};

/// Marks looked at with every group, beside two for each that the group made, so that a sweep always ends.
const SWEEP: usize = 32;

/// Marks an event; answers whether it was not marked before.
pub(crate) fn mark(connection: &Connection, subscription: &str, event: &[u8; 16], at: Timestamp) -> Result<bool> {
    let mut insert = connection.prepare_cached("INSERT OR IGNORE INTO commute_inbox VALUES (?1, ?2, ?3)")?;
    Ok(insert.execute(params![subscription, event, at.0])? == 1)
}

/// Goes through all marks, a few with every group, and deletes those that are too old.
///
/// An index by age would cost every event a second write. A sweep costs a page or two per group, and rests until the
/// oldest mark that it left can have become too old.
pub(crate) struct Sweep {
    retention: Duration,
    place: Place,
    /// The oldest mark that this round has left.
    oldest: Timestamp,
}

enum Place {
    Resting { until: Timestamp },
    After { subscription: String, event: Vec<u8> },
}

impl Sweep {
    pub(crate) fn new(retention: Duration) -> Self {
        Sweep { retention, place: Place::Resting { until: Timestamp(i64::MIN) }, oldest: Timestamp(i64::MAX) }
    }

    /// A few steps, within the transaction of a group that made `marks`.
    pub(crate) fn step(&mut self, connection: &Connection, now: Timestamp, marks: usize) -> Result<()> {
        let (subscription, event) = match &self.place {
            Place::Resting { until } if now < *until => return Ok(()),
            // No subscription is called nothing, so this is before all marks.
            Place::Resting { .. } => (String::new(), Vec::new()),
            Place::After { subscription, event } => (subscription.clone(), event.clone()),
        };
        let count = SWEEP + 2 * marks;
        let bound = params![subscription, event, i64::try_from(count).unwrap_or(i64::MAX)];
        let mut window = connection.prepare_cached(
            "SELECT subscription, event, at FROM commute_inbox WHERE (subscription, event) > (?1, ?2)
             ORDER BY subscription, event LIMIT ?3",
        )?;
        let mut marks = window.query(bound)?;
        let (mut seen, mut last, mut old) = (0, None, Vec::new());
        while let Some(row) = marks.next()? {
            let (subscription, event, at): (String, Vec<u8>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            seen += 1;
            match Timestamp(at).plus(self.retention) < now {
                true => old.push((subscription.clone(), event.clone())),
                false => self.oldest = self.oldest.min(Timestamp(at)),
            }
            last = Some((subscription, event));
        }
        let mut delete =
            connection.prepare_cached("DELETE FROM commute_inbox WHERE subscription = ?1 AND event = ?2")?;
        for (subscription, event) in &old {
            delete.execute(params![subscription, event])?;
        }
        self.place = match last {
            Some((subscription, event)) if seen == count => Place::After { subscription, event },
            _ => {
                let oldest = std::mem::replace(&mut self.oldest, Timestamp(i64::MAX));
                Place::Resting { until: oldest.min(now).plus(self.retention) }
            }
        };
        Ok(())
    }
}
