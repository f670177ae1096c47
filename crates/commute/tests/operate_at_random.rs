//! Operating at random while events flow: nothing is lost, nothing is done twice, every key keeps its order.

mod kit;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commute::prelude::*;
use commute::{Code, EventId, Key, Message, Released, Running, SharedBroker, SubscriptionName, Topic};
use commute_core::admin::Begin;
use kit::{Ping, broker, started};

fn name(text: &str) -> SubscriptionName {
    text.parse().unwrap()
}

fn id(n: u64) -> EventId {
    EventId::new(format!("ping-{n}")).unwrap()
}

async fn publish(app: &Running, topic: &str, numbers: impl IntoIterator<Item = u64>) {
    let message = |n| Message::of(&Ping::new(n)).unwrap().id(id(n));
    let messages: Vec<_> = numbers.into_iter().map(message).collect();
    app.publisher().send(topic, messages).await.unwrap();
}

/// The dead letters on a topic.
async fn letters(broker: &SharedBroker, topic: &str) -> Vec<DeadLetter> {
    let topic = Topic::new(topic).unwrap();
    let page = broker.admin().unwrap().read(topic, Begin::Start, 1_000).await.unwrap();
    page.events.into_iter().map(|stored| serde_json::from_slice(&stored.event.data).unwrap()).collect()
}

fn parked(app: &Running) -> u64 {
    app.stats().subscriptions.iter().map(|subscription| subscription.parked).sum()
}

/// What the events touch: one or two of five keys.
fn some_keys(ping: &Ping) -> Footprint {
    [writes(("k", ping.n % 5)), writes(("k", (ping.n / 7) % 5))].into()
}

/// Begins and ends of handlings, and which events are poison.
#[derive(Debug, Clone, Default)]
struct Watched {
    done: Arc<Mutex<Vec<u64>>>,
    busy: Arc<Mutex<BTreeMap<commute::Lane, u64>>>,
    healed: Arc<Mutex<bool>>,
    overlaps: Arc<Mutex<Vec<u64>>>,
}

async fn watched(ping: Ping, meta: Meta, State(seen): State<Watched>) -> Result<(), HandlerError> {
    let lanes: Vec<_> = some_keys(&ping).lanes().collect();
    for lane in &lanes {
        seen.overlaps.lock().unwrap().extend(seen.busy.lock().unwrap().insert(*lane, ping.n));
    }
    for _ in 0..ping.n % 4 {
        tokio::task::yield_now().await;
    }
    for lane in &lanes {
        seen.busy.lock().unwrap().remove(lane);
    }
    let poison = ping.n % 11 == 3 && !*seen.healed.lock().unwrap();
    if poison || (ping.n.is_multiple_of(3) && meta.attempt == 1) {
        return Err(HandlerError::retry("broken"));
    }
    seen.done.lock().unwrap().push(ping.n);
    Ok(())
}

const TOPICS: [&str; 2] = ["pings", "others"];

/// Does something at random. What is refused is refused for a reason that the state of things gives.
async fn disturb(app: &Running, rng: &mut fastrand::Rng, published: u64) {
    let subscription = name(&format!("app@{}", TOPICS[rng.usize(0..2)]));
    let key = format!("k:{}", rng.u64(0..5));
    let event = id(rng.u64(0..published.max(1)));
    let refused = match rng.u8(0..12) {
        0 | 1 => app.pause(&subscription).err(),
        2..=4 => app.resume(&subscription).err(),
        5 => app.pause_key(&subscription, &key).err(),
        6 | 7 => app.resume_key(&subscription, &key).err(),
        8 => app.skip(&subscription, &event).await.err(),
        9 => app.unpark(&subscription, Released::Event(event)).await.err(),
        10 => app.unpark(&subscription, if rng.bool() { Released::All } else { Released::Key(key) }).await.err(),
        _ => app.lanes(rng.usize(0..4)).await.err(),
    };
    if let Some(error) = refused {
        let expected = matches!(error.code(), Code::NotFound | Code::NotParked | Code::GroupBusy);
        assert!(expected, "{error}");
    }
}

async fn disturbed(seed: u64) {
    let (mut rng, seen, broker) = (fastrand::Rng::with_seed(seed), Watched::default(), broker().await);
    let mut app = App::new("app").broker(broker.clone()).state(seen.clone()).workers(rng.usize(1..6)).look_ahead(64);
    for topic in TOPICS {
        let backoff = Backoff::fixed(Duration::from_millis(5)).attempts(2);
        let handler = handler(watched).footprint(some_keys).retry(backoff).when_exhausted(Exhausted::Park);
        app = app.on(topic, handler);
    }
    let app = started(app).await;
    let mut topics: [Vec<u64>; 2] = Default::default();
    let mut published = 0;
    while published < 200 {
        let (topic, batch) = (rng.usize(0..2), rng.u64(1..12));
        publish(&app, TOPICS[topic], published..published + batch).await;
        topics[topic].extend(published..published + batch);
        published += batch;
        for _ in 0..rng.u8(0..3) {
            disturb(&app, &mut rng, published).await;
        }
        for _ in 0..rng.u8(0..30) {
            tokio::task::yield_now().await;
        }
        if rng.u8(0..4) == 0 {
            tokio::time::sleep(Duration::from_millis(rng.u64(1..8))).await;
        }
    }
    *seen.healed.lock().unwrap() = true;
    for topic in TOPICS {
        let subscription = name(&format!("app@{topic}"));
        app.resume(&subscription).unwrap();
        for key in 0..5 {
            app.resume_key(&subscription, &format!("k:{key}")).unwrap();
        }
    }
    app.idle().await.unwrap();
    for topic in TOPICS {
        let _ = app.unpark(&name(&format!("app@{topic}")), Released::All).await;
        app.idle().await.unwrap();
    }
    assert_eq!(parked(&app), 0, "seed {seed}");
    assert_eq!(*seen.overlaps.lock().unwrap(), Vec::<u64>::new(), "seed {seed}: conflicting events overlap");
    assert!(app.lanes(10).await.unwrap().is_empty(), "seed {seed}: nothing is left");
    let done = seen.done.lock().unwrap().clone();
    let mut ended = done.clone();
    for topic in TOPICS {
        for letter in letters(&broker, &format!("{topic}.dead")).await {
            assert_eq!(letter.reason.split(';').next(), Some("skipped by an operator"), "seed {seed}");
            ended.push(letter.decode::<Ping>().unwrap().n);
        }
    }
    ended.sort_unstable();
    assert_eq!(ended, (0..published).collect::<Vec<_>>(), "seed {seed}: each handled or given up, once");
    for numbers in &topics {
        for key in 0..5_u64 {
            let lane = ("k", key).lane();
            let of_key =
                |n: &&u64| some_keys(&Ping::new(**n)).lanes().any(|other| other == lane) && numbers.contains(n);
            let of_key: Vec<_> = done.iter().filter(of_key).collect();
            assert!(of_key.is_sorted(), "seed {seed}: key {key} in order: {of_key:?}");
        }
    }
    app.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn pausing_skipping_and_releasing_at_random_loses_nothing_and_repeats_nothing() {
    for seed in 0..40 {
        disturbed(seed).await;
    }
}

/// The same with several threads, where everything can happen between two steps.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_change_nothing_about_that() {
    for seed in 100..110 {
        disturbed(seed).await;
    }
}
