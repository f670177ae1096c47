//! Partitions, without a server.

use std::collections::BTreeMap;

use bytes::Bytes;
use commute_core::{Delivery, Envelope, Timestamp};

use super::*;

fn record(offset: u64) -> Record {
    let envelope = Envelope::new("s", "t", Timestamp(1), Bytes::from(offset.to_string()));
    Record::new(envelope, Timestamp(2), None)
}

fn partition(first: u64) -> Partition {
    Partition::new(3, 7, Progress::new(first), BTreeMap::new())
}

fn fetch(partition: &mut Partition, offsets: impl IntoIterator<Item = u64>) {
    for offset in offsets {
        let wanted = partition.wants(offset).then(|| record(offset));
        partition.fetch(offset, wanted);
    }
}

fn take(partition: &mut Partition) -> Vec<Delivery> {
    std::iter::from_fn(|| partition.take(|_| true)).map(|(delivery, _)| delivery).collect()
}

fn offsets(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| place(delivery.tag.position).1).collect()
}

fn aside(order: u64, back: bool) -> Aside {
    Aside {
        order,
        attempts: 4,
        lanes: Vec::new(),
        reason: None,
        since: Timestamp(0),
        offset: 0,
        record: Some(record(0)),
        back,
        noted: vec![Noted { writer: 5, order }],
    }
}

#[test]
fn a_position_is_partition_and_offset_and_grows_with_the_offset() {
    for (number, offset) in [(0, 0), (3, 17), (9_999, (1 << 48) - 1)] {
        assert_eq!(place(position(number, offset)), (number, offset as u64));
    }
    assert!(position(1, 5) < position(1, 6) && position(1, 6) < position(2, 0));
}

#[test]
fn what_is_settled_is_not_wanted_and_the_rest_comes_in_order() {
    let mut progress = Progress::new(10);
    for offset in [12, 13, 15] {
        assert!(progress.settled.done(offset));
    }
    let mut partition = Partition::new(3, 7, progress, BTreeMap::new());
    assert_eq!(partition.backlog(20), 7);
    fetch(&mut partition, 10..18);
    let taken = take(&mut partition);
    assert_eq!(offsets(&taken), [10, 11, 14, 16, 17]);
    assert_eq!(partition.backlog(20), 2, "what was not fetched yet");
    // A second time: nothing.
    fetch(&mut partition, 10..18);
    assert!(take(&mut partition).is_empty());
}

#[test]
fn offsets_that_the_log_skips_do_not_hold_up_the_watermark() {
    let mut partition = partition(0);
    fetch(&mut partition, [0, 1, 5, 9]);
    assert_eq!(offsets(&take(&mut partition)), [0, 1, 5, 9]);
    for offset in [0, 1, 5, 9] {
        assert!(partition.ack(offset).is_some());
    }
    assert_eq!((partition.progress.settled.low(), partition.backlog(10)), (10, 0));
}

#[test]
fn what_is_given_back_goes_first_in_its_place() {
    let mut partition = partition(0);
    fetch(&mut partition, 0..4);
    let taken = take(&mut partition);
    fetch(&mut partition, 4..6);
    for offset in [2, 0] {
        let record = partition.held.get(offset).unwrap().record.clone().expect("it was kept");
        assert!(partition.give_back(offset, record).is_some_and(|held| held.counted));
    }
    assert!(partition.holds(taken[2].tag).is_none() && partition.holds(taken[1].tag).is_some());
    let again = take(&mut partition);
    assert_eq!(offsets(&again), [0, 2, 4, 5]);
    assert_eq!(again[0].attempt, 1, "no attempt was counted");
    assert!(!partition.is_dirty(), "nothing has to be committed for that");
}

#[test]
fn attempts_are_remembered_until_it_is_settled() {
    let mut partition = partition(0);
    fetch(&mut partition, [0]);
    let tag = take(&mut partition)[0].tag;
    partition.defer(0, Deferred { attempts: 2, not_before: Timestamp(9) });
    assert!(partition.holds(tag).is_some() && partition.is_dirty());
    let mut after = Partition::new(3, 8, partition.progress.clone(), BTreeMap::new());
    fetch(&mut after, [0]);
    let again = take(&mut after);
    assert_eq!((again[0].attempt, again[0].not_before), (3, Some(Timestamp(9))));
    assert!(after.holds(tag).is_none(), "a tag of an older incarnation");
    after.ack(0);
    assert!(after.progress.deferred.is_empty());
}

#[test]
fn parked_events_are_settled_in_the_log_and_listed_in_their_order() {
    let mut partition = partition(0);
    fetch(&mut partition, 0..3);
    take(&mut partition);
    partition.park(2, aside(5, false));
    partition.park(0, aside(6, false));
    let listed: Vec<_> = partition.parked().map(|(order, parked)| (order, place(parked.tag.position).1)).collect();
    assert_eq!(listed, [(6, 0), (5, 2)], "each with its place in the order");
    assert_eq!((partition.progress.settled.low(), partition.backlog(3)), (1, 0));
    // Taken back, it is in somebody's hands and takes no credit.
    let back = partition.unpark(2, &(record(2)), true).expect("it is parked");
    assert_eq!((back.attempt, back.tag), (1, partition.tag(2)));
    assert!(partition.holds(back.tag).is_some_and(|held| !held.counted && held.aside));
    assert_eq!(partition.parked().count(), 1);
    partition.notes.insert(1, [2].into());
    partition.ack(2);
    partition.outdate_notes(2);
    assert_eq!((&partition.outdated[..], partition.aside.len()), (&[(1, partition.version)][..], 1));
}

#[test]
fn what_may_be_aside_is_remembered_until_it_is_settled_however_often_it_is_given_back() {
    let mut partition = partition(0);
    fetch(&mut partition, 0..2);
    take(&mut partition);
    assert!(partition.begin_parking(0, 1) && !partition.begin_parking(7, 2), "the other is in nobody's hands");
    // Whether that was stored is not known when it is given back.
    for _ in 0..2 {
        partition.give_back(0, record(0));
        take(&mut partition);
        assert!(partition.held.get(0).unwrap().aside && !partition.held.get(1).unwrap().aside);
    }
    assert!(partition.ack(0).is_some_and(|held| held.aside));
    assert!(partition.maybe_aside.is_empty());
    // Parked, it is known to be aside.
    assert!(partition.begin_parking(1, 3) && partition.begin_parking(1, 4));
    partition.park(1, Aside { offset: 6, ..aside(4, false) });
    assert!(partition.maybe_aside.is_empty() && partition.aside.contains_key(&1));
    assert_eq!(partition.progress.relies, 7);
    // All notes of it are over when it is, also one of which nobody knows whether it was stored.
    let orders = |partition: &Partition| partition.noted(1).iter().map(|noted| noted.order).collect::<Vec<_>>();
    assert_eq!(orders(&partition), [3, 4]);
    partition.unpark(1, &record(1), true).expect("it is parked");
    assert!(partition.begin_parking(1, 5));
    partition.park(1, aside(5, false));
    assert_eq!(orders(&partition), [3, 4, 5]);
}

#[test]
fn what_was_taken_back_before_a_restart_comes_in_its_place() {
    let asides = || BTreeMap::from([(1, aside(1, false)), (3, aside(2, true)), (8, aside(3, true))]);
    let mut partition = Partition::new(3, 7, Progress::new(0), asides());
    assert_eq!(partition.backlog(9), 8, "the parked one is not received");
    assert!(take(&mut partition).is_empty(), "the log comes first");
    fetch(&mut partition, 0..6);
    assert_eq!(offsets(&take(&mut partition)), [0, 2, 3, 4, 5]);
    partition.reach_end();
    assert_eq!(offsets(&take(&mut partition)), [8], "the log does not reach it any more");
    assert_eq!(partition.backlog(6), 0);
}

#[test]
fn a_partition_that_goes_to_others_delivers_nothing_and_settles_until_it_is_fenced() {
    let mut partition = partition(0);
    fetch(&mut partition, 0..4);
    let (tag, _) = partition.take(|_| true).map(|(taken, kept)| (taken.tag, kept)).expect("one");
    partition.stop_delivering(Phase::Leaving);
    assert!(!partition.has_next() && take(&mut partition).is_empty());
    fetch(&mut partition, 4..6);
    assert!(take(&mut partition).is_empty());
    assert!(partition.holds(tag).is_some());
    partition.stop_delivering(Phase::Fenced);
    assert!(partition.holds(tag).is_none());
}
