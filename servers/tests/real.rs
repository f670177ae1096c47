//! Every kind of server starts, answers, is killed, starts again in its place, stops, and leaves nothing behind.
#![cfg(feature = "server-tests")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use servers::{Kind, Options, Server, install, is_free};

fn starts_is_killed_starts_again_and_stops(kind: Kind) {
    install(kind).expect("the server is there or can be had");
    let began = Instant::now();
    let mut server = Server::start(kind, Options::default()).expect("it starts");
    println!("{}: serves after {:.1?}", kind.name(), began.elapsed());
    let (url, dir) = (server.url().to_owned(), server.dir().to_owned());
    assert!(server.is_ready());
    assert!(!processes_of(&dir).is_empty());

    server.kill();
    assert!(!server.is_ready() && !server.is_alive());
    assert_eq!(processes_of(&dir), [""; 0], "nothing survives a kill");

    let began = Instant::now();
    server.start_again().expect("it starts again");
    println!("{}: serves again after {:.1?}", kind.name(), began.elapsed());
    assert!(server.is_ready());
    assert_eq!(server.url(), url);

    let began = Instant::now();
    server.stop();
    println!("{}: stopped after {:.1?}", kind.name(), began.elapsed());
    assert!(!server.is_alive());
    assert_eq!(processes_of(&dir), [""; 0], "nothing survives a stop");
    assert!(server.ports().into_iter().all(is_free));
    drop(server);
    assert!(!dir.exists(), "its temporary folder goes with it");
}

#[test]
fn rabbitmq_starts_is_killed_starts_again_and_stops() {
    starts_is_killed_starts_again_and_stops(Kind::Rabbitmq);
}

#[test]
fn kafka_starts_is_killed_starts_again_and_stops() {
    starts_is_killed_starts_again_and_stops(Kind::Kafka);
}

#[test]
fn three_kafka_nodes_start_are_killed_start_again_and_stop() {
    starts_is_killed_starts_again_and_stops(Kind::Kafka3);
}

#[test]
fn two_of_three_nodes_go_on_and_the_third_comes_back() {
    install(Kind::Kafka3).expect("the server is there or can be had");
    let mut server = Server::start(Kind::Kafka3, Options::default()).expect("it starts");
    server.kill_node(0);
    assert!(server.is_alive() && !server.is_ready());
    server.start_node(0).expect("it comes back");
    let ports = server.ports();
    assert_eq!(ports.len(), 3);
    server.start_again().expect("all see each other again");
    assert!(server.is_ready());
    assert_eq!(server.ports(), ports);
}

#[test]
fn what_rabbitmq_has_been_told_survives_a_kill() {
    install(Kind::Rabbitmq).expect("the server is there or can be had");
    let mut server = Server::start(Kind::Rabbitmq, Options::default()).expect("it starts");
    server.rabbitmqctl(&["add_vhost", "kept"]).expect("a virtual host");
    server.kill();
    server.start_again().expect("it starts again");
    let listed = server.rabbitmqctl(&["list_vhosts"]).expect("a list");
    assert!(listed.lines().any(|name| name == "kept"), "{listed}");
    server.rabbitmqctl(&["no_such_command"]).expect_err("rabbitmqctl refuses it");
}

#[test]
fn a_detached_server_is_found_and_stopped_and_a_wrong_setting_is_told() {
    install(Kind::Kafka).expect("the server is there or can be had");
    let folder = tempfile::tempdir_in(servers::cache()).expect("a folder");
    let dir = folder.path().join("server");
    let options = Options { dir: Some(dir.clone()), proxied: Some(1), ..Options::default() };
    let server = Server::start(Kind::Kafka, options.clone()).expect("it starts");
    let proxied = server.proxied_port().expect("a listener for the proxy");
    assert_eq!(advertised_port(proxied), 1, "clients are sent to the proxy");
    assert_eq!(advertised_port(server.ports()[0]), u32::from(server.ports()[0]));
    let url = server.url().to_owned();
    server.detach().expect("it lives on");

    Server::start(Kind::Kafka, options).expect_err("there is one in this folder");
    let mut found = Server::find(&dir).expect("a state file that can be read").expect("a server");
    assert!(found.is_ready());
    assert_eq!((found.kind(), found.url()), (Kind::Kafka, &*url));
    found.stop();
    assert_eq!(processes_of(&dir), [""; 0]);
    let gone = Server::find(&dir).expect("a state file that can be read").expect("a server that is down");
    assert!(!gone.is_alive());

    let options = Options { settings: vec!["log.retention.ms=soon".into()], ..Options::default() };
    let refused = Server::start(Kind::Kafka, options).expect_err("it does not start");
    assert!(refused.to_string().contains("Kafka cannot format"), "{refused:#}");
}

/// Runs in a process of its own, which is killed while it holds a server.
#[test]
#[ignore = "run by `a_server_ends_with_the_process_that_started_it`"]
fn holds_a_server_until_it_is_killed() {
    let dir = PathBuf::from(std::env::var_os("SERVER_DIR").expect("a folder"));
    let _server = Server::start(Kind::Rabbitmq, Options { dir: Some(dir), ..Options::default() }).expect("it starts");
    println!("\nserves");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_server_ends_with_the_process_that_started_it() {
    install(Kind::Rabbitmq).expect("the server is there or can be had");
    let folder = tempfile::tempdir_in(servers::cache()).expect("a folder");
    let dir = folder.path().canonicalize().expect("a path").join("server");
    let mut holder = Command::new(std::env::current_exe().expect("this program"));
    holder.args(["--exact", "holds_a_server_until_it_is_killed", "--ignored", "--nocapture"]);
    let mut holder = holder.env("SERVER_DIR", &dir).stdout(Stdio::piped()).spawn().expect("it starts");
    let output = BufReader::new(holder.stdout.take().expect("its output"));
    assert!(output.lines().map_while(Result::ok).any(|line| line == "serves"), "it ended early");
    assert!(!processes_of(&dir).is_empty());
    holder.kill().expect("it is killed");
    holder.wait().expect("it has ended");
    let limit = Instant::now() + Duration::from_secs(10);
    while !processes_of(&dir).is_empty() {
        assert!(Instant::now() < limit, "still there: {:?}", processes_of(&dir));
        std::thread::yield_now();
    }
}

/// The port under which a Kafka broker tells clients to come back.
fn advertised_port(port: u16) -> u32 {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    // Length; Metadata, version 1; correlation id; no client id; no topics.
    stream.write_all(b"\0\0\0\x0e\0\x03\0\x01\0\0\0\0\xff\xff\0\0\0\0").expect("it takes a request");
    // Length, correlation id, one broker, its id, the length of its host and the host.
    let mut answer = [0; 4 + 4 + 4 + 4 + 2 + "127.0.0.1".len() + 4];
    stream.read_exact(&mut answer).expect("it answers");
    answer.last_chunk().map(|port| u32::from_be_bytes(*port)).expect("a port")
}

/// The command lines of what runs with this folder in its environment.
fn processes_of(dir: &Path) -> Vec<String> {
    let dir = dir.as_os_str().as_encoded_bytes();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").expect("a system with /proc").flatten() {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        let ours = environment
            .split(|byte| *byte == 0)
            .any(|pair| pair.strip_prefix(b"HOME=").is_some_and(|home| home.starts_with(dir)));
        if ours {
            let words = fs::read(process.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&words).replace('\0', " "));
        }
    }
    found
}
