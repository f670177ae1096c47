//! Partitions that go to others and come back, with a buffer that was full meanwhile.

use super::*;

/// More than is fetched ahead.
const EVENTS: u64 = 400;
const SIZE: usize = 100_000;

/// An event of some size.
fn large(topic: &Topic, key: u64, number: u64) -> Outgoing {
    let mut event = event(topic, key, number);
    event.envelope.data = Bytes::from("0".repeat(SIZE) + &number.to_string());
    event
}

/// Takes and acks everything, with one other, until both together have seen so many.
async fn drain(first: &mut Subscription, second: &mut Subscription, count: usize) -> Vec<Delivery> {
    let (mut seen, mut of_second) = (0, Vec::new());
    while seen < count {
        let (taken, by_second) = within("a delivery", async {
            tokio::select! {
                taken = first.receiver.receive(1) => (taken, false),
                taken = second.receiver.receive(1) => (taken, true),
            }
        })
        .await;
        let taken = taken.expect("receiving works");
        seen += taken.len();
        settle(if by_second { &second.settler } else { &first.settler }, acks(&taken)).await;
        if by_second {
            of_second.extend(taken);
        }
    }
    of_second
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_went_away_while_the_buffer_was_full_is_fetched_again_when_it_comes_back() {
    let topic = topic("rejoining");
    let (one, two) = (connect("partitions=2").await, connect("").await);
    for from in (0..EVENTS).step_by(50) {
        let batch = (from..from + 50).map(|n| large(&topic, n % 16, n)).collect();
        within("receipts", one.publish(batch)).await.expect("publishing works");
    }
    let spec = || SubscriptionSpec::new(topic.clone(), "group").credit(1);
    let mut first = open(&one, spec()).await;
    for _ in 0..2 {
        within("an assignment", first.settler.changed()).await;
    }
    let taken = take(&mut first, 1).await;
    settle(&first.settler, acks(&taken)).await;
    // The first has nothing in its hands, and fetches no more when the second joins.
    let mut second = open(&two, spec()).await;
    within("a revocation", first.settler.changed()).await;
    within("an assignment", second.settler.changed()).await;
    let of_second = drain(&mut first, &mut second, EVENTS as usize - 1).await;
    let key = of_second[0].envelope.partition_key().and_then(|key| key.parse().ok()).expect("a key");
    drop(second);
    within("an assignment", first.settler.changed()).await;
    one.publish(vec![event(&topic, key, EVENTS)]).await.expect("publishing works");
    assert_eq!(number(&take(&mut first, 1).await[0]), EVENTS);
}
