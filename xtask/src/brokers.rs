//! Real broker servers: brought up and taken down by hand, or around the tests that need them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use servers::docker::{self, Docker};
use servers::{Kind, Options, Server};

use crate::repeat::Repeat;
use crate::{run, shop_check};

/// What to do with which servers.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Starts servers that go on running, and prints their URLs.
    Up {
        /// rabbitmq, kafka or kafka3; without a name, rabbitmq and kafka.
        names: Vec<Kind>,
    },
    /// Stops servers and removes their data.
    Down {
        /// Without a name, every server.
        names: Vec<Kind>,
    },
    /// Runs the suites of the backends on these servers, which it starts and takes down unless they are up.
    Test {
        /// Without a name, rabbitmq and kafka, as `cargo xtask test` does; kafka3 takes some minutes more.
        names: Vec<Kind>,
        #[command(flatten)]
        repeat: Repeat,
    },
    /// Says which servers are up, down, or not installed; fails if one that is named is not up.
    Status {
        /// Without a name, every server.
        names: Vec<Kind>,
    },
}

/// Does it.
///
/// # Errors
/// When something asked for could not be had, after everything else was done.
pub(crate) fn run(args: &Args) -> Result<()> {
    let (mut failed, mut left_out) = (Vec::new(), Vec::new());
    match &args.action {
        Action::Up { names } => {
            for kind in or(names, &[Kind::Rabbitmq, Kind::Kafka]) {
                match up(kind) {
                    Ok(up) => println!("{:<9} {}", kind.name(), up.url),
                    Err(cause) => failed.push(format!("{}: {cause:#}", kind.name())),
                }
            }
        }
        Action::Down { names } => {
            for kind in or(names, &Kind::ALL) {
                if let Err(cause) = down(kind) {
                    failed.push(format!("{}: {cause:#}", kind.name()));
                }
            }
        }
        Action::Test { names, repeat } => {
            for kind in or(names, &[Kind::Rabbitmq, Kind::Kafka]) {
                for again in repeat.rounds() {
                    suite(kind, false, again.as_ref(), &mut failed, &mut left_out)?;
                }
            }
        }
        Action::Status { names } => {
            for kind in or(names, &Kind::ALL) {
                let url = found(kind)?;
                match &url {
                    Some(url) => println!("{:<9} up             {url}", kind.name()),
                    None if servers::is_installed(kind) => println!("{:<9} down", kind.name()),
                    None => println!("{:<9} not installed", kind.name()),
                }
                if url.is_none() && names.contains(&kind) {
                    failed.push(format!("{0} is not up: `cargo xtask brokers up {0}` starts it", kind.name()));
                }
            }
        }
    }
    failed.extend(left_out.iter().map(|suite| format!("NOT run: {suite}")));
    if !failed.is_empty() {
        bail!("{}", failed.join("\n"));
    }
    Ok(())
}

/// Runs the suites of the backends that need a server, with the servers that are up or that it brings up meanwhile.
/// Says which could not be run, and why.
///
/// # Errors
/// When a suite fails.
pub(crate) fn test(shop: bool) -> Result<Vec<String>> {
    let mut failed = Vec::new();
    let mut left_out = Vec::new();
    // First of all: suites that fail because of what starts their servers would say nothing about a backend.
    match Kind::ALL.into_iter().try_for_each(servers::install) {
        Ok(()) => run::shown(run::cargo(&["test", "-p", "servers", "--features", "server-tests"]))?,
        Err(cause) => left_out.push(format!("servers: {cause:#}")),
    }
    for kind in [Kind::Rabbitmq, Kind::Kafka] {
        suite(kind, shop, None, &mut failed, &mut left_out)?;
    }
    if !failed.is_empty() {
        failed.extend(left_out.iter().map(|suite| format!("NOT run: {suite}")));
        bail!("{}", failed.join("\n"));
    }
    Ok(left_out)
}

/// Runs the suite of one server's backend, perhaps several times; what fails and what is left out is added to the lists.
fn suite(
    kind: Kind,
    shop: bool,
    again: Option<&Repeat>,
    failed: &mut Vec<String>,
    left_out: &mut Vec<String>,
) -> Result<()> {
    let (package, variable) = match kind {
        Kind::Zeromq => {
            // Its suite starts its nodes itself, with all other tests; the shop needs a node of its own.
            if shop && let Err(cause) = shop_check::run_on(kind) {
                failed.push(format!("{cause:#}"));
            }
            return Ok(());
        }
        Kind::Rabbitmq => ("commute-rabbitmq", "COMMUTE_TEST_RABBITMQ"),
        Kind::Kafka | Kind::Kafka3 => ("commute-kafka", "COMMUTE_TEST_KAFKA"),
    };
    if !run::root().join("backends").join(package).join("Cargo.toml").exists() {
        println!("{package}: no such backend here");
        return Ok(());
    }
    // Several at once have a server of their own, which has room for them.
    let up = || match again {
        None => up(kind).map(|Up { url, is_ours }| (url, is_ours, None)),
        Some(again) => {
            servers::install(kind)?;
            // A node that is starved for three seconds would be taken for dead by itself.
            let patient =
                (kind == Kind::Kafka || kind == Kind::Kafka3).then(|| "broker.session.timeout.ms=60000".into());
            let settings = patient.into_iter().collect();
            let options = Options { memory_mib: again.memory_mib(), settings, ..Options::default() };
            let server = Server::start(kind, options)?;
            Ok((server.url().to_owned(), false, Some(server)))
        }
    };
    let (url, is_ours, _server) = match up() {
        Ok(up) => up,
        Err(cause) => {
            left_out.push(format!("{package} with a server: {cause:#}"));
            return Ok(());
        }
    };
    // The tests of TLS start servers with certificates of their own, which the compose file does not have.
    let features = if again.is_some_and(|again| !again.needs_tls()) {
        "server-tests"
    } else if servers::is_installed(kind) {
        "server-tests,tls"
    } else {
        left_out.push(format!("{package} with TLS: {} is not installed", kind.name()));
        "server-tests"
    };
    // The system's is as good for a test, and building it takes minutes.
    let no_vendor = has_openssl().then_some(("OPENSSL_NO_VENDOR", "1"));
    let suite = || {
        let mut suite = run::cargo(&["test", "-p", package, "--features", features, "--no-fail-fast"]);
        suite.env(variable, &url).envs(no_vendor);
        suite
    };
    let once = || {
        run::shown(suite())?;
        // The same features as everything is built with, so that little is built for it.
        let features = "admin,kafka,rabbitmq,server-tests";
        let mut harness =
            run::cargo(&["test", "-p", "commute", "--features", features, "--test", "testing", "on_a_server"]);
        harness.env("COMMUTE_TEST_SERVER", &url);
        run::shown(harness)
    };
    let tested = again.map_or_else(once, |again| again.run(kind.name(), suite(), &[(variable, &url)]));
    if is_ours {
        down(kind)?;
    }
    if let Err(cause) = tested {
        failed.push(format!("{cause:#}"));
    }
    if shop && let Err(cause) = shop_check::run_on(kind) {
        failed.push(format!("{cause:#}"));
    }
    Ok(())
}

/// Whether OpenSSL is there with its headers.
fn has_openssl() -> bool {
    let mut asked = Command::new("pkg-config");
    asked.args(["--exists", "openssl >= 1.1.1"]).stdout(Stdio::null()).stderr(Stdio::null());
    asked.status().is_ok_and(|status| status.success())
}

struct Up {
    url: String,
    /// Whether it was not there before.
    is_ours: bool,
}

/// Leaves a server alone that serves, and starts one otherwise.
fn up(kind: Kind) -> Result<Up> {
    if let Some(url) = found(kind)? {
        return Ok(Up { url, is_ours: false });
    }
    if docker::has(kind) && Docker::default().answers() {
        Docker::default().up(kind)?;
        return Ok(Up { url: docker::url(kind), is_ours: true });
    }
    servers::install(kind)?;
    // What is left of one that ended, or of one that runs and does not answer.
    down(kind)?;
    let usual = kind.usual_port();
    let port = if servers::is_free(usual) { usual } else { 0 };
    let server = Server::start(kind, Options { dir: Some(dir(kind)), port, ..Options::default() })?;
    let url = server.url().to_owned();
    server.detach()?;
    Ok(Up { url, is_ours: true })
}

/// Stops a server, if there is one, and removes its data.
fn down(kind: Kind) -> Result<()> {
    if let Some(mut server) = Server::find(&dir(kind))? {
        server.stop();
    } else if docker::has(kind) && Docker::default().answers() && Docker::default().is_up(kind) {
        Docker::default().down(kind)?;
    }
    if dir(kind).exists() {
        fs::remove_dir_all(dir(kind)).with_context(|| format!("cannot remove {}", dir(kind).display()))?;
    }
    Ok(())
}

/// The URL of a server that serves.
fn found(kind: Kind) -> Result<Option<String>> {
    if let Some(server) = Server::find(&dir(kind))? {
        return Ok(server.is_ready().then(|| server.url().to_owned()));
    }
    let in_docker = docker::has(kind) && Docker::default().answers() && Docker::default().is_up(kind);
    Ok(in_docker.then(|| docker::url(kind)))
}

fn dir(kind: Kind) -> PathBuf {
    servers::cache().join(kind.name())
}

fn or(names: &[Kind], otherwise: &[Kind]) -> Vec<Kind> {
    if names.is_empty() { otherwise.to_vec() } else { names.to_vec() }
}
