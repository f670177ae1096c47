//! commute-otel: metrics and spans of commute apps, sent to an OpenTelemetry collector (OTLP over HTTP, protobuf).
//!
//! ```no_run
//! use commute::prelude::*;
//! use commute_otel::Otel;
//! use tracing_subscriber::prelude::*;
//!
//! # #[derive(Debug, Serialize, Deserialize, Event)]
//! # #[event(type = "ping")]
//! # struct Ping {}
//! # async fn pong(_: Ping) {}
//! # #[tokio::main]
//! # async fn main() -> commute::Result<()> {
//! let otel = Otel::to("http://127.0.0.1:4318", "shop")?;
//! tracing_subscriber::registry().with(otel.layer()).init();
//! let app = App::new("shop")
//!     .broker(commute::connect("embedded:data").await?)
//!     .traces(otel.traces())
//!     .on("pings", handler(pong))
//!     .start()
//!     .await?;
//! otel.watch(app.monitor());
//! // …
//! app.stop().await?;
//! otel.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! A span for every attempt has the event's `traceparent` as its parent, and what the handler answers carries on from that
//! span; spans that handlers make with `tracing` are its children. Metrics are those of [`commute::metrics`].
//!
//! Only plain HTTP is spoken: a collector beside the service, on loopback or in the pod, encrypts what leaves the machine.

mod export;
mod metrics;
mod spans;

use std::sync::Arc;
use std::time::Duration;

use commute::{Code, Error, Monitor, Result};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing_opentelemetry::OpenTelemetryLayer;

use crate::export::Client;
pub use crate::spans::Spans;

/// The instrumentation scope of everything that is sent.
const SCOPE: &str = "commute";

/// How often metrics are sent unless something else is said.
const PERIOD: Duration = Duration::from_secs(15);

/// An exporter to one collector.
#[derive(Debug)]
pub struct Otel {
    client: Client,
    metrics: Arc<str>,
    service: Arc<str>,
    period: Duration,
    spans: SdkTracerProvider,
    watching: std::sync::Mutex<tokio::task::JoinSet<()>>,
}

impl Otel {
    /// An exporter to the collector at `endpoint`, such as `http://127.0.0.1:4318`, in the name of `service`. Nothing is sent
    /// yet, and a collector that is away stops nobody: what cannot be sent is dropped and said in the log.
    ///
    /// Which spans are recorded is what the environment variable `OTEL_TRACES_SAMPLER` says: those whose parent is, and all
    /// that begin a trace, unless it says something else.
    ///
    /// # Errors
    /// `InvalidOption` when the endpoint is no `http:` URL, or outside of a tokio runtime.
    pub fn to(endpoint: &str, service: &str) -> Result<Self> {
        let wrong = |why: String| Error::new(Code::InvalidOption, format!("OTLP endpoint: {why}"));
        let endpoint = endpoint.trim_end_matches('/');
        if !endpoint.starts_with("http://") {
            return Err(wrong("say an http:// URL; a collector beside the service speaks https for it".to_owned()));
        }
        let client = Client::new().map_err(|error| wrong(error.to_string()))?;
        let spans = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client.clone())
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let resource = Resource::builder_empty().with_service_name(service.to_owned()).build();
        let spans = SdkTracerProvider::builder().with_batch_exporter(spans).with_resource(resource).build();
        let (metrics, service) = (format!("{endpoint}/v1/metrics").into(), service.into());
        Ok(Otel { client, metrics, service, period: PERIOD, spans, watching: std::sync::Mutex::default() })
    }

    /// How often metrics are sent; every 15 s unless said.
    pub fn every(mut self, period: Duration) -> Self {
        self.period = period;
        self
    }

    /// The layer that turns spans of `tracing` into spans of OpenTelemetry, for a subscriber of `tracing_subscriber`.
    pub fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    {
        tracing_opentelemetry::layer().with_tracer(self.spans.tracer(SCOPE))
    }

    /// What an app's [`commute::App::traces`] takes. Without the [layer](Otel::layer) it does nothing.
    pub fn traces(&self) -> Spans {
        Spans
    }

    /// Sends the metrics of an app from now on, and for the last time when it has ended. Lets go of it then.
    pub fn watch(&self, app: Monitor) {
        let (client, url, service, period) =
            (self.client.clone(), self.metrics.clone(), self.service.clone(), self.period);
        let mut watching = self.watching.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        watching.spawn_on(
            async move {
                let begun = metrics::now();
                loop {
                    let ended = tokio::select! {
                        () = app.ended() => true,
                        () = tokio::time::sleep(period) => false,
                    };
                    let request = metrics::request(&app.stats(), &service, begun, metrics::now());
                    if let Err(error) = client.post(&url, request).await {
                        tracing::warn!(%error, "metrics cannot be sent");
                    }
                    if ended {
                        return;
                    }
                }
            },
            self.client.runtime(),
        );
    }

    /// Sends what is left, and ends. Apps that are watched should have been stopped before; those that were not are no longer
    /// watched. Takes as long as the collector's time-out at most.
    pub async fn shutdown(self) {
        let spans = self.spans.clone();
        // It waits for its own thread, which sends on this runtime.
        let flushed = tokio::task::spawn_blocking(move || spans.shutdown()).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "spans cannot be sent");
        }
        let mut watching =
            std::mem::take(&mut *self.watching.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let _ = tokio::time::timeout(export::TIMEOUT, async { while watching.join_next().await.is_some() {} }).await;
    }
}
