//! The compose file is what the crate expects of it: its servers, its ports, its versions.

use std::path::Path;

use servers::{Kind, docker};
use yaml_rust2::{Yaml, YamlLoader};

fn file(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect("the file is there")
}

fn compose() -> Yaml {
    let mut documents = YamlLoader::load_from_str(&file("compose.yaml")).expect("it is YAML");
    assert_eq!(documents.len(), 1);
    documents.remove(0)
}

fn keys(yaml: &Yaml) -> Vec<&str> {
    yaml.as_hash().expect("a mapping").keys().map(|key| key.as_str().expect("a text")).collect()
}

fn texts(yaml: &Yaml) -> Vec<&str> {
    yaml.as_vec().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

fn services() -> Vec<(Kind, Yaml)> {
    let kinds = Kind::ALL.into_iter().filter(|kind| docker::has(*kind));
    kinds.map(|kind| (kind, compose()["services"][kind.name()].clone())).collect()
}

#[test]
fn it_has_the_servers_that_the_crate_asks_for_and_no_others() {
    let compose = compose();
    assert_eq!(keys(&compose), ["name", "services"]);
    let names: Vec<_> = services().iter().map(|(kind, _)| kind.name()).collect();
    assert_eq!(keys(&compose["services"]), names);
    for (kind, service) in services() {
        for key in keys(&service) {
            let known = ["image", "hostname", "ports", "environment", "healthcheck"];
            assert!(known.contains(&key), "{}: {key}", kind.name());
        }
    }
}

#[test]
fn images_are_of_one_version_and_kafka_is_that_of_the_packages() {
    for (kind, service) in services() {
        let image = service["image"].as_str().expect("an image");
        let (_, tag) = image.split_once(':').expect("a tag");
        let numbers: Vec<_> = tag.split('.').map(str::parse::<u32>).collect();
        assert!(numbers.len() == 3 && numbers.iter().all(Result::is_ok), "{image} may be another tomorrow");
        if kind == Kind::Kafka {
            assert!(file("kafka/pom.xml").contains(&format!("<version>{tag}</version>")), "{image}");
        }
    }
}

#[test]
fn clients_reach_them_on_loopback_only_and_where_the_crate_says() {
    for (kind, service) in services() {
        let ports = texts(&service["ports"]);
        let port = kind.usual_port();
        assert_eq!(ports.len(), 1, "{}", kind.name());
        assert!(ports[0].starts_with(&format!("127.0.0.1:{port}:")), "{ports:?}");
        assert!(docker::url(kind).contains(&format!("127.0.0.1:{port}")), "{}", docker::url(kind));
    }
    // Clients of Kafka go where it tells them to.
    let kafka = &compose()["services"]["kafka"];
    let port = Kind::Kafka.usual_port();
    let said = |name: &str| kafka["environment"][name].as_str().expect("a text").to_owned();
    assert_eq!(said("KAFKA_ADVERTISED_LISTENERS"), format!("PLAINTEXT://127.0.0.1:{port}"));
    assert!(said("KAFKA_LISTENERS").starts_with(&format!("PLAINTEXT://:{port},")));
    assert!(texts(&kafka["ports"])[0].ends_with(&format!(":{port}")));
}

#[test]
fn each_has_a_health_check_with_an_end() {
    for (kind, service) in services() {
        let check = &service["healthcheck"];
        let test = texts(&check["test"]);
        assert!(test[0] == "CMD" && test.len() > 1, "{}: {test:?}", kind.name());
        for time in ["interval", "timeout"] {
            let text = check[time].as_str().expect("a time");
            assert!(text.strip_suffix('s').is_some_and(|text| text.parse::<u32>().is_ok()), "{}: {text}", kind.name());
        }
        assert!(check["retries"].as_i64().is_some_and(|times| times > 0), "{}", kind.name());
    }
}
