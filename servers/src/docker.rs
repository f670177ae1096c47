//! Docker: where an engine answers, `compose.yaml` is easier than packages.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::poll;
use crate::{Kind, ready};

/// How long the client may take to say whether there is an engine, and how long a container to serve.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(120));

/// The client, and through it the engine.
#[derive(Debug, Clone)]
pub struct Docker {
    program: OsString,
    /// For an answer, and for a server.
    patience: (Duration, Duration),
    is_ready: fn(Kind) -> bool,
}

impl Default for Docker {
    fn default() -> Self {
        Docker { program: "docker".into(), patience: PATIENCE, is_ready }
    }
}

impl Docker {
    /// Whether an engine answers, and quickly. A client without an engine is no help, nor is one without compose.
    #[must_use]
    pub fn answers(&self) -> bool {
        let asked = |arguments: &[&str]| {
            let mut command = Command::new(&self.program);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            self.ends_soon(command).is_some_and(|status| status.success())
        };
        asked(&["compose", "version"]) && asked(&["info", "--format", "{{.ServerVersion}}"])
    }

    /// How a command ended; nothing when it did not, in time.
    fn ends_soon(&self, mut command: Command) -> Option<ExitStatus> {
        let mut asked = command.spawn().ok()?;
        let mut status = None;
        poll(self.patience.0, || {
            status = asked.try_wait().ok().flatten();
            status.is_some()
        });
        if status.is_none() {
            // It may have ended by itself by now.
            let _ = asked.kill();
            let _ = asked.wait();
        }
        status
    }

    /// Whether the compose project runs this server.
    #[must_use]
    pub fn is_up(&self, kind: Kind) -> bool {
        let listed = self.compose(&["ps", "--services", "--status", "running"]).output();
        let names = |name: &str| name == kind.name();
        listed.is_ok_and(|listed| listed.status.success() && String::from_utf8_lossy(&listed.stdout).lines().any(names))
    }

    /// Starts it and waits until it serves.
    ///
    /// # Errors
    /// When compose fails, or it does not serve in time.
    pub fn up(&self, kind: Kind) -> Result<()> {
        self.run(&["up", "--detach", kind.name()])?;
        if !poll(self.patience.1, || (self.is_ready)(kind)) {
            let patience = self.patience.1;
            bail!("the container {} does not serve after {patience:?}: see `docker compose logs`", kind.name());
        }
        Ok(())
    }

    /// Stops it and removes its data.
    ///
    /// # Errors
    /// When compose fails.
    pub fn down(&self, kind: Kind) -> Result<()> {
        self.run(&["rm", "--stop", "--force", "--volumes", kind.name()])
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let status = self.compose(arguments).status().context("cannot start docker")?;
        if !status.success() {
            bail!("`docker compose {}` failed ({status})", arguments.join(" "));
        }
        Ok(())
    }

    fn compose(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yaml");
        command.args(["compose", "--file"]).arg(file).args(arguments).stdin(Stdio::null());
        command
    }
}

/// Whether the compose file has this server.
#[must_use]
pub fn has(kind: Kind) -> bool {
    !matches!(kind, Kind::Kafka3 | Kind::Zeromq)
}

/// Where clients connect.
#[must_use]
pub fn url(kind: Kind) -> String {
    let port = kind.usual_port();
    match kind {
        Kind::Rabbitmq => format!("amqp://guest:guest@127.0.0.1:{port}/%2f"),
        Kind::Kafka | Kind::Kafka3 => format!("kafka://127.0.0.1:{port}"),
        Kind::Zeromq => format!("zmq://127.0.0.1:{port}"),
    }
}

fn is_ready(kind: Kind) -> bool {
    match kind {
        Kind::Rabbitmq => ready::amqp(kind.usual_port()),
        Kind::Kafka | Kind::Kafka3 => ready::kafka(kind.usual_port()).is_some_and(|nodes| nodes > 0),
        Kind::Zeromq => ready::zmtp(kind.usual_port()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use tempfile::TempDir;

    use super::*;

    /// A program in the place of docker, which writes down what it is asked and then does as a test says.
    struct Fake {
        folder: TempDir,
        docker: Docker,
    }

    impl Fake {
        fn new(script: &str) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let program = folder.path().join("docker");
            let text = format!("#!/bin/sh\necho \"$*\" >> '{}/asked'\n{script}\n", folder.path().display());
            // By a process of its own: what this one has open for writing, a child that another test starts just now has open,
            // too, and a script that somebody has open for writing cannot be run.
            let write = r#"printf %s "$1" > "$0" && chmod 755 "$0""#;
            let written = Command::new("sh").args(["-c", write]).arg(&program).arg(text).status();
            assert!(written.expect("a shell").success());
            // A machine may be so busy that starting a shell takes a second.
            let patience = (Duration::from_secs(20), Duration::from_millis(50));
            let docker = Docker { program: program.into(), patience, is_ready: |_| true };
            Fake { folder, docker }
        }

        /// What it was asked, without the path of the compose file.
        fn asked(&self) -> Vec<String> {
            let text = fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default();
            let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("compose.yaml");
            text.lines().map(|line| line.replace(&file.display().to_string(), "FILE")).collect()
        }
    }

    const ANSWERS: [&str; 2] = ["compose version", "info --format {{.ServerVersion}}"];

    #[test]
    fn an_engine_answers_only_when_client_compose_and_engine_do() {
        for (script, answers, asked) in [
            ("exit 0", true, &ANSWERS[..]),
            // No engine.
            ("test $1 = compose", false, &ANSWERS),
            // No compose; the engine is not asked then.
            ("test $1 = info", false, &ANSWERS[..1]),
            ("exit 127", false, &ANSWERS[..1]),
        ] {
            let fake = Fake::new(script);
            assert_eq!(fake.docker.answers(), answers, "{script}");
            assert_eq!(fake.asked(), asked, "{script}");
        }
        let nobody = Docker { program: "/no/such/docker".into(), ..Docker::default() };
        assert!(!nobody.answers());
    }

    #[test]
    fn a_client_or_an_engine_that_hangs_is_given_up() {
        for (script, asked) in
            [("test $1 = compose || exec sleep 600", &ANSWERS[..]), ("exec sleep 600", &ANSWERS[..1])]
        {
            let mut fake = Fake::new(script);
            fake.docker.patience.0 = Duration::from_secs(2);
            assert!(!fake.docker.answers(), "{script}");
            assert_eq!(fake.asked(), asked, "{script}");
        }
    }

    #[test]
    fn what_runs_is_what_compose_lists() {
        let list = "echo 'rabbitmq\nkafka-ui'";
        let fake = Fake::new(list);
        assert!(fake.docker.is_up(Kind::Rabbitmq) && !fake.docker.is_up(Kind::Kafka));
        assert_eq!(fake.asked(), ["compose --file FILE ps --services --status running"; 2]);
        assert!(!Fake::new(&format!("{list}; exit 1")).docker.is_up(Kind::Rabbitmq));
    }

    #[test]
    fn servers_are_started_one_by_one_and_removed_with_their_data() {
        let fake = Fake::new("exit 0");
        fake.docker.up(Kind::Rabbitmq).expect("it serves");
        fake.docker.down(Kind::Kafka).expect("it goes");
        let expected =
            ["compose --file FILE up --detach rabbitmq", "compose --file FILE rm --stop --force --volumes kafka"];
        assert_eq!(fake.asked(), expected);
    }

    #[test]
    fn what_fails_or_does_not_serve_is_said() {
        let refused = Fake::new("exit 14").docker.up(Kind::Kafka).expect_err("compose fails");
        assert!(refused.to_string().contains("`docker compose up --detach kafka` failed"), "{refused}");
        let mut fake = Fake::new("exit 0");
        fake.docker.is_ready = |_| false;
        let refused = fake.docker.up(Kind::Kafka).expect_err("it never serves");
        assert!(refused.to_string().contains("the container kafka does not serve"), "{refused}");
        let refused = Docker { program: "/no/such/docker".into(), ..Docker::default() }.down(Kind::Kafka);
        assert!(refused.expect_err("there is none").to_string().contains("cannot start docker"));
    }
}
