//! The suite of brokers.
//!
//! Each file is one promise of [`Broker`](commute_core::Broker) and its two ends, told in cases; the list below is the
//! only one there is, and tests are made from it.

mod administration;
mod dedup;
mod delay;
mod groups;
mod history;
mod lifecycle;
mod limits;
mod ordering;
mod parking;
mod redelivery;
mod routing;
mod settlement;

use std::sync::Arc;

use crate::fixture::Fixture;
use crate::trial::{Trial, run_seeded};
use crate::{Case, suite_list};

#[doc(hidden)]
#[macro_export]
macro_rules! broker_cases {
    ([$($then:tt)+] $($args:tt)*) => { $($then)+! { $($args)*
        routing {
            a_publish_gives_a_receipt_for_each_envelope_in_order []
            an_empty_batch_is_published_and_nothing_comes_of_it []
            an_envelope_arrives_unchanged []
            an_envelope_is_unchanged_after_a_restart [Restart]
            every_group_gets_every_event []
            a_new_group_begins_at_the_beginning_of_the_topic [Retained]
            a_group_keeps_its_place_while_nobody_listens []
            interleaved_topics_do_not_mix []
            a_waiting_receiver_gets_what_is_published_later []
            a_delivery_says_when_the_event_was_taken_in []
        }
        ordering {
            one_receiver_gets_the_topic_in_order [Order]
            what_came_before_the_first_group_comes_first_however_slowly_it_is_taken [Order]
            concurrent_publishers_each_keep_their_order [Order]
            every_group_sees_the_same_order [Order]
            publishes_take_effect_in_the_order_of_their_first_poll [Order]
            settlements_take_effect_in_the_order_of_their_first_poll []
            publishes_take_effect_in_the_order_of_their_first_poll_even_when_one_is_dropped [Order]
        }
        settlement {
            an_acked_event_is_forgotten [Restart]
            acks_out_of_order_leave_exactly_the_rest [Restart]
            a_returned_event_is_delivered_again_and_no_attempt_is_counted []
            a_deferred_event_stays_in_flight []
            settling_twice_does_nothing []
            a_tag_of_an_older_opening_settles_nothing []
            a_tag_from_before_a_restart_settles_nothing [Restart]
            events_published_with_an_ack_appear_in_order []
            an_ack_and_its_events_happen_together_or_not_at_all [Restart, AtomicSettle]
            an_event_that_two_acks_publish_is_stored_once [Dedup]
            an_event_that_was_published_before_is_not_doubled_by_an_ack [Dedup]
            every_settlement_of_a_call_survives_a_restart [Restart, DurableParking, DurableRetry]
            unsettled_events_can_be_read_again []
        }
        redelivery {
            unsettled_events_are_delivered_again_in_order_after_a_restart [Restart]
            a_receive_that_is_dropped_takes_nothing_with_it []
            attempts_and_back_off_survive_a_restart [Restart, DurableRetry]
            the_last_deferral_counts [Restart, DurableRetry]
            a_deferred_event_comes_back_in_its_place [Restart]
            progress_is_kept_over_many_restarts [Restart]
            ten_thousand_events_survive_a_restart [Restart]
        }
        lifecycle {
            closing_keeps_what_was_accepted [Restart]
            closing_twice_is_closing_once []
            publishing_after_close_is_refused []
            subscribing_after_close_is_refused []
            closing_ends_a_waiting_receiver []
            a_dropped_publish_leaves_the_broker_usable []
            the_backlog_counts_what_was_not_received []
        }
        groups {
            two_receivers_of_a_group_share_its_work []
            events_of_a_key_stay_with_one_receiver_while_any_is_unsettled [KeyGroups]
            what_a_dropped_receiver_had_goes_to_the_others []
            groups_settle_independently [Restart]
        }
        dedup {
            an_id_is_noticed_if_and_only_if_the_broker_says_so []
            an_id_is_noticed_across_a_restart [Dedup, Restart]
            an_id_twice_in_one_batch_is_stored_once [Dedup]
            concurrent_publishes_of_an_id_store_it_once [Dedup]
            the_same_id_on_another_topic_is_another_event []
            the_inbox_absorbs_what_was_handled_before [SecondPublish]
            the_inbox_remembers_across_a_restart [SecondPublish, Restart]
            the_inbox_remembers_only_what_was_marked [SecondPublish]
        }
        delay {
            a_delayed_event_is_delivered_when_it_is_due_and_not_before [Delay]
            a_delayed_event_survives_a_restart [Delay, Restart]
            an_event_whose_time_has_come_is_delivered_at_once [Delay]
            an_event_published_by_an_ack_can_be_delayed [Delay]
        }
        parking {
            parked_events_are_not_delivered []
            parked_events_are_listed_as_they_were_parked []
            parked_events_survive_a_restart [Restart, DurableParking]
            unparked_events_are_given_back_in_order []
            unparking_what_is_not_parked_is_refused_and_does_nothing []
            unparking_twice_is_refused []
            an_unparked_event_can_be_acked [Restart, DurableParking]
            an_unparked_event_can_be_parked_again_behind_the_others []
            unparked_and_unsettled_events_are_delivered_again_after_a_restart [Restart, DurableParking]
            an_unparked_event_is_not_received_as_well [Restart, DurableParking]
            an_event_parked_after_deferrals_keeps_its_attempts []
            groups_park_independently []
        }
        limits {
            credit_is_never_exceeded []
            settling_gives_credit_back []
            parking_gives_credit_back []
            a_deferred_event_keeps_its_credit []
            a_receive_answers_at_most_what_was_asked []
            the_largest_event_allowed_arrives []
            a_larger_event_is_refused_with_its_whole_batch []
        }
        administration {
            topics_are_listed_in_pages_by_name [Admin]
            a_group_is_listed_with_its_numbers [Admin]
            stored_events_are_read_from_wherever_one_begins [Admin]
            unsettled_events_are_listed_without_those_that_are_parked [Admin]
            parked_events_are_listed_in_topic_order_with_what_is_known [Admin]
            an_event_is_ended_once_even_if_two_end_it_at_the_same_time [Admin]
            what_an_end_publishes_is_there_with_it_after_a_restart [Admin, Restart]
            a_delivery_is_ended_under_the_hands_of_its_holder [Admin]
            ending_what_is_not_there_is_refused_and_does_nothing [Admin]
            an_ended_event_is_remembered_by_the_inbox [Admin, SecondPublish]
            parked_events_are_taken_back_into_their_place_while_nobody_runs [Admin]
            parked_events_taken_back_come_in_their_place_on_the_same_connection [Admin]
            a_group_that_is_kept_gets_everything_that_was_retained [Admin, Retained]
            a_replay_handles_again_from_there_and_only_from_there [Replay, Restart]
            a_journey_tells_what_became_of_an_event_and_what_it_caused [Admin]
            what_a_broker_does_not_have_is_refused_with_its_code []
        }
        history {
            a_random_history_agrees_with_an_obvious_model [Restart, Order, DurableRetry, DurableParking]
            a_random_history_without_restarts_agrees_with_an_obvious_model [Order]
        }
    } };
}

/// Every case.
pub fn cases() -> Vec<Case<Trial>> {
    crate::broker_cases! { [suite_list] }
}

/// Runs one case. Panics when the broker does not pass it.
pub fn run(case: &str, fixture: impl Fixture) {
    let case = cases().into_iter().find(|known| known.name == case).expect("a case of this suite");
    let fixture: Arc<dyn Fixture> = Arc::new(fixture);
    run_seeded(case.name, fixture.patience(), move |seed| {
        Box::pin(async move {
            let broker = crate::trial::within(case.name, fixture.patience(), "a connection", fixture.connect()).await;
            let given = &*broker;
            let missing: Vec<_> = case.needs.iter().filter(|need| !need.is_met(given, &*fixture)).collect();
            if !missing.is_empty() {
                println!("{} is not applicable: {} does not give {missing:?}", case.name, broker.driver());
                return;
            }
            let trial = Trial::new(case.name, fixture, broker, seed);
            (case.run)(trial).await;
        })
    });
}
