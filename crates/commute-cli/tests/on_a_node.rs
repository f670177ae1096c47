//! On a node: every command reaches it by its URL, and the services that are connected to it through it.

mod support;

use std::io::{BufRead, BufReader};

use serde_json::Value;
use support::{Place, Ran, Service, follows};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the service that the others start"]
async fn the_service() {
    support::serve().await;
}

fn publish(place: &Place, orders: &[(&str, &str, &str)]) {
    for (id, key, wrong) in orders {
        let event = serde_json::json!({ "key": key, "wrong": wrong }).to_string();
        place.run(&["publish", "orders", &event, "--type", "order", "--id", id, "--key", key]).done();
    }
}

/// Lines of a look as JSON, once everybody who runs has said something.
fn looked(place: &Place, args: &[&str]) -> Vec<Value> {
    let ran = place.run(&[args, &["--json"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.json()
}

/// How often the instances of an app have handled an event.
fn handled(place: &Place, app: &str) -> u64 {
    let lines = looked(place, &["status"]);
    let of_app = lines.iter().filter(|line| line["kind"] == "app" && line["app"] == app);
    of_app.map(|line| line["stats"]["subscriptions"][0]["handled"].as_u64().unwrap()).sum()
}

/// Waits until just these run, and none has a pause from before.
fn run(place: &Place, services: &[(&str, &Service)]) {
    let mut wanted: Vec<_> = services.iter().map(|(app, service)| (app.to_string(), service.instance())).collect();
    wanted.sort();
    loop {
        let ran = place.run(&["contract", "--json"]);
        let text = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        let mut found: Vec<_> = ran.json().iter().map(|line| (text(line, "app"), text(line, "instance"))).collect();
        found.sort();
        if found == wanted {
            return;
        }
    }
}

#[track_caller]
fn refused(ran: &Ran, exit: i32, code: &str) {
    follows("error", &ran.err);
    let said: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((ran.code, said["error"]["code"].as_str()), (exit, Some(code)), "{said}");
}

#[test]
fn every_command_does_on_a_node_what_it_does_in_the_process_of_a_service() {
    let mut place = Place::new();
    let _node = place.node();
    let json = |args: &[&str]| place.run(&[args, &["--json"]].concat());
    refused(&json(&["tail", "nothing"]), 3, "CM0034");
    assert_eq!(json(&["lanes"]).code, 3, "no service runs yet");
    let (inventory, mut shipping) = (place.service(), place.named("shipping"));
    publish(&place, &[("o-1", "a", ""), ("o-2", "b", "reject"), ("o-3", "c", "park"), ("o-4", "c", "")]);
    run(&place, &[("inventory", &inventory), ("shipping", &shipping)]);
    shipping.idle();
    while looked(&place, &["parked", "list"]).len() < 2 || looked(&place, &["dead", "list"]).is_empty() {}
    let instance = format!("inventory/{}", inventory.instance());
    for (schema, args) in [
        ("published", &["publish", "news", "1", "--type", "t", "--id", "n-1"][..]),
        ("topics", &["topics"]),
        ("tail", &["tail", "orders"]),
        ("status", &["status"]),
        ("lanes", &["lanes"]),
        ("lanes", &["lanes", "--app", &instance]),
        ("trace", &["trace", "o-2"]),
        ("dead", &["dead", "list"]),
        ("dead", &["dead", "show", "o-2"]),
        ("parked", &["parked", "list"]),
        ("parked", &["parked", "show", "inventory@orders", "o-3"]),
        ("contract", &["contract"]),
        ("contract", &["contract", "--app", "shipping"]),
        ("doctor", &["doctor"]),
        ("done", &["pause", "inventory@orders"]),
        ("done", &["resume", "inventory@orders"]),
        ("done", &["pause", "shipping@orders", "--key", "key:a"]),
        ("done", &["resume", "shipping@orders", "--key", "key:a"]),
        ("done", &["parked", "drop", "inventory@orders", "o-4", "--yes"]),
        ("done", &["parked", "release", "inventory@orders", "--key", "key:c"]),
    ] {
        follows(schema, &json(args).done());
    }
    // Released, it failed again.
    while looked(&place, &["parked", "list"]).is_empty() {}
    follows("done", &json(&["skip", "inventory@orders", "o-3", "--yes"]).done());
    let lanes = place.run(&["lanes"]).done();
    assert_eq!(lanes, "no event waits in a lane\n");
    let doctor = place.run(&["doctor"]).done();
    assert!(doctor.contains(&instance) && doctor.contains("shipping/"), "{doctor}");
    follows("decided", &json(&["dead", "redrive", "o-2"]).done());
    follows("decided", &json(&["dead", "discard", "o-3", "--yes"]).done());
    for args in [
        &["pause", "nobody@orders"][..],
        &["resume", "inventory@nothing"],
        &["skip", "inventory@orders", "o-77", "--yes"],
        &["parked", "release", "nobody@orders", "--all"],
        &["replay", "nobody@orders", "--from", "start", "--yes"],
    ] {
        refused(&json(args), 3, "CM0034");
    }
    for args in [&["lanes", "--app", "nobody"][..], &["parked", "show", "nobody@orders", "o-1"]] {
        assert_eq!(json(args).code, 3, "{args:?}");
    }
    assert_eq!(json(&["resume", "inventory@orders"]).code, 4, "it is not paused");
    refused(&json(&["parked", "release", "inventory@orders", "o-1"]), 4, "CM0029");
    refused(&json(&["replay", "inventory@orders", "--from", "start", "--yes"]), 5, "CM0035");
    inventory.stop();
    run(&place, &[("shipping", &shipping)]);
    follows("done", &json(&["replay", "inventory@orders", "--from", "start", "--yes"]).done());
}

#[test]
fn a_pause_holds_in_every_process_that_serves_the_subscription_and_what_waits_is_seen_there() {
    let mut place = Place::new();
    let _node = place.node();
    let (mut one, mut two) = (place.repaired(), place.repaired());
    let mut shipping = place.named("shipping");
    run(&place, &[("inventory", &one), ("inventory", &two), ("shipping", &shipping)]);
    assert_eq!(place.run(&["pause", "inventory@orders"]).done(), "paused inventory@orders\n");
    assert_eq!(place.run(&["pause", "inventory@orders"]).code, 4);
    let lines: String = (0..60).map(|n| format!("{{\"key\":\"{n}\"}}\n")).collect();
    place.feed(&["publish", "orders", "--type", "order"], &lines).done();
    shipping.idle();
    assert_eq!((handled(&place, "inventory"), handled(&place, "shipping")), (0, 60));
    // What was on its way to them goes back, so that it can be given up, for example.
    let group = |line: &&Value| line["subscription"] == "inventory@orders";
    while looked(&place, &["status"]).iter().find(group).unwrap()["backlog"] != 60 {}
    let third = looked(&place, &["tail", "orders", "--from", "3", "--limit", "1"]).remove(0);
    place.run(&["skip", "inventory@orders", third["event"]["id"].as_str().unwrap(), "--yes"]).done();
    place.run(&["resume", "inventory@orders"]).done();
    one.idle();
    two.idle();
    assert_eq!(handled(&place, "inventory"), 59);
    // A key is held wherever it turns up.
    place.run(&["pause", "inventory@orders", "--key", "key:x"]).done();
    publish(&place, &[("o-1", "x", ""), ("o-2", "x", "")]);
    let lane = loop {
        let lanes = place.run(&["lanes", "--json"]).done();
        if let Some(lane) = lanes.lines().find(|lane| lane.contains("key:x") && lane.contains("\"events\":2")) {
            break serde_json::from_str::<Value>(lane).unwrap();
        }
    };
    assert_eq!((&lane["paused"], &lane["head"]["event"]), (&true.into(), &"o-1".into()), "{lane}");
    assert!([one.instance(), two.instance()].contains(&lane["instance"].as_str().unwrap().to_owned()), "{lane}");
    assert_eq!(handled(&place, "inventory"), 59);
    // One has it, and the other does not know it.
    place.run(&["skip", "inventory@orders", "o-1", "--yes"]).done();
    place.run(&["resume", "inventory@orders", "--key", "key:x"]).done();
    one.idle();
    two.idle();
    assert_eq!(handled(&place, "inventory"), 60);
    assert_eq!(looked(&place, &["dead", "show", "o-1"])[0]["dead"]["subscription"], "inventory");
}

#[test]
fn what_two_processes_have_parked_comes_back_from_both() {
    let mut place = Place::new();
    let _node = place.node();
    let first = place.service();
    publish(&place, &[("o-1", "a", "park"), ("o-2", "a", ""), ("o-3", "b", "park")]);
    while looked(&place, &["parked", "list"]).len() < 3 {}
    // Both of these know what was parked before they began; one of them brings it back.
    first.stop();
    let (mut one, mut two) = (place.repaired(), place.repaired());
    run(&place, &[("inventory", &one), ("inventory", &two)]);
    let out = place.run(&["parked", "release", "inventory@orders", "--all"]).done();
    assert_eq!(out, "released 3 events of inventory@orders\n");
    assert_eq!(place.run(&["parked", "release", "inventory@orders", "--all"]).code, 4);
    // Nobody holds the lanes of what is not parked any more.
    publish(&place, &[("o-4", "a", ""), ("o-5", "b", "")]);
    one.idle();
    two.idle();
    assert_eq!(place.run(&["parked", "list"]).done(), "nothing is parked\n");
    assert_eq!(handled(&place, "inventory"), 5);
}

#[test]
fn who_does_not_answer_is_said_and_who_is_dead_is_forgotten() {
    let mut place = Place::new();
    let _node = place.node();
    let (one, two) = (place.repaired(), place.repaired());
    run(&place, &[("inventory", &one), ("inventory", &two)]);
    two.signal("-STOP");
    let looked = place.run(&["contract", "--json"]);
    assert_eq!((looked.code, looked.json().len()), (6, 1), "{}", looked.err);
    refused(&looked, 6, "CM0015");
    let silent = format!("inventory/{} ", two.instance());
    assert!(looked.err.contains(&silent) && looked.err.contains("the others did"), "{}", looked.err);
    let paused = place.run(&["pause", "inventory@orders", "--json"]);
    refused(&paused, 8, "CM0015");
    let did = format!("inventory/{} did it", one.instance());
    assert!(paused.err.contains(&silent) && paused.err.contains(&did), "{}", paused.err);
    two.kill();
    run(&place, &[("inventory", &one)]);
    place.run(&["resume", "inventory@orders"]).done();
}

#[test]
fn services_are_found_again_on_the_next_node_and_what_does_not_run_is_released_beside_them() {
    let mut place = Place::new();
    let node = place.node();
    let (inventory, shipping) = (place.service(), place.named("shipping"));
    publish(&place, &[("o-1", "a", "park")]);
    while looked(&place, &["parked", "list"]).is_empty() {}
    node.kill();
    let _node = place.node();
    run(&place, &[("inventory", &inventory), ("shipping", &shipping)]);
    inventory.stop();
    run(&place, &[("shipping", &shipping)]);
    let out = place.run(&["parked", "release", "inventory@orders", "--all"]).done();
    assert_eq!(out, "released 1 events of inventory@orders\n");
    let mut inventory = place.repaired();
    inventory.idle();
    assert_eq!(handled(&place, "inventory"), 1);
}

#[test]
fn a_node_says_what_its_bridges_promise() {
    let place = Place::new();
    let mut command = place.command(&["node", "--listen", "zmq://127.0.0.1:0", "--data"]);
    let mut child = command
        .arg(place.data())
        .args(["--bridge", "zmq+pub://127.0.0.1:0?topic=orders&group=shout&bind=true"])
        .spawn()
        .unwrap();
    let lines: Vec<_> = BufReader::new(child.stderr.take().unwrap()).lines().take(2).collect::<Result<_, _>>().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(
        lines[1],
        "bridge: orders out to tcp://127.0.0.1:0 for the group shout: acknowledged once it is said; who is not there does not get it"
    );
}
