//! Reading again: the events behind tags, from memory where they are, else from the log or from aside.

use std::collections::BTreeMap;

use commute_core::{Code, DeliveryTag, Error, Result, Texts};
use rdkafka::Message;

use crate::library::Library;
use crate::partition::place;
use crate::state::{Shared, State};
use crate::wire::Record;

/// The records of events in somebody's hands or aside, where they are in memory.
pub(crate) fn kept(state: &State, tags: &[DeliveryTag]) -> Vec<Option<Record>> {
    let kept = tags.iter().map(|tag| {
        let (number, offset) = place(tag.position);
        let partition = state.partitions.get(&number).filter(|p| p.incarnation == tag.incarnation)?;
        let held = partition.held.get(offset).and_then(|held| held.record.as_ref());
        held.or_else(|| partition.aside.get(&offset)?.record.as_ref()).cloned()
    });
    kept.collect()
}

/// The records of events in somebody's hands or aside, from memory, the log or aside. Blocks.
pub(crate) fn records(shared: &Shared, library: &Library, tags: &[DeliveryTag]) -> Result<Vec<Record>> {
    // Aside or not, and the partition; then the offset to read, and whose it is.
    let mut missing: BTreeMap<(bool, i32), BTreeMap<u64, Vec<usize>>> = BTreeMap::new();
    let mut found = {
        let state = shared.state();
        let found = kept(&state, tags);
        for (n, tag) in tags.iter().enumerate().filter(|(n, _)| found[*n].is_none()) {
            let (number, offset) = place(tag.position);
            let partition = state.partitions.get(&number).filter(|p| p.incarnation == tag.incarnation);
            let aside = partition.and_then(|partition| partition.aside.get(&offset));
            let at = aside.map_or(offset, |aside| aside.offset);
            missing.entry((aside.is_some(), number)).or_default().entry(at).or_default().push(n);
        }
        found
    };
    let mut texts = Texts::default();
    for ((aside, number), places) in missing {
        let offsets: Vec<u64> = places.keys().copied().collect();
        let topic = if aside { &*shared.aside } else { shared.topic() };
        library.pick(topic, number, &offsets, |message| {
            let mut read = || match aside {
                true => crate::aside::parked(message)?.record,
                false => Some(crate::wire::read(message, shared.spec.mapping.as_deref(), &mut texts)),
            };
            let record = read();
            for n in places.get(&message.offset().unsigned_abs()).into_iter().flatten() {
                found[*n].clone_from(&record);
            }
        })?;
    }
    let gone = |n: usize| {
        let (number, offset) = place(tags[n].position);
        Error::new(Code::Damaged, format!("event {offset} of partition {number} is not stored any more"))
    };
    found.into_iter().enumerate().map(|(n, record)| record.ok_or_else(|| gone(n))).collect()
}
