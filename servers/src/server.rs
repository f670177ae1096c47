//! The server: what a test holds, and what another process finds again by its folder.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::node::{Node, write};
use crate::{Kind, Options, Tls, cache, kafka, ports, rabbitmq};

const STATE: &str = "state.json";

/// One real server, or three that are one cluster. Unless detached, it ends with its owner.
#[derive(Debug)]
pub struct Server {
    state: State,
    dir: PathBuf,
    /// Whether it ends when this is dropped.
    attached: bool,
    /// Removed after everything else.
    temporary: Option<TempDir>,
}

/// What stands in the state file.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    kind: Kind,
    url: String,
    proxied_port: Option<u16>,
    /// With TLS; and with TLS and a password.
    #[serde(default)]
    secure: Option<[u16; 2]>,
    nodes: Vec<Node>,
}

impl Server {
    /// Starts a new server and waits until it serves.
    ///
    /// # Errors
    /// When it is not installed, a port is taken, or it does not serve within two minutes: with its last words.
    pub fn start(kind: Kind, options: Options) -> Result<Self> {
        if options.proxied.is_some() && kind != Kind::Kafka {
            bail!("only kafka has a listener for a proxy; {} has none", kind.name());
        }
        if options.tls.is_some() && kind.nodes() > 1 {
            bail!("only a single node speaks TLS here; {} has {}", kind.name(), kind.nodes());
        }
        let (dir, temporary) = folder(kind, options.dir)?;
        let mut secure = None;
        let mut nodes: Vec<_> = match kind.nodes() {
            1 => {
                let [port, inner, side, tls @ ..] = ports::choose::<5>(options.port)?;
                secure = options.tls.as_ref().map(|_| tls);
                vec![Node::new(kind, dir.clone(), [port, inner, side])]
            }
            _ => {
                let [a, b, c, rest @ ..] = ports::choose::<9>(options.port)?;
                let node = |n: usize, port| {
                    Node::new(kind, dir.join(format!("node{}", n + 1)), [port, rest[2 * n], rest[2 * n + 1]])
                };
                [a, b, c].into_iter().enumerate().map(|(n, port)| node(n, port)).collect()
            }
        };
        for node in &mut nodes {
            if options.memory_mib > 0 {
                node.memory = options.memory_mib;
            }
            fs::create_dir_all(&node.dir).with_context(|| format!("cannot create {}", node.dir.display()))?;
        }
        let tls = options.tls.as_ref().zip(secure);
        match kind {
            Kind::Rabbitmq => rabbitmq::prepare(&nodes[0], tls, &options.settings)?,
            Kind::Kafka | Kind::Kafka3 => kafka::prepare(&nodes, options.proxied, tls, &options.settings)?,
            Kind::Zeromq => {}
        }
        let proxied_port = options.proxied.map(|_| nodes[0].side);
        let url = url(kind, &nodes, options.tls.as_ref());
        let state = State { kind, url, proxied_port, secure, nodes };
        let mut server = Server { state, dir, attached: true, temporary };
        server.start_again()?;
        Ok(server)
    }

    /// The server that was started in this folder and detached, running or not.
    ///
    /// # Errors
    /// When the state file is there and cannot be read.
    pub fn find(dir: &Path) -> Result<Option<Self>> {
        let file = dir.join(STATE);
        if !file.exists() {
            return Ok(None);
        }
        let unreadable = || format!("cannot read {}: end what runs there, and remove the folder", file.display());
        let text = fs::read_to_string(&file).with_context(unreadable)?;
        let mut state: State = serde_json::from_str(&text).with_context(unreadable)?;
        state.nodes.iter_mut().for_each(Node::adopt);
        Ok(Some(Server { state, dir: dir.to_path_buf(), attached: false, temporary: None }))
    }

    /// Which server it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.state.kind
    }

    /// Where clients connect, as `COMMUTE_BROKER` has it: `amqp://guest:guest@127.0.0.1:PORT/%2f`, or
    /// `zmq://127.0.0.1:PORT`, or `kafka://127.0.0.1:PORT`, with commas between the addresses of three nodes.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.state.url
    }

    /// Where clients connect, node by node.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.state.nodes.iter().map(|node| node.port).collect()
    }

    /// Where a proxy connects, if there is to be one.
    #[must_use]
    pub fn proxied_port(&self) -> Option<u16> {
        self.state.proxied_port
    }

    /// Where clients connect with TLS, if it was asked for.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.state.secure.map(|[tls, _]| tls)
    }

    /// Where clients of Kafka connect with TLS and a password: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    #[must_use]
    pub fn sasl_port(&self) -> Option<u16> {
        self.state.secure.filter(|_| self.kind() == Kind::Kafka).map(|[_, sasl]| sasl)
    }

    /// Its data, configuration and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether every node answers, and sees all the others.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let nodes = &self.state.nodes;
        nodes.iter().all(|node| node.is_alive() && node.is_ready(nodes.len()))
    }

    /// Whether any node runs, ready or not.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.state.nodes.iter().any(Node::is_alive)
    }

    /// SIGKILL, for every process of every node; it returns when they are gone.
    pub fn kill(&mut self) {
        self.state.nodes.iter_mut().for_each(Node::kill);
        self.save_quietly();
    }

    /// Lets every node end in its own way, and kills those that take longer than half a minute.
    pub fn stop(&mut self) {
        // All at once: the last controllers of a cluster would wait for the others.
        self.state.nodes.iter().for_each(Node::terminate);
        self.state.nodes.iter_mut().for_each(Node::end);
        self.save_quietly();
    }

    /// Starts the nodes that do not run, with the same data and ports, and waits until all serve.
    ///
    /// # Errors
    /// When one does not serve within two minutes: with its last words.
    pub fn start_again(&mut self) -> Result<()> {
        let all = self.state.nodes.len();
        for node in self.state.nodes.iter_mut().filter(|node| !node.is_alive()) {
            node.launch()?;
        }
        self.save()?;
        self.state.nodes.iter_mut().try_for_each(|node| node.wait(all))
    }

    /// SIGKILL for one node, counted from 0.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn kill_node(&mut self, n: usize) {
        self.state.nodes[n].kill();
        self.save_quietly();
    }

    /// Starts one node again, counted from 0, and waits until it serves with those that run.
    ///
    /// # Errors
    /// When it does not serve within two minutes: with its last words.
    ///
    /// # Panics
    /// When there is no such node.
    pub fn start_node(&mut self, n: usize) -> Result<()> {
        if !self.state.nodes[n].is_alive() {
            self.state.nodes[n].launch()?;
        }
        self.save()?;
        let running = self.state.nodes.iter().filter(|node| node.is_alive()).count();
        self.state.nodes[n].wait(running)
    }

    /// Runs `rabbitmqctl` with these arguments and gives what it printed.
    ///
    /// # Errors
    /// When this is no RabbitMQ, or the command fails.
    pub fn rabbitmqctl(&self, arguments: &[&str]) -> Result<String> {
        if self.state.kind != Kind::Rabbitmq {
            bail!("{} knows no rabbitmqctl", self.state.kind.name());
        }
        rabbitmq::control(&self.state.nodes[0], arguments)
    }

    /// Lets it live on without this process: [`Server::find`] finds it again.
    ///
    /// # Errors
    /// When its folder is temporary or the state file cannot be written; it has then ended.
    pub fn detach(mut self) -> Result<()> {
        if self.temporary.is_some() {
            bail!("a server in a temporary folder cannot be detached: name a folder in its options");
        }
        self.save()?;
        self.state.nodes.iter_mut().for_each(Node::release);
        self.attached = false;
        Ok(())
    }

    fn save(&self) -> Result<()> {
        // As a whole or not at all: another process may read at any time.
        let new = self.dir.join("state.json.new");
        write(&new, &serde_json::to_string_pretty(&self.state)?)?;
        fs::rename(&new, self.dir.join(STATE)).context("cannot replace the state file")
    }

    /// Where there is nobody to tell. A state file that names processes which are gone is understood.
    fn save_quietly(&self) {
        let _ = self.save();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.attached {
            self.state.nodes.iter_mut().for_each(Node::kill);
        }
    }
}

fn url(kind: Kind, nodes: &[Node], tls: Option<&Tls>) -> String {
    let addresses: Vec<_> = nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect();
    match kind {
        Kind::Rabbitmq => {
            let (user, password) = tls.map_or(("guest", "guest"), |tls| (&tls.user, &tls.password));
            format!("amqp://{user}:{password}@{}/%2f", addresses.join(","))
        }
        Kind::Kafka | Kind::Kafka3 => format!("kafka://{}", addresses.join(",")),
        Kind::Zeromq => format!("zmq://{}", addresses.join(",")),
    }
}

/// The folder as asked for, which must be empty or new, or a temporary one.
fn folder(kind: Kind, asked: Option<PathBuf>) -> Result<(PathBuf, Option<TempDir>)> {
    if let Some(dir) = asked {
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        if fs::read_dir(&dir)?.next().is_some() {
            bail!("{} is not empty: `Server::find` finds a server that is there, or remove the folder", dir.display());
        }
        return Ok((fs::canonicalize(dir)?, None));
    }
    // Not in the system's temporary folder, which may be memory.
    fs::create_dir_all(cache()).with_context(|| format!("cannot create {}", cache().display()))?;
    let temporary = tempfile::Builder::new().prefix(&format!("{}-", kind.name())).tempdir_in(cache())?;
    Ok((fs::canonicalize(temporary.path())?, Some(temporary)))
}
