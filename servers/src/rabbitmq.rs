//! RabbitMQ: one node with a port mapper, a name and a cookie of its own, all on loopback.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::node::{Node, write};
use crate::{Tls, process};

/// Where packages put RabbitMQ's own scripts. Those in the PATH change to the package's user first.
const SCRIPTS: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/usr/local/lib/rabbitmq/bin"];

/// RabbitMQ's own scripts, if it is installed.
pub(crate) fn scripts() -> Option<PathBuf> {
    let is_there = |folder: &Path| folder.join("rabbitmq-server").is_file();
    let fixed = SCRIPTS.iter().map(PathBuf::from).find(|folder| is_there(folder));
    fixed.or_else(|| {
        let linked = std::fs::canonicalize(process::find("rabbitmq-server")?).ok()?;
        linked.parent().map(Path::to_path_buf).filter(|folder| folder.ends_with("sbin") && is_there(folder))
    })
}

/// Writes the configuration of a new node.
pub(crate) fn prepare(node: &Node, tls: Option<(&Tls, [u16; 2])>, settings: &[String]) -> Result<()> {
    let dir = node.dir.display();
    let environment = format!(
        r#"NODENAME={name}
MNESIA_BASE="{dir}/data"
LOG_BASE="{dir}/log"
CONFIG_FILE="{dir}/rabbitmq"
ADVANCED_CONFIG_FILE="{dir}/advanced"
ENABLED_PLUGINS_FILE="{dir}/enabled_plugins"
DIST_PORT={dist}
SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {{127,0,0,1}}"
CTL_ERL_ARGS="-kernel inet_dist_use_interface {{127,0,0,1}}"
"#,
        name = name(node),
        dist = node.inner,
    );
    let mut own = vec![
        format!("listeners.tcp.1 = 127.0.0.1:{}", node.port),
        "log.file = rabbitmq.log".into(),
        format!("vm_memory_high_watermark.absolute = {}MiB", node.memory),
        // The default asks for as much free disk as the machine has memory.
        "disk_free_limit.absolute = 50MB".into(),
    ];
    if let Some((Tls { certificate, key, user, password }, [port, _])) = tls {
        write(&node.dir.join("server.pem"), certificate)?;
        write(&node.dir.join("server.key"), key)?;
        own.extend([
            format!("listeners.ssl.1 = 127.0.0.1:{port}"),
            format!("ssl_options.certfile = {dir}/server.pem"),
            format!("ssl_options.keyfile = {dir}/server.key"),
            "ssl_options.verify = verify_none".into(),
            format!("default_user = {user}"),
            format!("default_pass = {password}"),
        ]);
    }
    let lines: Vec<_> = own.iter().chain(settings).map(String::as_str).collect();
    write(&node.dir.join("env.conf"), &environment)?;
    write(&node.dir.join("enabled_plugins"), "[].\n")?;
    write(&node.dir.join("rabbitmq.conf"), &(lines.join("\n") + "\n"))
}

/// The port mapper and the server.
pub(crate) fn commands(node: &Node) -> Result<Vec<Command>> {
    let mut mapper = Command::new(process::find("epmd").context("epmd is not installed: it comes with Erlang")?);
    in_environment(&mut mapper, node);
    let mut server = script(node, "rabbitmq-server")?;
    // A crash should leave a log, and not a dump of the whole memory.
    server.env("ERL_CRASH_DUMP_BYTES", "0");
    Ok(vec![mapper, server])
}

/// Runs `rabbitmqctl` and gives what it printed.
pub(crate) fn control(node: &Node, arguments: &[&str]) -> Result<String> {
    let mut command = script(node, "rabbitmqctl")?;
    let output = command.arg("--quiet").args(arguments).output().context("cannot start rabbitmqctl")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`rabbitmqctl {}` failed ({}): {}", arguments.join(" "), output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn script(node: &Node, name: &str) -> Result<Command> {
    let folder = scripts().context("RabbitMQ is not installed: see `servers::install`")?;
    let mut command = Command::new(folder.join(name));
    in_environment(&mut command, node);
    Ok(command)
}

fn in_environment(command: &mut Command, node: &Node) {
    command.env("HOME", &node.dir).env("RABBITMQ_CONF_ENV_FILE", node.dir.join("env.conf"));
    command.env("ERL_EPMD_ADDRESS", "127.0.0.1").env("ERL_EPMD_PORT", node.side.to_string());
}

fn name(node: &Node) -> String {
    format!("commute-{}@localhost", node.port)
}
