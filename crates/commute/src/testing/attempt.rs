//! Attempts: two layers around every handler of an app in a test, one that writes down and one that makes trouble.
//!
//! The outer one sees what the engine sees: how an attempt ends. The inner one makes it fail, or happen twice.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use commute_core::{BoxFuture, Code, Committed, Context, Done, HandlerError, Outcome, Transact, Unit, UnitError};
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tower::{Layer, Service, ServiceExt};

use super::journal::{How, Place, What};
use super::rule::Strike;
use super::shared::{Life, Shared};
use crate::handler::Invocation;

type Answer = Result<Outcome, HandlerError>;

/// A layer of either kind.
#[derive(Clone)]
pub(super) struct Around {
    pub(super) shared: Arc<Shared>,
    pub(super) life: Life,
    pub(super) part: Part,
}

/// Which of the two.
#[derive(Clone, Copy)]
pub(super) enum Part {
    /// Outside of everything else: writes down.
    Observe,
    /// Inside the app's own layers: makes trouble.
    Trouble,
}

impl<S> Layer<S> for Around {
    type Service = Surrounded<S>;

    fn layer(&self, inner: S) -> Surrounded<S> {
        Surrounded { around: self.clone(), inner }
    }
}

#[derive(Clone)]
pub(super) struct Surrounded<S> {
    around: Around,
    inner: S,
}

impl<S> Service<Invocation> for Surrounded<S>
where
    S: Service<Invocation, Response = Outcome, Error = HandlerError> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = Outcome;
    type Error = HandlerError;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), HandlerError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, call: Invocation) -> Self::Future {
        let (around, inner) = (self.around.clone(), self.inner.clone());
        match around.part {
            Part::Observe => Box::pin(observe(around, inner, call)),
            Part::Trouble => Box::pin(trouble(around, inner, call)),
        }
    }
}

/// An attempt that is under way. When nobody says how it ended, it was dropped.
struct Attempt {
    shared: Arc<Shared>,
    life: Life,
    context: Context,
    began: usize,
    open: bool,
}

fn place(context: &Context) -> Place {
    Place { topic: context.route.topic.as_str().into(), subscription: context.route.subscription.clone() }
}

impl Attempt {
    fn begin(around: &Around, context: &Context) -> Self {
        let began = What::Began { place: place(context), attempt: context.attempt };
        let began = around.shared.record(Some(&context.envelope.id), began);
        let (shared, life) = (around.shared.clone(), around.life.clone());
        Attempt { shared, life, context: context.clone(), began, open: true }
    }

    fn ended(&mut self, how: How) {
        if std::mem::replace(&mut self.open, false) {
            let Context { attempt, envelope, .. } = &self.context;
            let what = What::Ended { place: place(&self.context), attempt: *attempt, began: self.began, how };
            self.shared.record(Some(&envelope.id), what);
        }
    }

    fn committed(&mut self, result: &Result<Committed, UnitError>) {
        self.ended(match result {
            Ok(Committed::Fresh) => How::Handled,
            Ok(Committed::Duplicate) => How::Known,
            Err(UnitError::Failed(error)) => failed(error),
            Err(UnitError::Lost(error)) => How::Lost(error.to_string()),
        });
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let timed_out =
            || How::Failed { code: Code::TimedOut, reason: "the handler did not answer in time".to_owned() };
        let how = if self.life.is_over() { How::Cut } else { timed_out() };
        self.ended(how);
    }
}

fn failed(error: &HandlerError) -> How {
    How::Failed { code: error.code(), reason: error.reason() }
}

fn panicked(panic: &(dyn Any + Send)) -> How {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    How::Failed { code: Code::Panicked, reason: format!("the handler panicked: {text}") }
}

async fn observe<S>(around: Around, inner: S, call: Invocation) -> Answer
where
    S: Service<Invocation, Response = Outcome, Error = HandlerError> + Send + 'static,
    S::Future: Send + 'static,
{
    let mut attempt = Attempt::begin(&around, &call.context);
    let answer = tokio::select! {
        // First, because nothing begins in a life that is over.
        biased;
        () = around.life.over() => return Err(HandlerError::retry(Life::error())),
        answer = AssertUnwindSafe(inner.oneshot(call)).catch_unwind() => answer,
    };
    match answer {
        Ok(Ok(Outcome::Emit(events))) => {
            attempt.ended(How::Handled);
            Ok(Outcome::Emit(events))
        }
        Ok(Ok(Outcome::Transact(work))) => Ok(Outcome::Transact(Box::new(Watched { work, attempt }))),
        Ok(Err(error)) => {
            attempt.ended(failed(&error));
            Err(error)
        }
        Err(panic) => {
            attempt.ended(panicked(&*panic));
            std::panic::resume_unwind(panic)
        }
    }
}

/// Work for a store that is written down when its fate is known.
struct Watched {
    work: Box<dyn Transact>,
    attempt: Attempt,
}

impl Transact for Watched {
    fn submit(self: Box<Self>, unit: Unit, done: Done) {
        let Watched { work, mut attempt } = *self;
        work.submit(
            unit,
            Box::new(move |result| {
                attempt.committed(&result);
                done(result);
            }),
        );
    }
}

async fn trouble<S>(around: Around, inner: S, call: Invocation) -> Answer
where
    S: Service<Invocation, Response = Outcome, Error = HandlerError> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let context = call.context.clone();
    let mut crash_after = false;
    match around.shared.strike(&context) {
        None => {}
        Some(Strike::Retry(reason)) => return Err(HandlerError::retry(&*reason)),
        Some(Strike::Reject(reason)) => return Err(HandlerError::reject(&*reason)),
        // Without the panic hook, whose message and backtrace would be noise.
        Some(Strike::Panic(message)) => std::panic::resume_unwind(Box::new(message.to_string())),
        Some(Strike::Slow) => std::future::pending().await,
        Some(Strike::Crash) => {
            around.life.crash(&around.shared);
            std::future::pending().await
        }
        Some(Strike::CrashAfter) => crash_after = true,
    }
    let twice = !crash_after && around.shared.chance.duplicates(&context.route.subscription, &context.envelope.id);
    let first = inner.clone().oneshot(call).await?;
    match first {
        Outcome::Emit(_) if crash_after => {
            around.effect(&context, How::Handled);
            around.life.crash(&around.shared);
            std::future::pending().await
        }
        Outcome::Emit(_) if twice => {
            around.effect(&context, How::Handled);
            around.again(&context);
            inner.oneshot(Invocation { context, event: None }).await
        }
        Outcome::Transact(work) if crash_after || twice => {
            let runtime = Handle::current();
            Ok(Outcome::Transact(Box::new(Struck { around, inner, context, work, twice, runtime })))
        }
        other => Ok(other),
    }
}

impl Around {
    /// An effect that the outer layer will not hear of.
    fn effect(&self, context: &Context, how: How) {
        // The outer layer has written down the beginning.
        let began = self.shared.journal().len();
        let (shared, life) = (self.shared.clone(), self.life.clone());
        Attempt { shared, life, context: context.clone(), began, open: true }.ended(how);
    }

    fn again(&self, context: &Context) {
        self.shared.record(Some(&context.envelope.id), What::Again { place: place(context) });
    }
}

/// Work for a store after which the app crashes, or the event comes again.
struct Struck<S> {
    around: Around,
    inner: S,
    context: Context,
    work: Box<dyn Transact>,
    twice: bool,
    runtime: Handle,
}

impl<S> Transact for Struck<S>
where
    S: Service<Invocation, Response = Outcome, Error = HandlerError> + Send + 'static,
    S::Future: Send + 'static,
{
    fn submit(self: Box<Self>, unit: Unit, done: Done) {
        let Struck { around, inner, context, work, twice, runtime } = *self;
        // A second unit stages nothing: the store is to find out that it must not run.
        let (subscription, event) = (unit.subscription.clone(), unit.event.clone());
        let second = Unit { subscription, event, stage: Box::new(|_| Ok(Vec::new())) };
        let committed = move |result: Result<Committed, UnitError>| match result {
            Ok(committed) if twice => {
                around.effect(&context, if committed == Committed::Fresh { How::Handled } else { How::Known });
                around.again(&context);
                runtime.spawn(async move {
                    match inner.oneshot(Invocation { context, event: None }).await {
                        Ok(Outcome::Transact(work)) => work.submit(second, done),
                        Ok(Outcome::Emit(_)) => done(Ok(Committed::Fresh)),
                        Err(error) => done(Err(UnitError::Failed(error))),
                    }
                });
            }
            Ok(committed) => {
                around.effect(&context, if committed == Committed::Fresh { How::Handled } else { How::Known });
                // Nobody hears of it any more.
                around.life.crash(&around.shared);
            }
            failed => done(failed),
        };
        work.submit(unit, Box::new(committed));
    }
}
