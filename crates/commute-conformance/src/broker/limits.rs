//! Limits: credit, the size of an answer, and the size of an event.

use bytes::Bytes;
use commute_core::{Code, Envelope, Settlement};

use crate::trial::{Trial, event, numbers, park, to};

/// No test sends more than this at once.
const SENSIBLE_BYTES: usize = 64 << 20;

pub(super) async fn credit_is_never_exceeded(trial: Trial) {
    let topic = trial.topic("credit");
    let mut random = trial.random();
    trial.publish_numbers(&topic, 0..200).await;
    let mut reader = trial.open_with_credit(&topic, "group", 7).await;
    let (mut unsettled, mut seen) = (Vec::new(), 0);
    while seen < 200 {
        let room = 7 - unsettled.len();
        if room == 0 {
            assert!(random.u8(..8) > 0 || reader.quietly(10).await.is_empty(), "there is no credit left");
        } else {
            let taken = reader.receive(random.usize(1..20)).await;
            assert!(taken.len() <= room, "{} deliveries with credit for {room}", taken.len());
            seen += taken.len();
            unsettled.extend(taken);
        }
        random.shuffle(&mut unsettled);
        let settled = unsettled.split_off(random.usize(..=unsettled.len()));
        reader.ack(&settled).await;
    }
}

pub(super) async fn settling_gives_credit_back(trial: Trial) {
    let topic = trial.topic("credit");
    trial.publish_numbers(&topic, 0..20).await;
    let mut reader = trial.open_with_credit(&topic, "group", 1).await;
    for n in 0..20 {
        let taken = reader.receive(10).await;
        reader.check(&taken, &[n]);
        // A return gives it back, too.
        reader.settle(vec![Settlement::Return { tag: taken[0].tag }]).await;
        let taken = reader.receive(10).await;
        reader.check(&taken, &[n]);
        reader.ack(&taken).await;
    }
}

pub(super) async fn parking_gives_credit_back(trial: Trial) {
    let topic = trial.topic("credit");
    trial.publish_numbers(&topic, 0..10).await;
    let mut reader = trial.open_with_credit(&topic, "group", 2).await;
    let mut seen = Vec::new();
    while seen.len() < 10 {
        let taken = reader.receive(10).await;
        assert!(taken.len() <= 2, "{} deliveries with credit for 2", taken.len());
        seen.extend(numbers(&taken));
        reader.settle(taken.iter().map(|taken| park(taken.tag)).collect()).await;
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

pub(super) async fn a_deferred_event_keeps_its_credit(trial: Trial) {
    let topic = trial.topic("credit");
    trial.publish_numbers(&topic, 0..3).await;
    let mut reader = trial.open_with_credit(&topic, "group", 2).await;
    let taken = reader.take(2).await;
    let defer = Settlement::Defer { tag: taken[0].tag, attempts: 1, not_before: trial.now() };
    reader.settle(vec![defer]).await;
    assert!(reader.quietly(10).await.is_empty(), "a deferred event is still in flight");
    reader.ack(&taken[..1]).await;
    reader.expect(&[2]).await;
}

pub(super) async fn a_receive_answers_at_most_what_was_asked(trial: Trial) {
    let topic = trial.topic("max");
    trial.publish_numbers(&topic, 0..30).await;
    let mut reader = trial.open(&topic, "group").await;
    let mut seen = Vec::new();
    // `receive` checks the number of each answer.
    for max in (1..=3).cycle() {
        if seen.len() == 30 {
            break;
        }
        seen.extend(numbers(&reader.receive(max).await));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
}

/// An event of exactly this size.
fn of_size(bytes: usize) -> Envelope {
    let mut envelope = event(0);
    let attributes = envelope.size() - envelope.data.len();
    envelope.data = Bytes::from(vec![b'7'; bytes - attributes]);
    assert_eq!(envelope.size(), bytes);
    envelope
}

pub(super) async fn the_largest_event_allowed_arrives(trial: Trial) {
    let limit = trial.broker().capabilities().max_event_bytes;
    let topic = trial.topic("large");
    let large = of_size(limit.min(SENSIBLE_BYTES));
    trial.publish(&topic, [large.clone()]).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.take(1).await;
    assert!(*taken[0].envelope == large, "the largest event came unchanged");
    let read = trial.within("the payload", reader.settler.read(&[taken[0].tag])).await.expect("reading works");
    assert!(read[0] == large, "the largest event is read unchanged");
    reader.ack(&taken).await;
}

pub(super) async fn a_larger_event_is_refused_with_its_whole_batch(trial: Trial) {
    let limit = trial.broker().capabilities().max_event_bytes;
    if limit > SENSIBLE_BYTES {
        println!("not applicable: the limit of {limit} bytes is none");
        return;
    }
    let (topic, other) = (trial.topic("large"), trial.topic("other"));
    let batch = vec![to(&topic, event(1)), to(&other, event(2)), to(&topic, of_size(limit + 1)), to(&topic, event(3))];
    let refused = trial.within("an answer", trial.broker().publish(batch)).await;
    assert_eq!(refused.expect_err("it is too large").code(), Code::PayloadTooLarge);
    for topic in [topic, other] {
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &[]).await;
    }
}
