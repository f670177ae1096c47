//! What `commute new` makes, and what it refuses to make. That it compiles and passes its test, `pages` shows.

mod support;

use std::fs;
use std::path::Path;

use support::Place;

/// What is in a folder, hidden files too.
fn inside(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[test]
fn a_service_is_made_whole_and_named() {
    let place = Place::new();
    let said = place.run(&["new", "order-desk"]).done();
    assert!(said.contains("cd order-desk") && said.contains("cargo run"), "{said}");
    assert_eq!(inside(&place.path("")), ["order-desk"], "and nothing beside it");
    let folder = place.path("order-desk");
    assert_eq!(inside(&folder), [".gitignore", "Cargo.toml", "README.md", "commute.toml", "src", "tests"]);
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"order-desk\""), "{manifest}");
    assert!(manifest.contains(&format!("commute = {{ version = {:?} }}", env!("CARGO_PKG_VERSION"))), "{manifest}");
    let main = fs::read_to_string(folder.join("src/main.rs")).unwrap();
    assert!(main.contains("order_desk::app()"), "{main}");
    for file in ["Cargo.toml", "src/lib.rs", "src/main.rs", "tests/service.rs", "README.md"] {
        assert!(!fs::read_to_string(folder.join(file)).unwrap().contains("{{"), "{file}");
    }
}

#[test]
fn a_checkout_can_be_depended_on() {
    let place = Place::new();
    let root = fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
    place.run(&["new", "hello", "--commute", root.to_str().unwrap()]).done();
    let manifest = fs::read_to_string(place.path("hello/Cargo.toml")).unwrap();
    let path = format!("commute = {{ path = \"{}\" }}", root.join("crates/commute").display());
    assert!(manifest.contains(&path), "{manifest}");

    let ran = place.run(&["new", "other", "--commute", "hello"]);
    assert_eq!(ran.code, 3);
    assert!(ran.err.contains("hello is no checkout of commute"), "{}", ran.err);
    assert_eq!(inside(&place.path("")), ["hello"]);
}

#[test]
fn names_that_cannot_be_are_refused_with_the_reason() {
    let place = Place::new();
    for (name, why) in [
        ("", "it is empty"),
        ("Hello", "it has 'H' in it"),
        ("../hello", "it has '.' in it"),
        ("7up", "it does not begin with a letter"),
        ("_x", "it does not begin with a letter"),
        ("match", "it is a keyword of Rust"),
        ("tracing-subscriber", "a crate that the service needs"),
        ("test", "a folder of cargo's"),
        (&"x".repeat(65), "it is longer than 64 characters"),
    ] {
        let ran = place.run(&["new", name]);
        assert_eq!(ran.code, 2, "{name}: {}", ran.err);
        assert!(ran.err.contains(why) && ran.err.contains("what to do: "), "{name}: {}", ran.err);
        assert_eq!(inside(&place.path("")), [""; 0], "{name}");
    }
}

#[test]
fn what_is_there_already_stays_as_it_is() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    place.run(&["new", "empty"]).done();
    assert!(place.path("empty/src/lib.rs").exists());

    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/notes"), "mine").unwrap();
    fs::write(place.path("file"), "mine").unwrap();
    std::os::unix::fs::symlink("nowhere", place.path("link")).unwrap();
    for name in ["full", "file", "link"] {
        let ran = place.run(&["new", name]);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains(&format!("{name} is there already")), "{}", ran.err);
    }
    assert_eq!(inside(&place.path("full")), ["notes"]);
    assert_eq!(inside(&place.path("")), ["empty", "file", "full", "link"]);
}

#[test]
fn programs_are_told_what_was_made() {
    let place = Place::new();
    let made = place.run(&["new", "hello", "--json"]).json();
    assert_eq!(made[0]["folder"], "hello");
    for file in made[0]["files"].as_array().unwrap() {
        assert!(place.path("hello").join(file.as_str().unwrap()).is_file(), "{file}");
    }
}
