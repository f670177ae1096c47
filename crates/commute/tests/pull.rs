//! Pulling: taken when wanted, settled by hand, with the same attempts, order, dead letters and results as with an engine.

mod kit;

use std::time::Duration;

use commute::prelude::*;
use commute::{Code, Message, Pulled, Puller, Requests, SharedBroker};
use kit::{BadPing, Log, Ping, Pong, broker, started};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "test.step", key = "key")]
struct Step {
    key: String,
    n: u64,
}

fn step(key: &str, n: u64) -> Step {
    Step { key: key.to_owned(), n }
}

fn name(pulled: &Pulled) -> String {
    let step: Step = pulled.decode().unwrap();
    format!("{}{}", step.key, step.n)
}

async fn publish<E: Event>(broker: &SharedBroker, topic: &str, events: &[E]) {
    Publisher::new(broker.clone(), "test").publish_batch(topic, events).await.unwrap();
}

fn puller() -> commute::PullerBuilder {
    Puller::builder("things", "hand").retry(Backoff::fixed(Duration::from_secs(1)).attempts(2))
}

/// The dead letters of a topic so far.
async fn dead(broker: &SharedBroker) -> Vec<(String, String, u32)> {
    let mut letters = Puller::open(broker.clone(), "things.dead", "undertaker").await.unwrap();
    let taken = letters.take_within(100, Duration::from_secs(1)).await.unwrap();
    let letters = taken.iter().map(|pulled| pulled.decode::<DeadLetter>().unwrap());
    letters.map(|letter| (letter.code, letter.reason, letter.attempts)).collect()
}

#[tokio::test(start_paused = true)]
async fn deliveries_come_one_by_one_in_the_order_of_the_topic_and_an_acknowledged_one_never_again() {
    let broker = broker().await;
    publish(&broker, "things", &[step("a", 1), step("a", 2), step("b", 3)]).await;
    let mut puller = puller().open(broker.clone()).await.unwrap();
    for expected in ["a1", "a2", "b3"] {
        let pulled = puller.take().await.unwrap();
        assert_eq!((name(&pulled).as_str(), pulled.attempt()), (expected, 1));
        pulled.ack().await.unwrap();
    }
    drop(puller);
    let mut again = self::puller().open(broker).await.unwrap();
    assert!(again.take_within(9, Duration::from_secs(1)).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn up_to_so_many_are_taken_within_a_time() {
    let broker = broker().await;
    publish(&broker, "things", &[step("a", 1), step("b", 2), step("c", 3)]).await;
    let mut puller = puller().open(broker).await.unwrap();
    let two = puller.take_within(2, Duration::from_secs(60)).await.unwrap();
    assert_eq!(two.iter().map(name).collect::<Vec<_>>(), ["a1", "b2"]);
    let rest = puller.take_within(2, Duration::from_secs(60)).await.unwrap();
    assert_eq!(rest.iter().map(name).collect::<Vec<_>>(), ["c3"]);
    assert!(puller.take_within(2, Duration::ZERO).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_retried_event_comes_again_before_those_behind_it_with_its_key_and_delays_no_other() {
    let broker = broker().await;
    publish(&broker, "things", &[step("a", 1), step("a", 2), step("b", 3)]).await;
    let mut puller = puller().open(broker).await.unwrap();
    let first = puller.take().await.unwrap();
    assert_eq!(first.retry("broken").await.unwrap(), Some(Duration::from_secs(1)));
    let mut seen = Vec::new();
    for _ in 0..3 {
        let pulled = puller.take().await.unwrap();
        seen.push((name(&pulled), pulled.attempt()));
        pulled.ack().await.unwrap();
    }
    assert_eq!(seen, [("b3".to_owned(), 1), ("a1".to_owned(), 2), ("a2".to_owned(), 1)]);
}

#[tokio::test(start_paused = true)]
async fn the_last_attempt_and_a_rejection_become_dead_letters() {
    let broker = broker().await;
    publish(&broker, "things", &[step("a", 1), step("b", 2)]).await;
    let mut puller = puller().open(broker.clone()).await.unwrap();
    puller.take().await.unwrap().retry("broken").await.unwrap();
    puller.take().await.unwrap().reject("never").await.unwrap();
    let last = puller.take().await.unwrap();
    assert_eq!((name(&last).as_str(), last.attempt()), ("a1", 2));
    assert_eq!(last.retry("broken again").await.unwrap(), None);
    let letter = |code: Code, reason: &str, attempts| (code.number().to_owned(), reason.to_owned(), attempts);
    let expected = [letter(Code::Rejected, "never", 1), letter(Code::AttemptsExhausted, "broken again", 2)];
    assert_eq!(dead(&broker).await, expected);
}

#[tokio::test(start_paused = true)]
async fn what_is_published_with_an_acknowledgement_has_the_ids_that_an_engine_would_give_it() {
    let broker = broker().await;
    publish(&broker, "things", &[Ping::new(1)]).await;
    let mut puller = puller().open(broker.clone()).await.unwrap();
    let pulled = puller.take().await.unwrap();
    let cause = pulled.envelope().id.clone();
    pulled.ack_with("pongs", vec![Pong { n: 1 }, Pong { n: 2 }]).await.unwrap();
    let mut pongs = Puller::open(broker, "pongs", "reader").await.unwrap();
    for ordinal in 0..2 {
        let pong = pongs.take().await.unwrap();
        assert_eq!(pong.envelope().id, cause.derive("hand", ordinal));
        assert_eq!(pong.envelope().extensions.get("causationid"), Some(cause.as_str()));
        pong.ack().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_comes_again_uncounted_and_what_is_dropped_comes_again_in_its_place() {
    let broker = broker().await;
    publish(&broker, "things", &[step("a", 1), step("b", 2)]).await;
    let mut puller = puller().open(broker).await.unwrap();
    puller.take().await.unwrap().give_back().await.unwrap();
    let (first, second) = (puller.take().await.unwrap(), puller.take().await.unwrap());
    assert_eq!((name(&first).as_str(), first.attempt()), ("a1", 1));
    drop(second);
    drop(first);
    for expected in ["a1", "b2"] {
        let pulled = puller.take_within(1, Duration::from_secs(60)).await.unwrap().pop().unwrap();
        assert_eq!((name(&pulled).as_str(), pulled.attempt()), (expected, 1));
        pulled.ack().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_take_that_is_dropped_takes_nothing_with_it() {
    let broker = broker().await;
    let mut puller = puller().open(broker.clone()).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), puller.take()).await.is_err());
    publish(&broker, "things", &[step("a", 1), step("b", 2)]).await;
    // Two are there; the third never comes.
    assert!(tokio::time::timeout(Duration::from_secs(1), puller.take_within(3, Duration::MAX)).await.is_err());
    assert_eq!(name(&puller.take().await.unwrap()), "a1");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_redriven_for_another_group_is_let_pass() {
    let broker = broker().await;
    let publisher = Publisher::new(broker.clone(), "test");
    let redriven = |n, group: &str| Message::of(&step("a", n)).unwrap().extension("redrivefor", group);
    publisher.send("things", [redriven(1, "other"), redriven(2, "hand")]).await.unwrap();
    let mut puller = puller().open(broker.clone()).await.unwrap();
    let pulled = puller.take().await.unwrap();
    assert_eq!(name(&pulled), "a2");
    pulled.ack().await.unwrap();
    assert!(puller.take_within(1, Duration::from_secs(1)).await.unwrap().is_empty());
    assert!(dead(&broker).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_of_the_type_asked_for_says_so_and_stays_in_hand() {
    let broker = broker().await;
    publish(&broker, "things", &[BadPing { n: "one".to_owned() }]).await;
    let mut puller = puller().open(broker.clone()).await.unwrap();
    let pulled = puller.take().await.unwrap();
    assert_eq!(pulled.decode::<Ping>().unwrap_err().code(), Code::Undecodable);
    assert_eq!(pulled.decode::<Pong>().unwrap_err().code(), Code::UnknownType);
    assert_eq!(pulled.decode::<BadPing>().unwrap().n, "one");
}

#[tokio::test(start_paused = true)]
async fn a_closed_broker_ends_the_pulling() {
    let broker = broker().await;
    let mut puller = puller().open(broker.clone()).await.unwrap();
    broker.close().await.unwrap();
    assert_eq!(puller.take().await.unwrap_err().code(), Code::Closed);
}

#[tokio::test]
async fn attempts_survive_a_restart_and_an_engine_goes_on_where_a_puller_left() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("embedded:{}", directory.path().join("log").display());
    let broker = commute::connect(&url).await.unwrap();
    publish(&broker, "things", &[step("a", 1), step("a", 2)]).await;
    let now = || Puller::builder("things", "hand").retry(Backoff::fixed(Duration::ZERO).attempts(3));
    let mut first = now().open(broker.clone()).await.unwrap();
    first.take().await.unwrap().retry("broken").await.unwrap();
    broker.close().await.unwrap();
    drop((first, broker));

    let broker = commute::connect(&url).await.unwrap();
    let mut second = now().open(broker.clone()).await.unwrap();
    let pulled = second.take().await.unwrap();
    assert_eq!((name(&pulled).as_str(), pulled.attempt()), ("a1", 2));
    pulled.ack().await.unwrap();
    drop(second);

    async fn note(step: Step, State(log): State<Log>) {
        log.add(format!("{}{}", step.key, step.n));
    }
    let log = Log::default();
    let app = started(App::new("hand").broker(broker).state(log.clone()).on("things", handler(note))).await;
    app.idle().await.unwrap();
    assert_eq!(log.taken(), ["a2"]);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn who_asked_for_a_result_gets_it_from_a_puller_too() {
    let broker = broker().await;
    let mut puller = Puller::open(broker.clone(), "things", "hand").await.unwrap();
    let requests = Requests::open(broker, "asker").await.unwrap();
    let asked = [requests.ask("things", Message::of(&Ping::new(1)).unwrap()).await.unwrap()];
    let refused = requests.ask("things", Message::of(&Ping::new(2)).unwrap()).await.unwrap();
    puller.take().await.unwrap().ack_with("pongs", Pong { n: 10 }).await.unwrap();
    puller.take().await.unwrap().reject("no").await.unwrap();
    let results = requests.collect(&asked[0], Duration::from_secs(60)).await.unwrap();
    assert_eq!(results.value::<Pong>().unwrap().unwrap().n, 10);
    let results = requests.collect(&refused, Duration::from_secs(60)).await.unwrap();
    assert_eq!(results.failures().next().unwrap().failure(), Some(("CM0022", "no")));
}
