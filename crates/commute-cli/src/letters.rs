//! Dead letters: finding those that wait for somebody's decision, page by page.

use std::collections::VecDeque;

use commute::admin::{Admin, DEAD_LETTERS, Happened, StoredEvent, SubscriptionName};
use commute::{Code, DeadLetter, Event as _, EventId, Incoming, Topic};
use serde::Serialize;

use crate::exit::{Exit, Failure, Result};

/// How many dead letters are asked for at once: some megabytes when they are large.
const PAGE: usize = 100;
/// What the topics of dead letters end with, unless handlers say otherwise.
const ENDING: &str = ".dead";

/// Which dead letters.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Which {
    /// Only this topic of dead letters, instead of all that end with .dead.
    #[arg(long, value_name = "TOPIC")]
    pub(crate) topic: Option<String>,
    /// Only originals of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Only failures with this code.
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,
    /// Only originals with this key.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Only what this group gave up.
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
}

impl Which {
    /// Whether nothing was left out but by topic.
    fn all_of_topic(&self) -> bool {
        self.event_type.is_none() && self.code.is_none() && self.key.is_none() && self.group.is_none()
    }

    fn takes(&self, letter: &Letter) -> bool {
        let Some(dead) = &letter.dead else { return self.all_of_topic() };
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        is(&self.event_type, dead.original_type())
            && is(&self.code, &dead.code)
            && is(&self.group, &dead.subscription)
            && is(&self.key, dead.original_key().as_deref().unwrap_or_default())
    }
}

/// A dead letter where it lies.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Letter {
    /// Its own id.
    pub(crate) letter: EventId,
    /// The topic of dead letters.
    pub(crate) topic: String,
    /// Its position there.
    pub(crate) position: u64,
    /// When it was given up.
    pub(crate) published: commute::Timestamp,
    /// What it says; nothing when somebody put something else into the topic.
    pub(crate) dead: Option<DeadLetter>,
}

impl Letter {
    fn of(stored: StoredEvent) -> Self {
        let letter = *stored.event.event_type == *DeadLetter::TYPE;
        let dead = letter.then(|| <DeadLetter as Incoming>::decode(&stored.event).ok()).flatten();
        let StoredEvent { topic, position, published, event, .. } = stored;
        Letter { letter: event.id, topic, position, published, dead }
    }

    /// Whether it is the dead letter with an id, or of the event with it.
    fn is_about(&self, wanted: &EventId) -> bool {
        let about = |dead: &DeadLetter| self.letter == *wanted || dead.original_id().is_ok_and(|id| id == *wanted);
        self.dead.as_ref().is_some_and(about)
    }

    /// About how many bytes its original has.
    pub(crate) fn bytes(&self) -> usize {
        self.dead.as_ref().map_or(0, |dead| dead.event.to_string().len())
    }
}

/// The group of the dead letters of a topic.
pub(crate) fn waiting(topic: &str) -> Result<SubscriptionName> {
    Ok(SubscriptionName { topic: Topic::new(topic)?, group: DEAD_LETTERS.to_owned() })
}

/// Dead letters that wait, topic by topic in the order of their names.
pub(crate) struct Letters<'a> {
    admin: &'a dyn Admin,
    which: Which,
    topics: VecDeque<(String, u64)>,
    after: Option<u64>,
}

impl<'a> Letters<'a> {
    /// Those that wait now; what arrives later is not among them.
    ///
    /// # Errors
    /// `NotFound` when a topic is named that is not there; the broker's.
    pub(crate) async fn waiting(admin: &'a dyn Admin, which: Which) -> Result<Self> {
        let mut topics = VecDeque::new();
        let mut after = None;
        loop {
            let page = match (admin.topics(after.clone(), PAGE).await, &which.topic) {
                // A server that does not list its topics knows the one that is named.
                (Err(error), Some(topic)) if error.code() == Code::NeedNotMet => {
                    topics.push_back((topic.clone(), u64::MAX));
                    break;
                }
                (Err(error), None) if error.code() == Code::NeedNotMet => {
                    return Err(Failure::from(error).remedy("name the topic of the dead letters: --topic orders.dead"));
                }
                (page, _) => page?,
            };
            let Some(last) = page.last() else { break };
            after = Some(Topic::new(&last.topic)?);
            let wanted = |topic: &str| which.topic.as_ref().map_or(topic.ends_with(ENDING), |wanted| wanted == topic);
            topics.extend(page.into_iter().filter(|info| wanted(&info.topic)).map(|info| (info.topic, info.next)));
        }
        match &which.topic {
            Some(topic) if topics.is_empty() => {
                Err(Failure::new(Exit::NotFound, format!("there is no topic {topic}")).remedy("see `commute topics`"))
            }
            _ => Ok(Letters { admin, which, topics, after: None }),
        }
    }

    /// Goes on behind `TOPIC:POSITION`.
    pub(crate) fn skip_to(&mut self, place: &str) -> Result<()> {
        let wrong = || Failure::new(Exit::Usage, format!("{place:?} is no place; write TOPIC:POSITION"));
        let (topic, position) = place.rsplit_once(':').ok_or_else(wrong)?;
        let position = position.parse().map_err(|_| wrong())?;
        while self.topics.front().is_some_and(|(known, _)| known.as_str() < topic) {
            self.topics.pop_front();
        }
        if self.topics.front().is_some_and(|(known, _)| known == topic) {
            self.after = Some(position);
        }
        Ok(())
    }

    /// How many there may be at most.
    pub(crate) async fn at_most(&self) -> Result<u64> {
        let mut sum = 0;
        for (topic, _) in &self.topics {
            let name = waiting(topic)?;
            let groups = self.admin.groups(Some(name.topic.clone())).await?;
            let group = groups.into_iter().find(|group| group.subscription == name);
            sum += group.and_then(|group| group.backlog).unwrap_or_default();
        }
        Ok(sum)
    }

    /// The next ones of one topic; empty at the end.
    pub(crate) async fn next(&mut self) -> Result<Vec<Letter>> {
        while let Some((topic, end)) = self.topics.front().cloned() {
            let page = self.admin.unsettled(waiting(&topic)?, self.after, PAGE).await?;
            let last = page.last().map(|stored| stored.position);
            if last.is_none_or(|last| last + 1 >= end) {
                self.topics.pop_front();
                self.after = None;
            } else {
                self.after = last;
            }
            let before = page.into_iter().filter(|stored| stored.position < end);
            let letters: Vec<_> = before.map(Letter::of).filter(|letter| self.which.takes(letter)).collect();
            if !letters.is_empty() {
                return Ok(letters);
            }
        }
        Ok(Vec::new())
    }
}

/// What an id stands for.
pub(crate) enum Found {
    /// A dead letter that waits.
    Waiting(Box<Letter>),
    /// A dead letter that was redriven or discarded.
    Settled(Box<Letter>),
    /// Something else, or nothing that is retained.
    Nothing,
}

/// Finds a dead letter by its own id, or by that of the event that was given up.
pub(crate) async fn find(admin: &dyn Admin, id: &str, which: &Which) -> Result<Found> {
    let wanted = EventId::new(id).map_err(Failure::from)?;
    let journey = match admin.journey(wanted.clone(), PAGE).await {
        Err(error) if error.code() == Code::NeedNotMet => return search(admin, &wanted, which).await,
        journey => journey?,
    };
    let mut found = Found::Nothing;
    for traced in journey {
        let settled = traced.steps.iter().any(|step| step.group == DEAD_LETTERS && step.what == Happened::Settled);
        let letter = Letter::of(traced.stored);
        if letter.is_about(&wanted) {
            let letter = Box::new(letter);
            match settled {
                // One that waits is rather meant than one that does not.
                false => return Ok(Found::Waiting(letter)),
                true => found = Found::Settled(letter),
            }
        }
    }
    Ok(found)
}

/// Finds it among those that wait, where the broker keeps nothing else.
async fn search(admin: &dyn Admin, wanted: &EventId, which: &Which) -> Result<Found> {
    let mut letters = Letters::waiting(admin, which.clone()).await?;
    loop {
        let page = letters.next().await?;
        if page.is_empty() {
            return Ok(Found::Nothing);
        }
        if let Some(found) = page.into_iter().find(|letter| letter.is_about(wanted)) {
            return Ok(Found::Waiting(Box::new(found)));
        }
    }
}
