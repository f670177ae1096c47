//! The suites on a broker and a store that are obviously right, and on ones that are wrong in one way each.

mod model_admin;
mod model_broker;
mod model_store;
mod mutants;

use model_broker::{Model, Mutant};
use model_store::{ModelStore, Slip};

mod a_sound_broker {
    use super::*;
    commute_conformance::broker_suite!(Model::new(Mutant::None));
}

mod a_sound_store {
    use super::*;
    commute_conformance::store_suite!(ModelStore::new(Slip::None));
}

mod a_faulty_broker {

    use commute_conformance::Fixture;
    use commute_conformance::fault::{Faults, Faulty};
    use commute_core::{Envelope, Outgoing, Settlement, SubscriptionSpec, Timestamp, Topic};

    use super::*;

    #[tokio::test]
    async fn loses_nothing_that_is_published_and_acked_until_it_is_answered() {
        let faults = Faults {
            refused_publish: 0.2,
            unanswered_publish: 0.2,
            broken_settle: 0.2,
            lost_lease: 0.2,
            ..Faults::none(1)
        };
        let model = Model::new(Mutant::None);
        let faulty = Faulty::new(model.connect().await, faults);
        let broker: commute_core::SharedBroker = faulty.clone();
        let topic = Topic::new("faulty").unwrap();
        for n in 0..100 {
            let envelope = Envelope::new("test", "test", Timestamp(n), bytes::Bytes::new());
            let event = Outgoing { topic: topic.clone(), envelope, not_before: None };
            while broker.publish(vec![event.clone()]).await.is_err() {}
        }
        let spec = SubscriptionSpec::new(topic, "group").credit(10);
        let mut subscription = broker.subscribe(spec).await.unwrap();
        let (mut seen, mut deliveries) = (std::collections::BTreeSet::new(), 0);
        while subscription.settler.backlog().await.unwrap() != Some(0) || seen.len() < 100 {
            let taken = subscription.receiver.receive(3).await.unwrap();
            deliveries += taken.len();
            seen.extend(taken.iter().map(|taken| taken.envelope.time.0));
            let acks = taken.iter().map(|taken| Settlement::Ack { tag: taken.tag, publish: Vec::new(), mark: true });
            // What fails is delivered again, sooner or later.
            let _ = subscription.settler.settle(acks.collect()).await;
        }
        assert!(deliveries > 100 && faulty.happened() > 20, "{deliveries} deliveries, {} faults", faulty.happened());
    }
}
