//! A layer from an async function of an invocation and what comes next.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use commute_core::{HandlerError, Outcome};
use tower::{Layer, Service};

use crate::handler::Invocation;

type Run = Pin<Box<dyn Future<Output = Result<Outcome, HandlerError>> + Send>>;

/// Makes a layer from a function.
///
/// ```
/// use commute::middleware::{Next, from_fn};
/// use commute::{HandlerError, Invocation, Outcome};
///
/// async fn only_first_attempts(call: Invocation, next: Next) -> Result<Outcome, HandlerError> {
///     if call.context.attempt > 1 {
///         return Err(HandlerError::reject("one attempt is enough"));
///     }
///     next.run(call).await
/// }
/// let layer = from_fn(only_first_attempts);
/// # let _ = layer;
/// ```
pub fn from_fn<F, R>(function: F) -> FromFnLayer<F>
where
    F: Fn(Invocation, Next) -> R + Clone,
    R: Future<Output = Result<Outcome, HandlerError>>,
{
    FromFnLayer { function }
}

/// See [`from_fn`].
#[derive(Clone)]
pub struct FromFnLayer<F> {
    function: F,
}

impl<F: Clone, S> Layer<S> for FromFnLayer<F> {
    type Service = FromFn<F, S>;

    fn layer(&self, inner: S) -> FromFn<F, S> {
        FromFn { function: self.function.clone(), inner }
    }
}

/// See [`from_fn`].
#[derive(Clone)]
pub struct FromFn<F, S> {
    function: F,
    inner: S,
}

impl<F, R, S> Service<Invocation> for FromFn<F, S>
where
    F: Fn(Invocation, Next) -> R,
    R: Future<Output = Result<Outcome, HandlerError>> + Send + 'static,
    S: Service<Invocation, Response = Outcome, Error = HandlerError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Outcome;
    type Error = HandlerError;
    type Future = Run;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), HandlerError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, invocation: Invocation) -> Run {
        // The clone that was polled ready must be the one that is called.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let next = Next { run: Box::new(move |invocation| Box::pin(inner.call(invocation))) };
        Box::pin((self.function)(invocation, next))
    }
}

/// The rest of the stack, ending in the handler.
pub struct Next {
    run: Box<dyn FnOnce(Invocation) -> Run + Send>,
}

impl Next {
    /// Goes on.
    ///
    /// # Errors
    /// The handler's.
    pub async fn run(self, invocation: Invocation) -> Result<Outcome, HandlerError> {
        (self.run)(invocation).await
    }
}
