//! The shop on real servers: whole, with failures, through a restart of the server and kills of its own, and in parts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use servers::{Kind, Options, Server};

use super::shop::Ended;
use super::{Check, Outcome, kills};

/// A service that holds back this long after the last event has surely heard of everything that the others sent.
const QUIET: &str = "3";

/// How long Kafka, or a node, waits for a member that was killed before its events go to the next.
const SESSION: Duration = Duration::from_millis(1500);

const KILLS: usize = 3;

impl Check<'_> {
    /// Every run on one kind of server.
    pub(super) fn runs_on(&self, kind: Kind) -> Result<()> {
        servers::install(kind)?;
        let mut server = Server::start(kind, Options::default())?;
        let url = match kind {
            Kind::Rabbitmq => server.url().to_owned(),
            Kind::Kafka | Kind::Kafka3 => format!("{}?session_timeout_ms={}", server.url(), SESSION.as_millis()),
            Kind::Zeromq => server.url().to_owned(),
        };
        let name = |what: &str| format!("{}-{what}", kind.name());
        let seed = self.args.seed.to_string();
        let uninterrupted = self.whole_run(&name("whole"), &self.on(&url, &name("whole"), &[]))?;
        self.whole_run(
            &name("fail-rate"),
            &self.on(&url, &name("fail-rate"), &["--fail-rate", "0.2", "--seed", &seed]),
        )?;
        if matches!(kind, Kind::Kafka | Kind::Kafka3) {
            let url = format!("{url}&partitions=8");
            self.whole_run(&name("8-partitions"), &self.on(&url, &name("8-partitions"), &[]))?;
        }
        self.parts(&name("parts"), &url)?;
        self.two_payments(kind, &name("payments"), &url)?;
        self.killed(kind, &name("kills"), &url, uninterrupted)?;
        self.restarted(&name("restart"), &url, &mut server, uninterrupted)?;
        if kind == Kind::Zeromq {
            self.five(&name("five"), &url, None, uninterrupted)?;
            self.five(&name("five-killed"), &url, Some(&mut server), uninterrupted)?;
        }
        Ok(())
    }

    /// The arguments of a run on a server, with topics of its own.
    fn on(&self, url: &str, namespace: &str, more: &[&str]) -> Vec<String> {
        let input = self.input.display().to_string();
        let own = ["--input", &input, "--broker", url, "--namespace", namespace];
        own.iter().chain(more).map(|word| (*word).to_owned()).collect()
    }

    /// Two processes with some of the services each.
    fn parts(&self, name: &str, url: &str) -> Result<()> {
        let folder = self.folder.join(name);
        let data = folder.join("data");
        let part = |services| self.on(url, name, &["--quiet-for", QUIET, "--service", services]);
        let first = self.shop.start_on(&data, &folder.join("first"), &part("inventory,shipping"))?;
        let second = self.shop.start_on(&data, &folder.join("second"), &part("feed,users,orders,payment"))?;
        for part in [first, second] {
            succeeded(&part.wait()?)?;
        }
        let report = self.report(name, &folder, &data, url)?;
        report.compare(&self.expected).with_context(|| format!("run {name} does not end with the expected result"))?;
        println!("ok   {name:<22} inventory, shipping | feed, users, orders, payment");
        Ok(())
    }

    /// Five processes with one service each. With the server, it is killed while they work, and then every one of them.
    #[allow(clippy::disallowed_methods, reason = "the shop works meanwhile; there is nothing to wait for")]
    fn five(&self, name: &str, url: &str, server: Option<&mut Server>, uninterrupted: Duration) -> Result<()> {
        let folder = self.folder.join(name);
        let data = folder.join("data");
        let services = ["feed,users", "orders", "inventory", "payment", "shipping"];
        let start = |service: &&str, life: &str| {
            let arguments = self.on(url, name, &["--quiet-for", QUIET, "--service", service]);
            self.shop.start_on(&data, &folder.join(format!("{service}-{life}")), &arguments)
        };
        let mut running = services.iter().map(|service| start(service, "first")).collect::<Result<Vec<_>>>()?;
        let mut killed = 0;
        if let Some(server) = server {
            std::thread::sleep(uninterrupted.mul_f64(0.4));
            server.kill();
            server.start_again()?;
            let again = services.iter().zip(running).map(|(service, before)| {
                let over = before.kill_after(Duration::ZERO)?.is_some();
                ensure!(!over, "run {name}: {service} was over before it could be killed");
                killed += 1;
                start(service, "second")
            });
            running = again.collect::<Result<_>>()?;
        }
        for part in running {
            succeeded(&part.wait()?)?;
        }
        let report = self.report(name, &folder, &data, url)?;
        report.compare(&self.expected).with_context(|| format!("run {name} does not end with the expected result"))?;
        match killed {
            0 => println!("ok   {name:<22} five processes"),
            _ => println!("ok   {name:<22} five processes; the node was killed, and {killed} services"),
        }
        Ok(())
    }

    /// Two instances of one service share its events; each has a database of its own.
    fn two_payments(&self, kind: Kind, name: &str, url: &str) -> Result<()> {
        let folder = self.folder.join(name);
        let data = |instance: &str| folder.join(instance);
        let shared = |instance: &str| match kind {
            Kind::Rabbitmq => format!("{url}?instances=many&instance={instance}&prefetch=16"),
            Kind::Kafka | Kind::Kafka3 => format!("{url}&partitions=8"),
            Kind::Zeromq => url.to_owned(),
        };
        let part = |url: &str, services| self.on(url, name, &["--quiet-for", QUIET, "--service", services]);
        let others = match kind {
            Kind::Rabbitmq | Kind::Zeromq => url.to_owned(),
            Kind::Kafka | Kind::Kafka3 => shared("rest"),
        };
        let mut running = Vec::new();
        for instance in ["one", "two"] {
            let arguments = part(&shared(instance), "payment");
            running.push(self.shop.start_on(&data(instance), &folder.join(format!("{instance}-said")), &arguments)?);
        }
        let rest = part(&others, "feed,users,orders,inventory,shipping");
        running.push(self.shop.start_on(&data("rest"), &folder.join("rest-said"), &rest)?);
        let mut handled = Vec::new();
        for part in running {
            let ended = part.wait()?;
            succeeded(&ended)?;
            handled.push(ended.handled.unwrap_or(0));
        }
        let mut all = self.report(name, &folder.join("all"), &data("rest"), url)?;
        for instance in ["one", "two"] {
            all.add(self.report(name, &folder.join(format!("{instance}-all")), &data(instance), url)?)?;
        }
        all.compare(&self.expected).with_context(|| format!("run {name} does not end with the expected result"))?;
        ensure!(handled[0] > 0 && handled[1] > 0, "run {name}: one instance of payment had no share: {handled:?}");
        println!("ok   {name:<22} two instances of payment handled {} and {}", handled[0], handled[1]);
        Ok(())
    }

    /// Killed again and again at random moments, and run to the end.
    fn killed(&self, kind: Kind, name: &str, url: &str, uninterrupted: Duration) -> Result<()> {
        let mut work = uninterrupted;
        for attempt in 0..6 {
            let name = format!("{name}-{attempt}");
            let mut moments = kills::moments(KILLS, work, self.args.seed + attempt);
            if kind != Kind::Rabbitmq {
                // Whoever comes after a kill waits for the session of the killed one to end.
                moments.iter_mut().skip(1).for_each(|moment| *moment += SESSION);
            }
            match self.kill_at(&self.folder.join(&name), &self.on(url, &name, &[]), &moments)? {
                None => work = work.mul_f64(0.7),
                Some(last) => {
                    self.compare(&name, &last)?;
                    println!(
                        "ok   {name:<22} killed {KILLS} times; the last run took {:.1} s",
                        last.took.as_secs_f64()
                    );
                    return Ok(());
                }
            }
        }
        anyhow::bail!("the shop is done before it can be killed {KILLS} times; check it on more orders")
    }

    /// The server is stopped and started again while the shop works.
    #[allow(clippy::disallowed_methods, reason = "the shop works meanwhile; there is nothing to wait for")]
    fn restarted(&self, name: &str, url: &str, server: &mut Server, uninterrupted: Duration) -> Result<()> {
        let folder = self.folder.join(name);
        let running = self.shop.start(&folder, &self.on(url, name, &[]))?;
        std::thread::sleep(uninterrupted.mul_f64(0.5));
        server.stop();
        server.start_again()?;
        let ended = running.wait()?;
        self.compare(name, &ended)?;
        println!("ok   {name:<22} {:.1} s with a restart of the server in the middle", ended.took.as_secs_f64());
        Ok(())
    }

    /// What the databases in a directory say.
    fn report(&self, name: &str, folder: &Path, data: &Path, url: &str) -> Result<Outcome> {
        let ended = self.shop.start_on(data, folder, &self.on(url, name, &["--service", "none"]))?.wait()?;
        succeeded(&ended)?;
        Outcome::load(&ended.report)
    }
}

fn succeeded(ended: &Ended) -> Result<()> {
    ensure!(ended.status.success(), "a part of the shop failed ({})\n{}", ended.status, ended.tail());
    Ok(())
}
