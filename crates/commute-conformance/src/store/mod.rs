//! The suite of stores: one effect per event, and the outbox.
//!
//! A case submits work, as the engine does, and looks at the committed effects, at the outbox, and at what a reopened
//! store has kept.

mod atomicity;
mod bench;
mod inbox;
mod outbox;

use std::sync::Arc;

pub use bench::Bench;

use crate::fixture::StoreFixture;
use crate::trial::{run_seeded, within};
use crate::{Case, suite_list};

#[doc(hidden)]
#[macro_export]
macro_rules! store_cases {
    ([$($then:tt)+] $($args:tt)*) => { $($then)+! { $($args)*
        inbox {
            an_event_has_one_effect_however_often_it_is_submitted []
            an_event_submitted_twice_at_once_has_one_effect []
            a_mark_survives_a_reopen []
            subscriptions_mark_independently []
            a_duplicate_stages_nothing []
        }
        atomicity {
            a_failed_work_leaves_nothing_and_can_be_run_again []
            a_failed_work_does_not_undo_its_neighbours []
            a_work_whose_events_cannot_be_staged_leaves_nothing []
            effects_are_made_in_the_order_of_submission []
            what_is_done_is_committed_even_if_the_store_is_killed []
            after_a_kill_effect_mark_and_events_are_all_there_or_none []
            every_work_is_answered_once_even_across_a_close []
            closing_twice_is_closing_once []
        }
        outbox {
            staged_events_come_unchanged_in_commit_order []
            at_most_what_was_asked_is_given []
            whoever_waits_is_woken_by_the_next_commit []
            a_next_that_is_dropped_takes_nothing_with_it []
            confirmed_events_are_forgotten []
            unconfirmed_events_survive_a_reopen []
        }
    } };
}

/// Every case.
pub fn cases() -> Vec<Case<Bench>> {
    crate::store_cases! { [suite_list] }
}

/// Runs one case. Panics when the store does not pass it.
pub fn run(case: &str, fixture: impl StoreFixture) {
    let case = cases().into_iter().find(|known| known.name == case).expect("a case of this suite");
    let fixture: Arc<dyn StoreFixture> = Arc::new(fixture);
    run_seeded(case.name, fixture.patience(), move |seed| {
        Box::pin(async move {
            let store = within(case.name, fixture.patience(), "a store", fixture.open()).await;
            (case.run)(Bench::new(case.name, fixture, store, seed)).await;
        })
    });
}
