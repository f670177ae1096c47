//! Progress that no commit has room for, under load: consumers are killed while they settle, and exactly the rest is left.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

/// So many that a bit for each takes more than a commit has room for.
const EVENTS: u64 = 40_000;
/// Settled with one call.
const AT_ONCE: usize = 250;
const GROUP: &str = "group";
/// What a consumer is told: which topic, and which pattern.
const ORDER: &str = "COMMUTE_TEST_OVERFLOW";

/// Which events are settled while the first one is slow.
#[derive(Debug, Clone, Copy)]
enum Pattern {
    /// Whichever happen to be fast; some of the others have failed once.
    Random,
    /// No two beside each other: no run is longer than one.
    EverySecond,
}

impl Pattern {
    /// The first is slow, and so is the last, by which a consumer knows that it has seen everything.
    fn settles(self, number: u64) -> bool {
        let chosen = match self {
            Pattern::Random => number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 0,
            Pattern::EverySecond => number % 2 == 1,
        };
        chosen && number != 0 && number != EVENTS - 1
    }

    fn defers(self, number: u64) -> bool {
        matches!(self, Pattern::Random) && !self.settles(number) && number % 97 == 5
    }
}

fn spec(topic: &Topic) -> SubscriptionSpec {
    SubscriptionSpec::new(topic.clone(), GROUP).credit(2 * EVENTS as usize)
}

/// What a consumer that is to be killed has said before.
#[derive(Default)]
struct Said {
    taken: Vec<u64>,
    asked: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    has_seen_all: bool,
}

/// Runs a consumer in a process of its own, and kills it when it has settled so many. One that has nothing left to settle
/// is killed, too.
fn consume(topic: &Topic, pattern: Pattern, enough: usize) -> Said {
    let program = std::env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args(["--exact", "overflow::consumer_that_is_killed", "--ignored", "--nocapture"])
        .env(ORDER, format!("{topic} {pattern:?}"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut said = Said::default();
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    for line in lines.map_while(|line| line.ok()) {
        let mut words = line.split(' ');
        let kind = words.next();
        let numbers = words.filter_map(|word| word.parse::<u64>().ok());
        match kind {
            Some("@taken") => said.taken.extend(numbers),
            Some("@asked") => said.asked.extend(numbers),
            Some("@settled") => said.settled.extend(numbers),
            Some("@all") => said.has_seen_all = true,
            _ => {}
        }
        if said.has_seen_all || said.settled.len() >= enough {
            break;
        }
    }
    child.kill().expect("it is ours to kill");
    child.wait().expect("it has ended");
    said
}

/// No test of its own: what [`consume`] starts and kills.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the tests of this file"]
async fn consumer_that_is_killed() {
    let Ok(order) = std::env::var(ORDER) else { return };
    let (topic, pattern) = order.split_once(' ').expect("a topic and a pattern");
    let pattern = if pattern == "Random" { Pattern::Random } else { Pattern::EverySecond };
    let broker = connect("").await;
    let mut subscription = open(&broker, spec(&Topic::new(topic).expect("a valid name"))).await;
    let say = |what: &str, numbers: &[u64]| {
        let numbers: Vec<_> = numbers.iter().map(u64::to_string).collect();
        println!("@{what} {}", numbers.join(" "));
    };
    let mut last = 0;
    while last != EVENTS - 1 {
        let taken = within("a delivery", subscription.receiver.receive(AT_ONCE)).await.expect("receiving works");
        say("taken", &taken.iter().map(number).collect::<Vec<_>>());
        last = taken.last().map_or(last, number);
        let mut settlements = Vec::new();
        let mut settled = Vec::new();
        for taken in &taken {
            let number = number(taken);
            if pattern.settles(number) {
                settlements.extend(acks(std::slice::from_ref(taken)));
                settled.push(number);
            } else if pattern.defers(number) {
                settlements.push(Settlement::Defer { tag: taken.tag, attempts: 1, not_before: Timestamp(1) });
            }
        }
        say("asked", &settled);
        settle(&subscription.settler, settlements).await;
        say("settled", &settled);
    }
    say("all", &[]);
    std::future::pending::<()>().await;
}

async fn exactly_the_rest_is_left(pattern: Pattern, name: &str) {
    let (broker, topic) = (connect("").await, topic(name));
    for from in (0..EVENTS).step_by(5_000) {
        let events = (from..from + 5_000).map(|n| event(&topic, 0, n)).collect();
        broker.publish(events).await.expect("publishing works");
    }
    let (mut asked, mut settled) = (BTreeSet::new(), BTreeSet::new());
    let mut enough = 8_000;
    for round in 0.. {
        let for_consumer = topic.clone();
        let consumed = tokio::task::spawn_blocking(move || consume(&for_consumer, pattern, enough));
        let said = consumed.await.expect("a consumer runs");
        assert!(said.taken.is_sorted(), "round {round}: out of order");
        let again = said.taken.iter().find(|number| settled.contains(*number));
        assert_eq!(again, None, "round {round}: it was settled, and came a second time");
        if said.has_seen_all {
            let taken: BTreeSet<u64> = said.taken.iter().copied().collect();
            let lost = (0..EVENTS).find(|number| !taken.contains(number) && !asked.contains(number));
            assert_eq!(lost, None, "round {round}: it was not settled, and did not come");
        }
        asked.extend(said.asked);
        settled.extend(said.settled);
        if said.has_seen_all {
            assert!(round >= 2, "it was killed at work {round} times");
            break;
        }
        // The rest is settled by the third.
        enough = if round == 0 { 6_000 } else { usize::MAX };
    }
    let (low, metadata) = committed(&topic);
    assert_eq!(low, 0, "the first is slow");
    assert!(metadata.starts_with("commute2-aside:"), "the commit has room for it: {metadata}");
    // Whoever comes now gets what nobody has settled, in its order, with its attempts.
    let mut subscription = open(&broker, spec(&topic)).await;
    let rest: Vec<u64> = (0..EVENTS).filter(|number| !pattern.settles(*number)).collect();
    let taken = take(&mut subscription, rest.len()).await;
    assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), rest);
    let tried = taken.iter().find(|taken| taken.attempt != 1 + u32::from(pattern.defers(number(taken))));
    assert_eq!(tried.map(|taken| (number(taken), taken.attempt)), None, "attempts are remembered");
    assert_eq!(subscription.settler.backlog().await.expect("asking works"), Some(0));
    // The slow ones last.
    let (slow, others) = (&taken[..1], &taken[1..]);
    for some in others.chunks(1_000) {
        settle(&subscription.settler, acks(some)).await;
    }
    assert_eq!(committed(&topic).0, 0);
    settle(&subscription.settler, acks(slow)).await;
    let (low, metadata) = committed(&topic);
    assert_eq!(low, EVENTS as i64);
    assert!(metadata.starts_with("commute2:") && metadata.len() < 46, "no more is left to be said: {metadata}");
    drop(subscription);
    let mut subscription = open(&broker, spec(&topic)).await;
    broker.publish(vec![event(&topic, 0, EVENTS)]).await.expect("publishing works");
    assert_eq!(number(&take(&mut subscription, 1).await[0]), EVENTS);
    broker.close().await.expect("closing works");
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_killed_behind_a_slow_event_and_exactly_the_rest_is_left() {
    exactly_the_rest_is_left(Pattern::Random, "slow").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumers_are_killed_with_every_second_event_settled_and_exactly_the_rest_is_left() {
    exactly_the_rest_is_left(Pattern::EverySecond, "gaps").await;
}
