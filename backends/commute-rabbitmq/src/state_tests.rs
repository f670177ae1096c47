//! Tests of the state: places in the order, and what an acknowledgement may cover.

use bytes::Bytes;
use commute_core::foreign::Read;
use commute_core::{Envelope, Timestamp};

use super::*;
use crate::aside::{Note, Seen, Written};

fn read(id: &str) -> Read {
    let mut envelope = Envelope::new("tests", "numbered", Timestamp(0), Bytes::new());
    envelope.id = EventId::new(id).unwrap();
    Read { envelope, malformed: None }
}

fn parked(id: &str, position: u64, published: i64) -> Written {
    let note = Note::Parked {
        position,
        attempts: 1,
        lanes: Vec::new(),
        content_type: None,
        reason: None,
        since: 0,
        published,
        malformed: None,
    };
    Written::new("me", note, Some(read(id).envelope))
}

fn taken(state: &mut State) -> Vec<String> {
    state.take(usize::MAX).iter().map(|delivery| delivery.envelope.id.to_string()).collect()
}

#[test]
fn however_many_were_released_they_come_back_between_what_was_sent_before_and_after() {
    for (before, released) in [(true, 25), (false, 25), (true, 2_000)] {
        let mut state = State::new(1, 10_000);
        let ids: Vec<_> = (0..released).map(|n| format!("released-{n}")).collect();
        for (n, id) in ids.iter().enumerate() {
            state.aside.apply(parked(id, n as u64, 100 + n as i64), Some(n as u64));
        }
        let events = ids.iter().map(|id| EventId::new(id).unwrap()).collect();
        state.aside.apply(Written::new("me", Note::Unparked { events }, None), Some(9_999));
        state.recalled();
        let mut expected = ids;
        if before {
            state.arrive(1, read("before"), Timestamp(50));
            expected.insert(0, "before".to_owned());
        }
        state.arrive(2, read("after"), Timestamp(100_000));
        state.arrive(3, read("last"), Timestamp(100_001));
        expected.extend(["after".to_owned(), "last".to_owned()]);
        assert_eq!(taken(&mut state), expected);
    }
}

#[test]
fn many_sent_at_the_same_time_come_back_when_the_queue_has_nothing_more() {
    let mut state = State::new(1, 1_000);
    let ids: Vec<_> = (0..100).map(|n| format!("released-{n}")).collect();
    for (n, id) in ids.iter().enumerate() {
        state.aside.apply(parked(id, n as u64, 100), Some(n as u64));
    }
    let events = ids.iter().map(|id| EventId::new(id).unwrap()).collect();
    state.aside.apply(Written::new("me", Note::Unparked { events }, None), Some(999));
    state.recalled();
    state.bring_back(None);
    state.arrive(1, read("later"), Timestamp(200));
    let expected: Vec<_> = ids.into_iter().chain(["later".to_owned()]).collect();
    assert_eq!(taken(&mut state), expected);
}

#[test]
fn an_acknowledgement_covers_nothing_that_was_not_taken_in() {
    let mut state = State::new(1, 10);
    // The first went to another consumer of the channel, and is still on its way here.
    state.arrive(2, read("second"), Timestamp(2));
    assert_eq!(state.acknowledge(&[2]), (None, vec![2]));
    state.arrive(1, read("first"), Timestamp(1));
    state.arrive(3, read("third"), Timestamp(3));
    assert_eq!(state.acknowledge(&[1, 3]), (Some(3), vec![]));
    // On the next connection tags begin anew.
    state.disconnected();
    state.arrive(2, read("fourth"), Timestamp(4));
    assert_eq!(state.acknowledge(&[2]), (None, vec![2]));
}

#[test]
fn a_note_that_was_sent_again_is_acknowledged_both_times() {
    let mut aside = State::new(1, 10).aside;
    let note = parked("one", 1, 1);
    assert!(aside.apply(note.clone(), Some(1)).is_empty());
    let mut over = aside.apply(note.clone(), Some(2));
    over.extend(aside.forget(&EventId::new("one").unwrap()));
    assert_eq!(over, [2, 1]);
    // The same while it runs, before and after its publishing is concluded.
    let note = parked("two", 2, 2);
    assert_eq!((aside.seen(&note.id, 3), aside.seen(&note.id, 4)), (Seen::Kept, Seen::Over(4)));
    assert!(aside.noted(note.clone()).is_empty());
    assert_eq!(aside.seen(&note.id, 5), Seen::Over(5));
    assert_eq!(aside.forget(&EventId::new("two").unwrap()), [3]);
}

#[test]
fn a_note_of_an_instance_that_was_not_the_active_one_any_more_is_stale() {
    let note = parked("one", 1, 1);
    assert!(!note.is_stale(None) && !note.is_stale(Some("me")) && note.is_stale(Some("other")));
    // Who is active is no secret, and whoever knocks is not.
    assert!(!Written::new("me", Note::Knock, None).is_stale(Some("other")));
    let message = note.message("queue", Timestamp(1)).unwrap();
    assert!(Written::read(&message.properties, &message.body).unwrap().is_stale(Some("other")));
}
