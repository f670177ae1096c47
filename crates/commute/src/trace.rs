//! W3C trace context, carried from the event that caused something to the events that it causes.
//!
//! Source: W3C Trace Context, level 1: `00-{trace id}-{parent id}-{flags}`.

use std::fmt;

use commute_core::{Context, Envelope, extension};
use tracing::field::Empty;

/// A position in a trace, as the attribute `traceparent` says it; `Display` writes the attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not zero.
    pub trace: u128,
    /// The span within it; not zero.
    pub span: u64,
    /// Bit 0: whoever began the trace records it.
    pub flags: u8,
}

/// Gives the spans of handlings their ids: an exporter of traces. Without one, events carry on ids that are derived from
/// their causes.
pub trait Traces: Send + Sync + 'static {
    /// An attempt begins; `span` is its span and was not entered yet, `system` the broker's driver. Answers what the events that it causes carry on.
    ///
    /// Called by workers for every attempt, so it must be short and not block.
    fn begin(&self, span: &tracing::Span, context: &Context, system: &'static str) -> Option<TraceParent>;
}

impl TraceParent {
    /// Reads the attribute; `None` when it is missing or not of version 00.
    pub fn of(envelope: &Envelope) -> Option<Self> {
        let mut parts = envelope.extensions.get(extension::TRACE_PARENT)?.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || trace.len() != 32 || span.len() != 16 || flags.len() != 2 {
            return None;
        }
        let parent = TraceParent {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (parent.trace != 0 && parent.span != 0).then_some(parent)
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// The context of whatever handles `cause`: its trace, or a new one named after the event, so that handling it again
/// after a crash names the same trace; and a span named after the event.
pub(crate) fn child_of(cause: &Envelope) -> TraceParent {
    let id = cause.id.fingerprint();
    let bytes: [u8; 8] = std::array::from_fn(|n| id[8 + n] ^ id[n].rotate_left(3));
    let span = u64::from_be_bytes(bytes).max(1);
    match TraceParent::of(cause) {
        Some(parent) => TraceParent { span, ..parent },
        None => TraceParent { trace: u128::from_be_bytes(id).max(1), span, flags: 0 },
    }
}

/// The span of one attempt: whatever a handler logs says to which event it belongs. Almost free when nobody listens.
pub(crate) fn handling(app: &str, context: &Context) -> tracing::Span {
    let Context { envelope, route, attempt, .. } = context;
    tracing::info_span!(
        "handle",
        %app,
        subscription = %route.subscription,
        topic = %route.topic,
        event = %envelope.id,
        event_type = %envelope.event_type,
        attempt,
        // What the log lines of one business transaction have in common.
        correlation = envelope.extensions.get(extension::CORRELATION_ID).unwrap_or(envelope.id.as_str()),
        traceparent = Empty,
        error.type = Empty,
        // For whoever exports it; see `Traces`.
        otel.name = Empty,
        otel.kind = Empty,
        otel.status_code = Empty,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use commute_core::Timestamp;

    fn envelope(parent: Option<&str>) -> Envelope {
        let mut envelope = Envelope::new("s", "t", Timestamp(0), Default::default());
        if let Some(parent) = parent {
            envelope.extensions.set(extension::TRACE_PARENT, parent).unwrap();
        }
        envelope
    }

    #[test]
    fn a_trace_goes_on_with_a_new_span() {
        let cause = envelope(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        let child = child_of(&cause);
        assert_eq!(child.to_string()[..36], *"00-4bf92f3577b34da6a3ce929d0e0e4736-");
        assert_ne!(child.span, 0x00f0_67aa_0ba9_02b7);
        assert_eq!(child.flags, 1);
        assert_eq!(child, child_of(&cause), "handling again names the same span");
    }

    #[test]
    fn a_malformed_trace_is_replaced_by_a_new_one() {
        for parent in ["", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "zz"] {
            assert_eq!(TraceParent::of(&envelope(Some(parent))), None);
            assert_ne!(child_of(&envelope(Some(parent))).trace, 0);
        }
    }
}
