//! Spans: the span of an attempt gets the event's parent and the attributes of the messaging conventions.

use commute::{Context, TraceParent, Traces};
use opentelemetry::trace::{SpanContext, TraceContextExt, TraceFlags, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Gives spans to an app; see [`crate::Otel::traces`].
#[derive(Debug, Clone, Copy)]
pub struct Spans;

impl Traces for Spans {
    fn begin(&self, span: &Span, context: &Context, system: &'static str) -> Option<TraceParent> {
        let Context { envelope, route, attempt, .. } = context;
        if let Some(parent) = TraceParent::of(envelope) {
            let state = envelope.extensions.get("tracestate").and_then(|state| state.parse().ok());
            let remote =
                opentelemetry::Context::new().with_remote_span_context(remote(parent, state.unwrap_or_default()));
            // There is no layer when nobody exports; then there is no context below, either.
            let _ = span.set_parent(remote);
        }
        span.record("otel.name", format_args!("process {}", route.topic));
        span.record("otel.kind", "consumer");
        span.set_attribute("messaging.system", system);
        span.set_attribute("messaging.operation.name", "process");
        span.set_attribute("messaging.operation.type", "process");
        span.set_attribute("messaging.destination.name", route.topic.to_string());
        span.set_attribute("messaging.consumer.group.name", route.subscription.to_string());
        span.set_attribute("messaging.message.id", envelope.id.to_string());
        span.set_attribute("messaging.message.body.size", i64::try_from(envelope.data.len()).unwrap_or(i64::MAX));
        span.set_attribute("cloudevents.event_type", envelope.event_type.to_string());
        span.set_attribute("commute.attempt", i64::from(*attempt));
        let own = span.context();
        let own = own.span().span_context().clone();
        own.is_valid().then(|| TraceParent {
            trace: u128::from_be_bytes(own.trace_id().to_bytes()),
            span: u64::from_be_bytes(own.span_id().to_bytes()),
            flags: own.trace_flags().to_u8(),
        })
    }
}

fn remote(parent: TraceParent, state: TraceState) -> SpanContext {
    let TraceParent { trace, span, flags } = parent;
    SpanContext::new(trace.into(), span.into(), TraceFlags::new(flags), true, state)
}
