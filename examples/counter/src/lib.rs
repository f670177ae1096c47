//! An independent counter: additions to one page commute, so they run side by side; a reset does not, so it has its place.
//!
//! ```text
//! views of /a   + + + +  reset  + +        time ─►
//! views of /b   + + + + + + + + + +        never waits for /a
//! ```
//!
//! A key of its own would be right, too, and slower: one view of a page at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commute::prelude::*;

/// Somebody has looked at a page.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "example.page.viewed", key = "page")]
pub struct Viewed {
    /// Which.
    pub page: String,
}

/// A page begins to count anew.
#[derive(Debug, Clone, Serialize, Deserialize, Event)]
#[event(type = "example.page.reset", key = "page")]
pub struct Reset {
    /// Which.
    pub page: String,
}

/// Views per page.
#[derive(Debug, Clone, Default)]
pub struct Views(Arc<Mutex<HashMap<String, u64>>>);

impl Views {
    /// Those of one page.
    pub fn of(&self, page: &str) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(page).copied().unwrap_or_default()
    }

    fn change(&self, page: String, change: impl FnOnce(&mut u64)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(page).or_default());
    }
}

/// How long it takes to count one view.
pub const TAKES: Duration = Duration::from_millis(100);

/// Adds one. It takes its time, as a real one would; a hundred of one page take no longer than one.
async fn count(event: Viewed, State(views): State<Views>) {
    tokio::time::sleep(TAKES).await;
    views.change(event.page, |views| *views += 1);
}

/// Begins anew: after every view that came before, and before every one that came behind.
async fn reset(event: Reset, State(views): State<Views>) {
    views.change(event.page, |views| *views = 0);
}

/// The service.
pub fn app(views: Views) -> App {
    App::new("counter")
        .state(views)
        .workers(100)
        .on("pages", handler(count).footprint(|event: &Viewed| commutes("add", ("page", &event.page)).into()))
        .on("pages", handler(reset).footprint(|event: &Reset| writes(("page", &event.page)).into()))
}
