//! The arrows: who may depend on whom, read from `cargo metadata` and from the engine's own words.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::tree::{Tree, tests_begin};

/// The one file of the engine that names backends.
const DRIVERS: &str = "crates/commute/src/drivers.rs";

/// What the tests of a backend may use beside the core.
const FOR_TESTS: &[&str] = &["commute-conformance", "commute-macros", "servers"];

/// Crates that bring a runtime or a database with them.
const RUNTIMES: &[&str] = &["tokio", "async-std", "smol", "futures-executor"];
const DATABASES: &[&str] = &["rusqlite", "libsqlite3-sys", "sqlx", "postgres", "redb", "fjall"];

/// Compares what the crates depend on, and what the engine names, with what is allowed.
pub(crate) fn check(tree: &Tree) -> Vec<String> {
    let graph = Graph::new(&tree.metadata);
    let mut found = Vec::new();
    for (name, package) in &graph.members {
        for arrow in &package.arrows {
            if let Some(why) = forbidden(name, package, arrow) {
                found.push(format!("{name} depends on {}: {why}", arrow.to));
            }
        }
    }
    for name in ["commute-core", "commute-scheduler"] {
        let reached = graph.reached(name);
        for guest in RUNTIMES.iter().chain(DATABASES).filter(|guest| reached.contains(**guest)) {
            found.push(format!("{name} reaches {guest} through its dependencies: it knows no runtime and no database"));
        }
    }
    found.extend(names_in_the_engine(tree));
    found
}

#[derive(Debug)]
struct Arrow {
    to: String,
    for_tests: bool,
    optional: bool,
}

#[derive(Debug)]
struct Package {
    /// The folder that holds the crate's folder.
    room: String,
    /// Its dependencies on crates of the workspace.
    arrows: Vec<Arrow>,
    id: String,
}

fn forbidden(name: &str, package: &Package, arrow: &Arrow) -> Option<&'static str> {
    let to = arrow.to.as_str();
    match (name, package.room.as_str()) {
        // Tests of the derive need the traits it derives; nothing else may point back.
        ("commute-macros", _) if arrow.for_tests && to == "commute-core" => None,
        ("commute-core" | "commute-macros", _) => Some("it depends on no crate of the workspace"),
        ("commute-scheduler" | "commute-conformance", _) if to == "commute-core" => None,
        ("commute-scheduler" | "commute-conformance", _) => Some("it depends on commute-core only"),
        ("commute", _) if ["commute-core", "commute-scheduler", "commute-macros"].contains(&to) => None,
        ("commute", _) if arrow.for_tests || arrow.optional => None,
        ("commute", _) => Some("the engine takes a backend only as an optional feature"),
        (_, "backends") if to == "commute-core" => None,
        // A node has no log of its own, and its tests need one.
        ("commute-zeromq", _) if arrow.for_tests && to == "commute-embedded" => None,
        (_, "backends") if arrow.for_tests && FOR_TESTS.contains(&to) => None,
        // A node serves some broker; its tests need one that stores.
        ("commute-zeromq", _) if arrow.for_tests && to == "commute-embedded" => None,
        (_, "backends") => Some(
            "a backend depends on commute-core, on commute-conformance, commute-macros and servers for its tests, and on nothing else here",
        ),
        _ => None,
    }
}

struct Graph<'a> {
    members: BTreeMap<String, Package>,
    /// Names by id, and the ids each depends on when not testing or building.
    nodes: BTreeMap<&'a str, (&'a str, Vec<&'a str>)>,
}

impl<'a> Graph<'a> {
    fn new(metadata: &'a Value) -> Self {
        let packages = || list(&metadata["packages"]);
        let ours: BTreeSet<_> = list(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
        let is_ours = |package: &&Value| ours.contains(text(&package["id"]));
        let names: BTreeSet<_> = packages().filter(is_ours).map(|package| text(&package["name"])).collect();
        let members = packages().filter(is_ours).map(|package| {
            let arrows =
                list(&package["dependencies"]).filter(|to| names.contains(text(&to["name"]))).map(|to| Arrow {
                    to: text(&to["name"]).to_owned(),
                    for_tests: to["kind"] == "dev",
                    optional: to["optional"] == true,
                });
            let room = text(&package["manifest_path"]).rsplit(['/', '\\']).nth(2).unwrap_or_default().to_owned();
            let package_of = Package { room, arrows: arrows.collect(), id: text(&package["id"]).to_owned() };
            (text(&package["name"]).to_owned(), package_of)
        });
        let by_id: BTreeMap<_, _> = packages().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
        let nodes = list(&metadata["resolve"]["nodes"]).map(|node| {
            let deps = list(&node["deps"])
                .filter(|dep| list(&dep["dep_kinds"]).any(|kind| kind["kind"].is_null()))
                .map(|dep| text(&dep["pkg"]));
            let id = text(&node["id"]);
            (id, (by_id.get(id).copied().unwrap_or_default(), deps.collect()))
        });
        Graph { members: members.collect(), nodes: nodes.collect() }
    }

    /// Every crate that ends up in `name`.
    fn reached(&self, name: &str) -> BTreeSet<&str> {
        let mut open: Vec<_> = self.members.get(name).map(|package| package.id.as_str()).into_iter().collect();
        let mut seen = BTreeSet::new();
        let mut reached = BTreeSet::new();
        while let Some(id) = open.pop() {
            if let Some((name, deps)) = self.nodes.get(id).filter(|_| seen.insert(id)) {
                reached.insert(*name);
                open.extend(deps);
            }
        }
        reached
    }
}

fn names_in_the_engine(tree: &Tree) -> Vec<String> {
    let rooms = ["crates/commute-core/src/", "crates/commute-scheduler/src/", "crates/commute/src/"];
    let backends = tree.backends();
    let mut found = Vec::new();
    for (path, text) in tree.rust().filter(|(path, _)| *path != DRIVERS && rooms.iter().any(|r| path.starts_with(r))) {
        // What the core says to a person is prose; a URL in the engine would be a choice of backend.
        let says_only = !path.starts_with("crates/commute/");
        for (n, line) in text.lines().take(tests_begin(text)).enumerate() {
            // Comments are prose, and `lib.rs` may say what a feature brings.
            if line.trim_start().starts_with("//") || line.contains("feature = \"") {
                continue;
            }
            let code: String = if says_only { line.split('"').step_by(2).collect() } else { line.to_owned() };
            let words = || code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for backend in &backends {
                let krate = format!("commute_{}", backend.replace('-', "_"));
                if words().any(|word| word == krate || word.eq_ignore_ascii_case(backend)) {
                    found.push(format!("{path}:{} names the backend {backend}; only {DRIVERS} may", n + 1));
                }
            }
        }
    }
    found
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A workspace of two crates where `from` depends on `to`; tokio is in the lock file, and `to` may pull it in.
    fn workspace(from: &str, room: &str, to: &str, kind: &Value, optional: bool, pulls_in: bool) -> Vec<String> {
        let package = |name: &str, room: &str, deps: Value| {
            let manifest = format!("/w/{room}/{name}/Cargo.toml");
            json!({"id": name, "name": name, "manifest_path": manifest, "dependencies": deps})
        };
        let far = if pulls_in { json!([{"pkg": "tokio", "dep_kinds": [{"kind": null}]}]) } else { json!([]) };
        let metadata = json!({
            "workspace_members": [from, to],
            "packages": [
                package(from, room, json!([{"name": to, "kind": kind, "optional": optional}])),
                package(to, "crates", json!([])),
                package("tokio", "elsewhere", json!([])),
            ],
            "resolve": {"nodes": [
                {"id": from, "deps": [{"pkg": to, "dep_kinds": [{"kind": kind}]}]},
                {"id": to, "deps": far},
                {"id": "tokio", "deps": []},
            ]},
        });
        check(&Tree { metadata, ..Tree::default() })
    }

    #[test]
    fn an_arrow_that_points_back_is_found() {
        let cases = [
            ("commute-core", "crates", "commute", json!(null), "no crate of the workspace"),
            ("commute-macros", "crates", "commute-core", json!(null), "no crate of the workspace"),
            ("commute-conformance", "crates", "commute", json!(null), "commute-core only"),
            ("commute-embedded", "backends", "commute-sqlite", json!(null), "and on nothing else"),
            ("commute-embedded", "backends", "commute-conformance", json!(null), "and on nothing else"),
            ("commute-embedded", "backends", "servers", json!(null), "and on nothing else"),
            ("commute", "crates", "commute-embedded", json!(null), "optional feature"),
        ];
        for (from, room, to, kind, why) in cases {
            let found = workspace(from, room, to, &kind, false, false);
            assert!(found.iter().any(|finding| finding.contains(why)), "{from} → {to}: {found:?}");
        }
    }

    #[test]
    fn the_arrows_of_the_design_are_allowed() {
        assert!(
            workspace("commute-embedded", "backends", "commute-conformance", &json!("dev"), false, false).is_empty()
        );
        assert!(workspace("commute-embedded", "backends", "servers", &json!("dev"), false, false).is_empty());
        assert!(workspace("commute-macros", "crates", "commute-core", &json!("dev"), false, false).is_empty());
        assert!(workspace("commute", "crates", "commute-embedded", &json!(null), true, false).is_empty());
        assert!(workspace("shop", "examples", "commute-sqlite", &json!(null), false, false).is_empty());
    }

    #[test]
    fn a_runtime_is_found_however_far_away() {
        let found = workspace("commute-scheduler", "crates", "commute-core", &json!(null), false, true);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|finding| finding.contains("reaches tokio")), "{found:?}");
    }

    #[test]
    fn a_backend_named_in_the_engine_is_found_but_not_in_prose_and_tests() {
        let drivers = ("crates/commute/src/drivers.rs", "use commute_embedded::DRIVER;");
        let manifest = ("backends/commute-embedded/Cargo.toml", "");
        let at = |path: &str, text: &str| names_in_the_engine(&Tree::of(&[drivers, manifest, (path, text)]));
        let with = |text: &str| at("crates/commute/src/a.rs", text);
        assert_eq!(with("use commute_embedded::Log;").len(), 1);
        assert_eq!(with("let url = \"embedded:data\";").len(), 1);
        assert!(
            with("/// Try `embedded:data`.\n#[cfg(test)]\nmod tests { const URL: &str = \"embedded:\"; }").is_empty()
        );
    }
}
