//! Opens a subscription: joins the group, starts the threads, and waits until the group has said what is ours.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use commute_core::{Code, Error, Result, Subscription, SubscriptionSpec};
use tokio::sync::watch;

use crate::client::blocking;
use crate::library::Library;
use crate::link::Link;
use crate::membership::{Member, left};
use crate::receiver::{Inlet, end};
use crate::settler::Outlet;
use crate::state::Shared;
use crate::{aside, committer, consumer, settling};

/// How long those of this process who are about to leave the group are waited for.
const LEAVE: Duration = Duration::from_secs(15);
/// How long the group may take to say what is ours, beyond the time after which it gives up an instance that was killed; it
/// may say so later.
const ASSIGN: Duration = Duration::from_secs(15);

/// A subscription that is open, as its broker knows it.
pub(crate) struct Open {
    pub(crate) shared: std::sync::Weak<Shared>,
    pub(crate) gone: watch::Receiver<()>,
}

impl Open {
    /// Ends it, if it has not ended.
    pub(crate) fn end(&self) {
        if let Some(shared) = self.shared.upgrade() {
            end(&shared, &self.gone);
        }
    }
}

/// Opens. `known` hears of it before anything can go wrong.
pub(crate) async fn open(
    link: Arc<Link>,
    spec: SubscriptionSpec,
    known: impl FnOnce(Open) -> Result<()>,
) -> Result<Subscription> {
    if spec.queue.is_some() {
        return Err(Error::new(Code::NeedNotMet, "Kafka has no queues; subscribe to the topic"));
    }
    let group_id = format!("{}@{}", spec.group, spec.topic);
    let aside = aside::name(&spec.group, spec.topic.as_str());
    let mut config = link.options.client();
    config.set("client.id", "commute-reader");
    let library = Arc::new(Library::new(config, &group_id));
    let shared = Arc::new(Shared::new(spec, group_id, aside, link));
    left(&shared.group(), LEAVE).await;
    let (for_join, with) = (shared.clone(), library.clone());
    let joined = blocking(move || {
        let topics = &for_join.link.publisher().topics;
        topics.ensure(for_join.topic())?;
        topics.check_aside(&for_join.aside)?;
        consumer::join(&for_join.link.options, &for_join, &with)
    });
    let (member, gone) = Member::new(joined.await?);
    let member = Arc::new(member);
    let settler = Outlet { shared: shared.clone(), library: library.clone(), member: Arc::downgrade(&member) };
    start(&shared, &library, member)?;
    let receiver = Inlet { shared: shared.clone(), gone: gone.clone() };
    known(Open { shared: Arc::downgrade(&shared), gone })?;
    let mut opened = shared.opened.subscribe();
    let patience = shared.link.options.session_timeout + ASSIGN;
    let assigned = tokio::time::timeout(patience, opened.wait_for(|opened| *opened)).await;
    if assigned.is_err() {
        tracing::warn!(topic = shared.topic(), group = %shared.spec.group, "the group has not said yet what is ours");
    }
    if let Some(over) = shared.state().end() {
        over?;
        return Err(Error::new(Code::Closed, "the connection was closed meanwhile"));
    }
    Ok(Subscription { receiver: Box::new(receiver), settler: Arc::new(settler) })
}

/// Starts the threads. The poll thread is the last one to end, and with it the membership.
fn start(shared: &Arc<Shared>, library: &Arc<Library>, member: Arc<Member>) -> Result<()> {
    let named = |what: &str| thread::Builder::new().name(format!("commute-kafka-{what}"));
    let failed = |cause| Error::new(Code::Io, "cannot start a thread").caused_by(cause);
    let (for_settle, with) = (shared.clone(), library.clone());
    let settle = named("settle").spawn(move || settling::run(&for_settle, &with)).map_err(failed)?;
    let (for_commit, by) = (shared.clone(), member.clone());
    let commit = named("commit").spawn(move || committer::run(&for_commit, &by)).map_err(failed)?;
    let for_poll = shared.clone();
    let poll = named("poll").spawn(move || {
        consumer::run(&for_poll, &member);
        for thread in [settle, commit] {
            if thread.join().is_err() {
                tracing::error!(topic = for_poll.topic(), "a thread of the subscription has panicked");
            }
        }
        drop(member);
    });
    poll.map(drop).map_err(failed)
}
