//! What arrives at a collector: a real HTTP server that decodes what real apps send.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use commute::metrics::{ALL, Kind};
use commute::prelude::*;
use commute::{Message, Running};
use commute_otel::Otel;
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message as _;
use tokio::net::TcpListener;
use tracing_subscriber::prelude::*;

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "test.ping")]
struct Ping {
    n: u64,
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "test.pong")]
struct Pong {
    n: u64,
}

/// A collector that keeps what it receives, by path.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, Bytes)>>>);

impl Collector {
    /// Serves on a free port until the test is over; answers the URL.
    async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let kept = kept.clone();
                let service = service_fn(move |request: Request<hyper::body::Incoming>| {
                    let kept = kept.clone();
                    async move {
                        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
                        let path = request.uri().path().to_owned();
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        kept.0.lock().unwrap().push((path, body));
                        Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
                    }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        format!("http://{address}")
    }

    fn bodies(&self, path: &str) -> Vec<Bytes> {
        let kept = self.0.lock().unwrap();
        kept.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.bodies("/v1/traces");
        let requests = requests.into_iter().map(|body| ExportTraceServiceRequest::decode(body).unwrap());
        let of = requests.flat_map(|request| request.resource_spans).inspect(|of| {
            assert_eq!(text(&of.resource.as_ref().unwrap().attributes, "service.name"), "the-service");
        });
        of.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
    }
}

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found =
        attributes.iter().find(|attribute| attribute.key == key).unwrap_or_else(|| panic!("{key}: {attributes:?}"));
    match found.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    }
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Fails at the first attempt.
async fn answer(ping: Ping, meta: Meta) -> Result<Pong, HandlerError> {
    let _inside = tracing::info_span!("inside").entered();
    if meta.attempt == 1 { Err(HandlerError::retry("not yet")) } else { Ok(Pong { n: ping.n }) }
}

async fn end(_: Pong) {}

async fn app(otel: &Otel) -> Running {
    let backoff = Backoff::exponential().first(std::time::Duration::from_millis(1));
    let app = App::new("app").broker(commute::connect("memory:").await.unwrap()).traces(otel.traces());
    let app = app.on("pings", handler(answer).publishes("pongs").retry(backoff)).on("pongs", handler(end));
    app.start().await.unwrap()
}

async fn ping(app: &Running) {
    let message = Message::of(&Ping { n: 1 }).unwrap().extension("traceparent", PARENT);
    app.publisher().send("pings", [message.extension("tracestate", "vendor=1")]).await.unwrap();
    app.idle().await.unwrap();
}

#[tokio::test]
async fn a_trace_goes_from_event_to_event_through_the_attempt_that_caused_them() {
    let collector = Collector::default();
    let otel = Otel::to(&collector.serve().await, "the-service").unwrap();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(otel.layer()));
    let app = app(&otel).await;
    ping(&app).await;
    app.stop().await.unwrap();
    otel.shutdown().await;
    let spans = collector.spans();
    let named = |name: &str| spans.iter().filter(|span| span.name == name).collect::<Vec<_>>();
    let (pings, pongs, inside) = (named("process pings"), named("process pongs"), named("inside"));
    assert_eq!((pings.len(), pongs.len(), inside.len()), (2, 1, 2), "{spans:#?}");
    for span in pings.iter().chain(&pongs) {
        assert_eq!(span.trace_id, u128::to_be_bytes(0x4bf92f3577b34da6a3ce929d0e0e4736));
        assert_eq!(span.kind(), SpanKind::Consumer);
        assert_eq!(span.trace_state, "vendor=1");
    }
    for (n, span) in pings.iter().enumerate() {
        assert_eq!(span.parent_span_id, u64::to_be_bytes(0x00f067aa0ba902b7));
        assert_eq!(inside[n].parent_span_id, span.span_id);
        let own = |key| text(&span.attributes, key);
        assert_eq!(own("messaging.system"), "embedded");
        assert_eq!(own("messaging.destination.name"), "pings");
        assert_eq!(own("messaging.consumer.group.name"), "app");
        assert_eq!(own("messaging.operation.name"), "process");
        assert_eq!(own("commute.attempt"), (n + 1).to_string());
    }
    assert_ne!(pings[0].span_id, pings[1].span_id);
    assert_eq!(pongs[0].parent_span_id, pings[1].span_id, "the second attempt caused it");
    assert_eq!(pings[0].status.as_ref().unwrap().code(), StatusCode::Error);
    assert_eq!(text(&pings[0].attributes, "error.type"), "CM0027");
    assert_ne!(pings[1].status.clone().unwrap_or_default().code(), StatusCode::Error);
    assert!(!format!("{spans:?}").contains("not yet"), "what a handler says may be secret");
}

#[tokio::test]
async fn a_collector_gets_every_metric_of_the_table_with_exact_values_when_the_app_has_ended() {
    let collector = Collector::default();
    let otel = Otel::to(&collector.serve().await, "the-service").unwrap();
    let app = app(&otel).await;
    otel.watch(app.monitor());
    ping(&app).await;
    app.stop().await.unwrap();
    otel.shutdown().await;
    let last = collector.bodies("/v1/metrics").pop().expect("one at the end");
    let mut request = ExportMetricsServiceRequest::decode(last).unwrap();
    let sent = request.resource_metrics.remove(0);
    assert_eq!(text(&sent.resource.unwrap().attributes, "service.name"), "the-service");
    let sent: BTreeMap<_, _> =
        sent.scope_metrics.into_iter().flat_map(|of| of.metrics).map(|of| (of.name.clone(), of)).collect();
    assert_eq!(sent.len(), ALL.len());
    for metric in ALL {
        let kind = match sent[metric.name].data {
            Some(Data::Sum(ref sum)) if sum.is_monotonic => Kind::Counter,
            Some(Data::Gauge(_)) => Kind::Gauge,
            Some(Data::Histogram(_)) => Kind::Histogram,
            ref other => panic!("{other:?}"),
        };
        assert_eq!((kind, metric.unit), (metric.kind, sent[metric.name].unit.as_str()), "{}", metric.name);
    }
    let Some(Data::Sum(handled)) = &sent["commute.events.handled"].data else { panic!("a sum") };
    let handled: BTreeMap<_, _> = handled
        .data_points
        .iter()
        .map(|point| (text(&point.attributes, "messaging.destination.name"), point.value.clone()))
        .collect();
    assert_eq!(handled["pings"], Some(Number::AsInt(1)));
    assert_eq!(handled["pongs"], Some(Number::AsInt(1)));
    let Some(Data::Histogram(process)) = &sent["messaging.process.duration"].data else { panic!("a histogram") };
    let of_pings = |attributes: &[KeyValue]| text(attributes, "messaging.destination.name") == "pings";
    let process = process.data_points.iter().find(|point| of_pings(&point.attributes)).unwrap();
    assert_eq!((process.count, process.bucket_counts.iter().sum()), (2, 2));
    assert_eq!(process.bucket_counts.len(), process.explicit_bounds.len() + 1);
}

#[tokio::test]
async fn an_app_goes_on_when_there_is_no_collector() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let otel = Otel::to(&format!("http://{nobody}"), "the-service").unwrap();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(otel.layer()));
    let app = app(&otel).await;
    otel.watch(app.monitor());
    ping(&app).await;
    assert_eq!(app.stats().handled(), 2);
    app.stop().await.unwrap();
    otel.shutdown().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_spoken_to_is_refused_with_what_to_do() {
    let error = Otel::to("https://collector:4318", "the-service").unwrap_err();
    assert!(error.detail().contains("http://"), "{error}");
}
