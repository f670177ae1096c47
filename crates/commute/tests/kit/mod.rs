//! What the tests of the engine share: two events, a log, and apps that run.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::sync::{Arc, Mutex};

use commute::prelude::*;
use commute::{Running, SharedBroker};

#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "test.ping")]
pub struct Ping {
    pub n: u64,
}

impl Ping {
    pub fn new(n: u64) -> Self {
        Ping { n }
    }
}

#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "test.pong")]
pub struct Pong {
    pub n: u64,
}

/// Says that it is a ping, and is none.
#[derive(Debug, Serialize, Deserialize, Event)]
#[event(type = "test.ping")]
pub struct BadPing {
    pub n: String,
}

/// What happened, in order.
#[derive(Debug, Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn add(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    pub fn so_far(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    pub fn taken(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

pub async fn note(ping: Ping, State(log): State<Log>) {
    log.add(ping.n.to_string());
}

pub async fn silent(_: Ping) {}

pub async fn broker() -> SharedBroker {
    commute::connect("memory:").await.unwrap()
}

pub async fn started(app: App) -> Running {
    app.start().await.unwrap()
}
