//! Settling: the last word on a delivery.
//!
//! Outcomes arrive from workers and stores, settlements leave for the broker, in the order in which they arrived. Nothing
//! else in the engine may settle, so this is the file to read when something was lost or doubled.

use std::sync::Arc;

use commute_core::{Outgoing, Result, Settlement, Settler, Topic};
use futures_util::future::join_all;

use crate::engine::Engine;
use crate::relay;

/// Settles until everything ends, or the broker fails for good.
///
/// Commit first, then ack: the store has committed before a settlement gets here, so a crash in between delivers twice,
/// and the inbox makes twice harmless. The other order would lose the event.
pub(crate) async fn settle(engine: Arc<Engine>) {
    let settlers: Vec<_> = engine.subscriptions.iter().map(|sub| sub.settler.clone()).collect();
    let settled = tokio::select! {
        biased;
        () = engine.stop.everything.cancelled() => return,
        settled = drain(&engine, &settlers) => settled,
    };
    if let Err(error) = settled {
        engine.fail(error);
    }
}

async fn drain(engine: &Engine, settlers: &[Arc<dyn Settler>]) -> Result<()> {
    loop {
        let (batch, told) = engine.settle.next().await;
        let count = batch.len() + told.len();
        let mut answers = Answers::default();
        batch.iter().for_each(|(_, settlement)| answers.note(settlement));
        // One call for each run of settlements of one subscription. `join_all` polls them in order for the first time,
        // and the broker promises that the order of effects is the order of first polls.
        let calls = runs(batch).into_iter().map(|(n, run)| settlers[n].settle(run));
        join_all(calls).await.into_iter().collect::<Result<()>>()?;
        answers.0.iter().for_each(|(topic, count)| engine.published.add(topic, *count));
        if !told.is_empty()
            && let Err(error) = relay::publish(engine, told).await
        {
            tracing::warn!(app = %engine.name, %error, "who asked is not told that events are parked");
        }
        engine.settle.done(count);
    }
}

/// How many events a batch publishes, by topic; few topics, so a list.
#[derive(Default)]
struct Answers(Vec<(Topic, usize)>);

impl Answers {
    fn note(&mut self, settlement: &Settlement) {
        let Settlement::Ack { publish, .. } = settlement else { return };
        for Outgoing { topic, .. } in publish {
            match self.0.iter_mut().find(|(known, _)| known == topic) {
                Some((_, count)) => *count += 1,
                None => self.0.push((topic.clone(), 1)),
            }
        }
    }
}

fn runs(batch: Vec<(usize, Settlement)>) -> Vec<(usize, Vec<Settlement>)> {
    let lengths: Vec<_> = batch.chunk_by(|one, next| one.0 == next.0).map(|run| (run[0].0, run.len())).collect();
    let mut rest = batch.into_iter().map(|(_, settlement)| settlement);
    lengths.into_iter().map(|(n, length)| (n, rest.by_ref().take(length).collect())).collect()
}
