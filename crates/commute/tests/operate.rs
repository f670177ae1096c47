//! Operating a running app: pausing, looking, skipping, releasing and redriving, in each state of an event.

mod kit;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commute::prelude::*;
use commute::{
    Code, Envelope, EventId, HeadState, LaneInfo, Message, Released, Running, SharedBroker, SubscriptionName,
    Timestamp, Topic,
};
use commute_core::admin::{Begin, DEAD_LETTERS, StoredEvent};
use commute_core::{Operation, Outgoing, Report};
use kit::{Log, Ping, broker, started};

/// What the test has in hand: which events take their time, and which fail.
#[derive(Debug, Clone, Default)]
struct Hand {
    log: Log,
    slow: Arc<Mutex<BTreeSet<u64>>>,
    broken: Arc<Mutex<BTreeSet<u64>>>,
    running: Arc<Mutex<BTreeSet<u64>>>,
}

impl Hand {
    fn slow(&self, n: u64) -> &Self {
        self.slow.lock().unwrap().insert(n);
        self
    }

    fn finish(&self, n: u64) {
        self.slow.lock().unwrap().remove(&n);
    }

    fn breaks(&self, n: u64) -> &Self {
        self.broken.lock().unwrap().insert(n);
        self
    }

    fn mend(&self) {
        self.broken.lock().unwrap().clear();
    }

    fn runs(&self, n: u64) -> bool {
        self.running.lock().unwrap().contains(&n)
    }
}

/// Events of one ten share a lane.
fn tens(ping: &Ping) -> Footprint {
    writes(("ten", ping.n / 10)).into()
}

async fn work(ping: Ping, State(hand): State<Hand>) -> Result<(), HandlerError> {
    hand.running.lock().unwrap().insert(ping.n);
    while hand.slow.lock().unwrap().contains(&ping.n) {
        tokio::task::yield_now().await;
    }
    hand.running.lock().unwrap().remove(&ping.n);
    if hand.broken.lock().unwrap().contains(&ping.n) {
        return Err(HandlerError::retry("broken"));
    }
    hand.log.add(ping.n.to_string());
    Ok(())
}

/// Looks until it is so. The runtime is never idle meanwhile, so the paused clock stands still.
async fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        tokio::task::yield_now().await;
    }
}

fn name(text: &str) -> SubscriptionName {
    text.parse().unwrap()
}

fn id(n: u64) -> EventId {
    EventId::new(format!("ping-{n}")).unwrap()
}

/// Two attempts a minute apart; then parked.
fn app_on(broker: SharedBroker, hand: &Hand, topics: &[&str]) -> App {
    let backoff = Backoff::fixed(Duration::from_secs(60)).attempts(2);
    let mut app = App::new("app").broker(broker).state(hand.clone());
    for topic in topics {
        let handler = handler(work).footprint(tens).retry(backoff.clone()).when_exhausted(Exhausted::Park);
        app = app.on(*topic, handler);
    }
    app
}

async fn app(hand: &Hand) -> Running {
    started(app_on(broker().await, hand, &["pings"])).await
}

async fn publish(app: &Running, topic: &str, numbers: impl IntoIterator<Item = u64>) {
    let message = |n| Message::of(&Ping::new(n)).unwrap().id(id(n));
    let messages: Vec<_> = numbers.into_iter().map(message).collect();
    let publisher = app.publisher();
    tokio::select! {
        biased;
        sent = publisher.send(topic, messages) => drop(sent.unwrap()),
        // While the log's thread is at work, nobody may wait: time that stands still would go on to the end of a back-off.
        () = until(|| false) => unreachable!("it never is"),
    }
}

/// The dead letters on a topic.
async fn letters(broker: &SharedBroker, topic: &str) -> Vec<(EventId, DeadLetter)> {
    let topic = Topic::new(topic).unwrap();
    let page = broker.admin().unwrap().read(topic, Begin::Start, 1_000).await.unwrap();
    let letter = |stored: StoredEvent| (stored.event.id.clone(), serde_json::from_slice(&stored.event.data).unwrap());
    page.events.into_iter().map(letter).collect()
}

fn retrying(app: &Running) -> u64 {
    app.stats().subscriptions.iter().map(|subscription| subscription.retrying).sum()
}

fn parked(app: &Running) -> u64 {
    app.stats().subscriptions.iter().map(|subscription| subscription.parked).sum()
}

async fn backlog(broker: &SharedBroker, topic: &str) -> u64 {
    let groups = broker.admin().unwrap().groups(Some(Topic::new(topic).unwrap())).await.unwrap();
    groups.into_iter().find(|group| group.subscription.group == "app").and_then(|group| group.backlog).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_paused_subscription_begins_nothing_and_goes_on_in_order() {
    let hand = Hand::default();
    let app = app(&hand).await;
    let pings = name("app@pings");
    assert!(app.pause(&pings).unwrap());
    assert!(!app.pause(&pings).unwrap(), "it is paused already");
    publish(&app, "pings", [10, 11, 20, 12]).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(hand.log.taken(), Vec::<String>::new());
    assert_eq!(app.stats().subscriptions[0].paused, Some(commute::PausedBecause::Operator));
    assert!(app.resume(&pings).unwrap());
    assert!(!app.resume(&pings).unwrap());
    app.idle().await.unwrap();
    let log = hand.log.taken();
    assert_eq!(log.iter().filter(|n| n.starts_with('1')).collect::<Vec<_>>(), ["10", "11", "12"]);
    assert_eq!(log.len(), 4);
    assert_eq!(app.pause(&name("app@nothing")).unwrap_err().code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn what_a_paused_subscription_has_not_begun_goes_back_and_nobody_waits_for_it() {
    let hand = Hand::default();
    hand.slow(10).breaks(30);
    let broker = broker().await;
    let app = started(app_on(broker.clone(), &hand, &["pings", "others"])).await;
    publish(&app, "pings", [10, 11, 30, 31]).await;
    until(|| hand.runs(10) && retrying(&app) == 1).await;
    publish(&app, "others", [12, 32]).await;
    until(|| app.stats().waiting == 4).await;
    app.pause(&name("app@pings")).unwrap();
    // What waits behind the one that backs off goes on at once; what is behind the one that runs, when it is over.
    until(|| hand.log.so_far() == ["32"]).await;
    hand.finish(10);
    until(|| hand.log.so_far() == ["32", "10", "12"]).await;
    until(|| app.stats().running == 0).await;
    while backlog(&broker, "pings").await < 3 {
        tokio::task::yield_now().await;
    }
    assert_eq!(retrying(&app), 0);
    hand.mend();
    app.resume(&name("app@pings")).unwrap();
    app.idle().await.unwrap();
    let log = hand.log.taken();
    let place = |n: &str| log.iter().position(|known| known == n).unwrap();
    assert!(place("30") < place("31"), "{log:?}");
    assert_eq!(log.len(), 6, "each once: {log:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_runs_when_its_subscription_is_paused_is_tried_again_after_it() {
    let hand = Hand::default();
    hand.slow(10).breaks(10);
    let app = app(&hand).await;
    publish(&app, "pings", [10, 11]).await;
    until(|| hand.runs(10)).await;
    app.pause(&name("app@pings")).unwrap();
    hand.finish(10);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!((hand.log.so_far().len(), app.stats().subscriptions[0].failed), (0, 1));
    hand.mend();
    app.resume(&name("app@pings")).unwrap();
    app.idle().await.unwrap();
    assert_eq!(hand.log.taken(), ["10", "11"]);
}

#[tokio::test(start_paused = true)]
async fn a_paused_key_holds_its_lane_and_no_other() {
    let hand = Hand::default();
    hand.slow(10).breaks(10);
    let app = app(&hand).await;
    let pings = name("app@pings");
    // Before an event of it has come, and while one of it runs.
    assert!(app.pause_key(&pings, "ten:2").unwrap());
    publish(&app, "pings", [10, 11, 20, 30]).await;
    until(|| hand.runs(10)).await;
    assert!(app.pause_key(&pings, "ten:1").unwrap());
    assert!(!app.pause_key(&pings, "ten:1").unwrap());
    assert_eq!(app.stats().subscriptions[0].paused_keys, ["ten:2", "ten:1"]);
    hand.finish(10);
    until(|| app.stats().subscriptions[0].failed == 1).await;
    hand.mend();
    publish(&app, "pings", [12]).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(hand.log.so_far(), ["30"], "what ran is finished, and not begun again");
    assert!(app.resume_key(&pings, "ten:1").unwrap());
    until(|| hand.log.so_far().len() == 4).await;
    assert!(app.resume_key(&pings, "ten:2").unwrap());
    assert!(!app.resume_key(&pings, "ten:2").unwrap());
    app.idle().await.unwrap();
    assert_eq!(hand.log.taken(), ["30", "10", "11", "12", "20"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_has_claimed_and_not_begun_is_not_begun_after_a_pause() {
    for key in [None, Some("n:7".to_owned())] {
        let (broker, hand) = (broker().await, Hand::default());
        async fn pauses(ping: Ping, State(hand): State<Hand>, State(pause): State<Pausing>) {
            if ping.n == 0 {
                let service = pause.0.attached().unwrap().running().remove(0);
                service
                    .operate(Operation::Pause { subscription: name("app@pings"), key: pause.1.clone() })
                    .await
                    .unwrap();
            }
            hand.log.add(ping.n.to_string());
        }
        let handler = handler(pauses).footprint(|ping: &Ping| writes(("n", ping.n)).into());
        let app = App::new("app").broker(broker.clone()).state(hand.clone()).workers(1).on("pings", handler);
        let app = started(app.state(Pausing(broker, key.clone()))).await;
        publish(&app, "pings", 0..10).await;
        let begun = if key.is_some() { 9 } else { 1 };
        until(|| hand.log.so_far().len() == begun).await;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(hand.log.so_far().len(), begun);
        assert!(!hand.log.so_far().contains(&"7".to_owned()));
        match &key {
            Some(key) => app.resume_key(&name("app@pings"), key).unwrap(),
            None => app.resume(&name("app@pings")).unwrap(),
        };
        app.idle().await.unwrap();
        assert_eq!(hand.log.taken().len(), 10);
    }
}

/// A broker through which a handler finds its own app, and what it pauses there.
#[derive(Clone)]
struct Pausing(SharedBroker, Option<String>);

#[tokio::test(start_paused = true)]
async fn a_retry_of_a_paused_key_waits_and_a_released_one_too() {
    let hand = Hand::default();
    hand.breaks(10).breaks(20);
    let app = app(&hand).await;
    let pings = name("app@pings");
    publish(&app, "pings", [20, 21]).await;
    app.idle().await.unwrap();
    assert_eq!(parked(&app), 2);
    publish(&app, "pings", [10]).await;
    until(|| retrying(&app) == 1).await;
    hand.mend();
    app.pause_key(&pings, "ten:1").unwrap();
    app.pause_key(&pings, "ten:2").unwrap();
    assert_eq!(app.unpark(&pings, Released::Key("ten:2".to_owned())).await.unwrap(), 2);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(hand.log.so_far().is_empty());
    app.resume_key(&pings, "ten:1").unwrap();
    app.resume_key(&pings, "ten:2").unwrap();
    app.idle().await.unwrap();
    let mut log = hand.log.taken();
    log.sort();
    assert_eq!(log, ["10", "20", "21"]);
}

fn summary(lane: &LaneInfo) -> (String, usize, usize, Option<(EventId, HeadState)>) {
    let head = lane.head.clone().map(|head| (head.event.unwrap(), head.state));
    (lane.key.clone(), lane.events, lane.parked, head)
}

#[tokio::test(start_paused = true)]
async fn lanes_are_named_and_say_what_their_first_event_does() {
    let hand = Hand::default();
    hand.breaks(30);
    let broker = broker().await;
    // One window, so that payloads are dropped and read again for their names.
    let app = started(app_on(broker, &hand, &["pings"]).look_ahead(10)).await;
    publish(&app, "pings", [30, 31]).await;
    app.idle().await.unwrap();
    hand.slow(10).breaks(20);
    publish(&app, "pings", [10, 11, 12, 13, 20, 21]).await;
    until(|| hand.runs(10) && retrying(&app) == 1).await;
    app.pause_key(&name("app@pings"), "ten:4").unwrap();
    publish(&app, "pings", [40]).await;
    until(|| app.stats().waiting == 5).await;
    let lanes = app.lanes(10).await.unwrap();
    let mut found: Vec<_> = lanes.iter().map(summary).collect();
    assert_eq!(found.remove(0), ("ten:1".to_owned(), 4, 0, Some((id(10), HeadState::Running))));
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let broken = HeadState::Parked(Some("broken (CM0027)".to_owned()));
    let expected = [
        ("ten:2".to_owned(), 2, 0, Some((id(20), HeadState::BackingOff(60_000)))),
        ("ten:3".to_owned(), 2, 2, Some((id(30), broken))),
        ("ten:4".to_owned(), 1, 0, Some((id(40), HeadState::Paused))),
    ];
    let (mut found_left, due) = (found.clone(), &mut found[0].3);
    if let Some((_, HeadState::BackingOff(left))) = due {
        assert!((1..=60_000).contains(left));
        *left = 60_000;
    }
    found_left[0].3 = found[0].3.clone();
    assert_eq!(found_left, expected);
    assert_eq!(lanes.iter().filter(|lane| lane.paused).count(), 1);
    assert_eq!(app.lanes(1).await.unwrap(), lanes[..1]);
    assert!(app.lanes(0).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_head_says_which_other_keys_it_waits_in() {
    let hand = Hand::default();
    hand.slow(1);
    let lanes = |ping: &Ping| match ping.n {
        1 => writes("a").into(),
        _ => Footprint::from([writes("a"), writes("b")]),
    };
    let handler = handler(work).footprint(lanes);
    let app = App::new("app").broker(broker().await).state(hand.clone()).on("pings", handler);
    let app = started(app).await;
    publish(&app, "pings", [1, 2]).await;
    until(|| hand.runs(1) && app.stats().waiting == 1).await;
    let lanes = app.lanes(9).await.unwrap();
    let head = lanes.iter().find(|lane| lane.key == "b").and_then(|lane| lane.head.clone()).unwrap();
    assert_eq!((head.state, head.waits_for), (HeadState::Waiting, vec!["a".to_owned()]));
    hand.finish(1);
    app.idle().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_event_is_skipped_wherever_it_is_but_not_while_it_runs() {
    let hand = Hand::default();
    hand.slow(10).breaks(20).breaks(30);
    let broker = broker().await;
    let app = started(app_on(broker.clone(), &hand, &["pings"])).await;
    let pings = name("app@pings");
    publish(&app, "pings", [30, 31, 32]).await;
    app.idle().await.unwrap();
    assert_eq!(parked(&app), 3);
    publish(&app, "pings", [10, 11, 12, 20, 21]).await;
    until(|| hand.runs(10) && retrying(&app) == 1 && app.stats().waiting == 3).await;

    let busy = app.skip(&pings, &id(10)).await.unwrap_err();
    assert_eq!(busy.code(), Code::GroupBusy, "{busy}");
    assert_eq!(app.skip(&pings, &id(99)).await.unwrap_err().code(), Code::NotFound);
    app.skip(&pings, &id(11)).await.unwrap();
    app.skip(&pings, &id(20)).await.unwrap();
    until(|| hand.log.so_far() == ["21"]).await;
    assert_eq!(app.skip(&pings, &id(20)).await.unwrap_err().code(), Code::NotFound, "it is over");
    app.skip(&pings, &id(31)).await.unwrap();
    assert_eq!(parked(&app), 2, "the one that failed holds the lane still");
    app.skip(&pings, &id(30)).await.unwrap();
    until(|| hand.log.so_far() == ["21", "32"]).await;
    hand.finish(10);
    app.idle().await.unwrap();
    assert_eq!(hand.log.taken(), ["21", "32", "10", "12"]);

    let stats = &app.stats().subscriptions[0];
    assert_eq!((stats.dead, stats.parked, stats.retrying), (4, 0, 0));
    let letters = letters(&broker, "pings.dead").await;
    let said: Vec<_> = letters
        .iter()
        .map(|(_, letter)| (letter.original_id().unwrap(), letter.attempts, letter.reason.as_str()))
        .collect();
    let skipped = "skipped by an operator";
    let was_parked = "skipped by an operator; it was parked: broken (CM0027)";
    assert_eq!(said, [(id(11), 0, skipped), (id(20), 1, skipped), (id(31), 0, skipped), (id(30), 2, was_parked)]);
    assert!(letters.iter().all(|(_, letter)| letter.code == "CM0022"));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_not_received_is_skipped_while_its_subscription_is_paused() {
    let hand = Hand::default();
    let broker = broker().await;
    let app = started(app_on(broker.clone(), &hand, &["pings"])).await;
    let pings = name("app@pings");
    app.pause(&pings).unwrap();
    publish(&app, "pings", [10, 11, 12]).await;
    app.skip(&pings, &id(11)).await.unwrap();
    app.resume(&pings).unwrap();
    app.idle().await.unwrap();
    assert_eq!(hand.log.taken(), ["10", "12"]);
    assert_eq!(letters(&broker, "pings.dead").await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_skipped_event_that_let_its_lanes_go_does_not_come_back() {
    let hand = Hand::default();
    // One that runs all the time, so that the paused clock stands still.
    hand.breaks(10).slow(90);
    let backoff = Backoff::fixed(Duration::from_secs(60)).attempts(9);
    let handler = handler(work).footprint(tens).retry(backoff).on_failure(OnFailure::ReleaseLane);
    let app = started(App::new("app").broker(broker().await).state(hand.clone()).on("pings", handler)).await;
    publish(&app, "pings", [90, 10, 11]).await;
    until(|| hand.log.so_far() == ["11"] && retrying(&app) == 1).await;
    app.skip(&name("app@pings"), &id(10)).await.unwrap();
    hand.mend();
    hand.finish(90);
    app.idle().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(hand.log.taken(), ["11", "90"]);
}

#[tokio::test(start_paused = true)]
async fn parked_events_are_released_by_event_by_key_or_all() {
    let hand = Hand::default();
    hand.breaks(10).breaks(20).breaks(30);
    let app = app(&hand).await;
    let pings = name("app@pings");
    publish(&app, "pings", [10, 11, 20, 30, 31]).await;
    app.idle().await.unwrap();
    assert_eq!(parked(&app), 5);
    hand.mend();
    for nothing in [Released::Event(id(99)), Released::Key("ten:9".to_owned())] {
        assert_eq!(app.unpark(&pings, nothing).await.unwrap_err().code(), Code::NotParked);
    }
    assert_eq!(app.unpark(&pings, Released::Event(id(11))).await.unwrap(), 2, "with the one before it");
    app.idle().await.unwrap();
    assert_eq!(hand.log.taken(), ["10", "11"]);
    assert_eq!(app.unpark(&pings, Released::Key("ten:2".to_owned())).await.unwrap(), 1);
    app.idle().await.unwrap();
    assert_eq!(hand.log.taken(), ["20"]);
    assert_eq!(app.unpark(&pings, Released::All).await.unwrap(), 2);
    app.idle().await.unwrap();
    assert_eq!(hand.log.taken(), ["30", "31"]);
    assert_eq!(app.unpark(&pings, Released::All).await.unwrap_err().code(), Code::NotParked);
}

#[tokio::test(start_paused = true)]
async fn a_release_keeps_the_order_with_what_a_pause_gave_back() {
    for resumed_before in [false, true] {
        // The first waits in a; the second is parked in b; the third touches both, so it is parked behind the second.
        let lanes = |ping: &Ping| match ping.n {
            1 | 2 => writes("a").into(),
            3 => writes("b").into(),
            _ => Footprint::from([writes("a"), writes("b")]),
        };
        let hand = Hand::default();
        hand.slow(1).breaks(3);
        let handler = handler(work).footprint(lanes).retry(Backoff::never()).when_exhausted(Exhausted::Park);
        let app = App::new("app").broker(broker().await).state(hand.clone()).on("pings", handler);
        let app = started(app).await;
        publish(&app, "pings", [1, 2, 3, 4]).await;
        until(|| hand.runs(1) && parked(&app) == 2).await;
        let pings = name("app@pings");
        app.pause(&pings).unwrap();
        hand.mend();
        if resumed_before {
            app.resume(&pings).unwrap();
        }
        assert_eq!(app.unpark(&pings, Released::Event(id(3))).await.unwrap(), 2);
        hand.finish(1);
        app.resume(&pings).unwrap();
        app.idle().await.unwrap();
        let log: Vec<_> = hand.log.taken().into_iter().filter(|n| n != "3").collect();
        assert_eq!(log, ["1", "2", "4"]);
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_parked_on_no_lane_is_released_too() {
    let hand = Hand::default();
    let broker = broker().await;
    let app = started(app_on(broker.clone(), &hand, &["pings"])).await;
    let pings = name("app@pings");
    // No JSON, so it cannot be decoded; as base64 in a dead letter it is a third larger.
    let data = vec![0_u8; broker.capabilities().max_event_bytes - 10_000];
    let envelope = Envelope::new("test", "test.ping", Timestamp(0), data.into());
    let large = envelope.id.clone();
    let outgoing = Outgoing { topic: Topic::new("pings").unwrap(), envelope, not_before: None };
    broker.publish(vec![outgoing]).await.unwrap();
    app.idle().await.unwrap();
    for what in [Released::Event(large.clone()), Released::All] {
        assert_eq!(app.unpark(&pings, what).await.unwrap(), 1);
        app.idle().await.unwrap();
        assert_eq!(parked(&app), 1, "it is parked again");
    }
    assert_eq!(app.skip(&pings, &large).await.unwrap_err().code(), Code::PayloadTooLarge);
}

#[tokio::test(start_paused = true)]
async fn what_two_instances_know_to_be_parked_is_forgotten_by_both_when_one_has_brought_it_back_or_given_it_up() {
    let (hand, broker, pings) = (Hand::default(), broker().await, name("app@pings"));
    if broker.capabilities().shared {
        // Elsewhere an event is parked with one instance.
        return;
    }
    hand.breaks(10).breaks(20).breaks(30);
    let first = started(app_on(broker.clone(), &hand, &["pings"])).await;
    publish(&first, "pings", [10, 11, 20, 30, 31]).await;
    first.idle().await.unwrap();
    first.stop().await.unwrap();
    hand.mend();
    let one = started(app_on(broker.clone(), &hand, &["pings"])).await;
    let two = started(app_on(broker.clone(), &hand, &["pings"])).await;
    assert_eq!((parked(&one), parked(&two)), (5, 5));
    assert_eq!(one.unpark(&pings, Released::Event(id(10))).await.unwrap(), 2);
    one.skip(&pings, &id(30)).await.unwrap();
    one.idle().await.unwrap();
    assert_eq!(hand.log.taken(), ["10", "11", "31"]);
    // Of what the other wants, some is parked still.
    assert_eq!(two.skip(&pings, &id(30)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!((parked(&one), parked(&two)), (1, 3));
    assert_eq!(two.unpark(&pings, Released::All).await.unwrap(), 1);
    assert_eq!(one.unpark(&pings, Released::All).await.unwrap_err().code(), Code::NotParked);
    assert_eq!((parked(&one), parked(&two)), (0, 0));
    publish(&one, "pings", [12, 21, 32]).await;
    one.idle().await.unwrap();
    two.idle().await.unwrap();
    assert_eq!(
        hand.log.taken().into_iter().collect::<BTreeSet<_>>(),
        ["12", "20", "21", "32"].map(String::from).into()
    );
    assert_eq!((parked(&one), parked(&two), letters(&broker, "pings.dead").await.len()), (0, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_in_through_the_broker_finds_the_app_while_it_runs() {
    let hand = Hand::default();
    let broker = broker().await;
    let app = started(app_on(broker.clone(), &hand, &["pings"])).await;
    let Some(attached) = broker.attached() else { return };
    let [service] = &attached.running()[..] else { panic!("one app runs") };
    assert_eq!(service.app(), "app");
    let pings = name("app@pings");
    let pause = |key: Option<&str>| Operation::Pause { subscription: pings.clone(), key: key.map(str::to_owned) };
    assert_eq!(service.operate(pause(None)).await.unwrap(), Report::Done(1));
    assert_eq!(service.operate(pause(None)).await.unwrap(), Report::Done(0));
    let Report::Json(stats) = service.operate(Operation::Stats).await.unwrap() else { panic!("JSON") };
    assert_eq!(stats["subscriptions"][0]["paused"], "operator");
    let Report::Json(contract) = service.operate(Operation::Contract).await.unwrap() else { panic!("JSON") };
    assert_eq!(contract["app"], "app");
    let resume = Operation::Resume { subscription: pings.clone(), key: None };
    assert_eq!(service.operate(resume).await.unwrap(), Report::Done(1));
    assert_eq!(service.operate(Operation::Lanes { max: 5 }).await.unwrap(), Report::Lanes(Vec::new()));
    app.stop().await.unwrap();
    assert_eq!(attached.running().len(), 1, "somebody holds it still");
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_kept_for_somebody_to_decide() {
    let broker = broker().await;
    let app = started(app_on(broker.clone(), &Hand::default(), &["pings"])).await;
    let groups = broker.admin().unwrap().groups(Some(Topic::new("pings.dead").unwrap())).await.unwrap();
    assert_eq!(groups.iter().map(|group| group.subscription.group.as_str()).collect::<Vec<_>>(), [DEAD_LETTERS]);
    app.stop().await.unwrap();
}

async fn reject(ping: Ping, State(hand): State<Hand>) -> Result<(), HandlerError> {
    if hand.broken.lock().unwrap().contains(&ping.n) {
        return Err(HandlerError::reject("no"));
    }
    hand.log.add(ping.n.to_string());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_redriven_event_is_handled_by_the_group_that_gave_it_up_and_once() {
    let (broker, failing, sound) = (broker().await, Hand::default(), Hand::default());
    failing.breaks(1);
    let start = |app: &'static str, hand: &Hand| {
        started(App::new(app).broker(broker.clone()).state(hand.clone()).on("pings", handler(reject).independent()))
    };
    let (one, two) = (start("one", &failing).await, start("two", &sound).await);
    publish(&one, "pings", [1]).await;
    one.idle().await.unwrap();
    two.idle().await.unwrap();
    assert_eq!(sound.log.taken(), ["1"]);
    let (first, letter) = letters(&broker, "pings.dead").await.remove(0);
    let redriven = letter.redriven(&first).unwrap();

    // It fails again: a dead letter of its own.
    broker.publish(vec![redriven]).await.unwrap();
    one.idle().await.unwrap();
    two.idle().await.unwrap();
    let all = letters(&broker, "pings.dead").await;
    assert_eq!(all.len(), 2);
    let (second, letter) = &all[1];
    assert_ne!(*second, first);

    failing.mend();
    for _ in 0..2 {
        broker.publish(vec![letter.redriven(second).unwrap()]).await.unwrap();
    }
    one.idle().await.unwrap();
    two.idle().await.unwrap();
    assert_eq!(failing.log.taken(), ["1"], "handled, once");
    assert_eq!(sound.log.taken(), Vec::<String>::new());
    let stats = &two.stats().subscriptions[0];
    assert_eq!((stats.handled, stats.ignored, stats.dead), (1, 2, 0));
}
