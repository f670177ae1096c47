//! Kills: whoever dies in the middle, each dead letter is where it was, or its original is where it was going.

mod support;

use std::collections::BTreeSet;

use support::{Place, Ran};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the service that the others start"]
async fn the_service() {
    support::serve().await;
}

const EVENTS: usize = 1200;
const ROUNDS: usize = 4;

fn dead(place: &Place) {
    let lines: String = (0..EVENTS).map(|n| format!("{{\"key\":\"{n}\",\"wrong\":\"reject\"}}\n")).collect();
    place.feed(&["publish", "orders", "--type", "order"], &lines).done();
    let mut service = place.service();
    service.idle();
    service.stop();
}

fn keys(ran: &Ran, of: impl Fn(&serde_json::Value) -> Option<String>) -> Vec<String> {
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.json().iter().filter_map(of).collect()
}

/// Counts where every order is; none may be nowhere, or in both places.
fn check(place: &Place) -> usize {
    let waiting = place.run(&["dead", "list", "--json", "--limit", "100000"]);
    let waiting = keys(&waiting, |letter| Some(letter["dead"]["event"]["data"]["key"].as_str()?.to_owned()));
    let there = place.run(&["tail", "orders", "--from", &EVENTS.to_string(), "--json"]);
    let redriven = keys(&there, |stored| {
        assert_eq!(stored["event"]["redrivefor"], "inventory", "{stored}");
        Some(stored["event"]["data"]["key"].as_str()?.to_owned())
    });
    let count = redriven.len();
    assert_eq!(waiting.len() + count, EVENTS, "one is in both places, or twice in one");
    let all: BTreeSet<_> = waiting.into_iter().chain(redriven).collect();
    assert_eq!(all.len(), EVENTS, "one is nowhere");
    count
}

/// Starts to redrive everything, and reads along until so many were.
fn until(place: &Place, many: usize) -> std::process::Child {
    use std::io::BufRead as _;

    let mut command = place.command(&["dead", "redrive", "--all", "--json"]);
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut lines = out.lines();
    for _ in 0..many {
        lines.next().unwrap().unwrap();
    }
    // It must not end because nobody reads along.
    std::thread::spawn(move || lines.for_each(drop));
    child
}

#[test]
fn a_program_that_is_killed_while_it_redrives_leaves_each_event_in_one_place() {
    for owned in [false, true] {
        let place = Place::new();
        dead(&place);
        let _service = owned.then(|| place.repaired());
        for round in 0..ROUNDS {
            let mut child = until(&place, 1 + round * 67);
            child.kill().unwrap();
            child.wait().unwrap();
            check(&place);
        }
        let code = place.run(&["dead", "redrive", "--all"]).code;
        assert!(code == 0 || code == 4, "{code}");
        assert_eq!(check(&place), EVENTS);
    }
}

#[test]
fn an_owner_that_is_killed_while_it_is_asked_leaves_each_event_in_one_place_and_the_program_says_what_it_knows() {
    let place = Place::new();
    dead(&place);
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        let service = place.repaired();
        let child = until(&place, 1 + round * 29);
        service.kill();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let redriven = check(&place);
        match output.status.code() {
            // It was faster than the kill.
            Some(0) => assert_eq!(redriven, EVENTS),
            code => {
                assert!(matches!(code, Some(6 | 8)), "{code:?}: {said}");
                assert!(said.contains("went away") && said.contains("redriven"), "{said}");
                assert_eq!(code == Some(8), said.contains("is unknown"), "{said}");
                interrupted += 1;
            }
        }
        if redriven == EVENTS {
            break;
        }
    }
    assert!(interrupted > 0, "every round was over before its kill");
    place.run(&["dead", "redrive", "--all"]);
    assert_eq!(check(&place), EVENTS);
}
