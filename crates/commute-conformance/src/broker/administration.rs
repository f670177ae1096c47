//! Administration: what an operator sees is what is there, and what an operator changes is changed once and as a whole.
//!
//! A method that a broker refuses with `NeedNotMet` makes the case not applicable.

use std::time::Duration;

use commute_core::admin::{Begin, Ended, GroupInfo, Happened, StoredEvent, SubscriptionName};
use commute_core::control::{Reply, Request, answer};
use commute_core::{Admin, Code, Lane, Mode, Settlement, Topic, extension};

use crate::fixture::Ending;
use crate::trial::{Trial, ack, event, marked, number, park, to};

fn admin(trial: &Trial) -> &dyn Admin {
    trial.broker().admin().expect("the broker has an administration")
}

fn name(topic: &Topic, group: &str) -> SubscriptionName {
    SubscriptionName { topic: topic.clone(), group: group.to_owned() }
}

/// What a method answers; ends the case when the broker does not have it.
macro_rules! given {
    ($trial:expr, $call:expr) => {
        match $trial.within("administration", $call).await {
            Ok(answer) => answer,
            Err(error) if error.code() == Code::NeedNotMet => {
                println!("not applicable: {error}");
                return;
            }
            Err(error) => panic!("{error:#}"),
        }
    };
}

fn shown(events: &[StoredEvent]) -> Vec<u64> {
    events.iter().map(|stored| number(&stored.event)).collect()
}

fn ended(position: u64, publish: Vec<commute_core::Outgoing>) -> Ended {
    Ended { position, publish }
}

/// The numbers of a group of a topic.
fn of_group(groups: &[GroupInfo], group: &str) -> GroupInfo {
    groups.iter().find(|info| info.subscription.group == group).expect("the group is listed").clone()
}

pub(super) async fn topics_are_listed_in_pages_by_name(trial: Trial) {
    let topics: Vec<_> = (0..5).map(|n| trial.topic(&format!("listed{n}"))).collect();
    for (topic, count) in topics.iter().zip(1..) {
        trial.groups(topic, &["group"]).await;
        trial.publish_numbers(topic, 0..count).await;
    }
    drop(trial.open(&topics[1], "group").await);
    let admin = admin(&trial);
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = given!(trial, admin.topics(after, 2));
        assert!(page.len() <= 2, "{page:?}");
        let Some(last) = page.last() else { break };
        after = Some(Topic::new(last.topic.clone()).expect("a topic"));
        found.extend(page);
    }
    assert!(found.is_sorted_by(|a, b| a.topic < b.topic), "each once, by name: {found:?}");
    found.retain(|info| topics.iter().any(|topic| topic.as_str() == info.topic));
    let mut expected: Vec<_> = topics.iter().map(Topic::to_string).zip(1..).collect();
    expected.sort();
    let counted: Vec<_> = found.iter().map(|info| (info.topic.clone(), info.next - info.first)).collect();
    assert_eq!(counted, expected);
    assert!(found.iter().all(|info| info.youngest.is_none_or(|youngest| youngest <= trial.now())));
}

pub(super) async fn a_group_is_listed_with_its_numbers(mut trial: Trial) {
    let topic = trial.topic("numbers");
    trial.groups(&topic, &["group", "other"]).await;
    trial.publish_numbers(&topic, 0..10).await;
    let mut reader = trial.open(&topic, "group").await;
    drop(trial.open(&topic, "other").await);
    let taken = reader.take(6).await;
    let not_before = trial.now().plus(Duration::from_secs(3600));
    let defer = Settlement::Defer { tag: taken[3].tag, attempts: 1, not_before };
    reader.settle(vec![ack(taken[0].tag), ack(taken[1].tag), defer, park(taken[4].tag)]).await;
    let groups = given!(trial, admin(&trial).groups(Some(topic.clone())));
    assert_eq!(groups.len(), 2, "{groups:?}");
    let found = of_group(&groups, "group");
    let is = |found: Option<u64>, expected| found.is_none_or(|found| found == expected);
    assert!(
        is(found.backlog, 4) && is(found.in_flight, 3) && is(found.retrying, 1) && is(found.parked, 1),
        "{found:?}"
    );
    assert!(found.instances.is_none_or(|instances| instances == 1), "{found:?}");
    let other = of_group(&groups, "other");
    assert!(
        is(other.backlog, 10) && is(other.in_flight, 0) && is(other.retrying, 0) && is(other.parked, 0),
        "{other:?}"
    );
    let all = given!(trial, admin(&trial).groups(None));
    assert_eq!(all.iter().filter(|info| info.subscription.topic == topic).count(), 2);
    drop(reader);
    if trial.fixture().restarts() {
        trial.restart(Ending::Kill).await;
        let found = of_group(&given!(trial, admin(&trial).groups(Some(topic))), "group");
        assert!(is(found.backlog, 7) && is(found.in_flight, 0) && is(found.retrying, 1), "{found:?}");
        assert!(found.instances.is_none_or(|instances| instances == 0), "{found:?}");
    }
}

pub(super) async fn stored_events_are_read_from_wherever_one_begins(trial: Trial) {
    let topic = trial.topic("read");
    trial.groups(&topic, &["group"]).await;
    trial.publish_numbers(&topic, 0..4).await;
    trial.pass(trial.while_()).await;
    let later = trial.now();
    trial.publish_numbers(&topic, 4..9).await;
    let admin = admin(&trial);
    let all = given!(trial, admin.read(topic.clone(), Begin::Start, 100));
    assert_eq!(shown(&all.events), (0..9).collect::<Vec<_>>());
    assert!(all.events.is_sorted_by(|a, b| a.position < b.position), "in topic order");
    assert!(all.events.iter().all(|stored| stored.topic == topic.as_str()));
    let (position, next) = (all.events[6].position, all.next);
    for (from, max, expected) in [
        (Begin::Start, 3, 0..3),
        (Begin::End, 5, 9..9),
        (Begin::Last(2), 5, 7..9),
        (Begin::Last(100), 100, 0..9),
        (Begin::Last(0), 5, 9..9),
        (Begin::Position(position), 2, 6..8),
        (Begin::Position(next), 2, 9..9),
        (Begin::Time(later), 100, 4..9),
        (Begin::Time(trial.now().plus(Duration::from_secs(3600))), 100, 9..9),
        (Begin::Start, 0, 0..0),
    ] {
        let page = given!(trial, admin.read(topic.clone(), from, max));
        assert_eq!(shown(&page.events), expected.clone().collect::<Vec<_>>(), "{from:?}, at most {max}");
        let rest = given!(trial, admin.read(topic.clone(), Begin::Position(page.next), 100));
        assert_eq!(shown(&rest.events), (expected.end..9).collect::<Vec<_>>(), "behind {from:?}, {max}");
    }
    let unknown = trial.within("a page", admin.read(trial.topic("unknown"), Begin::Start, 1)).await;
    assert_eq!(unknown.expect_err("there is no such topic").code(), Code::NotFound);
}

pub(super) async fn unsettled_events_are_listed_without_those_that_are_parked(trial: Trial) {
    let topic = trial.topic("unsettled");
    trial.groups(&topic, &["group"]).await;
    trial.publish_numbers(&topic, 0..9).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.take(8).await;
    reader.settle(vec![ack(taken[0].tag), ack(taken[3].tag), park(taken[5].tag)]).await;
    let admin = admin(&trial);
    let page = given!(trial, admin.unsettled(name(&topic, "group"), None, 4));
    assert_eq!(shown(&page), [1, 2, 4, 6]);
    let rest = given!(trial, admin.unsettled(name(&topic, "group"), page.last().map(|last| last.position), 4));
    assert_eq!(shown(&rest), [7, 8]);
    let nobody = given!(trial, admin.unsettled(name(&topic, "nobody"), None, 100));
    assert_eq!(nobody.len(), 9, "a group that does not exist has settled nothing");
    let nowhere = given!(trial, admin.unsettled(name(&trial.topic("unknown"), "group"), None, 100));
    assert!(nowhere.is_empty());
}

pub(super) async fn parked_events_are_listed_in_topic_order_with_what_is_known(trial: Trial) {
    let topic = trial.topic("parked");
    trial.groups(&topic, &["group"]).await;
    trial.publish_numbers(&topic, 0..6).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.take(6).await;
    let aside = |n: usize, reason: Option<&str>| Settlement::Park {
        tag: taken[n].tag,
        attempts: n as u32,
        lanes: vec![(Lane(0xab), Mode::Exclusive)],
        reason: reason.map(str::to_owned),
    };
    reader.settle(vec![aside(4, None), aside(1, Some("declined")), aside(3, None)]).await;
    let admin = admin(&trial);
    let page = given!(trial, admin.parked(name(&topic, "group"), None, 2));
    let found: Vec<_> =
        page.iter().map(|parked| (number(&parked.stored.event), parked.attempts, parked.reason.as_deref())).collect();
    assert_eq!(found, [(1, 1, Some("declined")), (3, 3, None)]);
    assert!(page.iter().all(|parked| parked.lanes == ["00000000000000ab"]), "{page:?}");
    let rest = given!(trial, admin.parked(name(&topic, "group"), Some(page[1].stored.position), 2));
    assert_eq!(rest.iter().map(|parked| number(&parked.stored.event)).collect::<Vec<_>>(), [4]);
    assert!(given!(trial, admin.parked(name(&topic, "nobody"), None, 2)).is_empty());
}

pub(super) async fn an_event_is_ended_once_even_if_two_end_it_at_the_same_time(trial: Trial) {
    let (topic, results) = (trial.topic("ended"), trial.topic("results"));
    trial.groups(&topic, &["group"]).await;
    trial.groups(&results, &["group"]).await;
    trial.publish_numbers(&topic, 0..20).await;
    drop(trial.open(&topic, "group").await);
    let admin = admin(&trial);
    let open = given!(trial, admin.unsettled(name(&topic, "group"), None, 100));
    // Each of the two would publish something of its own.
    let orders = |who: u64| {
        let each = open
            .iter()
            .map(|stored| ended(stored.position, vec![to(&results, event(100 * who + number(&stored.event)))]));
        each.collect::<Vec<_>>()
    };
    let both = async {
        tokio::join!(admin.end(name(&topic, "group"), orders(1)), admin.end(name(&topic, "group"), orders(2)))
    };
    let (first, second) = trial.within("two who end", both).await;
    let (first, second) = (given!(trial, std::future::ready(first)), given!(trial, std::future::ready(second)));
    let once = first.iter().zip(&second).all(|(first, second)| first != second);
    assert!(once && first.len() == 20, "each by one of the two: {first:?} {second:?}");
    let again = given!(trial, admin.end(name(&topic, "group"), orders(3)));
    assert_eq!(again, vec![false; 20], "and never again");
    let mut reader = trial.open(&topic, "group").await;
    trial.expect_rest(&topic, &mut reader, &[]).await;
    let published = trial.rest(&results, &mut trial.open(&results, "group").await).await;
    let mut published: Vec<_> = published.iter().map(|taken| number(&taken.envelope) % 100).collect();
    published.sort_unstable();
    assert_eq!(published, (0..20).collect::<Vec<_>>(), "one result for each");
}

pub(super) async fn what_an_end_publishes_is_there_with_it_after_a_restart(mut trial: Trial) {
    for ending in Ending::ALL {
        let (topic, results) = (trial.topic("ended"), trial.topic("results"));
        trial.groups(&topic, &["group"]).await;
        trial.groups(&results, &["group"]).await;
        trial.publish_numbers(&topic, 0..4).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.take(4).await;
        reader.settle(vec![park(taken[1].tag), ack(taken[3].tag)]).await;
        drop(reader);
        // Parked ones can be ended, too; what is settled is not.
        let stored = given!(trial, admin(&trial).read(topic.clone(), Begin::Start, 4)).events;
        let orders = [1, 2, 3].map(|n: usize| ended(stored[n].position, vec![to(&results, event(10 + n as u64))]));
        let answers = given!(trial, admin(&trial).end(name(&topic, "group"), orders.to_vec()));
        assert_eq!(answers, [true, true, false]);
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &[0]).await;
        assert!(trial.within("parked", reader.settler.parked()).await.expect("listing works").is_empty());
        let mut results_of = trial.open(&results, "group").await;
        trial.expect_rest(&results, &mut results_of, &[11, 12]).await;
    }
}

pub(super) async fn a_delivery_is_ended_under_the_hands_of_its_holder(trial: Trial) {
    let (topic, results) = (trial.topic("held"), trial.topic("results"));
    trial.groups(&topic, &["group"]).await;
    trial.groups(&results, &["group"]).await;
    trial.publish_numbers(&topic, 0..3).await;
    let mut reader = trial.open_with_credit(&topic, "group", 2).await;
    let taken = reader.take(2).await;
    let stored = given!(trial, admin(&trial).read(topic.clone(), Begin::Start, 3)).events;
    let orders = vec![ended(stored[0].position, Vec::new()), ended(stored[1].position, Vec::new())];
    assert_eq!(given!(trial, admin(&trial).end(name(&topic, "group"), orders)), [true, true]);
    // Credit is free again, and what the holder says does nothing.
    reader.expect(&[2]).await;
    let publish = vec![to(&results, event(7))];
    let late = Settlement::Ack { tag: taken[0].tag, publish, mark: true };
    reader.settle(vec![late, park(taken[1].tag), Settlement::Return { tag: taken[1].tag }]).await;
    assert!(trial.within("parked", reader.settler.parked()).await.expect("listing works").is_empty());
    trial.expect_rest(&results, &mut trial.open(&results, "group").await, &[]).await;
    drop(reader);
    trial.expect_rest(&topic, &mut trial.open(&topic, "group").await, &[2]).await;
}

pub(super) async fn ending_what_is_not_there_is_refused_and_does_nothing(trial: Trial) {
    let topic = trial.topic("missing");
    trial.groups(&topic, &["group"]).await;
    trial.publish_numbers(&topic, [0]).await;
    drop(trial.open(&topic, "group").await);
    let page = given!(trial, admin(&trial).read(topic.clone(), Begin::Start, 1));
    let orders = || vec![ended(page.events[0].position, Vec::new()), ended(page.next + 1000, Vec::new())];
    given!(trial, admin(&trial).end(name(&topic, "group"), Vec::new()));
    let refused = trial.within("ending", admin(&trial).end(name(&topic, "group"), orders())).await;
    assert_eq!(refused.expect_err("one is not there").code(), Code::NotFound);
    let refused = trial.within("ending", admin(&trial).end(name(&topic, "nobody"), orders()[..1].to_vec())).await;
    assert_eq!(refused.expect_err("there is no such group").code(), Code::NotFound);
    trial.expect_rest(&topic, &mut trial.open(&topic, "group").await, &[0]).await;
}

pub(super) async fn an_ended_event_is_remembered_by_the_inbox(trial: Trial) {
    let topic = trial.topic("inbox");
    trial.groups(&topic, &["group"]).await;
    let first = event(1);
    trial.publish(&topic, [first.clone()]).await;
    drop(trial.open(&topic, "group").await);
    let open = given!(trial, admin(&trial).unsettled(name(&topic, "group"), None, 1));
    given!(trial, admin(&trial).end(name(&topic, "group"), vec![ended(open[0].position, Vec::new())]));
    if let Some(window) = trial.broker().capabilities().dedup_window {
        trial.pass(window + Duration::from_secs(1)).await;
    }
    trial.publish(&topic, [first, event(2)]).await;
    trial.expect_rest(&topic, &mut trial.open(&topic, "group").await, &[2]).await;
}

pub(super) async fn parked_events_are_taken_back_into_their_place_while_nobody_runs(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("unparked");
        trial.groups(&topic, &["group"]).await;
        trial.publish_numbers(&topic, 0..6).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.take(4).await;
        reader.settle(vec![park(taken[3].tag), park(taken[1].tag), park(taken[2].tag), ack(taken[0].tag)]).await;
        let parked = given!(trial, admin(&trial).parked(name(&topic, "group"), None, 10));
        let positions: Vec<_> = parked.iter().map(|parked| parked.stored.position).collect();
        // Somebody might do the same.
        let busy = trial.within("unparking", admin(&trial).unpark(name(&topic, "group"), positions.clone())).await;
        let Err(busy) = busy else { panic!("an instance has the subscription open") };
        if busy.code() == Code::NeedNotMet {
            return;
        }
        assert_eq!(busy.code(), Code::GroupBusy);
        drop(reader);
        let wrong = vec![positions[0], positions[0]];
        let refused = trial.within("unparking", admin(&trial).unpark(name(&topic, "group"), wrong)).await;
        assert_eq!(refused.expect_err("it is parked once").code(), Code::NotParked);
        assert_eq!(given!(trial, admin(&trial).parked(name(&topic, "group"), None, 10)).len(), 3, "nothing was done");
        given!(trial, admin(&trial).unpark(name(&topic, "group"), vec![positions[2], positions[0]]));
        if trial.fixture().restarts() {
            trial.restart(ending).await;
        }
        let mut reader = trial.open(&topic, "group").await;
        trial.expect_rest(&topic, &mut reader, &[1, 3, 4, 5]).await;
    }
}

pub(super) async fn parked_events_taken_back_come_in_their_place_on_the_same_connection(trial: Trial) {
    let topic = trial.topic("unparked");
    trial.groups(&topic, &["group"]).await;
    trial.publish_numbers(&topic, 0..4).await;
    let mut reader = trial.open(&topic, "group").await;
    let taken = reader.take(4).await;
    reader.settle(vec![park(taken[1].tag), ack(taken[3].tag)]).await;
    drop(reader);
    let parked = given!(trial, admin(&trial).parked(name(&topic, "group"), None, 10));
    given!(trial, admin(&trial).unpark(name(&topic, "group"), vec![parked[0].stored.position]));
    let mut reader = trial.open(&topic, "group").await;
    let rest = trial.expect_rest(&topic, &mut reader, &[0, 1, 2]).await;
    assert!(rest.iter().all(|rest| rest.attempt == 1), "attempts start anew");
}

pub(super) async fn a_group_that_is_kept_gets_everything_that_was_retained(trial: Trial) {
    let topic = trial.topic("kept");
    trial.publish_numbers(&topic, 0..3).await;
    for _ in 0..2 {
        given!(trial, admin(&trial).keep(name(&topic, "kept")));
    }
    let groups = given!(trial, admin(&trial).groups(Some(topic.clone())));
    assert_eq!(groups.iter().map(|info| info.subscription.group.as_str()).collect::<Vec<_>>(), ["kept"]);
    let mut reader = trial.open(&topic, "kept").await;
    let taken = reader.expect(&[0, 1, 2]).await;
    reader.ack(&taken[..1]).await;
    drop(reader);
    given!(trial, admin(&trial).keep(name(&topic, "kept")));
    trial.expect_rest(&topic, &mut trial.open(&topic, "kept").await, &[1, 2]).await;
}

pub(super) async fn a_replay_handles_again_from_there_and_only_from_there(mut trial: Trial) {
    for ending in Ending::ALL {
        let topic = trial.topic("replayed");
        trial.publish_numbers(&topic, 0..10).await;
        let mut reader = trial.open(&topic, "group").await;
        let taken = reader.take(10).await;
        let not_before = trial.now();
        // Two stay open before and behind the place, one is parked on either side.
        let acks = [0, 1, 3, 5, 6, 8].map(|n: usize| marked(taken[n].tag));
        let defer = Settlement::Defer { tag: taken[9].tag, attempts: 3, not_before };
        reader.settle([&acks[..], &[park(taken[4].tag), park(taken[7].tag), defer]].concat()).await;
        let stored = given!(trial, admin(&trial).read(topic.clone(), Begin::Start, 10)).events;
        let from = Begin::Position(stored[5].position);
        let busy = trial.within("a replay", admin(&trial).replay(name(&topic, "group"), from)).await;
        assert_eq!(busy.expect_err("an instance has it open").code(), Code::GroupBusy);
        let late = taken[9].tag;
        let settler = reader.settler.clone();
        drop(reader);
        let begun = given!(trial, admin(&trial).replay(name(&topic, "group"), from));
        assert_eq!(begun, stored[5].position);
        // Whoever still has something from before has nothing any more.
        let _ = trial.within("settling", settler.settle(vec![marked(late)])).await;
        trial.restart(ending).await;
        let mut reader = trial.open(&topic, "group").await;
        let rest = trial.expect_rest(&topic, &mut reader, &[2, 5, 6, 7, 8, 9]).await;
        assert!(rest.iter().all(|rest| rest.attempt == 1), "deferrals from there on are forgotten");
        let parked = trial.within("parked", reader.settler.parked()).await.expect("listing works");
        assert_eq!(parked.len(), 1, "what was parked before stays parked");
        reader.ack(&rest).await;
        drop(reader);
        assert_eq!(given!(trial, admin(&trial).replay(name(&topic, "group"), Begin::Start)), stored[0].position);
        let mut reader = trial.open(&topic, "group").await;
        let all = reader.take(10).await;
        reader.check(&all, &(0..10).collect::<Vec<_>>());
        let unknown = trial.within("a replay", admin(&trial).replay(name(&topic, "nobody"), Begin::Start)).await;
        assert_eq!(unknown.expect_err("there is no such group").code(), Code::NotFound);
    }
}

pub(super) async fn a_journey_tells_what_became_of_an_event_and_what_it_caused(mut trial: Trial) {
    let (orders, results) = (trial.topic("orders"), trial.topic("results"));
    trial.groups(&orders, &["a", "b"]).await;
    trial.groups(&results, &["a"]).await;
    let [cause, middle, effect, last, sibling] = [0, 1, 2, 3, 4].map(event);
    let because = |mut envelope: commute_core::Envelope, of: &commute_core::Envelope| {
        envelope.extensions.set(extension::CAUSATION_ID, of.id.as_str()).expect("a valid name");
        envelope
    };
    let middle = because(middle, &cause);
    let (effect, sibling) = (because(effect, &middle), because(sibling, &cause));
    let last = because(last, &effect);
    trial.publish_all(vec![to(&orders, cause.clone()), to(&orders, middle.clone()), to(&orders, sibling)]).await;
    drop(trial.open(&orders, "b").await);
    let mut reader = trial.open(&orders, "a").await;
    let taken = reader.take(3).await;
    let not_before = trial.now();
    let parked = |reason: &str| Settlement::Park {
        tag: taken[1].tag,
        attempts: 2,
        lanes: Vec::new(),
        reason: Some(reason.to_owned()),
    };
    reader.settle(vec![marked(taken[0].tag)]).await;
    reader.settle(vec![Settlement::Defer { tag: taken[1].tag, attempts: 1, not_before }]).await;
    reader.settle(vec![parked("declined")]).await;
    let aside = trial.within("parked", reader.settler.parked()).await.expect("listing works");
    let back = trial.within("unparking", reader.settler.unpark(vec![aside[0].tag])).await.expect("unparking works");
    let publish = vec![to(&results, effect.clone())];
    reader.settle(vec![Settlement::Ack { tag: back[0].tag, publish, mark: true }]).await;
    trial.publish(&results, [last.clone()]).await;
    drop(reader);
    for round in 0..2 {
        let journey = given!(trial, admin(&trial).journey(middle.id.clone(), 100));
        let events: Vec<_> = journey.iter().map(|traced| number(&traced.stored.event)).collect();
        assert_eq!(events, [0, 1, 2, 3], "its cause, itself, and what it caused; not what else its cause caused");
        let causes: Vec<_> = journey.iter().map(|traced| traced.cause.clone()).collect();
        assert_eq!(causes, [None, Some(cause.id.clone()), Some(middle.id.clone()), Some(effect.id.clone())]);
        let of = |group: &str| {
            let steps = journey[1].steps.iter().filter(|step| step.group == group);
            steps.map(|step| step.what.clone()).collect::<Vec<_>>()
        };
        let expected = [
            Happened::Deferred { attempts: 1, not_before },
            Happened::Parked { attempts: 2, reason: Some("declined".to_owned()) },
            Happened::Unparked,
            Happened::Settled,
        ];
        assert_eq!(of("a"), expected);
        assert_eq!(of("b"), [Happened::Open]);
        let short = given!(trial, admin(&trial).journey(middle.id.clone(), 3));
        assert_eq!(short.iter().map(|traced| number(&traced.stored.event)).collect::<Vec<_>>(), [0, 1, 2]);
        let nothing = given!(trial, admin(&trial).journey(event(9).id, 100));
        assert!(nothing.is_empty());
        if round == 0 && trial.fixture().restarts() {
            trial.restart(Ending::Kill).await;
        }
    }
}

pub(super) async fn what_a_broker_does_not_have_is_refused_with_its_code(trial: Trial) {
    let topic = trial.topic("refused");
    trial.groups(&topic, &["group"]).await;
    trial.publish_numbers(&topic, [0]).await;
    drop(trial.open(&topic, "group").await);
    let subscription = || name(&topic, "group");
    let requests = vec![
        Request::Topics { after: None, max: 1 },
        Request::Groups { topic: Some(topic.to_string()) },
        Request::Read { topic: topic.to_string(), from: Begin::Start, max: 1 },
        Request::Unsettled { subscription: subscription(), after: None, max: 1 },
        Request::Parked { subscription: subscription(), after: None, max: 1 },
        Request::Journey { id: event(1).id, max: 1 },
        Request::Keep { subscription: subscription() },
        Request::End { subscription: subscription(), ended: Vec::new() },
        Request::Unpark { subscription: subscription(), positions: Vec::new() },
        Request::Replay { subscription: subscription(), from: Begin::End },
    ];
    let has_admin = trial.broker().admin().is_some();
    for request in requests {
        let asked = format!("{request:?}");
        let is_replay = matches!(request, Request::Replay { .. });
        let gives = !is_replay || trial.broker().capabilities().replay;
        let reply = trial.within("an answer", answer(&**trial.broker(), request)).await;
        match reply {
            Reply::Refused { code, .. } => assert_eq!(code, Code::NeedNotMet.number(), "{asked}"),
            reply => assert!(has_admin && gives, "{asked} is answered {reply:?} by a broker that does not have it"),
        }
    }
}
