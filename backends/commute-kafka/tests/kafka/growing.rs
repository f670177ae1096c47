//! Topics that are given more partitions while somebody is subscribed.

use commute_core::Change;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;

use super::*;

async fn grow(topic: &Topic, partitions: usize) {
    let admin: AdminClient<DefaultClientContext> = client().create().expect("a client");
    let more = NewPartitions::new(topic.as_str(), partitions);
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let answer = within("more partitions", admin.create_partitions([&more], &options)).await;
    answer.expect("the server answers")[0].as_ref().expect("it grows");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_partition_that_was_added_meanwhile_can_be_parked() {
    const EVENTS: u64 = 32;
    let (broker, topic) = (connect("partitions=1").await, topic("growing"));
    broker.publish(vec![event(&topic, 0, 0)]).await.expect("publishing creates the topic");
    let spec = || SubscriptionSpec::new(topic.clone(), "group");
    let mut subscription = open(&broker, spec()).await;
    let taken = take(&mut subscription, 1).await;
    settle(&subscription.settler, park(&taken)).await;
    within("an assignment", subscription.settler.changed()).await;
    grow(&topic, 4).await;
    // The group looks at the topic again when somebody joins.
    let other = connect("").await;
    let second = open(&other, spec()).await;
    within("an assignment", second.settler.changed()).await;
    drop(second);
    let mut ours = 1;
    while ours < 4 {
        match within("a change", subscription.settler.changed()).await {
            Change::Assigned(_) => ours += 1,
            Change::Revoked(_) => ours -= 1,
        }
    }
    other.publish((0..EVENTS).map(|n| event(&topic, n, n)).collect()).await.expect("publishing works");
    let taken = take(&mut subscription, EVENTS as usize).await;
    assert!(taken.iter().map(|taken| taken.tag.incarnation).collect::<std::collections::BTreeSet<_>>().len() > 1);
    settle(&subscription.settler, park(&taken)).await;
    drop(subscription);
    let subscription = open(&other, spec()).await;
    assert_eq!(subscription.settler.parked().await.expect("listing works").len(), 1 + EVENTS as usize);
}
