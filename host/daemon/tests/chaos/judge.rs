//! Whether what daemons answered can be true.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use platform_base::clock;
use platform_testkit::history::{self, Event, Step, Turn, Versioned};

/// All that was answered.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// What was done to registers, by name.
    registers: Mutex<BTreeMap<String, Vec<Event<Step>>>>,
    /// What was done to locks, by name.
    locks: Mutex<BTreeMap<String, Vec<Event<Turn>>>>,
    /// Revisions of writes that were made under a lock, with the token.
    fenced: Mutex<BTreeMap<String, Vec<(u64, u64)>>>,
    /// Sequences of events, by id.
    published: Mutex<BTreeMap<String, u64>>,
    /// How many calls were answered, and how many were not.
    pub(crate) answered: AtomicU64,
    pub(crate) unanswered: AtomicU64,
    /// Writes that were refused because their lock was lost.
    pub(crate) stale: AtomicU64,
}

impl Answers {
    pub(crate) fn register(&self, name: &str, event: Event<Step>) {
        self.count(event.ended.is_some());
        self.registers.lock().unwrap().entry(name.to_owned()).or_default().push(event);
    }

    pub(crate) fn lock(&self, name: &str, action: Turn, begun: clock::Instant, ended: Option<clock::Instant>) {
        self.count(ended.is_some());
        self.locks.lock().unwrap().entry(name.to_owned()).or_default().push(Event { action, begun, ended });
    }

    pub(crate) fn fenced(&self, lock: &str, revision: u64, token: u64) {
        self.count(true);
        self.fenced.lock().unwrap().entry(lock.to_owned()).or_default().push((revision, token));
    }

    pub(crate) fn published(&self, id: &str, sequence: u64) {
        self.count(true);
        self.published.lock().unwrap().insert(id.to_owned(), sequence);
    }

    pub(crate) fn count(&self, answered: bool) {
        if answered { &self.answered } else { &self.unanswered }.fetch_add(1, Ordering::Relaxed);
    }

    /// Judges everything; `kept` are the events that the broker has in the end.
    pub(crate) fn judge(self, kept: &[(String, u64)]) -> Judged {
        let mut judged = Judged::default();
        for (name, events) in self.registers.into_inner().unwrap() {
            judged.calls += events.len();
            let events = Versioned::without_unread(events);
            if let Err(illegal) = history::check::<Versioned>(&events) {
                judged.wrong.push(format!("register `{name}` of {} calls: {illegal:?}", events.len()));
            }
        }
        for (name, events) in self.locks.into_inner().unwrap() {
            judged.turns += events.iter().filter(|event| matches!(event.action, Turn::Granted(_))).count();
            if let Err(illegal) = history::check::<history::Mutex>(&events) {
                judged.wrong.push(format!("lock `{name}` of {} calls: {illegal:?}", events.len()));
            }
        }
        for (name, mut writes) in self.fenced.into_inner().unwrap() {
            judged.fenced += writes.len();
            writes.sort_unstable();
            let back = writes.windows(2).find(|pair| pair[0].1 > pair[1].1);
            judged.wrong.extend(back.map(|pair| format!("writes under `{name}` went back from {pair:?}")));
        }
        let mut found: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for (id, sequence) in kept {
            found.entry(id).or_default().push(*sequence);
        }
        for (id, sequence) in self.published.into_inner().unwrap() {
            judged.events += 1;
            if found.get(id.as_str()) != Some(&vec![sequence]) {
                judged.wrong.push(format!("event `{id}` was answered as {sequence}: {:?}", found.get(id.as_str())));
            }
        }
        let twice = found.iter().filter(|(_, sequences)| sequences.len() > 1);
        judged.wrong.extend(twice.map(|(id, sequences)| format!("event `{id}` is there as {sequences:?}")));
        judged
    }
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) calls: usize,
    pub(crate) turns: usize,
    pub(crate) fenced: usize,
    pub(crate) events: usize,
    pub(crate) wrong: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A judge who finds nothing would pass everything.
    #[test]
    fn what_can_not_be_is_found() {
        let (now, answers) = (clock::now(), Answers::default());
        let event = |action| Event { action, begun: now, ended: Some(now) };
        answers.register("r", event(Step::Write(1, Some(1))));
        answers.register("r", event(Step::Read(Some(2), 2)));
        answers.lock("l", Turn::Granted(1), now, Some(now));
        answers.lock("l", Turn::Granted(2), now, Some(now));
        answers.fenced("l", 5, 2);
        answers.fenced("l", 6, 1);
        answers.published("lost", 1);
        answers.published("moved", 2);
        let kept = [("moved".to_owned(), 3), ("twice".to_owned(), 4), ("twice".to_owned(), 5)];
        let judged = answers.judge(&kept);
        assert_eq!(judged.wrong.len(), 6, "{judged:?}");
        let answers = Answers::default();
        answers.published("kept", 1);
        answers.fenced("l", 5, 1);
        answers.fenced("l", 6, 1);
        answers.lock("l", Turn::Granted(1), now, Some(now));
        assert!(answers.judge(&[("kept".to_owned(), 1)]).wrong.is_empty());
    }
}
