//! Starting a test: which apps, on what, and what is left to chance.

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use commute_core::{Code, Error, Result};

use super::production::{Make, Production};
use super::shared::Chance;
use super::test_app::TestApp;
use super::time::{TestClock, Time};
use crate::drivers::TestBackend;

/// Repeats the chance of an earlier run.
const SEED: &str = "COMMUTE_TEST_SEED";

impl TestApp {
    /// An app, or a function that makes one, in memory. Await it, or say more first: see [`Start`].
    pub fn start<Kind>(app: impl Production<Kind>) -> Start {
        Start::new(app.into_make())
    }
}

/// A test that is about to start: await it. See [`TestApp::start`].
#[must_use = "a test starts when this is awaited"]
pub struct Start {
    apps: Vec<Make>,
    url: String,
    chance: Chance,
}

impl Start {
    pub(super) fn new(app: Make) -> Self {
        let chance = Chance { seed: u64::from(fastrand::Rng::new().u32(..)), duplicates: 0.0, shuffled: false };
        Start { apps: vec![app], url: "memory:".to_owned(), chance }
    }

    /// Another app on the same broker, as in production.
    pub fn and<Kind>(mut self, app: impl Production<Kind>) -> Self {
        self.apps.push(app.into_make());
        self
    }

    /// The broker, by its URL; `memory:` when not said. On `memory:` and `embedded:` the time stands still until the
    /// test lets it pass; on a server it is real, and topics and groups have a name of their own for this test.
    pub fn on(mut self, url: impl Into<String>) -> Self {
        self.url = url.into();
        self
    }

    /// This part (0 to 1) of handled events is delivered to its handler once more, before anything that conflicts with
    /// it: as after a crash between the effect and its acknowledgement.
    pub fn duplicates(mut self, part: f64) -> Self {
        self.chance.duplicates = part.clamp(0.0, 1.0);
        self
    }

    /// Events with different partition keys, of different topics, and without a key arrive in any order; those with one key keep
    /// theirs.
    pub fn shuffled(mut self) -> Self {
        self.chance.shuffled = true;
        self
    }

    /// Decides everything that is left to chance: duplicates, order, and the jitter of back-offs. Another one in every
    /// run when not said; a failed assertion prints it. The environment variable `COMMUTE_TEST_SEED` overrides it.
    pub fn seed(mut self, seed: u64) -> Self {
        self.chance.seed = seed;
        self
    }

    async fn start(self) -> Result<TestApp> {
        let Start { apps, url, mut chance } = self;
        if let Ok(seed) = std::env::var(SEED) {
            let invalid = |_| Error::new(Code::InvalidOption, format!("{SEED} is a number, not {seed:?}"));
            chance.seed = seed.parse().map_err(invalid)?;
        }
        let backend = TestBackend::new(&url)?;
        let time = if backend.is_in_process() { Time::paused()? } else { Time::real() };
        // The jitter of back-offs comes from this thread's generator.
        fastrand::seed(chance.seed);
        TestApp::open(apps, backend, time, TestClock::new(), chance).await
    }
}

impl IntoFuture for Start {
    type Output = Result<TestApp>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<TestApp>>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.start())
    }
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Start({} apps)", self.apps.len())
    }
}
