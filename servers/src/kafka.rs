//! Kafka: nodes that are broker and controller in one, run from jars with the Java that is there.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::node::{Node, write};
use crate::{Tls, cache, process};

/// The version that `kafka/pom.xml` names.
pub(crate) const VERSION: &str = "4.1.0";

const SCRAM: [&str; 2] = ["SCRAM-SHA-256", "SCRAM-SHA-512"];
const LOGIN: &str = "org.apache.kafka.common.security";

/// The jars. The folder is there as a whole or not at all.
pub(crate) fn jars() -> PathBuf {
    cache().join(format!("kafka-lib-{VERSION}"))
}

/// Writes the configuration of new nodes and formats their logs.
pub(crate) fn prepare(
    nodes: &[Node],
    proxied: Option<u16>,
    tls: Option<(&Tls, [u16; 2])>,
    settings: &[String],
) -> Result<()> {
    let cluster = cluster_id();
    for (n, node) in nodes.iter().enumerate() {
        let lines = settings.iter().fold(properties(nodes, n, proxied, tls), |text, line| text + line + "\n");
        write(&node.dir.join("server.properties"), &lines)?;
        if let Some((tls, _)) = tls {
            write(&node.dir.join("server.pem"), &format!("{}{}", tls.key, tls.certificate))?;
        }
    }
    // Each takes a second or two of Java; they share nothing.
    let formats: Vec<_> = nodes
        .iter()
        .map(|node| {
            let mut format = java(node)?;
            format.args(["kafka.tools.StorageTool", "format", "-t", &cluster, "-c", "server.properties"]);
            if let Some((Tls { user, password, .. }, _)) = tls {
                for mechanism in SCRAM {
                    format.args(["--add-scram", &format!("{mechanism}=[name={user},password={password}]")]);
                }
            }
            let log = std::fs::File::create(node.log())?;
            format.stdout(log.try_clone()?).stderr(log).spawn().context("cannot start java")
        })
        .collect::<Result<_>>()?;
    for (node, mut format) in nodes.iter().zip(formats) {
        if !format.wait()?.success() {
            bail!("Kafka cannot format {}: see {}", node.dir.display(), node.log().display());
        }
    }
    Ok(())
}

/// The server.
pub(crate) fn command(node: &Node) -> Result<Command> {
    let mut command = java(node)?;
    command.args(["kafka.Kafka", "server.properties"]);
    Ok(command)
}

fn java(node: &Node) -> Result<Command> {
    let mut command = Command::new(process::find("java").context("Java is not installed: see `servers::install`")?);
    // What lets a JVM start fast and stay small; a performance file in a shared folder is of no use here.
    command.arg(format!("-Xmx{}m", node.memory)).args([
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:-UsePerfData",
    ]);
    command.arg("-Djava.net.preferIPv4Stack=true").arg("-cp").arg(jars().join("*"));
    command.env("HOME", &node.dir).current_dir(&node.dir);
    Ok(command)
}

fn properties(nodes: &[Node], n: usize, proxied: Option<u16>, tls: Option<(&Tls, [u16; 2])>) -> String {
    let Node { dir, port, inner, side, .. } = &nodes[n];
    let voters: Vec<_> =
        nodes.iter().enumerate().map(|(n, node)| format!("{}@127.0.0.1:{}", n + 1, node.inner)).collect();
    let (copies, in_sync) = if nodes.len() > 1 { (nodes.len(), 2) } else { (1, 1) };
    let mut listeners = format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{inner}");
    let mut advertised = format!("PLAINTEXT://127.0.0.1:{port}");
    let mut protocols = String::from("CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT");
    if let Some(proxy) = proxied {
        // Writing to a string cannot fail.
        let _ = write!(listeners, ",PROXIED://127.0.0.1:{side}");
        let _ = write!(advertised, ",PROXIED://127.0.0.1:{proxy}");
        protocols.push_str(",PROXIED:PLAINTEXT");
    }
    let mut secure = String::new();
    if let Some((Tls { user, password, .. }, [encrypted, sasl])) = tls {
        let _ = write!(listeners, ",TLS://127.0.0.1:{encrypted},SASL://127.0.0.1:{sasl}");
        let _ = write!(advertised, ",TLS://localhost:{encrypted},SASL://localhost:{sasl}");
        protocols.push_str(",TLS:SSL,SASL:SASL_SSL");
        let _ = write!(
            secure,
            "ssl.keystore.type=PEM
ssl.keystore.location={dir}/server.pem
sasl.enabled.mechanisms=PLAIN,{scram}
listener.name.sasl.plain.sasl.jaas.config={LOGIN}.plain.PlainLoginModule required user_{user}=\"{password}\";
",
            dir = dir.display(),
            scram = SCRAM.join(","),
        );
        for mechanism in SCRAM {
            let name = mechanism.to_ascii_lowercase();
            let module = format!("{LOGIN}.scram.ScramLoginModule required;");
            let _ = writeln!(secure, "listener.name.sasl.{name}.sasl.jaas.config={module}");
        }
    }
    // The session: a node that was killed is only let in again when its old session has ended.
    format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
log.dirs={dir}/data
auto.create.topics.enable=false
default.replication.factor={copies}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=8
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=8
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_sync}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
{secure}",
        id = n + 1,
        voters = voters.join(","),
        dir = dir.display(),
    )
}

/// Sixteen random bytes in the alphabet of base64 for URLs, of which the last letter holds two bits.
fn cluster_id() -> String {
    let letters: String = (0..21).map(|_| fastrand::alphanumeric()).collect();
    letters + "A"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn three_nodes_know_each_other_and_a_proxied_one_names_its_proxy() {
        let node = |n: u16| Node::new(Kind::Kafka3, "/d".into(), [n, n + 1, n + 2]);
        let three = properties(&[node(10), node(20), node(30)], 1, None, None);
        assert!(three.contains("node.id=2\n"), "{three}");
        assert!(three.contains("voters=1@127.0.0.1:11,2@127.0.0.1:21,3@127.0.0.1:31\n"), "{three}");
        assert!(three.contains("\nmin.insync.replicas=2\n"), "{three}");
        let one = properties(&[node(10)], 0, Some(99), None);
        assert!(one.contains("PROXIED://127.0.0.1:12\n"), "{one}");
        assert!(one.contains("PROXIED://127.0.0.1:99\n"), "{one}");
    }
}
