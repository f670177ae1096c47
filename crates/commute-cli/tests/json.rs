//! JSON output follows its schemas, whatever was asked, while an owner runs and while none does.

mod support;

use serde_json::Value;
use support::{Place, follows};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "it is the service that the others start"]
async fn the_service() {
    support::serve().await;
}

fn publish(place: &Place, id: &str, key: &str, wrong: &str) -> String {
    let event = serde_json::json!({ "key": key, "wrong": wrong }).to_string();
    let delay = if wrong == "late" { "1h" } else { "0s" };
    let args = ["publish", "orders", &event, "--type", "order", "--id", id, "--key", key, "--delay", delay, "--json"];
    place.run(&args).done()
}

/// What only looks, and the schema of its lines.
const LOOKS: [(&str, &[&str]); 9] = [
    ("topics", &["topics"]),
    ("tail", &["tail", "orders"]),
    ("status", &["status"]),
    ("trace", &["trace", "o-2"]),
    ("dead", &["dead", "list"]),
    ("dead", &["dead", "show", "o-2"]),
    ("parked", &["parked", "list"]),
    ("parked", &["parked", "show", "inventory@orders", "o-3"]),
    ("doctor", &["doctor"]),
];

fn json(place: &Place, args: &[&str]) -> support::Ran {
    place.run(&[args, &["--json"]].concat())
}

#[test]
fn whatever_is_looked_at_follows_its_schema() {
    let place = Place::new();
    let service = place.service();
    follows("published", &publish(&place, "o-1", "a", ""));
    for (id, key, wrong) in [("o-2", "b", "reject"), ("o-3", "c", "park"), ("o-4", "c", ""), ("o-5", "d", "late")] {
        publish(&place, id, key, wrong);
    }
    // What is late does not let it become idle, so it stops when the rest is settled.
    place.run(&["pause", "inventory@orders"]).done();
    place.run(&["resume", "inventory@orders"]).done();
    while place.run(&["parked", "list", "--json"]).json().len() < 2
        || place.run(&["dead", "list", "--json"]).out.is_empty()
    {}
    for (schema, args) in LOOKS.iter().chain(&[("lanes", &["lanes"][..]), ("contract", &["contract"])]) {
        follows(schema, &json(&place, args).done());
    }
    for (args, result) in [
        (&["pause", "inventory@orders", "--key", "x"][..], "paused"),
        (&["resume", "inventory@orders", "--key", "x"], "resumed"),
        (&["skip", "inventory@orders", "o-3", "--yes"], "skipped"),
    ] {
        let out = json(&place, args).done();
        follows("done", &out);
        assert!(out.contains(result), "{out}");
    }
    service.stop();
    publish(&place, "o-6", "e", "park");
    let service = place.service();
    while place.run(&["parked", "list", "--json"]).json().is_empty() {}
    follows("decided", &json(&place, &["dead", "redrive", "o-2", "nothing"]).out);
    service.stop();
    for (schema, args) in LOOKS.iter().filter(|(_, args)| !args.contains(&"o-3")) {
        follows(schema, &json(&place, args).done());
    }
    follows("decided", &json(&place, &["dead", "discard", "--all", "--yes"]).done());
    follows("done", &json(&place, &["parked", "release", "inventory@orders", "o-6"]).done());
    follows("done", &json(&place, &["replay", "inventory@orders", "--from", "start", "--yes"]).done());
}

#[test]
fn a_configuration_is_shown_with_its_places_and_without_its_secrets() {
    let place = Place::new();
    let file = place.path("commute.toml");
    std::fs::write(&file, "broker = 'amqp://me:hunter2@127.0.0.1:1/%2f'\nworkers = 7\n").unwrap();
    let file = file.to_str().unwrap();
    let unset = |args: &[&str]| {
        support::Ran::of(place.command(&[args, &["--json"]].concat()).env_remove("COMMUTE_BROKER").output().unwrap())
    };
    let ran = unset(&["contract", "--config", file]);
    follows("configuration", &ran.out);
    assert!(ran.out.contains("commute.toml:2:11") && ran.out.contains("\"7\""), "{}", ran.out);
    assert!(!format!("{}{}", ran.out, ran.err).contains("hunter2"));
    assert_ne!(ran.code, 0, "that broker cannot be reached");
    std::fs::write(file, "wokers = 7\n").unwrap();
    let ran = unset(&["contract", "--config", file]);
    follows("error", &ran.err);
    assert!(ran.err.contains("did you mean"), "{}", ran.err);
}

#[test]
fn what_fails_says_so_as_json_too() {
    let place = Place::new();
    publish(&place, "o-1", "a", "");
    follows("explain", &json(&place, &["explain"]).done());
    follows("new", &json(&place, &["new", "hello"]).done());
    for args in [
        &["trace", "nothing"][..],
        &["dead", "discard", "--all"],
        &["publish", "no topic", "1", "--type", "t"],
        &["lanes"],
    ] {
        let ran = json(&place, args);
        follows("error", &ran.err);
        let said: Value = serde_json::from_str(&ran.err).unwrap();
        assert_eq!(said["error"]["exit"].as_i64(), Some(i64::from(ran.code)), "{said}");
    }
    let ran = place.feed(&["publish", "orders", "--type", "t", "--json"], "{]\n");
    follows("malformed", &ran.err);
}
