//! Pausing: a subscription of which nothing begins, or a lane on which nothing begins.
//!
//! What a paused subscription has not begun goes back to the broker, so that events of other subscriptions do not wait for
//! it; it comes again, in its order, when the subscription goes on. A paused key holds its lane for all subscriptions of the
//! app, because they share it: what touches it stays where it is, within the look-ahead of its subscription.

use std::sync::atomic::Ordering;

use commute_core::{Lane, SubscriptionName, key};

use crate::engine::{Dispatch, Engine, Job, KeyHold, Sub};

impl Sub {
    pub(crate) fn named(&self) -> SubscriptionName {
        let route = &self.planned.route;
        SubscriptionName { topic: route.topic.clone(), group: route.subscription.to_string() }
    }
}

/// The lanes that people call by a name: those of keys that read so, and the subscriptions' own.
pub(crate) fn lanes_called(engine: &Engine, name: &str) -> Vec<Lane> {
    let mut lanes = key::named(name);
    let own = engine.subscriptions.iter().filter(|sub| sub.named().to_string() == name);
    lanes.extend(own.map(|sub| sub.whole.lane));
    lanes
}

/// Answers whether it was not paused before.
pub(crate) fn pause(engine: &Engine, n: usize, key: Option<&str>) -> bool {
    let mut dispatch = engine.dispatch();
    let paused = match key {
        None => dispatch.shut(n, engine),
        Some(key) => dispatch.hold_key(n, key, engine),
    };
    drop(dispatch);
    after(engine, n, paused, key, "paused");
    paused
}

/// Answers whether it was paused.
pub(crate) fn resume(engine: &Engine, n: usize, key: Option<&str>) -> bool {
    let mut dispatch = engine.dispatch();
    let paused = match key {
        None => engine.subscriptions[n].gate.turn(false),
        Some(key) => dispatch.let_key_go(n, key),
    };
    engine.pauses.fetch_sub(paused.into(), Ordering::Relaxed);
    drop(dispatch);
    after(engine, n, paused, key, "resumed");
    paused
}

fn after(engine: &Engine, n: usize, changed: bool, key: Option<&str>, what: &'static str) {
    if changed {
        let subscription = engine.subscriptions[n].named();
        tracing::warn!(app = %engine.name, %subscription, key, "{what} by an operator");
        engine.work.notify_one();
        engine.room.notify_waiters();
    }
}

impl Dispatch {
    fn shut(&mut self, n: usize, engine: &Engine) -> bool {
        let paused = engine.subscriptions[n].gate.turn(true);
        if paused {
            engine.pauses.fetch_add(1, Ordering::Relaxed);
            self.withdraw(n, None, engine);
        }
        paused
    }

    fn hold_key(&mut self, n: usize, key: &str, engine: &Engine) -> bool {
        if self.holds.iter().any(|hold| hold.subscription == n && hold.key == key) {
            return false;
        }
        engine.pauses.fetch_add(1, Ordering::Relaxed);
        let lanes = lanes_called(engine, key).into_iter().map(|lane| (lane, self.scheduler.hold(lane))).collect();
        self.holds.push(KeyHold { subscription: n, key: key.to_owned(), lanes });
        true
    }

    fn let_key_go(&mut self, n: usize, key: &str) -> bool {
        let Some(at) = self.holds.iter().position(|hold| hold.subscription == n && hold.key == key) else {
            return false;
        };
        for (_, ticket) in self.holds.swap_remove(at).lanes {
            self.scheduler.let_go(ticket);
        }
        true
    }

    /// How often an operator holds a lane.
    pub(crate) fn holds_on(&self, lane: Lane) -> usize {
        self.holds.iter().flat_map(|hold| &hold.lanes).filter(|(held, _)| *held == lane).count()
    }

    /// Takes a claimed job back that may not begin any more; answers it when it may.
    pub(crate) fn stop_short(&mut self, job: Job, engine: &Engine) -> Option<Job> {
        let held = |lane| self.holds_on(lane) > 0;
        let event = self.admitted[job.ticket.index()].as_ref()?;
        if !engine.subscriptions[job.subscription].gate.is_shut() && !event.footprint.lanes().any(held) {
            return Some(job);
        }
        self.give_back(job, engine);
        None
    }
}
