//! The report: one line per trial, and what was violated below it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::check::Findings;
use crate::event::Touch;
use crate::history::{Outcome, Record};
use crate::trial::Subject;

/// So many violations of a kind are shown; the file has all.
const SHOWN: usize = 5;

/// What came of a trial.
pub(crate) struct Report {
    subject: Subject,
    events: usize,
    findings: Findings,
    failures: Vec<String>,
    took: Duration,
    /// What was done, each with how often.
    faults: Vec<(String, usize)>,
    /// Publishes that were begun again.
    published_again: usize,
    /// Duplicates that had no effect.
    absorbed: u64,
    /// Consumers that ended by themselves.
    ended: usize,
    /// The longest time from a heal to the next handled event.
    progress: Option<Duration>,
    most_held: usize,
}

impl Report {
    pub(crate) fn new(
        subject: Subject,
        events: &[Touch],
        records: &[Record],
        findings: Findings,
        failures: Vec<String>,
        ended: usize,
        took: Duration,
    ) -> Self {
        let (mut faults, mut published_again, mut most_held) = (Vec::<(String, usize)>::new(), 0, 0);
        let mut last = std::collections::BTreeMap::new();
        let (mut heals, mut successes) = (Vec::new(), Vec::new());
        for record in records {
            match record {
                Record::Fault { at, what, heals: true } => heals.push((*at, what)),
                Record::Fault { what, .. } => match faults.iter_mut().find(|(known, _)| known == what) {
                    Some((_, times)) => *times += 1,
                    None => faults.push((what.clone(), 1)),
                },
                Record::Again { .. } => published_again += 1,
                Record::Stats { process, held, duplicates, .. } => {
                    last.insert(process.clone(), *duplicates);
                    most_held = most_held.max(*held);
                }
                Record::Run(run) if run.outcome != Outcome::Failed => successes.push(run.end),
                _ => {}
            }
        }
        faults.retain(|(what, _)| what != "nothing more happens");
        successes.sort_unstable();
        let after = |at: u64| successes.get(successes.partition_point(|end| *end <= at)).map(|end| end - at);
        let progress = heals.iter().filter_map(|(at, _)| after(*at)).max().map(Duration::from_micros);
        Report {
            subject,
            events: events.len(),
            findings,
            failures,
            took,
            faults,
            published_again,
            absorbed: last.values().sum(),
            ended,
            progress,
            most_held,
        }
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.failures.is_empty() && self.findings.violations.is_empty()
    }

    /// Writes everything that was found.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn save(&self, file: &Path) -> Result<()> {
        std::fs::write(file, self.violations(usize::MAX)).with_context(|| format!("cannot write {}", file.display()))
    }

    fn violations(&self, shown: usize) -> String {
        let mut text = String::new();
        for failure in &self.failures {
            text += &format!("       {failure}\n");
        }
        for (kind, found) in &self.findings.violations {
            text += &format!("       {kind}: {}\n", found.len());
            for what in found.iter().take(shown) {
                text += &format!("         {what}\n");
            }
        }
        text
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subject { scenario, broker, seed, .. } = self.subject;
        let word = if self.is_ok() { "ok    " } else { "FAILED" };
        write!(f, "{word} {:<19} {:<8} seed {seed:<5}", scenario.name(), broker.name())?;
        write!(f, " {:>5} events {:>6.1} s  ", self.events, self.took.as_secs_f64())?;
        let faults: Vec<_> = self.faults.iter().map(|(what, times)| format!("{times}× {what}")).collect();
        write!(f, "{} | ", if faults.is_empty() { "no fault".to_owned() } else { faults.join(", ") })?;
        write!(
            f,
            "published again {}, absorbed {}, plain effects again {}",
            self.published_again, self.absorbed, self.findings.again
        )?;
        if self.findings.in_two_stores > 0 {
            write!(f, ", in two stores {}", self.findings.in_two_stores)?;
        }
        if self.findings.unpromised > 0 {
            write!(f, ", unpromised order across processes {}", self.findings.unpromised)?;
        }
        write!(f, ", at most {} held", self.most_held)?;
        if self.ended > 0 {
            write!(f, ", consumers failed {}", self.ended)?;
        }
        if let Some(progress) = self.progress {
            write!(f, ", goes on {:.2} s after healing", progress.as_secs_f64())?;
        }
        if !self.is_ok() {
            write!(f, "\n{}", self.violations(SHOWN).trim_end())?;
        }
        Ok(())
    }
}
