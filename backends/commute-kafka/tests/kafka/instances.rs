//! Several instances of a group: they come and go, and nothing is lost, doubled or out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use commute_core::{Change, Delivery, SharedBroker, SubscriptionSpec, Topic};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::{acks, connect, event, number, open, park, settle, take, topic, within};

/// What instances of a group have taken: who, which key, which number.
type Seen = watch::Sender<Vec<(usize, u64, u64)>>;

/// An instance of a group: takes and acks, and says what it took before it acks it.
fn instance(who: usize, broker: SharedBroker, topic: Topic, seen: Arc<Seen>) -> (watch::Sender<bool>, JoinHandle<()>) {
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let mut subscription = open(&broker, SubscriptionSpec::new(topic, "group").credit(200)).await;
        loop {
            let taken = tokio::select! {
                taken = subscription.receiver.receive(20) => taken.expect("receiving works"),
                _ = stopped.wait_for(|stopped| *stopped) => return,
            };
            let key =
                |taken: &Delivery| taken.envelope.partition_key().and_then(|key| key.parse().ok()).expect("a key");
            seen.send_modify(|seen| seen.extend(taken.iter().map(|taken| (who, key(taken), number(taken)))));
            within("settling", subscription.settler.settle(acks(&taken))).await.expect("settling works");
        }
    });
    (stop, task)
}

/// Publishes as fast as the instances take, until it is told to stop; answers how many.
async fn load(broker: SharedBroker, topic: Topic, seen: Arc<Seen>, stop: watch::Receiver<bool>) -> u64 {
    let mut published = 0;
    while !*stop.borrow() {
        let batch = (published..published + 20).map(|n| event(&topic, n % 16, n)).collect();
        within("receipts", broker.publish(batch)).await.expect("publishing works");
        published += 20;
        let enough = |seen: &Vec<_>| published < seen.len() as u64 + 400;
        drop(within("the instances", seen.subscribe().wait_for(enough)).await.expect("it is open"));
    }
    published
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_come_and_go_under_load_and_nothing_is_lost_doubled_or_out_of_order() {
    let topic = topic("instances");
    let publisher = connect("partitions=4").await;
    publisher.publish(vec![]).await.expect("nothing is published");
    let seen = Arc::new(watch::Sender::new(Vec::new()));
    let (end, ended) = watch::channel(false);
    let load = tokio::spawn(load(publisher, topic.clone(), seen.clone(), ended));
    let begin = async |who| instance(who, connect("partitions=4").await, topic.clone(), seen.clone());
    let share = async |who, count| {
        let has = |seen: &Vec<(usize, u64, u64)>| seen.iter().filter(|(by, ..)| *by == who).count() >= count;
        drop(within("a share of the work", seen.subscribe().wait_for(has)).await.expect("it is open"));
    };
    let first = begin(0).await;
    share(0, 200).await;
    let second = begin(1).await;
    share(1, 400).await;
    let third = begin(2).await;
    share(2, 400).await;
    // One leaves between two deliveries, with nothing in its hands.
    second.0.send(true).expect("it runs");
    within("the second instance", second.1).await.expect("it works");
    let enough = seen.borrow().len() + 1_000;
    drop(within("the others", seen.subscribe().wait_for(|seen| seen.len() >= enough)).await.expect("it is open"));
    end.send(true).expect("it runs");
    let published = within("the load", load).await.expect("it works");
    let all = |seen: &Vec<_>| seen.len() as u64 >= published;
    drop(within("every event to be seen", seen.subscribe().wait_for(all)).await.expect("it is open"));
    for (stop, task) in [first, third] {
        stop.send(true).expect("it runs");
        within("an instance", task).await.expect("it works");
    }
    let seen = seen.borrow().clone();
    let mut last = BTreeMap::new();
    for (who, key, number) in &seen {
        let before = last.insert(key, number);
        assert!(before.is_none_or(|before| before < number), "{who} got {number} of key {key} after {before:?}");
    }
    assert_eq!(seen.iter().map(|(.., number)| *number).collect::<BTreeSet<_>>(), (0..published).collect());
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_of_a_partition_that_went_to_others_settle_nothing() {
    let topic = topic("revoked");
    let (one, two) = (connect("partitions=4").await, connect("").await);
    one.publish((0..80).map(|n| event(&topic, n, n)).collect()).await.expect("publishing works");
    // A short lease: whoever takes over waits no longer than that.
    let spec = || SubscriptionSpec::new(topic.clone(), "group").lease(Duration::from_secs(1));
    let mut first = open(&one, spec()).await;
    let had = take(&mut first, 80).await;
    let mut incarnations = BTreeSet::new();
    for _ in 0..4 {
        match within("an assignment", first.settler.changed()).await {
            Change::Assigned(incarnation) => assert!(incarnations.insert(incarnation)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(incarnations, had.iter().map(|had| had.tag.incarnation).collect());
    let mut second = open(&two, spec()).await;
    let mut revoked = BTreeSet::new();
    for _ in 0..2 {
        match within("a revocation", first.settler.changed()).await {
            Change::Revoked(incarnation) => assert!(revoked.insert(incarnation)),
            other => panic!("{other:?}"),
        }
    }
    let gone: Vec<_> = had.iter().filter(|had| revoked.contains(&had.tag.incarnation)).cloned().collect();
    let again = take(&mut second, gone.len()).await;
    let numbers = |deliveries: &[Delivery]| deliveries.iter().map(number).collect::<BTreeSet<_>>();
    assert_eq!(numbers(&again), numbers(&gone), "what the other has not settled comes again");
    settle(&first.settler, acks(&gone)).await;
    settle(&first.settler, park(&gone)).await;
    assert!(second.settler.parked().await.expect("listing works").is_empty());
    // What stayed with the first can be settled as ever.
    let kept: Vec<_> = had.iter().filter(|had| !revoked.contains(&had.tag.incarnation)).cloned().collect();
    settle(&first.settler, acks(&kept)).await;
    drop((first, second));
    let mut third = open(&one, spec()).await;
    assert_eq!(numbers(&take(&mut third, gone.len()).await), numbers(&gone));
    assert_eq!(third.settler.backlog().await.expect("asking works"), Some(0));
}
