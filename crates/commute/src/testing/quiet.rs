//! Quiescence: everything that can happen now has happened.

use std::sync::atomic::Ordering;
use std::time::Duration;

use commute_core::{Code, Error, Result};

use super::shared::Shared;
use super::time::Time;
use crate::lock::lock;
use crate::running::Running;

/// So often in a row nothing must have been under way: more than a chain of tasks needs that wake each other.
const CALM: u32 = 24;

/// When nothing at all happens for so long of the machine's time, the test waits for something that does not come.
const LONGEST: Duration = Duration::from_secs(30);

/// How long to wait between looks where the time is real.
const POLL: Duration = Duration::from_millis(2);

/// What is under way.
#[derive(Debug, Default, PartialEq, Eq)]
struct Look {
    /// Something goes on without time passing.
    busy: Option<&'static str>,
    /// Only a timer that is due this very moment is missing.
    due: bool,
    /// Handlers that were called and have not answered.
    handlers: usize,
}

/// How driving ended.
pub(super) enum Rest {
    /// Whatever is left waits for time, or for the test.
    Quiet,
    /// The app crashed on purpose.
    Over,
}

/// Drives everything until it is at rest. No time passes, unless a handler waits: then a few milliseconds may.
pub(super) async fn drive(
    shared: &Shared,
    life: &super::shared::Life,
    apps: &[&Running],
    time: &mut Time,
    chance: &mut fastrand::Rng,
) -> Result<Rest> {
    let (mut calm, mut breaths) = (0, 0);
    let mut seen = shared.activity();
    let mut since = std::time::Instant::now();
    loop {
        if life.is_over() {
            return Ok(Rest::Over);
        }
        for app in apps {
            if app.engine.failure.get().is_some() {
                return Err(app.failed().await);
            }
        }
        let look = look(shared, apps).await?;
        let activity = shared.activity();
        if activity != seen {
            (seen, calm, breaths, since) = (activity, 0, 0, std::time::Instant::now());
        } else if since.elapsed() > LONGEST {
            return Err(stuck(&look));
        } else if look.busy.is_none() || look.due {
            calm += 1;
        } else {
            calm = 0;
        }
        if calm >= CALM {
            let gates = lock(&shared.gates).clone();
            let waiting: Vec<_> = gates.iter().filter(|gate| gate.waiting() > 0).collect();
            if let Some(gate) = chance.choice(waiting) {
                gate.open(chance);
                calm = 0;
            } else if time.is_real() {
                if look.handlers == 0 {
                    return Ok(Rest::Quiet);
                }
            } else if look.due || (look.handlers > 0 && breaths < 2) {
                // A handler may wait for something outside of the runtime's sight; a breath ends when tokio, too, finds
                // that nothing else is to be done.
                breaths += 1;
                time.breathe().await;
                calm = CALM / 2;
            } else {
                return Ok(Rest::Quiet);
            }
        }
        if time.is_real() {
            tokio::time::sleep(POLL).await;
        } else {
            tokio::task::yield_now().await;
            // The broker's thread may need this processor.
            std::thread::yield_now();
        }
    }
}

/// Where an event is moves one way: broker, dispatch, settle queue, outbox. Looked at in this order, an event on its way
/// cannot be missed in all of them.
async fn look(shared: &Shared, apps: &[&Running]) -> Result<Look> {
    let mut look = Look::default();
    let mut busy = |what: &'static str, is: bool| {
        if is && look.busy.is_none() {
            look.busy = Some(what);
        }
    };
    let mut due = false;
    for app in apps {
        for subscription in &app.engine.subscriptions {
            let backlog = match subscription.settler.backlog().await {
                Err(error) if error.is_retryable() => u64::MAX,
                Err(error) => return Err(error),
                Ok(None) => return Err(Error::new(Code::NeedNotMet, "this broker cannot say what is stored")),
                Ok(Some(backlog)) => backlog,
            };
            let (delayed, just_due) = shared.delayed(subscription.planned.route.topic.as_str());
            busy("deliveries are stored and not received", backlog > delayed);
            due |= backlog > delayed && just_due;
        }
    }
    let through = lock(&shared.gates).iter().any(|gate| gate.is_open());
    busy("shuffled deliveries are not taken", through);
    let mut handlers = 0;
    for app in apps {
        let engine = &app.engine;
        busy("deliveries are being admitted", engine.in_hand.load(Ordering::Acquire) > 0);
        let dispatch = engine.dispatch();
        busy("events are ready and not begun", dispatch.scheduler.ready() > 0);
        busy("transactions are under way", dispatch.transacting > 0);
        handlers += dispatch.scheduler.running().saturating_sub(dispatch.transacting);
        drop(dispatch);
        busy("outcomes are not settled", !engine.settle.is_empty());
        busy("staged events are not published", app.outbox.as_ref().is_some_and(|outbox| !outbox.is_empty()));
    }
    busy("calls of the broker are under way", shared.calls() > 0);
    // While other things are under way, too, it is not a timer that is missing.
    due &= look.busy == Some("deliveries are stored and not received");
    Ok(Look { due, handlers, ..look })
}

fn stuck(look: &Look) -> Error {
    let what = look.busy.unwrap_or("a handler has not answered");
    Error::new(Code::TimedOut, format!("the test does not come to rest, nothing has happened for {LONGEST:?}: {what}"))
}
