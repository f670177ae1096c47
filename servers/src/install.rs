//! Installation: packages of the system by its own package manager, jars by Maven, each once.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::node::write;
use crate::process::find;
use crate::{Kind, cache, kafka, rabbitmq, zeromq};

/// The oldest Java on which the broker runs.
const JAVA: u32 = 17;
/// What Debian asks before a package starts a daemon.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Whether [`install`] would have nothing to do.
#[must_use]
pub fn is_installed(kind: Kind) -> bool {
    match kind {
        Kind::Rabbitmq => rabbitmq::scripts().is_some() && find("epmd").is_some(),
        Kind::Kafka | Kind::Kafka3 => java_version().is_some_and(|found| found >= JAVA) && kafka::jars().is_dir(),
        // Cargo knows whether it is what the sources say.
        Kind::Zeromq => false,
    }
}

/// Makes sure that a server can be started, and does nothing when it can. As root on Debian it installs packages; the
/// jars of Kafka go to [`cache`].
///
/// # Errors
/// With what is missing, and how to get it.
pub fn install(kind: Kind) -> Result<()> {
    if is_installed(kind) {
        return Ok(());
    }
    match kind {
        Kind::Zeromq => return zeromq::build(),
        Kind::Rabbitmq => packages("RabbitMQ", &["rabbitmq-server"])?,
        Kind::Kafka | Kind::Kafka3 => {
            if java_version().is_none_or(|found| found < JAVA) {
                packages("Java, at least 17,", &["default-jre-headless"])?;
            }
            if !kafka::jars().is_dir() {
                if find("mvn").is_none() {
                    packages("Maven, which fetches the jars of Kafka,", &["maven"])?;
                }
                fetch_jars()?;
            }
        }
    }
    if !is_installed(kind) {
        bail!(
            "{} is installed and cannot be found: RabbitMQ's scripts, epmd and java must be in the PATH",
            kind.name()
        );
    }
    Ok(())
}

/// Installs packages of Debian, without starting what they bring.
fn packages(what: &str, names: &[&str]) -> Result<()> {
    let by_hand = format!("run `apt-get install {}` as root, or what your system has in its place", names.join(" "));
    let apt = find("apt-get").filter(|_| is_root());
    let Some(apt) = apt else { bail!("{what} is missing: {by_hand}") };
    println!("installing {}", names.join(" "));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&apt);
        // Another process may be installing something.
        command.args(["-qq", "-o", "DPkg::Lock::Timeout=300"]).args(arguments);
        command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").stdin(Stdio::null());
        command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let _policy = Policy::deny()?;
    // Without lists, or with some that can no longer be had, the first try may still find what it needs.
    let updated = run(&["update"]);
    if !run(&[&["install", "-y", "--no-install-recommends"], names].concat()) {
        let lists = if updated { "" } else { "; `apt-get update` failed, too" };
        bail!("{what} could not be installed{lists}: {by_hand}");
    }
    // The package asks for a daemon of its own from the next start of the machine on; tests want none.
    if Path::new("/run/systemd/system").exists() && names.contains(&"rabbitmq-server") {
        let _ = Command::new("systemctl").args(["--quiet", "disable", "rabbitmq-server"]).status();
    }
    Ok(())
}

/// While it lives, packages that are installed start nothing. A machine's own policy is left alone.
struct Policy {
    ours: bool,
}

impl Policy {
    fn deny() -> Result<Self> {
        let file = Path::new(POLICY);
        if file.exists() || !file.parent().is_some_and(Path::is_dir) {
            return Ok(Policy { ours: false });
        }
        let policy = Policy { ours: true };
        write(file, "#!/bin/sh\nexit 101\n")?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(file, executable).context("cannot make the policy executable")?;
        Ok(policy)
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Lets Maven fetch the jars into a folder that then takes its name, so that no half of them is ever taken for all.
fn fetch_jars() -> Result<()> {
    println!("fetching the jars of Kafka {}", kafka::VERSION);
    fs::create_dir_all(cache()).with_context(|| format!("cannot create {}", cache().display()))?;
    let temporary = tempfile::Builder::new().prefix("kafka-lib-new-").tempdir_in(cache())?;
    write(&temporary.path().join("pom.xml"), include_str!("../kafka/pom.xml"))?;
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "-Dstyle.color=never", "dependency:copy-dependencies", "-DoutputDirectory=lib"]);
    maven.current_dir(temporary.path()).stdin(Stdio::null());
    if !maven.status().context("cannot start mvn")?.success() {
        bail!("Maven could not fetch the jars of Kafka: see its output above; it needs the network once");
    }
    match fs::rename(temporary.path().join("lib"), kafka::jars()) {
        // Another process was faster.
        Err(_) if kafka::jars().is_dir() => Ok(()),
        renamed => renamed.context("cannot move the jars of Kafka to their place"),
    }
}

fn java_version() -> Option<u32> {
    let output = Command::new("java").arg("-version").stdin(Stdio::null()).output().ok()?;
    major(&String::from_utf8_lossy(&output.stderr))
}

/// The first number of `openjdk version "17.0.15" 2025-04-15`.
fn major(text: &str) -> Option<u32> {
    let quoted = text.split('"').nth(1)?;
    quoted.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout == b"0\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_java_is_read() {
        assert_eq!(major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"), Some(17));
        assert_eq!(major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(major("openjdk version \"24-ea\""), Some(24));
        assert_eq!(major("java: not found"), None);
    }
}
