//! What the tests share: a real HTTP server that keeps what a collector would get, and an app with two subscriptions.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use commute::prelude::*;
use commute::{Message, Running};
use commute_otel::Otel;
use http_body_util::{BodyExt, Empty};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;

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
pub struct Collector(Arc<Mutex<Vec<(String, Bytes)>>>);

impl Collector {
    /// Serves on a free port until the test is over; answers the URL.
    pub async fn serve(&self) -> String {
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

    pub fn bodies(&self, path: &str) -> Vec<Bytes> {
        let kept = self.0.lock().unwrap();
        kept.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    }

    pub fn spans(&self) -> Vec<Span> {
        let requests = self.bodies("/v1/traces");
        let requests = requests.into_iter().map(|body| ExportTraceServiceRequest::decode(body).unwrap());
        let of = requests.flat_map(|request| request.resource_spans).inspect(|of| {
            assert_eq!(text(&of.resource.as_ref().unwrap().attributes, "service.name"), "the-service");
        });
        of.flat_map(|of| of.scope_spans).flat_map(|of| of.spans).collect()
    }
}

pub fn text(attributes: &[KeyValue], key: &str) -> String {
    let found =
        attributes.iter().find(|attribute| attribute.key == key).unwrap_or_else(|| panic!("{key}: {attributes:?}"));
    match found.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    }
}

pub const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Fails at the first attempt.
async fn answer(ping: Ping, meta: Meta) -> Result<Pong, HandlerError> {
    let _inside = tracing::info_span!("inside").entered();
    if meta.attempt == 1 { Err(HandlerError::retry("not yet")) } else { Ok(Pong { n: ping.n }) }
}

async fn end(_: Pong) {}

pub async fn app(otel: &Otel) -> Running {
    let backoff = Backoff::exponential().first(std::time::Duration::from_millis(1));
    let app = App::new("app").broker(commute::connect("memory:").await.unwrap()).traces(otel.traces());
    let app = app.on("pings", handler(answer).publishes("pongs").retry(backoff)).on("pongs", handler(end));
    app.start().await.unwrap()
}

pub async fn ping(app: &Running) {
    let message = Message::of(&Ping { n: 1 }).unwrap().extension("traceparent", PARENT);
    app.publisher().send("pings", [message.extension("tracestate", "vendor=1")]).await.unwrap();
    app.idle().await.unwrap();
}
