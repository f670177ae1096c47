//! A trial: one scenario on one broker with one seed, from nothing to a report.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::broker::{self, Broker, Place};
use crate::check::{self, Findings, Rules};
use crate::consume::Order;
use crate::consumers::Consumer;
use crate::event::Touch;
use crate::evidence;
use crate::history::{History, Reader, Record, now};
use crate::plan::{self, Workload};
use crate::progress::{self, Progress};
use crate::publish::publish;
use crate::report::Report;
use crate::scenario::Scenario;

/// When nothing moves for so long after everything was healed, something is stuck; where two trials share the machine.
pub(crate) const STUCK: Duration = Duration::from_secs(60);

/// After so long it is asked whether the server needs an operator.
const STILL: Duration = Duration::from_secs(15);

/// How long a run that is over is watched for effects that come late.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// The first consumer.
pub(crate) const FIRST: &str = "one";

/// What a trial is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) scenario: Scenario,
    pub(crate) broker: Broker,
    pub(crate) seed: u64,
    pub(crate) is_short: bool,
    /// [`STUCK`], for as many as there are at once.
    pub(crate) stuck: Duration,
}

/// A trial under way, as its scenario sees it.
pub(crate) struct Trial {
    pub(crate) subject: Subject,
    pub(crate) place: Place,
    pub(crate) random: fastrand::Rng,
    pub(crate) consumers: Vec<(String, Consumer)>,
    events: Vec<Touch>,
    history: History,
    progress: watch::Receiver<Progress>,
    publishing: Option<JoinHandle<Result<()>>>,
    order: Order,
    /// How often consumers ended by themselves.
    ended: usize,
}

impl Trial {
    /// Waits until this share of the events is handled.
    pub(crate) async fn until(&mut self, share: f64) -> Result<()> {
        let enough = (self.events.len() as f64 * share) as usize;
        let stuck = self.subject.stuck;
        if progress::wait(&mut self.progress, stuck, |progress| progress.handled >= enough).await {
            return Ok(());
        }
        let handled = self.progress.borrow().handled;
        bail!("{handled} of {} events are handled, and nothing has moved for {stuck:?}", self.events.len());
    }

    /// Whether everything is published and confirmed.
    pub(crate) fn is_published(&self) -> bool {
        self.publishing.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// A random time between two, in milliseconds.
    pub(crate) async fn pause(&mut self, millis: std::ops::Range<u64>) {
        tokio::time::sleep(Duration::from_millis(self.random.u64(millis))).await;
    }

    pub(crate) fn fault(&self, what: impl Into<String>) {
        self.history.write(&Record::Fault { at: now(), what: what.into(), heals: false });
    }

    pub(crate) fn healed(&self, what: impl Into<String>) {
        self.history.write(&Record::Fault { at: now(), what: what.into(), heals: true });
    }

    /// Starts one more consumer of the group.
    pub(crate) fn join(&mut self, name: &str) {
        let order =
            Order { process: name.to_owned(), database: store(&self.order.history, name), ..self.order.clone() };
        self.consumers.push((name.to_owned(), Consumer::start(order, self.history.clone())));
    }

    /// Takes a consumer out of the trial's hands.
    pub(crate) fn take(&mut self, name: &str) -> Result<Consumer> {
        let place = self.consumers.iter().position(|(known, _)| known == name);
        place.map(|place| self.consumers.remove(place).1).with_context(|| format!("there is no consumer {name}"))
    }

    /// Counts the ends of a consumer that is gone.
    pub(crate) fn gone(&mut self, ended: usize) {
        self.ended += ended;
    }

    /// What an operator would have to do for a server that does not serve, done; answers what it was.
    async fn remedy(&mut self) -> Option<String> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let elect = move |server: &mut servers::Server| {
            let queues = broker::elect(server)?;
            tell.send(queues).context("nobody listens")
        };
        self.server(elect).await.ok()?;
        let queues = told.recv().ok()?;
        (queues > 0).then(|| "queue without a leader, elected by hand".to_owned())
    }

    /// Changes the server, on a thread that may wait.
    pub(crate) async fn server(
        &mut self,
        change: impl FnOnce(&mut servers::Server) -> Result<()> + Send + 'static,
    ) -> Result<()> {
        let mut server = self.place.server.take().context("this trial has no server of its own")?;
        let (server, changed) = tokio::task::spawn_blocking(move || {
            let changed = change(&mut server);
            (server, changed)
        })
        .await?;
        self.place.server = Some(server);
        changed
    }
}

/// The database of a consumer.
fn store(history: &Path, name: &str) -> PathBuf {
    history.with_file_name(format!("{name}.db"))
}

/// Runs a scenario in a new folder.
///
/// # Errors
/// When it could not be run at all.
pub(crate) async fn run(subject: Subject, place: Place, directory: PathBuf) -> Result<Report> {
    let began = Instant::now();
    let scenario = subject.scenario;
    let workload = scenario.workload(subject.seed, subject.is_short);
    let events = plan::events(&workload);
    let file = directory.join("history.jsonl");
    let history = History::open(&file)?;
    let topic = format!("hostile.{}.{:x}", scenario.name(), now());
    let (tell, mut progress) = watch::channel(Progress::default());
    let stores = scenario.consumers().iter().map(|name| store(&file, name)).collect::<Vec<_>>();
    let following = tokio::spawn(progress::follow(file.clone(), stores.clone(), events.clone(), tell));
    let is_embedded = subject.broker == Broker::Embedded;
    let order = Order {
        url: place.url(scenario.is_consumer_proxied()),
        app: format!("{}-app", scenario.name()),
        process: FIRST.to_owned(),
        topic: topic.clone(),
        history: file.clone(),
        database: PathBuf::new(),
        look_ahead: scenario.look_ahead(subject.seed),
        publishes: is_embedded.then(|| workload.clone()),
    };
    let publishing = match is_embedded {
        true => None,
        false => {
            let url = place.url(scenario.is_publisher_proxied());
            let (topic, workload, history) = (topic.clone(), workload.clone(), history.clone());
            Some(tokio::spawn(async move {
                let broker = broker::connect(&url).await?;
                publish(broker.clone(), topic, workload, history, Default::default()).await?;
                Ok(broker.close().await?)
            }))
        }
    };
    let mut trial = Trial {
        subject,
        place,
        random: fastrand::Rng::with_seed(subject.seed ^ 0x5eed),
        consumers: Vec::new(),
        events,
        history,
        progress: progress.clone(),
        publishing,
        order,
        ended: 0,
    };
    trial.join(FIRST);
    let mut failures = Vec::new();
    if let Err(cause) = scenario.harm(&mut trial).await {
        failures.push(format!("while harming: {cause:#}"));
    }
    trial.history.write(&Record::Fault { at: now(), what: "nothing more happens".to_owned(), heals: false });
    let mut complete = progress::wait(&mut progress, STILL, |progress| progress.is_complete).await;
    if !complete {
        if let Some(what) = trial.remedy().await {
            trial.healed(&what);
            trial.fault(what);
        }
        complete = progress::wait(&mut progress, subject.stuck - STILL, |progress| progress.is_complete).await;
    }
    if !complete {
        // While everybody is still there.
        trial.server(evidence::queues(directory.clone())).await.ok();
    }
    if let Some(publishing) = trial.publishing.take() {
        if complete || publishing.is_finished() {
            failures.extend(publishing.await?.err().map(|cause| format!("publishing: {cause:#}")));
        } else {
            publishing.abort();
            failures.push("publishing has not come to an end".to_owned());
        }
    }
    tokio::time::sleep(AFTERWARDS).await;
    for (name, consumer) in std::mem::take(&mut trial.consumers) {
        match consumer.leave().await {
            Ok(ended) => trial.gone(ended),
            Err(cause) => failures.push(format!("consumer {name}: {cause:#}")),
        }
    }
    following.abort();
    let records = Reader::new(&file).next()?;
    let stored = stores.iter().map(|store| progress::read(store)).collect::<Result<Vec<_>>>()?;
    // Each of the three subscriptions may; answers and dead letters come only where there is trouble.
    let most_held = scenario.look_ahead(subject.seed) * if workload.is_troubled { 3 } else { 1 };
    let rules = Rules { across: scenario.keeps_order_across(subject.broker), look_ahead: most_held };
    let findings: Findings = check::check(&trial.events, &records, &stored, rules);
    let report = Report::new(subject, &trial.events, &records, findings, failures, trial.ended, began.elapsed());
    if !report.is_ok() {
        trial.server(evidence::logs(directory.clone())).await.ok();
        report.save(&directory.join("violations.txt"))?;
    }
    Ok(report)
}

/// What a workload is unless a scenario says otherwise.
pub(crate) fn workload(seed: u64, is_short: bool, spread: [u64; 2]) -> Workload {
    Workload {
        seed,
        events: if is_short { 600 } else { 6000 },
        spread: Duration::from_secs(if is_short { spread[0] } else { spread[1] }),
        longest: Duration::from_millis(3),
        is_slow: false,
        is_troubled: true,
        patience: None,
    }
}
