//! The checker: what a history must not show, found from the plan, the history and the stores alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::event::{ATTEMPTS, Touch};
use crate::history::{Outcome, Record, Run};

/// What a store holds in the end.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) effects: Vec<Effect>,
    /// Numbers of events whose answers arrived.
    pub(crate) echoes: Vec<usize>,
}

/// A committed effect.
#[derive(Debug, Clone)]
pub(crate) struct Effect {
    pub(crate) n: usize,
    pub(crate) process: String,
    pub(crate) ended: u64,
}

/// What the contract promises in this run beyond what it always promises.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Order and exclusion hold between processes, too.
    pub(crate) across: bool,
    /// No process may hold more.
    pub(crate) look_ahead: usize,
}

/// What was found. Every list but the last must be empty.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) violations: BTreeMap<&'static str, Vec<String>>,
    /// Inversions and overlaps between processes where nothing is promised about them.
    pub(crate) unpromised: usize,
    /// Plain effects that happened again, of events that had succeeded before.
    pub(crate) again: usize,
    /// Effects and answers that another process's store has, too.
    pub(crate) in_two_stores: usize,
}

impl Findings {
    fn add(&mut self, kind: &'static str, what: String) {
        self.violations.entry(kind).or_default().push(what);
    }
}

/// When an event first ran and when it was over, and where.
#[derive(Debug, Clone, Default)]
struct Life {
    first: Option<(u64, String)>,
    over: Option<(u64, String)>,
}

/// Checks a run that is over. What is not handled by then is lost or stuck.
pub(crate) fn check(events: &[Touch], records: &[Record], stores: &[Stored], rules: Rules) -> Findings {
    let mut found = Findings::default();
    let mut runs: Vec<&Run> = Vec::new();
    let (mut confirmed, mut dead) = (BTreeSet::new(), BTreeSet::new());
    for record in records {
        match record {
            Record::Run(run) => runs.push(run),
            Record::Confirmed { events, .. } => confirmed.extend(events.iter().copied()),
            Record::Dead { n, reason, .. } => {
                dead.insert(*n);
                if events.get(*n).is_none_or(|touch| !touch.is_doomed()) {
                    found.add("given up without reason", format!("event {n}: {reason}"));
                }
            }
            Record::Stats { process, held, at, .. } if *held > rules.look_ahead => {
                found.add("too many held", format!("{process} held {held} at {at}"));
            }
            _ => {}
        }
    }
    runs.sort_by_key(|run| run.start);
    let lives = lives(events, &runs, stores, &mut found);
    unhandled(events, &confirmed, &dead, &lives, &mut found);
    inversions(events, &lives, rules, &mut found);
    overlaps(&runs, rules, &mut found);
    effects(events, &confirmed, stores, &mut found);
    found
}

fn lives(events: &[Touch], runs: &[&Run], stores: &[Stored], found: &mut Findings) -> Vec<Life> {
    let mut lives = vec![Life::default(); events.len()];
    let mut over = |n: usize, at: u64, process: &str| {
        let over = &mut lives[n].over;
        if over.as_ref().is_none_or(|(known, _)| at < *known) {
            *over = Some((at, process.to_owned()));
        }
    };
    let mut done = BTreeSet::new();
    for run in runs {
        let touch = &events[run.n];
        let gives_up = touch.is_doomed() && run.attempt >= ATTEMPTS;
        if run.outcome == Outcome::Done || gives_up {
            over(run.n, run.end, &run.process);
        }
        if run.outcome == Outcome::Done && !done.insert(run.n) {
            found.again += 1;
        }
    }
    for effect in stores.iter().flat_map(|store| &store.effects) {
        over(effect.n, effect.ended, &effect.process);
    }
    for run in runs {
        // Sorted by start.
        lives[run.n].first.get_or_insert_with(|| (run.start, run.process.clone()));
    }
    lives
}

/// Every event by key, in the order of the key.
fn by_key(events: &[Touch]) -> BTreeMap<u32, Vec<usize>> {
    let mut keys: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for touch in events {
        for (key, _) in &touch.keys {
            keys.entry(*key).or_default().push(touch.n);
        }
    }
    keys
}

fn unhandled(
    events: &[Touch],
    confirmed: &BTreeSet<usize>,
    dead: &BTreeSet<usize>,
    lives: &[Life],
    found: &mut Findings,
) {
    let is_over = |n: usize| if events[n].is_doomed() { dead.contains(&n) } else { lives[n].over.is_some() };
    for (key, order) in by_key(events) {
        let open: Vec<_> = order.iter().copied().filter(|n| !is_over(*n)).collect();
        // What stands behind it has run: nobody waits for it any more.
        let last = order.iter().rposition(|n| lives[*n].first.is_some());
        for n in &open {
            let place = order.iter().position(|known| known == n);
            if confirmed.contains(n) && place < last {
                found.add("lost", format!("event {n}, confirmed, is not handled; later events of key {key} are"));
            }
        }
        if let Some(first) = open.first() {
            let what = if confirmed.contains(first) { "confirmed" } else { "not confirmed" };
            found.add("stuck", format!("key {key}: {} events are not over, the first is {first}, {what}", open.len()));
        }
    }
}

fn inversions(events: &[Touch], lives: &[Life], rules: Rules, found: &mut Findings) {
    for (key, order) in by_key(events) {
        for pair in order.windows(2) {
            let (earlier, later) = (&lives[pair[0]], &lives[pair[1]]);
            let (Some((over, one)), Some((first, other))) = (&earlier.over, &later.first) else { continue };
            if first >= over {
                continue;
            }
            if one != other && !rules.across {
                found.unpromised += 1;
                continue;
            }
            let what = format!(
                "key {key}: event {} began at {first} in {other}, {} µs before event {} was over in {one}",
                pair[1],
                over - first,
                pair[0]
            );
            found.add("out of order", what);
        }
    }
}

fn overlaps(runs: &[&Run], rules: Rules, found: &mut Findings) {
    // Of each key the run that ends last, so far.
    let mut running: HashMap<u32, &Run> = HashMap::new();
    for run in runs {
        for (key, _) in &run.keys {
            if let Some(other) = running.get(key).filter(|other| run.start < other.end) {
                if run.process != other.process && !rules.across {
                    found.unpromised += 1;
                } else {
                    let what = format!(
                        "key {key}: event {} in {} and event {} in {} ran at once for {} µs",
                        other.n,
                        other.process,
                        run.n,
                        run.process,
                        other.end.min(run.end) - run.start
                    );
                    found.add("overlap", what);
                }
            }
            let last = running.entry(*key).or_insert(run);
            if run.end >= last.end {
                *last = run;
            }
        }
    }
}

fn effects(events: &[Touch], confirmed: &BTreeSet<usize>, stores: &[Stored], found: &mut Findings) {
    let effects: Vec<Vec<usize>> =
        stores.iter().map(|store| store.effects.iter().map(|effect| effect.n).collect()).collect();
    let echoes: Vec<Vec<usize>> = stores.iter().map(|store| store.echoes.clone()).collect();
    let expects_effect = |touch: &Touch| touch.is_stored() && !touch.is_doomed();
    let expects_echo = |touch: &Touch| touch.echoes && !touch.is_doomed();
    once("effect", events, confirmed, &effects, expects_effect, found);
    once("answer", events, confirmed, &echoes, expects_echo, found);
}

fn once(
    what: &str,
    events: &[Touch],
    confirmed: &BTreeSet<usize>,
    stores: &[Vec<usize>],
    expected: impl Fn(&Touch) -> bool,
    found: &mut Findings,
) {
    let mut everywhere = vec![0; events.len()];
    for store in stores {
        let mut here = vec![0; events.len()];
        store.iter().for_each(|n| here[*n] += 1);
        for (n, times) in here.iter().enumerate().filter(|(_, times)| **times > 0) {
            everywhere[n] += 1;
            if *times > 1 {
                found.add("twice", format!("event {n}: {times} times the {what} in one store"));
            }
        }
    }
    for (touch, times) in events.iter().zip(everywhere) {
        found.in_two_stores += usize::from(times > 1);
        if times == 0 && expected(touch) && confirmed.contains(&touch.n) {
            found.add("lost", format!("event {}: no {what}", touch.n));
        }
        if times > 0 && !expected(touch) {
            found.add("effect of a failure", format!("event {}: an {what} that should have been undone", touch.n));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { across: true, look_ahead: 10 };

    fn touch(n: usize, keys: &[(u32, u32)]) -> Touch {
        Touch { n, group: 0, keys: keys.to_vec(), failures: 0, micros: 0, echoes: false }
    }

    fn run(touch: &Touch, process: &str, start: u64, end: u64, outcome: Outcome) -> Record {
        let (keys, process) = (touch.keys.clone(), process.to_owned());
        Record::Run(Run { n: touch.n, id: String::new(), keys, process, attempt: 1, start, end, outcome })
    }

    fn confirmed(events: &[Touch]) -> Record {
        Record::Confirmed { at: 0, events: events.iter().map(|touch| touch.n).collect() }
    }

    /// Plain events, all on one key.
    fn plain() -> Vec<Touch> {
        vec![touch(0, &[(1, 0)]), touch(2, &[(1, 1), (2, 0)])]
            .into_iter()
            .enumerate()
            .map(|(n, touch)| Touch { n: n * 2, ..touch })
            .flat_map(|touch| [touch.clone(), Touch { n: touch.n + 1, keys: vec![(9, touch.n as u32 / 2)], ..touch }])
            .collect()
    }

    fn kinds(found: &Findings) -> Vec<&str> {
        found.violations.keys().copied().collect()
    }

    /// A sound history of the four events, and the store of the two that have one.
    fn sound(events: &[Touch]) -> (Vec<Record>, Vec<Stored>) {
        let at = |n: usize| (n as u64 * 100, n as u64 * 100 + 50);
        let mut records = vec![confirmed(events)];
        let mut store = Stored::default();
        for touch in events {
            let (start, end) = at(touch.n);
            let outcome = if touch.is_stored() { Outcome::Written } else { Outcome::Done };
            records.push(run(touch, "a", start, end, outcome));
            if touch.is_stored() {
                store.effects.push(Effect { n: touch.n, process: "a".to_owned(), ended: end });
            }
        }
        (records, vec![store])
    }

    #[test]
    fn a_sound_history_is_left_alone() {
        let events = plain();
        let (mut records, stores) = sound(&events);
        assert!(kinds(&check(&events, &records, &stores, RULES)).is_empty());
        records.push(run(&events[0], "b", 1000, 1100, Outcome::Done));
        let found = check(&events, &records, &stores, RULES);
        assert_eq!((kinds(&found).len(), found.again), (0, 1), "a plain effect may happen again");
    }

    #[test]
    fn a_lost_event_is_found() {
        let events = plain();
        let (mut records, stores) = sound(&events);
        records.remove(1);
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["lost", "stuck"]);
        let (records, mut stores) = sound(&events);
        stores[0].effects.pop();
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["lost", "stuck"]);
    }

    #[test]
    fn a_later_event_that_begins_too_early_is_found() {
        let events = plain();
        let (mut records, stores) = sound(&events);
        records.push(run(&events[2], "a", 49, 49, Outcome::Failed));
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["out of order", "overlap"]);
        let elsewhere = run(&events[2], "b", 49, 49, Outcome::Failed);
        records.pop();
        records.push(elsewhere);
        let found = check(&events, &records, &stores, Rules { across: false, ..RULES });
        assert_eq!((kinds(&found).len(), found.unpromised), (0, 2));
    }

    #[test]
    fn an_event_that_runs_beside_itself_is_found() {
        let events = plain();
        let (mut records, stores) = sound(&events);
        records.push(run(&events[2], "a", 249, 260, Outcome::Done));
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["overlap"]);
    }

    #[test]
    fn an_effect_that_happened_twice_is_found() {
        let events = plain();
        let (records, mut stores) = sound(&events);
        let effect = stores[0].effects[0].clone();
        stores[0].effects.push(effect.clone());
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["twice"]);
        stores[0].effects.pop();
        stores.push(Stored { effects: vec![effect], echoes: Vec::new() });
        let found = check(&events, &records, &stores, RULES);
        assert_eq!((kinds(&found).len(), found.in_two_stores), (0, 1));
    }

    #[test]
    fn an_answer_too_many_or_too_few_is_found() {
        let mut events = plain();
        events[0].echoes = true;
        let (records, mut stores) = sound(&events);
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["lost"]);
        stores[0].echoes = vec![0];
        assert!(kinds(&check(&events, &records, &stores, RULES)).is_empty());
        stores[0].echoes = vec![0, 0, 1];
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["effect of a failure", "twice"]);
    }

    #[test]
    fn a_dead_letter_is_expected_of_doomed_events_only() {
        let mut events = plain();
        let (mut records, stores) = sound(&events);
        records.push(Record::Dead { at: 0, n: 0, reason: String::new() });
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["given up without reason"]);
        events[0].failures = ATTEMPTS;
        assert!(kinds(&check(&events, &records, &stores, RULES)).is_empty());
        records.pop();
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["lost", "stuck"]);
    }

    #[test]
    fn holding_more_than_allowed_is_found() {
        let events = plain();
        let (mut records, stores) = sound(&events);
        records.push(Record::Stats { at: 0, process: "a".to_owned(), held: 11, duplicates: 0 });
        assert_eq!(kinds(&check(&events, &records, &stores, RULES)), ["too many held"]);
    }
}
