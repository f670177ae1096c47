//! The suite can fail: for every way in which the model can be made wrong, the case that was written for it notices.
//!
//! The same cases pass on the sound model, so it is the fault that they notice.

use std::panic::{AssertUnwindSafe, catch_unwind};

use commute_conformance::{broker, store};

use crate::model_broker::{Model, Mutant};
use crate::model_store::{ModelStore, Slip};

/// The message of the panic with which a case fails.
fn failure(run: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).or_else(|| Some(String::new()))
}

/// How often a case may look at a fault before it must have noticed it.
const TRIES: usize = 25;

macro_rules! mutants {
    ($run:path, $model:ident, $fault:ident: $($test:ident $mutant:ident by $case:literal;)*) => {$(
        #[test]
        fn $test() {
            // Some faults show only when two receivers meet, which is up to chance.
            let failed = (0..TRIES).find_map(|_| failure(|| $run($case, $model::new($fault::$mutant))));
            assert!(failed.is_some(), "{} does not notice a model that is {:?}", $case, $fault::$mutant);
        }
    )*};
}

mod the_suite_catches_a_broker_that {
    use super::*;

    mutants! { broker::run, Model, Mutant:
        drops_an_ack DropsAnAck by "settlement::an_acked_event_is_forgotten";
        forgets_acks_that_are_out_of_order ForgetsAcksOutOfOrder by "settlement::acks_out_of_order_leave_exactly_the_rest";
        loses_the_order_of_an_answer LosesTheOrderOfAnAnswer by "ordering::one_receiver_gets_the_topic_in_order";
        loses_the_order_of_a_batch LosesTheOrderOfABatch by "routing::every_group_gets_every_event";
        redelivers_out_of_order RedeliversAtTheEnd by "redelivery::unsettled_events_are_delivered_again_in_order_after_a_restart";
        forgets_attempts ForgetsAttempts by "redelivery::attempts_and_back_off_survive_a_restart";
        forgets_back_off ForgetsBackOff by "redelivery::the_last_deferral_counts";
        counts_a_return_as_an_attempt CountsReturns by "settlement::a_returned_event_is_delivered_again_and_no_attempt_is_counted";
        counts_a_crash_as_an_attempt CountsCrashes by "redelivery::unsettled_events_are_delivered_again_in_order_after_a_restart";
        exceeds_the_credit ExceedsCredit by "limits::credit_is_never_exceeded";
        gives_credit_back_for_a_deferral DeferGivesCreditBack by "limits::a_deferred_event_keeps_its_credit";
        answers_more_than_was_asked ExceedsMax by "limits::a_receive_answers_at_most_what_was_asked";
        delivers_twice DeliversTwice by "ordering::one_receiver_gets_the_topic_in_order";
        ignores_dedup IgnoresDedup by "dedup::an_id_is_noticed_if_and_only_if_the_broker_says_so";
        forgets_ids_at_a_restart ForgetsIdsAtARestart by "dedup::an_id_is_noticed_across_a_restart";
        takes_an_id_for_the_same_on_all_topics DedupsAcrossTopics by "dedup::the_same_id_on_another_topic_is_another_event";
        doubles_what_acks_publish DoublesWhatAcksPublish by "settlement::an_event_that_was_published_before_is_not_doubled_by_an_ack";
        loses_what_acks_publish LosesWhatAcksPublish by "settlement::an_ack_and_its_events_happen_together_or_not_at_all";
        loses_the_last_event_at_a_restart LosesTheLastEventAtARestart by "redelivery::ten_thousand_events_survive_a_restart";
        begins_at_the_end_of_the_topic StartsAtTheEnd by "routing::a_new_group_begins_at_the_beginning_of_the_topic";
        gives_an_event_to_one_group_only GivesAnEventToOneGroup by "routing::every_group_gets_every_event";
        mixes_topics MixesTopics by "routing::interleaved_topics_do_not_mix";
        drops_empty_extensions DropsEmptyExtensions by "routing::an_envelope_arrives_unchanged";
        truncates_times TruncatesTime by "routing::an_envelope_arrives_unchanged";
        stores_half_of_a_refused_batch StoresHalfABatch by "limits::a_larger_event_is_refused_with_its_whole_batch";
        refuses_the_largest_event RefusesTheLargest by "limits::the_largest_event_allowed_arrives";
        loses_events_with_a_dropped_receive DroppedReceiveLosesEvents by "redelivery::a_receive_that_is_dropped_takes_nothing_with_it";
        believes_old_tags BelievesOldTags by "settlement::a_tag_of_an_older_opening_settles_nothing";
        repeats_incarnations_after_a_restart RepeatsIncarnations by "settlement::a_tag_from_before_a_restart_settles_nothing";
        settles_twice SettlesTwice by "settlement::settling_twice_does_nothing";
        splits_keys SplitsKeys by "groups::events_of_a_key_stay_with_one_receiver_while_any_is_unsettled";
        keeps_what_a_dropped_receiver_had KeepsWhatADroppedReceiverHad by "groups::what_a_dropped_receiver_had_goes_to_the_others";
        ignores_delay IgnoresDelay by "delay::a_delayed_event_is_delivered_when_it_is_due_and_not_before";
        forgets_delay_at_a_restart ForgetsDelayAtARestart by "delay::a_delayed_event_survives_a_restart";
        loses_delayed_events LosesDelayedEvents by "delay::an_event_published_by_an_ack_can_be_delayed";
        delivers_parked_events DeliversParked by "parking::parked_events_are_not_delivered";
        forgets_parked_events_at_a_restart ForgetsParkedAtARestart by "parking::parked_events_survive_a_restart";
        parks_in_topic_order ParksInTopicOrder by "parking::parked_events_are_listed_as_they_were_parked";
        forgets_the_lanes_of_parked_events ForgetsLanes by "parking::parked_events_are_listed_as_they_were_parked";
        unparks_what_it_can UnparksWhatItCan by "parking::unparking_what_is_not_parked_is_refused_and_does_nothing";
        loses_unparked_events UnparkLosesEvents by "parking::unparked_and_unsettled_events_are_delivered_again_after_a_restart";
        keeps_attempts_when_unparking UnparkKeepsAttempts by "parking::unparked_events_are_given_back_in_order";
        forgets_its_inbox ForgetsInbox by "dedup::the_inbox_absorbs_what_was_handled_before";
        remembers_every_ack RemembersEveryAck by "dedup::the_inbox_remembers_only_what_was_marked";
        takes_effect_late TakesEffectLate by "ordering::publishes_take_effect_in_the_order_of_their_first_poll";
        publishes_after_close PublishesAfterClose by "lifecycle::publishing_after_close_is_refused";
        does_not_wake_who_waits SleepsOnPublish by "routing::a_waiting_receiver_gets_what_is_published_later";
        leaves_receivers_waiting_after_close CloseLeavesReceiversWaiting by "lifecycle::closing_ends_a_waiting_receiver";
        miscounts_its_backlog MiscountsBacklog by "lifecycle::the_backlog_counts_what_was_not_received";
        ends_an_event_twice EndsTwice by "administration::an_event_is_ended_once_even_if_two_end_it_at_the_same_time";
        loses_what_an_end_publishes EndLosesWhatItPublishes by "administration::what_an_end_publishes_is_there_with_it_after_a_restart";
        leaves_an_ended_delivery_to_its_holder EndLeavesTheDelivery by "administration::a_delivery_is_ended_under_the_hands_of_its_holder";
        lists_parked_events_as_unsettled ListsParkedAsUnsettled by "administration::unsettled_events_are_listed_without_those_that_are_parked";
        replays_everything ReplaysEverything by "administration::a_replay_handles_again_from_there_and_only_from_there";
        absorbs_what_it_replays ReplayIsAbsorbed by "administration::a_replay_handles_again_from_there_and_only_from_there";
        reads_in_another_order ReadsInTopicOrder by "settlement::unsettled_events_can_be_read_again";
    }
}

/// The random history alone finds most of what a single subscription can do wrong.
mod the_random_history_catches_a_broker_that {
    use super::*;

    const HISTORY: &str = "history::a_random_history_agrees_with_an_obvious_model";

    macro_rules! found {
        ($($test:ident $mutant:ident;)*) => {$(
            #[test]
            fn $test() {
                // A history is random: one of a few finds it.
                let found = (0..5).any(|_| failure(|| broker::run(HISTORY, Model::new(Mutant::$mutant))).is_some());
                assert!(found, "no history notices a model that is {:?}", Mutant::$mutant);
            }
        )*};
    }

    found! {
        drops_an_ack DropsAnAck;
        loses_order LosesTheOrderOfAnAnswer;
        forgets_attempts ForgetsAttempts;
        counts_returns CountsReturns;
        exceeds_credit ExceedsCredit;
        delivers_twice DeliversTwice;
        ignores_dedup IgnoresDedup;
        believes_old_tags BelievesOldTags;
        parks_in_topic_order ParksInTopicOrder;
        unparks_what_it_can UnparksWhatItCan;
        loses_unparked_events UnparkLosesEvents;
        loses_what_acks_publish LosesWhatAcksPublish;
        forgets_parked_events ForgetsParkedAtARestart;
    }
}

mod the_suite_catches_a_store_that {
    use super::*;

    mutants! { store::run, ModelStore, Slip:
        ignores_marks IgnoresMarks by "inbox::an_event_has_one_effect_however_often_it_is_submitted";
        forgets_marks ForgetsMarks by "inbox::a_mark_survives_a_reopen";
        shares_marks_between_subscriptions SharesMarks by "inbox::subscriptions_mark_independently";
        keeps_the_effects_of_failed_work KeepsFailedEffects by "atomicity::a_failed_work_leaves_nothing_and_can_be_run_again";
        marks_failed_work MarksFailedWork by "atomicity::a_failed_work_leaves_nothing_and_can_be_run_again";
        loses_its_outbox LosesTheOutbox by "outbox::unconfirmed_events_survive_a_reopen";
        stages_for_duplicates StagesDuplicates by "inbox::a_duplicate_stages_nothing";
        reverses_its_outbox ReversesTheOutbox by "outbox::staged_events_come_unchanged_in_commit_order";
        ignores_confirmations IgnoresConfirm by "outbox::confirmed_events_are_forgotten";
        begins_its_sequence_anew RestartsSequence by "outbox::confirmed_events_are_forgotten";
        does_not_wake_who_waits SleepsOnCommit by "outbox::whoever_waits_is_woken_by_the_next_commit";
        runs_work_in_another_order RunsInAnyOrder by "atomicity::effects_are_made_in_the_order_of_submission";
    }
}
