//! Topics: looks whether they exist, and creates them.

use std::time::{Duration, Instant};

use commute_core::{Code, Error, Result};
use rdkafka::admin::TopicReplication;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::capabilities::Limits;
use crate::client::{ANSWER, Ear, moment, wait};
use crate::error::{failed, is_transient, refused};
use crate::options::Options;
use crate::server::{check_aside, topic_degradations};
use crate::settings::Settings;

/// How long a new topic may take until every partition has a leader.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks about topics and creates them. Every call blocks.
pub(crate) struct Topics {
    /// Asks. It belongs to no group, and its questions do not wait behind the fetches of those who do.
    pub(crate) asker: BaseConsumer<Ear>,
    admin: AdminClient<Ear>,
    partitions: i32,
    replication: i32,
    declare: bool,
    limits: Limits,
}

impl Topics {
    pub(crate) fn new(options: &Options, ear: &Ear) -> Result<Self> {
        let config = options.client();
        let unusable = |cause| failed("the client library does not take the settings", cause);
        Ok(Topics {
            asker: config.create_with_context(ear.clone()).map_err(unusable)?,
            admin: config.create_with_context(ear.clone()).map_err(unusable)?,
            partitions: options.partitions,
            replication: options.replication,
            declare: options.declare,
            limits: Limits::of(None, options),
        })
    }

    /// Knows what the server's limits are, and says of topics what is less.
    pub(crate) fn with(self, limits: Limits) -> Self {
        Topics { limits, ..self }
    }

    /// How many partitions a topic has; nothing when it does not exist.
    pub(crate) fn partitions(&self, name: &str) -> Result<Option<i32>> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.look(name) {
                Ok(Some(partitions)) => return Ok((partitions > 0).then_some(partitions)),
                Err(error) if !error.is_retryable() || Instant::now() > until => return Err(error),
                // It has no leader just now, or the server did not answer.
                Ok(None) | Err(_) if Instant::now() < until => moment(),
                Ok(None) => {
                    let detail = format!("topic {name} has partitions without a leader");
                    return Err(Error::new(Code::BrokerUnavailable, detail));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// How many partitions a topic has, whether or not each has a leader just now; zero when there is no such topic.
    pub(crate) fn known(&self, name: &str) -> Result<i32> {
        let what = || format!("cannot ask about topic {name}");
        let found = self.asker.fetch_metadata(Some(name), ANSWER).map_err(|cause| failed(what(), cause))?;
        let partitions = found.topics().first().map_or(0, |topic| topic.partitions().len());
        Ok(i32::try_from(partitions).unwrap_or(i32::MAX))
    }

    /// Looks once: zero partitions when there is no such topic, nothing when it is not ready.
    fn look(&self, name: &str) -> Result<Option<i32>> {
        let what = || format!("cannot ask about topic {name}");
        let found = self.asker.fetch_metadata(Some(name), ANSWER).map_err(|cause| failed(what(), cause))?;
        let Some(topic) = found.topics().first() else { return Ok(None) };
        match topic.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(Some(0)),
            Some(answer) if is_transient(&KafkaError::Global(answer)) => return Ok(None),
            Some(answer) => return Err(refused(what(), answer)),
        }
        let ready = topic.partitions().iter().all(|partition| partition.leader() >= 0);
        let partitions = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
        Ok((ready && partitions > 0).then_some(partitions))
    }

    /// Makes sure that a topic exists, and answers how many partitions it has.
    pub(crate) fn ensure(&self, name: &str) -> Result<i32> {
        match self.partitions(name)? {
            Some(partitions) => {
                self.look_closely(name);
                Ok(partitions)
            }
            None if self.declare => self.create(NewTopic::new(name, self.partitions, self.replicas())),
            None => {
                let detail = format!("topic {name} does not exist, and declare=false forbids to create it");
                Err(Error::new(Code::TopologyMissing, detail))
            }
        }
    }

    /// Says what a topic that was there gives less than the contract says.
    fn look_closely(&self, name: &str) {
        let Some(settings) = self.settings(ResourceSpecifier::Topic(name)) else { return };
        let found = self.asker.fetch_metadata(Some(name), ANSWER).ok();
        let partitions =
            found.as_ref().and_then(|found| found.topics().first()).map_or(&[][..], |topic| topic.partitions());
        let replicas = partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(usize::MAX);
        for less in topic_degradations(&settings, replicas, &self.limits) {
            tracing::warn!(topic = name, "this topic gives less than the contract says: {less}");
        }
    }

    /// Refuses a topic that is there to keep what is parked, and would not.
    pub(crate) fn check_aside(&self, name: &str) -> Result<()> {
        let settings = self.settings(ResourceSpecifier::Topic(name));
        settings.map_or(Ok(()), |settings| check_aside(name, &settings))
    }

    /// Makes sure that a compacted topic exists that has as many partitions as another, at least.
    pub(crate) fn ensure_compacted(&self, name: &str, partitions: i32) -> Result<()> {
        let Some(known) = self.partitions(name)? else {
            if !self.declare {
                let detail = format!(
                    "topic {name}, which keeps what is parked, does not exist, and declare=false forbids to create it; \
                     it needs {partitions} partitions and cleanup.policy=compact"
                );
                return Err(Error::new(Code::TopologyMissing, detail));
            }
            let topic = NewTopic::new(name, partitions, self.replicas()).set("cleanup.policy", "compact");
            return self.create(topic).map(drop);
        };
        if known < partitions {
            // The source was given more meanwhile.
            let more = NewPartitions::new(name, usize::try_from(partitions).unwrap_or(1));
            let answer = wait(self.admin.create_partitions([&more], &AdminOptions::new()));
            if let Err(error) = check(name, answer)
                && self.partitions(name)?.is_none_or(|known| known < partitions)
            {
                // Unless another instance was quicker.
                return Err(error);
            }
            while self.partitions(name)?.is_none_or(|known| known < partitions) {
                moment();
            }
        }
        Ok(())
    }

    fn replicas(&self) -> TopicReplication<'static> {
        TopicReplication::Fixed(self.replication)
    }

    fn create(&self, topic: NewTopic<'_>) -> Result<i32> {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        check(topic.name, wait(self.admin.create_topics([&topic], &options)))?;
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(partitions) = self.partitions(topic.name)? {
                return Ok(partitions);
            }
            if Instant::now() > until {
                let detail = format!("topic {} was created and does not appear", topic.name);
                return Err(Error::new(Code::BrokerUnavailable, detail));
            }
            moment();
        }
    }

    /// The settings of a server or a topic, where there is one and this user may see them.
    pub(crate) fn settings(&self, of: ResourceSpecifier<'_>) -> Option<Settings> {
        let options = AdminOptions::new().request_timeout(Some(ANSWER));
        let answer = wait(self.admin.describe_configs([&of], &options));
        match answer.ok()?.pop()? {
            Ok(settings) => Some(Settings::of(settings)),
            Err(answer) => {
                tracing::debug!(%answer, ?of, "these settings are not for us to see");
                None
            }
        }
    }
}

/// Somebody else may have been quicker.
fn check(name: &str, answer: rdkafka::error::KafkaResult<Vec<rdkafka::admin::TopicResult>>) -> Result<()> {
    let what = || format!("cannot create topic {name}");
    for outcome in answer.map_err(|cause| failed(what(), cause))? {
        match outcome {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, answer)) => return Err(refused(what(), answer)),
        }
    }
    Ok(())
}
