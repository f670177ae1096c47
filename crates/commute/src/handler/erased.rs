//! The one box around a handler: decode, call, and let neither a panic nor endless work out.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use commute_core::{
    Code, Context, Envelope, Error, Footprint, Handler, HandlerError, Incoming, IntoOutcome, Outcome, writes,
};
use tower::{Layer, Service};
use tracing::Instrument;

/// A decoded event whose type only its handler knows.
pub(crate) type Decoded = Box<dyn Any + Send>;

/// What an event touches; `None` when it has no key and so cannot say.
pub(crate) type LanesOf = Arc<dyn Fn(&Decoded) -> Option<Footprint> + Send + Sync>;

/// The run of a handler.
pub(crate) type HandlerFuture = Pin<Box<dyn Future<Output = Result<Outcome, HandlerError>> + Send>>;

/// One call of a handler: what layers see.
pub struct Invocation {
    /// The delivery.
    pub context: Context,
    /// Decoded on admission; decoded again when it is a later attempt.
    pub(crate) event: Option<Decoded>,
}

/// A handler whose types are erased.
pub(crate) type Erased = Arc<dyn Run>;

pub(crate) trait Run: Send + Sync {
    fn decode(&self, envelope: &Envelope) -> Result<Decoded, Error>;
    fn call(&self, invocation: Invocation) -> HandlerFuture;
}

pub(crate) fn erase<Args: 'static, H: Handler<Args>>(function: H) -> Erased {
    Arc::new(Function { function, args: std::marker::PhantomData::<fn(Args)> })
}

struct Function<H, Args> {
    function: H,
    args: std::marker::PhantomData<fn(Args)>,
}

impl<Args: 'static, H: Handler<Args>> Run for Function<H, Args> {
    fn decode(&self, envelope: &Envelope) -> Result<Decoded, Error> {
        Ok(Box::new(H::Event::decode(envelope)?))
    }

    fn call(&self, invocation: Invocation) -> HandlerFuture {
        let event = match invocation.event.and_then(|event| event.downcast::<H::Event>().ok()) {
            Some(event) => Ok(*event),
            None => H::Event::decode(&invocation.context.envelope).map_err(HandlerError::from_error),
        };
        match event.and_then(|event| self.function.call(event, &invocation.context)) {
            Ok(run) => Box::pin(async move { run.await.into_outcome() }),
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}

/// Calls a handler; a panic becomes a failure, and so does taking longer than `timeout`.
pub(crate) fn guarded(run: &Erased, invocation: Invocation, timeout: Option<Duration>) -> Handling {
    // The handler's state after a panic is its own business: values are dropped, shared state is behind its own locks.
    let started = catch_unwind(AssertUnwindSafe(|| run.call(invocation)));
    let inner = started.unwrap_or_else(|panic| Box::pin(std::future::ready(Err(panicked(&*panic)))));
    let Some(longest) = timeout else { return Handling { inner } };
    let inner = Box::pin(async move {
        tokio::time::timeout(longest, inner).await.unwrap_or_else(|_| {
            let detail = format!("the handler took longer than {longest:?}");
            Err(HandlerError::from_error(Error::new(Code::TimedOut, detail)))
        })
    });
    Handling { inner }
}

/// A run out of which no panic comes.
pub(crate) struct Handling {
    inner: HandlerFuture,
}

impl Handling {
    /// The same, within a span that says how it ended.
    pub(crate) fn within(self, span: tracing::Span) -> Self {
        let recorded = span.clone();
        let watched = async move {
            let outcome = self.await;
            if let Err(error) = &outcome {
                // The code and not the reason, which is the handler's own words.
                recorded.record("error.type", error.code().number());
                recorded.record("otel.status_code", "ERROR");
            }
            outcome
        };
        Handling { inner: Box::pin(watched.instrument(span)) }
    }
}

impl Future for Handling {
    type Output = Result<Outcome, HandlerError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        catch_unwind(AssertUnwindSafe(|| self.inner.as_mut().poll(cx)))
            .unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))))
    }
}

fn panicked(panic: &(dyn Any + Send)) -> HandlerError {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    HandlerError::from_error(Error::new(Code::Panicked, format!("the handler panicked: {text}")))
}

/// The innermost service of a stack of layers: the handler itself.
#[derive(Clone)]
pub struct HandlerService {
    run: Erased,
}

impl Service<Invocation> for HandlerService {
    type Response = Outcome;
    type Error = HandlerError;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _cx: &mut TaskContext<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, invocation: Invocation) -> HandlerFuture {
        self.run.call(invocation)
    }
}

pub(crate) fn layered<L>(run: Erased, layer: &L) -> Erased
where
    L: Layer<HandlerService>,
    L::Service: Service<Invocation, Response = Outcome, Error = HandlerError> + Clone + Send + Sync + 'static,
    <L::Service as Service<Invocation>>::Future: Send + 'static,
{
    Arc::new(Layered { service: layer.layer(HandlerService { run: run.clone() }), inner: run })
}

struct Layered<S> {
    service: S,
    inner: Erased,
}

impl<S> Run for Layered<S>
where
    S: Service<Invocation, Response = Outcome, Error = HandlerError> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    fn decode(&self, envelope: &Envelope) -> Result<Decoded, Error> {
        self.inner.decode(envelope)
    }

    fn call(&self, invocation: Invocation) -> HandlerFuture {
        let mut service = self.service.clone();
        Box::pin(async move {
            std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
            service.call(invocation).await
        })
    }
}

pub(crate) fn lanes_by<E: Incoming>(footprint: impl Fn(&E) -> Option<Footprint> + Send + Sync + 'static) -> LanesOf {
    Arc::new(move |event: &Decoded| event.downcast_ref::<E>().and_then(&footprint))
}

/// The same footprint for every event, whatever its type.
pub(crate) fn always(footprint: Option<Footprint>) -> LanesOf {
    Arc::new(move |_: &Decoded| footprint.clone())
}

/// The event's key is its only lane, shared with every handler of the app that names the same resource by `("key", …)`.
pub(crate) fn lanes_by_key<E: Incoming>() -> LanesOf {
    lanes_by(|event: &E| event.key().map(|key| writes(("key", key.as_str())).into()))
}
