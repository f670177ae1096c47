//! Taking back: parked events come into somebody's hands again, all that were asked for or none.

use std::collections::{BTreeMap, BTreeSet};

use commute_core::{Code, Delivery, DeliveryTag, Error, Result};
use hashbrown::HashSet;

use crate::aside::Shelf;
use crate::library::Library;
use crate::partition::{Phase, place};
use crate::rereading::records;
use crate::state::{Shared, State, ended};

/// Takes events back from aside: one note for each partition says so.
pub(crate) fn unpark(shared: &Shared, library: &Library, tags: Vec<DeliveryTag>) -> Result<Vec<Delivery>> {
    check_parked(&shared.state(), &tags)?;
    let records = records(shared, library, &tags)?;
    let mut notes: BTreeMap<i32, (u64, BTreeSet<u64>)> = BTreeMap::new();
    for tag in &tags {
        let (number, offset) = place(tag.position);
        notes.entry(number).or_insert_with(|| (fastrand::u64(1..), BTreeSet::new())).1.insert(offset);
    }
    if let Some((last, _)) = notes.last_key_value() {
        // The source may have been given more partitions since this was asked last.
        shared.ensure_aside(*last)?;
    }
    let items = notes.iter().map(|(number, (note, offsets))| {
        Shelf { topic: shared.aside.clone(), partition: *number }.back(*note, offsets)
    });
    let stored = shared.link.publisher().send(items.collect()).blocking_recv();
    let receipts = stored.unwrap_or_else(|_| Err(ended()))?;
    let mut state = shared.state();
    state.rely(&receipts);
    // A partition may have gone to others meanwhile; its new owner finds the note.
    check_parked(&state, &tags)?;
    for (number, (note, offsets)) in notes {
        if let Some(partition) = state.partitions.get_mut(&number) {
            partition.notes.insert(note, offsets);
        }
    }
    let mut back = Vec::with_capacity(tags.len());
    // The last first: they stand before what is in somebody's hands now, and each would move those that were put before it.
    for (tag, record) in tags.iter().zip(records).rev() {
        let (number, offset) = place(tag.position);
        if let Some(partition) = state.partitions.get_mut(&number) {
            // It was counted when it was parked, if there was room for it.
            let kept = partition.aside.get_mut(&offset).is_some_and(|aside| aside.record.take().is_some());
            back.extend(partition.unpark(offset, &record, kept));
        }
    }
    back.reverse();
    Ok(back)
}

fn check_parked(state: &State, tags: &[DeliveryTag]) -> Result<()> {
    let mut once = HashSet::new();
    for tag in tags {
        let (number, offset) = place(tag.position);
        let partition = state.partitions.get(&number);
        let ours = partition.filter(|p| p.incarnation == tag.incarnation && p.phase != Phase::Fenced);
        let parked = ours.and_then(|partition| partition.aside.get(&offset)).is_some_and(|aside| !aside.back);
        if !parked || !once.insert(*tag) {
            let detail = format!("event {offset} of partition {number} is not parked");
            return Err(Error::new(Code::NotParked, detail));
        }
    }
    Ok(())
}
