//! Results: what became of an event comes back to whoever asked, whoever was away in between.

mod kit;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use commute::prelude::*;
use commute::{Asked, Code, EventId, HandledResult, Message, Requests, ResultOutcome, Running, SharedBroker};
use commute_core::admin::{self, GroupInfo};
use commute_core::{
    Admin, BoxFuture, Broker, Capabilities, Outgoing, Receipt, Subscription, SubscriptionName, SubscriptionSpec, Topic,
};
use commute_sqlite::{Sqlite, Tx};
use kit::{Log, Ping, Pong, broker, note, started};
use tokio::sync::Semaphore;

/// Nothing here waits so long; it only ends a test that would never end.
const LONG: Duration = Duration::from_secs(120);

async fn double(ping: Ping) -> Pong {
    Pong { n: ping.n * 2 }
}

async fn pass(_ping: Ping) {}

fn replying(name: &str, broker: &SharedBroker) -> App {
    App::new(name).broker(broker.clone()).on("pings", handler(double).independent().replies())
}

fn ping(n: u64) -> Message {
    Message::of(&Ping::new(n)).unwrap()
}

async fn requests(broker: &SharedBroker) -> Requests {
    Requests::open(broker.clone(), "asker").await.unwrap()
}

/// Waits until so many results lie with the requester.
async fn held(requests: &Requests, results: usize) {
    let waiting = async {
        while requests.held() != results {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.unwrap();
}

async fn at(path: &Path) -> SharedBroker {
    let url = format!("embedded:{}", path.join("log").display());
    loop {
        match commute::connect(&url).await {
            Err(error) if error.is_retryable() => tokio::task::yield_now().await,
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test]
async fn values_come_from_every_subscription() {
    let broker = broker().await;
    let first = started(replying("first", &broker)).await;
    let second = started(App::new("second").broker(broker.clone()).on("pings", handler(pass))).await;
    let requests = requests(&broker).await;
    let asked = requests.ask("pings", ping(21)).await.unwrap().expect_from(["first", "second"]);
    let results = requests.collect(&asked, LONG).await.unwrap();
    assert!(results.is_complete() && results.missing.is_empty());
    let mut who: Vec<_> = results.answered.iter().map(|result| result.subscription.as_str()).collect();
    who.sort_unstable();
    assert_eq!(who, ["first", "second"]);
    assert_eq!(results.value::<Pong>().unwrap().unwrap().n, 42);
    assert_eq!((results.values().count(), results.failures().count()), (1, 0));
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_answered_to_whoever_asked_is_published_nowhere_else_unless_said() {
    let (broker, log) = (broker().await, Log::default());
    let both = App::new("both").broker(broker.clone()).on("pings", handler(double).publishes("pongs"));
    let (alone, _both) = (started(replying("alone", &broker)).await, started(both).await);
    async fn noted(pong: Pong, State(log): State<Log>) {
        log.add(pong.n.to_string());
    }
    let reader = App::new("reader").broker(broker.clone()).state(log.clone()).on("pongs", handler(noted));
    let reader = started(reader).await;
    assert!(alone.contract().to_string().contains("test.pong to whoever asked"));
    let requests = requests(&broker).await;
    let asked = requests.ask("pings", ping(1)).await.unwrap().expect(2);
    let results = requests.collect(&asked, LONG).await.unwrap();
    let mut topics: Vec<_> = results.values().map(|answer| answer.topic.as_deref()).collect();
    topics.sort_unstable();
    assert_eq!(topics, [None, Some("pongs")]);
    reader.idle().await.unwrap();
    assert_eq!(log.taken(), ["2"]);
}

#[tokio::test]
async fn a_failure_comes_with_its_reason_once_nothing_more_is_tried() {
    let broker = broker().await;
    async fn fail(ping: Ping) -> Result<(), HandlerError> {
        Err(if ping.n == 1 { HandlerError::reject("never") } else { HandlerError::retry("not now") })
    }
    let thrice = Backoff::fixed(Duration::ZERO).attempts(3);
    let fail = handler(fail).independent().retry(thrice).when_exhausted(Exhausted::Skip);
    let app = started(App::new("app").broker(broker.clone()).on("pings", fail)).await;
    let requests = requests(&broker).await;
    for (n, failure, attempts) in [(1, ("CM0022", "never"), 1), (2, ("CM0023", "not now"), 3)] {
        let results = requests.request("pings", &Ping::new(n), LONG).await.unwrap();
        assert!(results.is_complete());
        let failures: Vec<_> = results.failures().collect();
        assert_eq!((failures.len(), failures[0].failure(), failures[0].attempts), (1, Some(failure), attempts));
    }
    assert_eq!(app.stats().subscriptions[0].dead, 2);
}

#[tokio::test]
async fn an_undecodable_and_an_ignored_event_are_answered_too() {
    let broker = broker().await;
    let app = App::new("app").broker(broker.clone()).on("pings", handler(pass)).ignore_unknown_types("pings");
    let _app = started(app).await;
    let requests = requests(&broker).await;
    let bad = kit::BadPing { n: "one".to_owned() };
    let results = requests.request("pings", &bad, LONG).await.unwrap();
    assert_eq!(results.answered[0].failure().unwrap().0, Code::Undecodable.number());
    let results = requests.request("pings", &Pong { n: 1 }, LONG).await.unwrap();
    assert_eq!(results.answered[0].outcome, ResultOutcome::Ignored);
}

async fn fragile(ping: Ping, State(broken): State<Arc<AtomicBool>>) -> Result<Pong, HandlerError> {
    if broken.load(Ordering::Relaxed) { Err(HandlerError::retry("broken")) } else { Ok(Pong { n: ping.n }) }
}

async fn parking(broker: &SharedBroker, broken: &Arc<AtomicBool>) -> Running {
    let fragile = handler(fragile).retry(Backoff::never()).when_exhausted(Exhausted::Park).replies();
    started(App::new("app").broker(broker.clone()).state(broken.clone()).on("pings", fragile)).await
}

#[tokio::test]
async fn a_parked_event_says_so_and_answers_once_more_when_it_is_released() {
    let (broker, broken) = (broker().await, Arc::new(AtomicBool::new(true)));
    let app = parking(&broker, &broken).await;
    let requests = requests(&broker).await;
    let results = requests.request("pings", &Ping::new(7), LONG).await.unwrap();
    assert!(results.answered[0].is_parked());
    assert_eq!(results.answered[0].failure(), Some(("CM0023", "broken")));
    broken.store(false, Ordering::Relaxed);
    app.release(app.parked_lanes()[0]).await.unwrap();
    held(&requests, 2).await;
    let results = requests.collect(&results.asked, LONG).await.unwrap();
    assert_eq!((results.answered.len(), results.value::<Pong>().unwrap().unwrap().n), (1, 7));
}

async fn gated(ping: Ping, State(gate): State<Arc<Semaphore>>) -> Pong {
    gate.acquire().await.unwrap().forget();
    Pong { n: ping.n }
}

#[tokio::test]
async fn who_has_not_answered_in_time_is_named_and_can_be_waited_for_once_more() {
    let (broker, gate) = (broker().await, Arc::new(Semaphore::new(0)));
    let _fast = started(replying("fast", &broker)).await;
    let slow = App::new("slow").broker(broker.clone()).state(gate.clone());
    let _slow = started(slow.on("pings", handler(gated).replies())).await;
    let requests = requests(&broker).await;
    let asked = requests.ask("pings", ping(1)).await.unwrap().expect_from(["fast", "slow"]);
    held(&requests, 1).await;
    let results = requests.collect(&asked, Duration::ZERO).await.unwrap();
    assert_eq!((results.missing.as_slice(), results.not_yet), (["slow".to_owned()].as_slice(), 1));
    assert_eq!(results.answered[0].subscription, "fast");
    let unnamed = requests.collect(&asked.clone().expect(3), Duration::ZERO).await.unwrap();
    assert_eq!((unnamed.missing.len(), unnamed.not_yet), (0, 2));
    gate.add_permits(1);
    let results = requests.collect(&asked, LONG).await.unwrap();
    assert_eq!((results.answered.len(), results.not_yet), (2, 0));
}

/// A broker that can say which groups there are.
struct Knowing {
    inner: SharedBroker,
    groups: Vec<&'static str>,
}

impl Broker for Knowing {
    fn driver(&self) -> &'static str {
        self.inner.driver()
    }

    fn address(&self) -> &str {
        self.inner.address()
    }

    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn publish(&self, batch: Vec<Outgoing>) -> BoxFuture<'_, commute::Result<Vec<Receipt>>> {
        self.inner.publish(batch)
    }

    fn subscribe(&self, spec: SubscriptionSpec) -> BoxFuture<'_, commute::Result<Subscription>> {
        self.inner.subscribe(spec)
    }

    fn close(&self) -> BoxFuture<'_, commute::Result<()>> {
        self.inner.close()
    }

    fn admin(&self) -> Option<&dyn Admin> {
        Some(self)
    }
}

impl Admin for Knowing {
    fn groups(&self, topic: Option<Topic>) -> BoxFuture<'_, commute::Result<Vec<GroupInfo>>> {
        let topic = topic.unwrap();
        let info = |group: &&str| GroupInfo {
            subscription: SubscriptionName { topic: topic.clone(), group: (*group).to_owned() },
            settled_below: None,
            backlog: None,
            in_flight: None,
            retrying: None,
            parked: None,
            instances: None,
        };
        Box::pin(std::future::ready(Ok(self.groups.iter().map(info).collect())))
    }
}

#[tokio::test]
async fn all_groups_of_the_topic_should_answer_where_the_broker_knows_them() {
    let groups = vec!["answers", admin::DEAD_LETTERS, "away"];
    let broker: SharedBroker = Arc::new(Knowing { inner: broker().await, groups });
    let _app = started(replying("answers", &broker)).await;
    let requests = requests(&broker).await;
    let asked = requests.ask("pings", ping(1)).await.unwrap();
    held(&requests, 1).await;
    let results = requests.collect(&asked, Duration::ZERO).await.unwrap();
    assert_eq!((results.answered.len(), results.missing), (1, vec!["away".to_owned()]));
}

#[tokio::test]
async fn a_service_that_was_away_answers_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(true));
    let broker = at(directory.path()).await;
    let app = parking(&broker, &broken).await;
    let first = requests(&broker).await;
    let results = first.request("pings", &Ping::new(3), LONG).await.unwrap();
    assert!(results.answered[0].is_parked());
    app.stop().await.unwrap();
    let away = first.ask("pings", ping(4)).await.unwrap();
    let results = first.collect(&away, Duration::ZERO).await.unwrap();
    assert_eq!(results.not_yet, 1);
    broken.store(false, Ordering::Relaxed);
    let app = parking(&broker, &broken).await;
    app.release(app.parked_lanes()[0]).await.unwrap();
    let results = first.collect(&away, LONG).await.unwrap();
    assert_eq!(results.value::<Pong>().unwrap().unwrap().n, 4);
}

#[tokio::test]
async fn a_requester_that_was_away_collects_what_was_answered_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let stored = {
        let broker = at(directory.path()).await;
        let first = requests(&broker).await;
        let asked = first.ask("pings", ping(5)).await.unwrap().expect_from(["answers", "late"]);
        first.close().await;
        assert_eq!(first.collect(&asked, LONG).await.unwrap_err().code(), Code::Closed);
        let app = started(replying("answers", &broker)).await;
        app.idle().await.unwrap();
        app.stop().await.unwrap();
        broker.close().await.unwrap();
        serde_json::to_string(&asked).unwrap()
    };
    let broker = at(directory.path()).await;
    let second = requests(&broker).await;
    let asked: Asked = serde_json::from_str(&stored).unwrap();
    held(&second, 1).await;
    let results = second.collect(&asked, Duration::ZERO).await.unwrap();
    assert_eq!(results.value::<Pong>().unwrap().unwrap().n, 10);
    assert_eq!(results.missing, ["late"]);
    let _late = started(replying("late", &broker)).await;
    assert!(second.collect(&asked, LONG).await.unwrap().is_complete());
}

#[tokio::test]
async fn a_thousand_requests_at_once_get_their_own_answers() {
    let broker = broker().await;
    let _apps = (started(replying("first", &broker)).await, started(replying("second", &broker)).await);
    let requests = requests(&broker).await;
    let ask = async |n: u64| {
        let asked = requests.ask("pings", ping(n)).await.unwrap().expect_from(["first", "second"]);
        let results = requests.collect(&asked, LONG).await.unwrap();
        let values: Vec<_> = results.values().map(|answer| answer.decode::<Pong>().unwrap().n).collect();
        assert_eq!(values, [2 * n, 2 * n]);
    };
    futures_util::future::join_all((0..1000).map(ask)).await;
    assert_eq!(requests.waited_for(), 0);
    assert_eq!(requests.held(), 2000, "they can be collected again");
    // The ones that were finished first make room for others.
    futures_util::future::join_all((1000..1100).map(ask)).await;
    held(&requests, 2048).await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_and_a_dropped_collect_leave_nothing_behind() {
    let broker = broker().await;
    let requests = requests(&broker).await;
    let results = requests.request("pings", &Ping::new(1), Duration::from_secs(5)).await.unwrap();
    assert_eq!((results.answered.len(), results.not_yet), (0, 1));
    let dropped = tokio::time::timeout(Duration::from_secs(1), requests.collect(&results.asked, LONG)).await;
    assert!(dropped.is_err());
    assert_eq!((requests.waited_for(), requests.held()), (0, 0));
}

#[tokio::test]
async fn results_are_events_that_anybody_may_subscribe_to() {
    let (broker, log) = (broker().await, Log::default());
    async fn audit(result: HandledResult, State(log): State<Log>) {
        log.add(format!("{} by {}: {}", result.topic, result.subscription, result.answers().len()));
    }
    let audit = App::new("audit").broker(broker.clone()).state(log.clone()).on("asker.results", handler(audit));
    let audit = started(audit).await;
    let _app = started(replying("app", &broker)).await;
    let requests = requests(&broker).await;
    requests.request("pings", &Ping::new(1), LONG).await.unwrap();
    audit.idle().await.unwrap();
    assert_eq!(log.taken(), ["pings by app: 1"]);
}

#[tokio::test]
async fn asking_again_with_the_same_id_handles_once_and_collects_the_same_results() {
    let (broker, log) = (broker().await, Log::default());
    async fn counted(ping: Ping, State(log): State<Log>) -> Pong {
        log.add(ping.n.to_string());
        Pong { n: ping.n }
    }
    let app = App::new("app").broker(broker.clone()).state(log.clone()).on("pings", handler(counted).replies());
    let app = started(app).await;
    let requests = requests(&broker).await;
    let id = EventId::new("order-536365").unwrap();
    let mut before = None;
    for _ in 0..3 {
        let asked = requests.ask("pings", ping(1).id(id.clone())).await.unwrap();
        assert_eq!(asked.id, id);
        let results = requests.collect(&asked, LONG).await.unwrap();
        let again = before.replace(results.clone());
        assert!(again.is_none_or(|again| again == results));
    }
    app.idle().await.unwrap();
    assert_eq!((log.taken().len(), requests.held()), (1, 1));
}

#[tokio::test]
async fn a_redriven_event_answers_the_request_that_it_was() {
    let (broker, broken) = (broker().await, Arc::new(AtomicBool::new(true)));
    let fragile = handler(fragile).retry(Backoff::never()).when_exhausted(Exhausted::Skip).replies();
    let _app = started(App::new("app").broker(broker.clone()).state(broken.clone()).on("pings", fragile)).await;
    let requests = requests(&broker).await;
    let results = requests.request("pings", &Ping::new(1), LONG).await.unwrap();
    assert_eq!(results.failures().count(), 1);
    broken.store(false, Ordering::Relaxed);
    let mut dead = commute::Puller::open(broker.clone(), "pings.dead", "operator").await.unwrap();
    let pulled = dead.take().await.unwrap();
    let again = pulled.decode::<DeadLetter>().unwrap().redriven(&pulled.envelope().id).unwrap();
    broker.publish(vec![again]).await.unwrap();
    held(&requests, 2).await;
    let results = requests.collect(&results.asked, LONG).await.unwrap();
    assert_eq!((results.failures().count(), results.value::<Pong>().unwrap().unwrap().n), (0, 1));
    assert_ne!(results.answered[0].event, results.asked.id);
}

#[tokio::test]
async fn a_replyto_that_is_no_topic_of_results_is_ignored() {
    let (broker, log) = (broker().await, Log::default());
    let app = App::new("app").broker(broker.clone()).state(log.clone()).on("pings", handler(note).independent());
    let app = started(app).await;
    let to = |topic: &str| ping(1).extension("replyto", topic);
    let asked = ["pings", "not valid.results", ".results", ""].map(to);
    app.publisher().send("pings", asked).await.unwrap();
    app.idle().await.unwrap();
    assert_eq!((log.taken().len(), app.stats().subscriptions[0].received), (4, 4));
    assert!(app.contract().to_string().contains("any other replyto is ignored"));
}

#[tokio::test]
async fn the_result_of_a_transaction_is_committed_with_it() {
    let directory = tempfile::tempdir().unwrap();
    fn insert(ping: Ping, tx: &Tx<'_>) -> Result<Pong, HandlerError> {
        tx.execute("INSERT INTO seen VALUES (?1)", [ping.n as i64])?;
        if ping.n == 2 { Err(HandlerError::reject("no twos")) } else { Ok(Pong { n: ping.n }) }
    }
    let db = Sqlite::builder(directory.path().join("app.db"));
    let db = db.setup(|db| db.execute_batch("CREATE TABLE seen (n INTEGER)")).open().unwrap();
    let broker = broker().await;
    let insert = handler(db.transaction(insert)).independent().replies();
    let _app = started(App::new("app").broker(broker.clone()).store(db.clone()).on("pings", insert)).await;
    let requests = requests(&broker).await;
    let results = requests.request("pings", &Ping::new(1), LONG).await.unwrap();
    assert_eq!(results.value::<Pong>().unwrap().unwrap().n, 1);
    let results = requests.request("pings", &Ping::new(2), LONG).await.unwrap();
    assert_eq!(results.answered[0].failure(), Some(("CM0022", "no twos")));
    let rows = db.read_blocking(|db| db.query_row("SELECT count(*) FROM seen", [], |row| row.get::<_, i64>(0)));
    assert_eq!(rows.unwrap(), 1);
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "test.large")]
struct Large {
    text: String,
}

#[tokio::test]
async fn an_answer_that_is_too_large_for_the_result_is_named_in_it() {
    let broker = broker().await;
    async fn large(ping: Ping) -> (Large, Large) {
        let large = || Large { text: "x".repeat(ping.n as usize) };
        (large(), large())
    }
    let app = App::new("app").broker(broker.clone()).on("pings", handler(large).publishes("larges"));
    let _app = started(app).await;
    let requests = requests(&broker).await;
    let most = broker.capabilities().max_event_bytes as u64;
    let results = requests.request("pings", &Ping::new(most * 3 / 4), LONG).await.unwrap();
    assert_eq!(results.values().count(), 2);
    assert!(results.values().all(|answer| answer.data.is_none() && answer.topic.as_deref() == Some("larges")));
    assert_eq!(results.value::<Large>().unwrap_err().code(), Code::Undecodable);
}

#[tokio::test]
async fn what_is_no_result_becomes_a_dead_letter_and_results_go_on() {
    let broker = broker().await;
    let _app = started(replying("app", &broker)).await;
    let requests = requests(&broker).await;
    Publisher::new(broker.clone(), "test").publish("asker.results", &Ping::new(1)).await.unwrap();
    assert!(requests.request("pings", &Ping::new(1), LONG).await.unwrap().is_complete());
    let mut dead = commute::Puller::open(broker, "asker.results.dead", "test").await.unwrap();
    let letter: DeadLetter = dead.take().await.unwrap().decode().unwrap();
    assert_eq!(letter.code, Code::UnknownType.number());
}

#[tokio::test]
async fn results_that_nobody_collects_make_room_for_others() {
    let broker = broker().await;
    let app = started(replying("app", &broker)).await;
    let requests = Requests::builder("asker").at_most(10).open(broker.clone()).await.unwrap();
    let mut asked = Vec::new();
    for n in 0..100 {
        asked.push(requests.ask("pings", ping(n)).await.unwrap());
        app.idle().await.unwrap();
    }
    held(&requests, 10).await;
    let last = requests.collect(&asked[99], LONG).await.unwrap();
    assert_eq!(last.value::<Pong>().unwrap().unwrap().n, 198);
    assert_eq!(requests.collect(&asked[0], Duration::ZERO).await.unwrap().not_yet, 1);
}
