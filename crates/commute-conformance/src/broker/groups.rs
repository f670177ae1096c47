//! Groups: receivers of one group share its work, and nobody gets what another has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use crate::fixture::Ending;
use crate::trial::{Reader, Trial, ack, assert_each_once, keyed, number, numbers};

pub(super) async fn two_receivers_of_a_group_share_its_work(trial: Trial) {
    let topic = trial.topic("shared");
    let readers = [trial.open(&topic, "group").await, trial.open(&topic, "group").await];
    trial.publish(&topic, (0..400).map(|n| keyed(&(n % 40).to_string(), n))).await;
    let handled = share(&trial, readers.into(), 400, None).await;
    let mut all: Vec<_> = handled.iter().map(|(_, number)| *number).collect();
    assert_each_once(&all);
    all.sort_unstable();
    assert_eq!(all, (0..400).collect::<Vec<_>>());
}

pub(super) async fn events_of_a_key_stay_with_one_receiver_while_any_is_unsettled(trial: Trial) {
    let topic = trial.topic("keys");
    let readers =
        [trial.open_with_credit(&topic, "group", 20).await, trial.open_with_credit(&topic, "group", 20).await];
    trial.publish(&topic, (0..600).map(|n| keyed(&(n % 7).to_string(), n))).await;
    let handled = share(&trial, readers.into(), 600, Some(7)).await;
    let mut last = HashMap::new();
    for (_, number) in &handled {
        let before = last.insert(number % 7, *number);
        assert!(before.is_none_or(|before| before < *number), "{number} of its key came after {before:?}");
    }
    assert_eq!(handled.len(), 600);
}

/// Lets readers take and ack until all are acked; answers who took what, in the order of taking. With `keys`, checks
/// that nobody takes an event while another has an unsettled one of the same key.
async fn share(trial: &Trial, readers: Vec<Reader>, count: usize, keys: Option<u64>) -> Vec<(usize, u64)> {
    #[derive(Default)]
    struct Log {
        handled: Vec<(usize, u64)>,
        /// Who has unsettled events of a key, and how many.
        held: HashMap<u64, (usize, usize)>,
        clash: Option<String>,
    }
    let log = Arc::new(Mutex::new(Log::default()));
    let (done, _) = tokio::sync::watch::channel(0_usize);
    let done = Arc::new(done);
    let mut tasks = Vec::new();
    for (who, mut reader) in readers.into_iter().enumerate() {
        let (log, done, mut random) = (log.clone(), done.clone(), trial.random().fork());
        let mut seen = done.subscribe();
        tasks.push(tokio::spawn(async move {
            let mut unsettled: Vec<(u64, commute_core::DeliveryTag)> = Vec::new();
            loop {
                let taken = tokio::select! {
                    taken = reader.receiver().receive(random.usize(1..8)) => taken.expect("receiving works"),
                    _ = seen.wait_for(|done| *done >= count) => return,
                    // Whoever holds events and gets no more lets go of them.
                    () = std::future::ready(()), if !unsettled.is_empty() => Vec::new(),
                };
                if let (Ok(mut log), Some(keys)) = (log.lock(), keys) {
                    for taken in &taken {
                        let key = number(&taken.envelope) % keys;
                        let held = log.held.entry(key).or_insert((who, 0));
                        held.1 += 1;
                        if held.0 != who {
                            log.clash = Some(format!("{who} took an event of key {key} while another had one"));
                        }
                    }
                }
                if let Ok(mut log) = log.lock() {
                    log.handled.extend(taken.iter().map(|taken| (who, number(&taken.envelope))));
                }
                unsettled.extend(taken.iter().map(|taken| (number(&taken.envelope), taken.tag)));
                random.shuffle(&mut unsettled);
                let settled = unsettled.split_off(random.usize(..=unsettled.len()));
                if let (Ok(mut log), Some(keys)) = (log.lock(), keys) {
                    for (number, _) in &settled {
                        let key = number % keys;
                        if let Some(held) = log.held.get_mut(&key) {
                            held.1 -= 1;
                            if held.1 == 0 {
                                log.held.remove(&key);
                            }
                        }
                    }
                }
                let settlements = settled.iter().map(|(_, tag)| ack(*tag)).collect();
                reader.settler.settle(settlements).await.expect("settling works");
                done.send_modify(|done| *done += settled.len());
                tokio::task::yield_now().await;
            }
        }));
    }
    for task in tasks {
        trial.within("every event to be handled", task).await.expect("a reader works");
    }
    let mut log = log.lock().expect("nobody panicked");
    assert!(log.clash.is_none(), "{:?}", log.clash);
    std::mem::take(&mut log.handled)
}

pub(super) async fn what_a_dropped_receiver_had_goes_to_the_others(trial: Trial) {
    let topic = trial.topic("dropped");
    let mut first = trial.open(&topic, "group").await;
    trial.publish(&topic, (0..50).map(|n| keyed(&n.to_string(), n))).await;
    let had = first.take(50).await;
    first.ack(&had[..10]).await;
    let mut second = trial.open(&topic, "group").await;
    assert!(second.quietly(100).await.is_empty(), "everything is in the hands of the first");
    drop(first);
    let mut taken = numbers(&second.take(40).await);
    let mut expected = numbers(&had[10..]);
    taken.sort_unstable();
    expected.sort_unstable();
    assert_eq!(taken, expected);
}

pub(super) async fn groups_settle_independently(mut trial: Trial) {
    let topic = trial.topic("independent");
    trial.groups(&topic, &["a", "b", "c"]).await;
    trial.publish_numbers(&topic, 0..10).await;
    let (mut a, mut b) = (trial.open(&topic, "a").await, trial.open(&topic, "b").await);
    let taken = a.take(10).await;
    a.ack(&taken).await;
    let taken = b.take(10).await;
    b.ack(&taken[..3]).await;
    trial.restart(Ending::Kill).await;
    let (mut a, mut b) = (trial.open(&topic, "a").await, trial.open(&topic, "b").await);
    let mut c = trial.open(&topic, "c").await;
    trial.publish_numbers(&topic, [10]).await;
    a.expect(&[10]).await;
    b.expect(&(3..11).collect::<Vec<_>>()).await;
    c.expect(&(0..11).collect::<Vec<_>>()).await;
}
