//! Looking: what people and programs see, while an owner runs and while none does.

mod support;

use support::Place;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the service that the others start"]
async fn the_service() {
    support::serve().await;
}

/// A directory in which something of everything has happened; the service has stopped.
fn lived() -> Place {
    let place = Place::new();
    let mut service = place.service();
    for (id, event) in [
        ("o-1", r#"{"key":"a"}"#),
        ("o-2", r#"{"key":"b","wrong":"reject"}"#),
        ("o-3", r#"{"key":"c","wrong":"park"}"#),
        ("o-4", r#"{"key":"c"}"#),
    ] {
        let key = &event[8..9];
        place
            .run(&["publish", "orders", event, "--type", "order", "--id", id, "--key", key, "--source", "test"])
            .done();
    }
    service.idle();
    service.stop();
    place
}

/// Without what differs from run to run.
fn same(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let words = line.split("  ").map(str::trim).filter(|word| !word.is_empty()).map(|word| {
            let time = word.len() > 19 && word.ends_with('Z') && word.as_bytes()[10] == b'T';
            let id = word.len() == 36 && word.bytes().filter(|byte| *byte == b'-').count() == 4;
            if time {
                "TIME"
            } else if id {
                "ID"
            } else {
                word
            }
        });
        lines.push(words.collect::<Vec<_>>().join(" | "));
    }
    lines.join("\n")
}

#[test]
fn what_happened_is_seen_without_an_owner_and_with_one() {
    let place = lived();
    let looks: [(&[&str], &str); 7] = [
        (
            &["topics"],
            "TOPIC | EVENTS | FIRST | NEXT | GROUPS | YOUNGEST\n\
             orders | 4 | 0 | 4 | 1 | TIME\n\
             orders.dead | 1 | 0 | 1 | 1 | TIME",
        ),
        (
            &["tail", "orders", "--from", "start"],
            "0 | TIME | o-1 | order | a | {\"key\":\"a\"}\n\
             1 | TIME | o-2 | order | b | {\"key\":\"b\",\"wrong\":\"reject\"}\n\
             2 | TIME | o-3 | order | c | {\"key\":\"c\",\"wrong\":\"park\"}\n\
             3 | TIME | o-4 | order | c | {\"key\":\"c\"}",
        ),
        (
            &["tail", "orders", "--last", "3", "--key", "c", "--limit", "1"],
            "2 | TIME | o-3 | order | c | {\"key\":\"c\",\"wrong\":\"park\"}",
        ),
        (
            &["dead", "list"],
            "LETTER | CODE | TYPE | KEY | GROUP | ATTEMPTS | SINCE | REASON\n\
             ID | CM0022 | order | b | inventory@orders | 1 | TIME | no such customer",
        ),
        (&["dead", "list", "--code", "CM0023"], "no dead letter waits"),
        (
            &["parked", "list"],
            "SUBSCRIPTION | POSITION | EVENT | TYPE | KEY | ATTEMPTS | SINCE | REASON\n\
             inventory@orders | 2 | o-3 | order | c | 2 | TIME | the warehouse is closed (CM0027)\n\
             inventory@orders | 3 | o-4 | order | c | 0 | TIME | behind another",
        ),
        (&["trace", "o-1"], "o-1 | order | orders:0 | TIME\ninventory | settled | TIME"),
    ];
    for (args, expected) in looks {
        assert_eq!(same(&place.run(args).done()), expected, "{args:?} without an owner");
    }
    let _service = place.service();
    for (args, expected) in looks {
        assert_eq!(same(&place.run(args).done()), expected, "{args:?} with an owner");
    }
}

#[test]
fn status_says_who_answered_and_what_every_group_has_before_it() {
    let place = lived();
    let groups = "GROUP | BACKLOG | IN FLIGHT | RETRYING | PARKED | INSTANCES\n\
                  commute.dead@orders.dead | 1 | - | 0 | 0 | -\n\
                  inventory@orders | 0 | - | 0 | 2 | -";
    assert_eq!(same(&place.run(&["status"]).done()), format!("files that no process owns\n\n{groups}"));
    let _service = place.service();
    let out = same(&place.run(&["status"]).done());
    assert!(out.starts_with("the owner, at ") && out.contains("commute.sock"), "{out}");
    assert!(out.contains("inventory@orders | 0 | 0 | 0 | 2 | 1\n"), "{out}");
    assert!(out.ends_with("inventory | inventory@orders | 0 | 0 | 0 | 0 | 0 | 0 | 2"), "{out}");
    // Without a terminal, a watch is the same again and again.
    let out = place.run(&["status", "--watch", "--times", "2", "--interval", "1ms"]).done();
    assert_eq!(out.matches("GROUP").count(), 2);
}

#[test]
fn lanes_and_contracts_are_those_of_running_services() {
    let place = lived();
    for args in [["lanes"], ["contract"]] {
        let ran = place.run(&args);
        assert!(ran.code == 3 && ran.err.contains("no service runs here"), "{}", ran.err);
    }
    let _service = place.service();
    let out = same(&place.run(&["lanes"]).done());
    assert!(out.contains("inventory | key:c | 2 | 2 | parked: the warehouse is closed (CM0027) | o-3 | "), "{out}");
    let out = place.run(&["contract"]).done();
    assert!(out.contains("inventory") && out.contains("parked"), "{out}");
}

#[test]
fn a_listing_goes_on_where_the_page_before_ended() {
    let place = lived();
    let first = place.run(&["topics", "--limit", "1"]);
    assert!(first.err.contains("--after orders"), "{}", first.err);
    assert!(place.run(&["topics", "--after", "orders"]).done().contains("orders.dead"));
    let first = place.run(&["parked", "list", "--limit", "1"]);
    assert!(first.out.contains("o-3") && !first.out.contains("o-4"), "{}", first.out);
    let after = first.err.rsplit(' ').next().unwrap().trim().to_owned();
    let second = place.run(&["parked", "list", "--after", &after]).done();
    assert!(second.contains("o-4") && !second.contains("o-3"), "{second}");
    let letters = place.run(&["dead", "list", "--after", "orders.dead:0"]).done();
    assert_eq!(letters, "no dead letter waits\n");
}

#[test]
fn what_is_not_there_has_an_exit_code_of_its_own() {
    let place = lived();
    for args in [
        &["trace", "nothing"][..],
        &["dead", "show", "nothing"],
        &["dead", "list", "--topic", "nothing"],
        &["dead", "redrive", "nothing"],
        &["parked", "show", "inventory@orders", "o-1"],
        &["parked", "release", "inventory@orders", "o-1"],
        &["replay", "nobody@orders", "--from", "start", "--yes"],
        &["explain", "CM9999"],
        &["--broker", "embedded:nowhere", "topics"],
        &["--broker", "embedded:nowhere", "dead", "redrive", "--all"],
        &["--socket", "nowhere", "topics"],
    ] {
        let mut command = place.command(args);
        if args[0].starts_with("--") {
            command.env_remove("COMMUTE_BROKER");
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(3), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!place.path("nowhere").exists());
    let nothing = place.command(&["topics"]).env_remove("COMMUTE_BROKER").output().unwrap();
    // The directory is called as the one that is taken when none is named.
    assert_eq!(nothing.status.code(), Some(0));
    let elsewhere = tempfile::tempdir().unwrap();
    let nothing = place.command(&["topics"]).env_remove("COMMUTE_BROKER").current_dir(&elsewhere).output().unwrap();
    assert_eq!(nothing.status.code(), Some(2));
}

#[test]
fn a_doctor_finds_what_waits_and_says_what_to_do() {
    let place = lived();
    let out = place.run(&["doctor"]).done();
    assert!(
        out.contains("commute embedded log, format") && out.contains("1 wait") && out.contains("commute dead list")
    );
    let service = place.service();
    let out = place.run(&["doctor"]).done();
    assert!(out.contains("the owner, at") && out.contains("inventory") && out.contains("for its owner only"), "{out}");
    service.kill();
    // The socket of a dead owner is there, and nobody listens.
    let out = place.run(&["doctor"]).done();
    assert!(out.contains("files that no process owns"), "{out}");
    std::fs::write(place.data().join("commute.format"), "commute embedded log, format 99\n").unwrap();
    let ran = place.run(&["doctor"]);
    assert!(ran.code == 1 && ran.out.contains("CM0012") && ran.out.contains("what to do"), "{}", ran.out);
}

#[test]
fn one_who_follows_sees_what_comes() {
    use std::io::{BufRead, BufReader};

    let place = lived();
    let _service = place.service();
    let mut tail = place.command(&["tail", "orders", "--from", "end", "--follow", "--json"]).spawn().unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    // Whether it looked before this or not, it has not seen what comes later.
    let publish = |id: &str| place.run(&["publish", "orders", r#"{"key":"z"}"#, "--type", "order", "--id", id]).done();
    let mut n = 0;
    let seen = std::thread::spawn(move || lines.next().unwrap().unwrap());
    while !seen.is_finished() {
        n += 1;
        publish(&format!("late-{n}"));
    }
    assert!(seen.join().unwrap().contains("late-"));
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn one_who_follows_waits_for_a_topic_that_is_not_there_yet() {
    use std::io::{BufRead, BufReader};

    let place = lived();
    let mut tail = place.command(&["tail", "news", "--from", "end", "--follow", "--limit", "1"]).spawn().unwrap();
    let mut said = BufReader::new(tail.stderr.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "there is no topic news yet; waiting for it");
    place.run(&["publish", "news", "1", "--type", "t", "--id", "first"]).done();
    let seen = tail.wait_with_output().unwrap();
    assert!(seen.status.success() && String::from_utf8(seen.stdout).unwrap().contains("first"));
    assert_eq!(place.run(&["tail", "news2"]).code, 3, "one who does not follow is told at once");
}
