//! Looking at a directory that nobody owns: it shows what an owner would show, and changes nothing.

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use commute_core::admin::{Begin, Happened};
use commute_core::{Address, Admin, Broker, Code, EventId, Result, Settlement, SharedAdmin};
use commute_embedded::{DRIVER, Embedded, Options};
use support::{drain, event, open, topic};

fn options() -> Options {
    Options { segment_bytes: 8 << 10, prepare: true, ..Options::default() }
}

fn address(directory: &Path) -> Address {
    Address::parse(&format!("embedded:{}", directory.display())).unwrap()
}

async fn look(directory: &Path) -> Result<SharedAdmin> {
    (DRIVER.files.unwrap().read)(address(directory)).await
}

/// Every file with its bytes.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

/// Publishes over several segments, settles some, parks one, defers one.
async fn fill(broker: &Embedded) {
    for n in 0..200 {
        broker.publish(vec![event(&n.to_string(), "orders")]).await.unwrap();
    }
    let mut orders = open(broker, "orders", 1000).await.unwrap();
    let taken = drain(&mut orders).await.unwrap();
    let mut settlements: Vec<_> =
        taken[..50].iter().map(|taken| Settlement::Ack { tag: taken.tag, publish: Vec::new(), mark: true }).collect();
    let (tag, reason) = (taken[60].tag, Some("broken".to_owned()));
    settlements.push(Settlement::Park {
        tag,
        attempts: 2,
        lanes: vec![(commute_core::Lane(7), commute_core::Mode::READ)],
        reason,
    });
    let not_before = commute_core::Timestamp(77);
    settlements.push(Settlement::Defer { tag: taken[70].tag, attempts: 1, not_before });
    let mut effect = event("effect", "results");
    effect.envelope.extensions.set("causationid", "80").unwrap();
    settlements.push(Settlement::Ack { tag: taken[80].tag, publish: vec![effect], mark: true });
    orders.settler.settle(settlements).await.unwrap();
}

/// Everything that both can answer.
async fn seen(admin: &dyn Admin) -> String {
    let name = "group@orders".parse::<commute_core::SubscriptionName>().unwrap();
    let mut groups = admin.groups(None).await.unwrap();
    groups.iter_mut().for_each(|group| (group.in_flight, group.instances) = (None, None));
    format!(
        "{:#?}\n{groups:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
        admin.topics(None, 10).await.unwrap(),
        admin.read(topic("orders"), Begin::Start, 1000).await.unwrap(),
        admin.read(topic("orders"), Begin::Last(10), 1000).await.unwrap(),
        admin.unsettled(name.clone(), None, 1000).await.unwrap(),
        admin.parked(name, None, 10).await.unwrap(),
        admin.journey(EventId::new("80").unwrap(), 10).await.unwrap(),
    )
}

#[tokio::test]
async fn who_looks_sees_what_the_owner_saw_after_a_close_and_after_a_crash() {
    for close in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let broker = Embedded::open(directory.path(), options()).unwrap();
        fill(&broker).await;
        if close {
            broker.close().await.unwrap();
        }
        drop(broker);
        let before = files(directory.path());
        assert!(before.contains_key("outline"), "segments began, so there is an outline to look at");
        let found = seen(&*look(directory.path()).await.unwrap()).await;
        assert!(before == files(directory.path()), "nothing was changed");
        let broker = Embedded::open(directory.path(), options()).unwrap();
        assert_eq!(found, seen(broker.admin().unwrap()).await);
    }
}

#[tokio::test]
async fn who_looks_beside_an_owner_sees_a_moment_and_does_not_disturb() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Embedded::open(directory.path(), options()).unwrap();
    fill(&broker).await;
    let looking = look(directory.path()).await.unwrap();
    for n in 0..50 {
        broker.publish(vec![event(&format!("later-{n}"), "orders")]).await.unwrap();
    }
    assert_eq!(looking.read(topic("orders"), Begin::Last(1), 1).await.unwrap().next, 200);
    let looking = look(directory.path()).await.unwrap();
    assert_eq!(looking.read(topic("orders"), Begin::Last(1), 1).await.unwrap().next, 250);
    // Nobody who looks keeps an owner from starting.
    broker.close().await.unwrap();
    drop(broker);
    Embedded::open(directory.path(), options()).unwrap();
}

#[tokio::test]
async fn who_looks_can_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Embedded::open(directory.path(), options()).unwrap();
    fill(&broker).await;
    drop(broker);
    let admin = look(directory.path()).await.unwrap();
    let name = || "group@orders".parse::<commute_core::SubscriptionName>().unwrap();
    let refused = [
        admin.keep(name()).await.unwrap_err(),
        admin.end(name(), Vec::new()).await.unwrap_err(),
        admin.unpark(name(), Vec::new()).await.unwrap_err(),
        admin.replay(name(), Begin::Start).await.unwrap_err(),
    ];
    assert!(refused.iter().all(|error| error.code() == Code::NeedNotMet), "{refused:?}");
}

#[tokio::test]
async fn a_directory_that_is_missing_empty_foreign_or_of_a_later_format_stays_as_it_is() {
    let root = tempfile::tempdir().unwrap();
    let code = async |path: &Path| look(path).await.err().unwrap().code();
    assert_eq!(code(&root.path().join("missing")).await, Code::DirectoryUnusable);
    assert!(!root.path().join("missing").exists());
    assert_eq!(code(root.path()).await, Code::ForeignDirectory);
    std::fs::write(root.path().join("letter.txt"), "dear").unwrap();
    assert_eq!(code(root.path()).await, Code::ForeignDirectory);
    std::fs::write(root.path().join("commute.format"), "commute embedded log, format 3\n").unwrap();
    assert_eq!(code(root.path()).await, Code::UnknownFormat);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn damage_is_named_and_not_shown_as_an_older_log() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1 << 20, ..options() };
    let broker = Embedded::open(directory.path(), options).unwrap();
    fill(&broker).await;
    drop(broker);
    let path = directory.path().join("0000000001.log");
    let whole = std::fs::read(&path).unwrap();
    for byte in [200, 10_000] {
        let mut damaged = whole.clone();
        damaged[byte] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(look(directory.path()).await.err().unwrap().code(), Code::Damaged);
    }
    std::fs::write(&path, whole).unwrap();
    look(directory.path()).await.unwrap();
    std::fs::remove_file(path).unwrap();
    assert_eq!(look(directory.path()).await.err().unwrap().code(), Code::Damaged);
}

#[tokio::test]
async fn the_socket_is_in_the_directory_and_memory_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let files = DRIVER.files.unwrap();
    let expected = directory.path().join("commute.sock");
    assert_eq!((files.socket)(&address(directory.path())).unwrap(), expected);
    let broker = Embedded::open(directory.path(), options()).unwrap();
    assert_eq!(broker.socket(), Some(&*expected));
    let memory = Address::parse("memory:").unwrap();
    assert_eq!((files.socket)(&memory).unwrap_err().code(), Code::NeedNotMet);
    assert!((DRIVER.connect)(memory).await.unwrap().socket().is_none());
}

#[tokio::test]
async fn a_journey_is_found_in_the_log_when_no_id_is_remembered() {
    let directory = tempfile::tempdir().unwrap();
    let broker = Embedded::open(directory.path(), options()).unwrap();
    fill(&broker).await;
    drop(broker);
    let admin = look(directory.path()).await.unwrap();
    // Found from its effect, because there is no index by id without an owner.
    let journey = admin.journey(EventId::new("effect").unwrap(), 10).await.unwrap();
    let ids: Vec<_> = journey.iter().map(|traced| traced.stored.event.id.as_str()).collect();
    assert_eq!(ids, ["80", "effect"]);
    assert!(matches!(journey[0].steps[..], [ref step] if step.what == Happened::Settled && step.at.is_some()));
    assert!(journey[1].cause.as_ref().is_some_and(|cause| cause.as_str() == "80"));
    assert!(admin.journey(EventId::new("nothing").unwrap(), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn reading_can_begin_at_a_time_in_any_segment() {
    use commute_conformance::ManualClock;
    let clock = ManualClock::new();
    let directory = tempfile::tempdir().unwrap();
    let options = Options { clock: clock.clone(), tail_bytes: 1 << 10, ..options() };
    let broker = Embedded::open(directory.path(), options).unwrap();
    let begin = commute_core::Clock::now(&*clock);
    for n in 0..300 {
        clock.advance(std::time::Duration::from_secs(1));
        broker.publish(vec![event(&n.to_string(), if n % 3 == 0 { "others" } else { "orders" })]).await.unwrap();
    }
    broker.publish(vec![event("last", "others")]).await.unwrap();
    drop(broker);
    let admin = look(directory.path()).await.unwrap();
    for n in [0, 1, 2, 100, 101, 102, 298, 299, 300, 400] {
        let time = begin.plus(std::time::Duration::from_secs(n + 1));
        let page = admin.read(topic("orders"), Begin::Time(time), 1).await.unwrap();
        let expected = (n..300).find(|n| n % 3 != 0).map(|n| n.to_string());
        assert_eq!(page.events.first().map(|stored| stored.event.id.to_string()), expected, "from {n} on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_looks_while_an_owner_works_sees_a_moment_or_is_told_to_try_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    // Segments begin and go all the time.
    let options = || Options { segment_bytes: 1 << 10, prepare: false, retention_bytes: 4 << 10, ..Options::default() };
    drop(Embedded::open(&path, options()).unwrap());
    let working = tokio::spawn(async move {
        for _ in 0..6 {
            let broker = Embedded::open(&path, options()).unwrap();
            let mut orders = open(&broker, "orders", 10).await.unwrap();
            for _ in 0..60 {
                broker.publish(vec![event(&EventId::generate().to_string(), "orders")]).await.unwrap();
                let taken = orders.receiver.receive(1).await.unwrap();
                let ack = Settlement::Ack { tag: taken[0].tag, publish: Vec::new(), mark: true };
                orders.settler.settle(vec![ack]).await.unwrap();
            }
            broker.close().await.unwrap();
        }
    });
    let (mut looks, mut last) = (0, 0);
    while !working.is_finished() {
        looks += 1;
        let admin = match look(directory.path()).await {
            Ok(admin) => admin,
            Err(error) => {
                assert_eq!(error.code(), Code::DirectoryOwned, "{error:#}");
                continue;
            }
        };
        let Some(orders) = admin.topics(None, 1).await.unwrap().pop() else { continue };
        assert!(orders.next >= last, "time does not go back");
        last = orders.next;
        let page = admin.read(topic("orders"), Begin::Start, 1000).await.unwrap();
        let positions: Vec<_> = page.events.iter().map(|stored| stored.position).collect();
        assert_eq!(positions, (orders.first..orders.next).collect::<Vec<_>>(), "no gap, and nothing twice");
        let groups = admin.groups(None).await.unwrap();
        assert!(groups.iter().all(|group| group.settled_below <= Some(orders.next)), "{groups:?}");
    }
    working.await.unwrap();
    assert!(looks > 0);
}
