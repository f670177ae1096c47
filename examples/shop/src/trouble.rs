//! Trouble on purpose: failing attempts and slow handlers, as a layer around every handler of the shop.

use std::time::Duration;

use commute::middleware::{FromFnLayer, Next, from_fn};
use commute::{HandlerError, Invocation, Outcome};
use futures_util::future::BoxFuture;

/// What is made difficult.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trouble {
    /// The part of attempts that fail, from 0 to 1.
    pub fail_rate: f64,
    /// Which ones.
    pub seed: u64,
    /// Simulated work of every handler.
    pub work: Duration,
}

/// No event fails more often than this, so that no order is lost to it.
const MAX_FAILURES: u32 = 3;

impl Trouble {
    /// Whether an attempt fails. The same seed gives the same failures, however the events are scheduled.
    fn strikes(&self, service: &str, event: &str, attempt: u32) -> bool {
        if attempt > MAX_FAILURES || self.fail_rate <= 0.0 {
            return false;
        }
        let mut seed = self.seed ^ u64::from(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for byte in service.bytes().chain([0]).chain(event.bytes()) {
            seed = (seed ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        fastrand::Rng::with_seed(seed).f64() < self.fail_rate
    }
}

type Around = fn(Setup, Invocation, Next) -> BoxFuture<'static, Result<Outcome, HandlerError>>;
type Setup = (&'static str, Trouble);

/// The layer of a service.
pub fn trouble(
    service: &'static str,
    trouble: Trouble,
) -> FromFnLayer<impl Fn(Invocation, Next) -> BoxFuture<'static, Result<Outcome, HandlerError>> + Clone + Send + Sync> {
    let around: Around = |(service, trouble), call, next| {
        Box::pin(async move {
            if !trouble.work.is_zero() {
                tokio::time::sleep(trouble.work).await;
            }
            if trouble.strikes(service, call.context.envelope.id.as_str(), call.context.attempt) {
                return Err(HandlerError::retry("a failure on purpose"));
            }
            next.run(call).await
        })
    };
    from_fn(move |call, next| around((service, trouble), call, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn about_as_many_attempts_fail_as_asked_and_never_a_fourth() {
        let trouble = Trouble { fail_rate: 0.2, seed: 7, ..Trouble::default() };
        let failures = (0..10_000).filter(|n| trouble.strikes("users", &n.to_string(), 1)).count();
        assert!((1_800..2_200).contains(&failures), "{failures}");
        assert!((0..10_000).all(|n| !trouble.strikes("users", &n.to_string(), 4)));
        let always = Trouble { fail_rate: 1.0, ..trouble };
        assert!(always.strikes("users", "a", 3) && !always.strikes("users", "a", 4));
    }
}
