//! The admin address of real apps, over real sockets: what is scraped, and how health goes through a life.

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use commute::metrics::{self, Kind};
use commute::prelude::*;
use commute::{Capabilities, Code, Error, Receipt, Running, SharedBroker};
use commute_core::{BoxFuture, Broker, Delivery, Outgoing, Receiver, Subscription, SubscriptionSpec};
use kit::{Ping, Pong, broker, started};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

const HERE: &str = "127.0.0.1:0";

struct Reply {
    status: u16,
    headers: String,
    body: String,
}

async fn ask(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(format!("{request} HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).await.unwrap();
    let (headers, body) = reply.split_once("\r\n\r\n").unwrap();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, headers: headers.to_lowercase(), body: body.to_owned() }
}

async fn get(app: &Running, path: &str) -> Reply {
    ask(app.admin_address().unwrap(), &format!("GET {path}")).await
}

/// The samples of a text, by name and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(name, value)| (name, value.parse().unwrap())).collect()
}

/// Answers odd numbers, fails on even ones at the first attempt, and refuses 5.
async fn picky(ping: Ping, meta: Meta) -> Result<Pong, HandlerError> {
    match ping.n {
        5 => Err(HandlerError::reject("five")),
        n if n % 2 == 0 && meta.attempt == 1 => Err(HandlerError::retry("even")),
        n => Ok(Pong { n }),
    }
}

#[tokio::test]
async fn a_scrape_says_exactly_what_has_happened() {
    let backoff = Backoff::exponential().first(std::time::Duration::from_millis(1));
    let app = App::new("app").broker(broker().await).admin(HERE);
    let app = started(app.on("pings", handler(picky).independent().publishes("pongs").retry(backoff))).await;
    app.publisher().publish_batch("pings", &(1..=8).map(Ping::new).collect::<Vec<_>>()).await.unwrap();
    app.idle().await.unwrap();
    let reply = get(&app, "/metrics").await;
    assert_eq!(reply.status, 200);
    assert!(reply.headers.contains("content-type: application/openmetrics-text; version=1.0.0"), "{}", reply.headers);
    assert!(reply.body.ends_with("# EOF\n"));
    let seen = samples(&reply.body);
    let place = r#"commute_app="app",messaging_system="embedded",messaging_destination_name="pings""#;
    let group = format!(r#"{place},messaging_consumer_group_name="app""#);
    let of = |name: &str, labels: &str| {
        seen.get(format!("{name}{{{labels}}}").as_str())
            .copied()
            .unwrap_or_else(|| panic!("{name} {labels}: {seen:#?}"))
    };
    let sent = |topic: &str| {
        let place = place.replace("pings", topic);
        of("messaging_client_sent_messages_total", &format!(r#"{place},messaging_operation_name="send""#))
    };
    assert_eq!((sent("pings"), sent("pongs"), sent("pings.dead")), (8.0, 7.0, 1.0));
    let received = format!(r#"{group},messaging_operation_name="receive""#);
    assert_eq!(of("messaging_client_consumed_messages_total", &received), 8.0);
    let process = format!(r#"{group},messaging_operation_name="process""#);
    assert_eq!(of("messaging_process_duration_seconds_count", &process), 12.0);
    assert_eq!(of("messaging_process_duration_seconds_bucket", &format!(r#"le="+Inf",{process}"#)), 12.0);
    for (name, value) in [
        ("commute_event_latency_seconds_count", 7.0),
        ("commute_events_handled_total", 7.0),
        ("commute_attempts_total", 12.0),
        ("commute_attempts_failed_total", 5.0),
        ("commute_events_dead_total", 1.0),
        ("commute_events_duplicate_total", 0.0),
        ("commute_events_backlog", 0.0),
        ("commute_events_in_flight", 0.0),
        ("commute_events_running", 0.0),
        ("commute_events_queued", 0.0),
        ("commute_events_retrying", 0.0),
        ("commute_events_parked", 0.0),
        ("commute_lanes_parked", 0.0),
    ] {
        assert_eq!(of(name, &group), value, "{name}");
    }
    assert_eq!(of("commute_reader_paused", &format!(r#"{group},commute_reason="look_ahead_full""#)), 0.0);
    assert_eq!(of("commute_app_lanes", r#"commute_app="app""#), 0.0);
    app.stop().await.unwrap();
}

#[tokio::test]
async fn the_scraped_names_and_labels_are_those_of_the_table() {
    let app = App::new("app").broker(broker().await).admin(HERE).on("pings", handler(kit::silent));
    let app = started(app).await;
    app.publisher().publish("pings", &Ping::new(1)).await.unwrap();
    app.idle().await.unwrap();
    let text = get(&app, "/metrics").await.body;
    let declared = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let scraped: BTreeSet<_> = declared
        .map(|line| match line.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, _) => name.to_owned(),
        })
        .collect();
    let table: BTreeSet<_> = metrics::ALL.iter().map(metrics::Metric::prometheus_name).collect();
    assert_eq!(scraped, table);
    for metric in metrics::ALL {
        let name = metric.prometheus_name() + if metric.kind == Kind::Histogram { "_count{" } else { "{" };
        let sample = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("no {name}"));
        let labels: Vec<_> = sample.split('"').step_by(2).filter_map(|part| part.strip_suffix('=')).collect();
        let labels: Vec<_> = labels.iter().map(|label| label.trim_start_matches(',').to_owned()).collect();
        let said: Vec<_> = metric.labels().into_iter().map(metrics::prometheus).collect();
        assert_eq!(labels, said, "{name}");
    }
    app.stop().await.unwrap();
}

#[tokio::test]
async fn a_draining_app_is_alive_and_not_ready_and_says_what_is_left() {
    async fn gated(_: Ping, State(gate): State<Arc<Semaphore>>) {
        gate.acquire().await.unwrap().forget();
    }
    let gate = Arc::new(Semaphore::new(0));
    let app = App::new("app").broker(broker().await).state(gate.clone()).admin(HERE).on("pings", handler(gated));
    let app = started(app).await;
    assert_eq!((get(&app, "/live").await.status, get(&app, "/ready").await.status), (200, 200));
    app.publisher().publish("pings", &Ping::new(1)).await.unwrap();
    while app.stats().subscriptions[0].running == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&app, "/drain").await.body, r#"{"draining":false,"health":"ready","staged":0,"unhandled":1}"#);
    let (address, monitor) = (app.admin_address().unwrap(), app.monitor());
    let stopping = tokio::spawn(app.stop());
    while monitor.health() == commute::Health::Ready {
        tokio::task::yield_now().await;
    }
    let ready = ask(address, "GET /ready").await;
    assert_eq!((ready.status, ready.body.as_str()), (503, r#"{"health":"draining"}"#));
    assert_eq!(ask(address, "GET /live").await.status, 200);
    assert_eq!(
        ask(address, "GET /drain").await.body,
        r#"{"draining":true,"health":"draining","staged":0,"unhandled":1}"#
    );
    gate.add_permits(1);
    assert_eq!(stopping.await.unwrap().unwrap().unhandled, 0);
    assert!(TcpStream::connect(address).await.is_err(), "the address ends with the app");
}

#[tokio::test]
async fn a_failed_app_is_neither_alive_nor_ready_and_still_says_so() {
    let broken = Arc::new(Notify::new());
    let broker: SharedBroker = Arc::new(Breakable { inner: broker().await, broken: broken.clone() });
    let app = App::new("app").broker(broker).admin(HERE).on("pings", handler(kit::silent));
    let app = started(app).await;
    assert_eq!(get(&app, "/ready").await.status, 200);
    broken.notify_one();
    assert_eq!(app.failed().await.code(), Code::Poisoned);
    for path in ["/live", "/ready"] {
        let reply = get(&app, path).await;
        assert_eq!((reply.status, reply.body.as_str()), (503, r#"{"health":"failed"}"#));
    }
    assert_eq!(get(&app, "/metrics").await.status, 200, "what had happened can still be read");
}

#[tokio::test]
async fn contract_and_statistics_are_there_as_json_and_nothing_can_be_changed() {
    let app = App::new("app").broker(broker().await).admin(HERE).on("pings", handler(kit::silent));
    let app = started(app).await;
    let json = async |path| serde_json::from_str::<serde_json::Value>(&get(&app, path).await.body).unwrap();
    assert_eq!(json("/contract").await["subscriptions"][0]["topic"], "pings");
    assert_eq!(json("/stats").await["subscriptions"][0]["handled"], 0);
    let address = app.admin_address().unwrap();
    let refused = ask(address, "POST /drain").await;
    assert_eq!(refused.status, 405);
    assert!(refused.headers.contains("allow: get, head"), "{}", refused.headers);
    assert_eq!(ask(address, "GET /secret").await.status, 404);
    assert_eq!(ask(address, "HEAD /live").await.body, "");
}

#[tokio::test]
async fn an_address_that_other_machines_reach_is_refused_before_anything_is_opened() {
    let refused = App::new("app").broker(broker().await).admin("0.0.0.0:0").on("pings", handler(kit::silent));
    let error = refused.start().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidApp);
    assert!(error.detail().contains("admin_beyond_loopback"), "{error}");
    let allowed = App::new("app").broker(broker().await).admin("0.0.0.0:0").admin_beyond_loopback();
    let app = started(allowed.on("pings", handler(kit::silent))).await;
    let port = app.admin_address().unwrap().port();
    assert_eq!(ask(([127, 0, 0, 1], port).into(), "GET /live").await.status, 200);
}

#[tokio::test]
async fn an_address_that_is_taken_stops_the_start_and_is_named() {
    let taken = tokio::net::TcpListener::bind(HERE).await.unwrap();
    let address = taken.local_addr().unwrap();
    let app = App::new("app").broker(broker().await).admin(address).on("pings", handler(kit::silent));
    let error = app.start().await.unwrap_err();
    assert!(error.detail().contains(&address.to_string()), "{error}");
}

/// A broker whose subscriptions fail for good when a test says so.
struct Breakable {
    inner: SharedBroker,
    broken: Arc<Notify>,
}

struct Inlet {
    inner: Box<dyn Receiver>,
    broken: Arc<Notify>,
}

impl Broker for Breakable {
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
        Box::pin(async {
            let Subscription { receiver, settler } = self.inner.subscribe(spec).await?;
            Ok(Subscription { receiver: Box::new(Inlet { inner: receiver, broken: self.broken.clone() }), settler })
        })
    }

    fn close(&self) -> BoxFuture<'_, commute::Result<()>> {
        self.inner.close()
    }
}

impl Receiver for Inlet {
    fn receive(&mut self, max: usize) -> BoxFuture<'_, commute::Result<Vec<Delivery>>> {
        Box::pin(async move {
            tokio::select! {
                () = self.broken.notified() => Err(Error::new(Code::Poisoned, "broken by the test")),
                received = self.inner.receive(max) => received,
            }
        })
    }
}
