//! Traces at a collector. One test, because a subscriber of one thread misses spans that another thread's test met first.

mod kit;

use commute_otel::Otel;
use kit::{Collector, app, ping, text};
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use tracing_subscriber::prelude::*;

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
