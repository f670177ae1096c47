//! Handlers: functions of an event and extractors.

use std::future::Future;

use crate::context::{Context, FromContext, Needs};
use crate::event::Incoming;
use crate::handler_error::HandlerError;
use crate::outcome::IntoOutcome;

/// A function that handles an event: the event first, up to six extractors after it, an [`IntoOutcome`] as answer.
///
/// Implemented for async functions and closures. `Args` is there for the compiler alone.
#[diagnostic::on_unimplemented(
    message = "this function is not a handler",
    label = "not an async function of an event and extractors",
    note = "a handler is `async fn(event, extractors…) -> answer` with at most six extractors; check that it is async, that the event comes first, that there is only one event, and that the answer is an event, `()` or a `Result` of these"
)]
pub trait Handler<Args>: Send + Sync + 'static {
    /// What it takes.
    type Event: Incoming;
    /// What it answers.
    type Output: IntoOutcome;
    /// Its run.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Collects what its extractors need of the app.
    fn needs(needs: &mut Needs);

    /// Begins to handle an event.
    ///
    /// # Errors
    /// When an extractor failed.
    fn call(&self, event: Self::Event, context: &Context) -> Result<Self::Future, HandlerError>;
}

macro_rules! function_handlers {
    ($(($($extractor:ident),*)),* $(,)?) => {$(
        #[diagnostic::do_not_recommend]
        impl<F, Run, Ev, $($extractor),*> Handler<(Ev, $($extractor,)*)> for F
        where
            F: Fn(Ev, $($extractor),*) -> Run + Send + Sync + 'static,
            Run: Future + Send + 'static,
            Run::Output: IntoOutcome,
            Ev: Incoming,
            $($extractor: FromContext + 'static,)*
        {
            type Event = Ev;
            type Output = Run::Output;
            type Future = Run;

            fn needs(_needs: &mut Needs) {
                $($extractor::needs(_needs);)*
            }

            fn call(&self, event: Ev, _context: &Context) -> Result<Run, HandlerError> {
                Ok(self(event, $($extractor::from_context(_context).map_err(HandlerError::from_error)?),*))
            }
        }
    )*};
}
function_handlers!((), (A), (A, B), (A, B, C), (A, B, C, D), (A, B, C, D, E), (A, B, C, D, E, G),);
