//! The promises of a broker, by theme. Every case is an async function with a sentence for a name.

pub mod dedup;
pub mod delay;
pub mod groups;
pub mod history;
pub mod lifecycle;
pub mod ordering;
pub mod parking;
pub mod redelivery;
pub mod routing;
pub mod settlement;

/// Makes one test of every case. The argument makes a new harness; the crate needs `tokio` with `macros` and `rt`.
#[macro_export]
macro_rules! broker_suite {
    ($harness:expr) => {
        $crate::broker_cases!($harness;
            routing: every_attribute_of_an_envelope_arrives_unchanged,
            routing: receipts_come_in_order_one_for_each,
            routing: every_group_gets_every_event,
            routing: topics_do_not_mix,
            routing: a_subscription_begins_at_the_beginning_of_its_topic,
            routing: an_event_at_the_limit_is_taken_and_a_larger_one_refuses_its_batch,
            ordering: one_receiver_gets_the_order_of_the_topic,
            ordering: effects_come_in_the_order_of_first_polls,
            ordering: concurrent_publishers_keep_their_own_order,
            ordering: never_more_than_asked_for_and_never_more_than_the_credit,
            ordering: a_dropped_receive_takes_nothing_with_it,
            settlement: what_is_acknowledged_does_not_come_back,
            settlement: what_is_not_acknowledged_comes_back_in_order,
            settlement: settling_twice_does_nothing,
            settlement: settling_for_an_older_incarnation_does_nothing,
            settlement: an_acknowledgement_publishes_its_events,
            settlement: an_acknowledgement_and_its_events_survive_a_crash_together,
            settlement: events_published_by_two_acknowledgements_of_one_cause_are_one,
            settlement: an_acknowledgement_out_of_order_survives_a_crash,
            redelivery: attempts_and_back_off_survive_a_crash,
            redelivery: a_deferred_event_is_not_delivered_again_while_it_is_held,
            redelivery: a_returned_event_comes_back_without_an_attempt,
            redelivery: payloads_of_unsettled_deliveries_can_be_read_again,
            dedup: an_id_is_stored_once,
            dedup: an_id_is_stored_once_across_a_crash,
            dedup: the_same_id_in_one_batch_is_one_event,
            dedup: the_same_id_on_another_topic_is_another_event,
            dedup: a_marked_id_stays_handled_across_a_crash,
            delay: an_event_is_not_delivered_before_its_time,
            delay: a_delayed_event_lets_others_pass,
            delay: a_delay_survives_a_crash,
            parking: a_parked_event_is_not_delivered,
            parking: parked_events_survive_a_crash_in_their_order,
            parking: an_unparked_event_is_in_flight_again,
            parking: an_unparked_event_that_was_not_settled_comes_back_after_a_crash,
            parking: unparking_what_is_not_parked_does_nothing,
            groups: two_receivers_share_the_work,
            groups: events_of_a_key_keep_their_order_over_two_receivers,
            groups: what_a_gone_receiver_held_goes_to_the_other,
            lifecycle: a_closed_broker_takes_no_more,
            lifecycle: closing_twice_is_closing_once,
            lifecycle: a_backlog_survives_closing,
            lifecycle: a_receiver_learns_that_the_broker_was_closed,
            history: random_histories_lose_and_reorder_nothing,
        );
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! broker_cases {
    ($harness:expr; $($theme:ident: $case:ident),* $(,)?) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let harness = $harness;
            $crate::broker::$theme::$case(&harness).await;
        }
    )*};
}
