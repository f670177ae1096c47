//! Deciding: dead letters, parked events, pauses and replays, while an owner runs and while none does.

mod support;

use support::Place;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the service that the others start"]
async fn the_service() {
    support::serve().await;
}

/// Publishes orders; each goes wrong in its way.
fn publish(place: &Place, orders: &[(&str, &str, &str)]) {
    for (id, key, wrong) in orders {
        let event = serde_json::json!({ "key": key, "wrong": wrong }).to_string();
        place.run(&["publish", "orders", &event, "--type", "order", "--id", id, "--key", key]).done();
    }
}

fn lived(orders: &[(&str, &str, &str)]) -> Place {
    let place = Place::new();
    let mut service = place.service();
    publish(&place, orders);
    service.idle();
    service.stop();
    place
}

fn letters(place: &Place) -> Vec<String> {
    let listed = place.run(&["dead", "list", "--json"]);
    assert_eq!(listed.code, 0, "{}", listed.err);
    listed.json().iter().map(|letter| letter["dead"]["event"]["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_dead_letter_is_redriven_once_and_for_the_group_that_gave_it_up() {
    let place = lived(&[("o-1", "a", "reject"), ("o-2", "b", "reject")]);
    // By the id of the event that was given up, and nobody runs.
    let out = place.run(&["dead", "redrive", "o-1"]).done();
    assert_eq!(out, "redriven o-1 to orders, for inventory\n".replace("o-1", out.split(' ').nth(1).unwrap()));
    let again = place.run(&["dead", "redrive", "o-1"]);
    assert_eq!((again.code, again.out.as_str()), (4, "o-1 was redriven or discarded already\n"));
    assert_eq!(letters(&place), ["o-2"]);
    let mut service = place.repaired();
    let both = place.run(&["dead", "redrive", "o-1", "o-2"]);
    assert_eq!(both.code, 6, "{}", both.out);
    assert!(both.out.ends_with("1 redriven, 1 settled already\n"), "{}", both.out);
    service.idle();
    let trace = place.run(&["trace", "o-2"]).done();
    assert_eq!(trace.matches("inventory").count(), 2, "{trace}");
    assert!(letters(&place).is_empty());
    let shown = place.run(&["dead", "show", "o-2"]).done();
    assert!(shown.contains("settled") && shown.contains("no such customer"), "{shown}");
}

#[test]
fn what_is_redriven_and_fails_again_is_a_dead_letter_again_and_not_redriven_at_once() {
    let place = Place::new();
    let mut service = place.service();
    let lines: String = (0..500).map(|n| format!("{{\"key\":\"{n}\",\"wrong\":\"reject\"}}\n")).collect();
    place.feed(&["publish", "orders", "--type", "order"], &lines).done();
    service.idle();
    // The first ones have failed again before the last ones are redriven.
    assert_eq!(place.run(&["dead", "redrive", "--all"]).done(), "500 redriven\n");
    service.idle();
    assert_eq!(place.run(&["dead", "redrive", "--all"]).done(), "500 redriven\n");
}

#[test]
fn dead_letters_are_chosen_by_what_they_say_and_discarded_only_by_who_is_sure() {
    let place = lived(&[("o-1", "a", "reject"), ("o-2", "b", "reject"), ("o-3", "c", "reject")]);
    let unsure = place.run(&["dead", "discard", "--all"]);
    assert!(unsure.code == 7 && unsure.err.contains("--yes"), "{}", unsure.err);
    assert_eq!(place.run(&["dead", "discard", "--all", "--key", "b", "--yes"]).done(), "1 discarded\n");
    assert_eq!(place.run(&["dead", "discard", "--all", "--code", "CM0001", "--yes"]).code, 4);
    assert_eq!(letters(&place), ["o-1", "o-3"]);
    let _service = place.service();
    assert_eq!(place.run(&["dead", "discard", "o-1", "nothing", "--yes"]).code, 6);
    assert_eq!(letters(&place), ["o-3"]);
    assert_eq!(
        place.run(&["dead", "redrive", "--all", "--type", "order", "--group", "inventory"]).done(),
        "1 redriven\n"
    );
}

#[test]
fn a_parked_event_comes_back_with_what_hangs_together_whether_a_service_runs_or_not() {
    let place = lived(&[("o-1", "a", "park"), ("o-2", "a", ""), ("o-3", "b", "park"), ("o-4", "c", "park")]);
    let out = place.run(&["parked", "release", "inventory@orders", "--key", "b"]).done();
    assert_eq!(out, "released 1 events of inventory@orders\n");
    let mut service = place.repaired();
    service.idle();
    let out = place.run(&["parked", "release", "inventory@orders", "o-1"]).done();
    assert_eq!(out, "released 2 events of inventory@orders\n");
    service.idle();
    let out = place.run(&["parked", "release", "inventory@orders", "--all"]).done();
    assert_eq!(out, "released 1 events of inventory@orders\n");
    service.idle();
    assert_eq!(place.run(&["parked", "release", "inventory@orders", "--all"]).code, 4);
    assert_eq!(place.run(&["parked", "list"]).done(), "nothing is parked\n");
    service.stop();
    assert_eq!(place.run(&["parked", "release", "inventory@orders", "--all"]).code, 4);
}

#[test]
fn a_parked_event_is_dropped_without_a_dead_letter_whether_a_service_runs_or_not() {
    let place = lived(&[("o-1", "a", "park"), ("o-2", "b", "park"), ("o-3", "b", "")]);
    assert_eq!(place.run(&["parked", "drop", "inventory@orders", "o-1"]).code, 7);
    place.run(&["parked", "drop", "inventory@orders", "o-1", "--yes"]).done();
    let mut service = place.service();
    place.run(&["parked", "drop", "inventory@orders", "o-2", "--yes"]).done();
    service.idle();
    // What was parked behind it is handled.
    assert_eq!(place.run(&["parked", "list"]).done(), "nothing is parked\n");
    assert!(letters(&place).is_empty());
    assert_eq!(place.run(&["parked", "drop", "inventory@orders", "o-2", "--yes"]).code, 3);
}

#[test]
fn a_running_service_is_paused_resumed_and_relieved_of_an_event() {
    let place = lived(&[("o-1", "a", "park")]);
    assert_eq!(place.run(&["pause", "inventory@orders"]).code, 3);
    assert_eq!(place.run(&["skip", "inventory@orders", "o-1", "--yes"]).code, 3);
    let mut service = place.service();
    assert_eq!(place.run(&["resume", "inventory@orders"]).code, 4);
    assert_eq!(place.run(&["pause", "inventory@orders"]).done(), "paused inventory@orders\n");
    assert_eq!(place.run(&["pause", "inventory@orders"]).code, 4);
    publish(&place, &[("o-2", "b", "")]);
    let backlog = |place: &Place| place.run(&["status", "--json"]).json()[1]["backlog"].as_u64().unwrap();
    assert_eq!(backlog(&place), 1);
    place.run(&["resume", "inventory@orders"]).done();
    service.idle();
    assert_eq!(backlog(&place), 0);
    place.run(&["pause", "inventory@orders", "--key", "key:c"]).done();
    let lanes = place.run(&["lanes"]).done();
    assert!(lanes.contains("key:a"), "{lanes}");
    place.run(&["resume", "inventory@orders", "--key", "key:c"]).done();
    assert_eq!(place.run(&["skip", "inventory@orders", "o-1"]).code, 7);
    place.run(&["skip", "inventory@orders", "o-1", "--yes"]).done();
    assert_eq!(letters(&place), ["o-1"]);
    assert_eq!(place.run(&["skip", "inventory@orders", "o-1", "--yes"]).code, 3);
    assert_eq!(place.run(&["pause", "nobody@orders"]).code, 3);
    assert_eq!(place.run(&["replay", "inventory@orders", "--from", "start", "--yes"]).code, 5);
}

#[test]
fn a_group_that_does_not_run_handles_once_more_what_it_is_told_to() {
    let place = lived(&[("o-1", "a", ""), ("o-2", "b", "")]);
    assert_eq!(place.run(&["replay", "inventory@orders", "--from", "1"]).code, 7);
    let out = place.run(&["replay", "inventory@orders", "--from", "1", "--yes"]).done();
    assert_eq!(out, "inventory@orders goes on at position 1 when it starts\n");
    let mut service = place.service();
    service.idle();
    let status = place.run(&["status", "--json"]);
    let app = status.json().into_iter().find(|line| line["kind"] == "app").unwrap();
    assert_eq!(app["stats"]["subscriptions"][0]["handled"], 1, "{app}");
}
