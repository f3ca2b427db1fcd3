//! [`Draft`]: a copy of some keys on which commands are run before any of it is written.
//!
//! Owns what was read, what it became and what has to hold for that to be written; must not know commands or how anything
//! is read and written. Invariant: when the writes of a draft are made, every answer that was given from it is one that a
//! store running the same commands in this order would have given.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use platform_capability::kv::{Action, Condition, Content, Entry, Expiry, Write};

/// How long a value stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// For good.
    Stays,
    /// Until a moment, unix time in milliseconds.
    Until(u64),
    /// As long as the key had: until a moment, or for good.
    Kept(Option<u64>),
}

impl Life {
    /// When it ends.
    pub(crate) fn ends_ms(self) -> Option<u64> {
        match self {
            Self::Stays => None,
            Self::Until(at) => Some(at),
            Self::Kept(at) => at,
        }
    }
}

/// What a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// The value.
    pub(crate) value: Bytes,
    /// How long it stays.
    pub(crate) life: Life,
}

/// What was read of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Nothing,
    Absent,
    At(u64),
}

#[derive(Debug)]
struct Cell {
    seen: Seen,
    held: Option<Held>,
    /// Whether it has to be as it was read when the draft is written.
    checked: bool,
    written: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Draft {
    /// When it was made, unix time in milliseconds.
    pub(crate) now_ms: u64,
    cells: BTreeMap<String, Cell>,
    /// Whether all that is read has to be the same still when it is written.
    strict: bool,
    dirty: bool,
}

impl Draft {
    /// A copy of what was read. A strict one is written only if all that was read from it is the same still.
    pub(crate) fn new(now_ms: u64, strict: bool, keys: &BTreeSet<&str>, entries: Vec<Option<Entry>>) -> Self {
        let cell = |entry: Option<Entry>| match entry {
            None => Cell { seen: Seen::Absent, held: None, checked: false, written: false },
            Some(entry) => {
                let held = Held { value: entry.value.into(), life: Life::Kept(entry.expires_ms) };
                Cell { seen: Seen::At(entry.revision), held: Some(held), checked: false, written: false }
            }
        };
        let cells = keys.iter().zip(entries).map(|(key, entry)| ((*key).to_owned(), cell(entry))).collect();
        Self { now_ms, cells, strict, dirty: false }
    }

    /// What a key holds, for an answer.
    pub(crate) fn read(&mut self, key: &str) -> Option<&Held> {
        // What is answered after a write has to hold when that write is made, or two callers could each miss the other's.
        let checked = self.strict || self.dirty;
        let cell = self.cells.get_mut(key)?;
        cell.checked |= checked && cell.is_of_the_store();
        cell.held.as_ref()
    }

    /// What a key holds, for a decision on what to write.
    pub(crate) fn decide(&mut self, key: &str) -> Option<&Held> {
        let cell = self.cells.get_mut(key)?;
        cell.checked |= cell.is_of_the_store();
        cell.held.as_ref()
    }

    /// Gives a key a value.
    pub(crate) fn set(&mut self, key: &str, held: Held) {
        let now_ms = self.now_ms;
        let cell = self.cell(key);
        // A life that the key had: of what is in the draft if it was read or written there, else the store knows.
        let life = match (held.life, &cell.held) {
            (Life::Kept(_), Some(old)) => old.life,
            (Life::Kept(_), None) if cell.written => Life::Stays,
            (life, _) => life,
        };
        let over = life.ends_ms().is_some_and(|at| at <= now_ms);
        cell.held = (!over).then_some(Held { life, ..held });
        cell.written = true;
        self.dirty = true;
    }

    /// Takes a key away.
    pub(crate) fn remove(&mut self, key: &str) {
        let cell = self.cell(key);
        cell.held = None;
        cell.written = true;
        self.dirty = true;
    }

    fn cell(&mut self, key: &str) -> &mut Cell {
        let nothing = || Cell { seen: Seen::Nothing, held: None, checked: false, written: false };
        self.cells.entry(key.to_owned()).or_insert_with(nothing)
    }

    /// Revision at which a key was read, 0 when it was absent; none when it was not read.
    pub(crate) fn revision(&self, key: &str) -> Option<u64> {
        match self.cells.get(key)?.seen {
            Seen::Nothing => None,
            Seen::Absent => Some(0),
            Seen::At(revision) => Some(revision),
        }
    }

    /// What has to be written for the draft to be what the store holds; empty when that is so already.
    pub(crate) fn writes(self) -> Vec<Write> {
        let now_ms = self.now_ms;
        let writes: Vec<Write> = self.cells.into_iter().filter_map(|(key, cell)| cell.write(key, now_ms)).collect();
        if writes.iter().all(|write| matches!(write.action, Action::Check)) { Vec::new() } else { writes }
    }
}

impl Cell {
    /// Whether anything that it tells comes from the store, and not from a write to the draft.
    fn is_of_the_store(&self) -> bool {
        !self.written || matches!(&self.held, Some(Held { life: Life::Kept(_), .. }))
    }

    fn write(self, key: String, now_ms: u64) -> Option<Write> {
        let condition = match self.seen {
            _ if !self.checked => Condition::Always,
            Seen::Nothing => Condition::Always,
            Seen::Absent => Condition::Absent,
            Seen::At(revision) => Condition::At(revision),
        };
        let action = match (self.written, self.held) {
            (true, Some(held)) => {
                let expiry = match held.life {
                    Life::Stays => Expiry::Never,
                    Life::Kept(_) => Expiry::Keep,
                    Life::Until(at) => Expiry::AfterMs(at.saturating_sub(now_ms).max(1)),
                };
                Action::Put(Content { value: held.value.into(), expiry })
            }
            // Known to be absent still, it need not be removed.
            (true, None) if !self.checked || self.seen != Seen::Absent => Action::Delete,
            _ if self.checked => Action::Check,
            _ => return None,
        };
        Some(Write { key, condition, action })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(strict: bool) -> Draft {
        let entry = Entry { value: b"1".to_vec(), revision: 7, expires_ms: Some(2000) };
        Draft::new(1000, strict, &BTreeSet::from(["a", "gone"]), vec![Some(entry), None])
    }

    fn held(value: &'static str, life: Life) -> Held {
        Held { value: Bytes::from_static(value.as_bytes()), life }
    }

    fn put(key: &str, value: &str, condition: Condition, expiry: Expiry) -> Write {
        Write { key: key.into(), condition, action: Action::Put(Content { value: value.into(), expiry }) }
    }

    #[test]
    fn reads_alone_write_nothing() {
        let mut strict = draft(true);
        assert_eq!(strict.read("a").unwrap().value, "1");
        assert_eq!(strict.read("gone"), None);
        assert_eq!(strict.writes(), []);
    }

    #[test]
    fn what_was_decided_on_has_to_hold() {
        let mut draft = draft(false);
        draft.decide("a");
        draft.set("a", held("2", Life::Kept(None)));
        draft.decide("gone");
        draft.set("gone", held("2", Life::Until(1500)));
        draft.set("blind", held("2", Life::Kept(None)));
        let expected = [
            put("a", "2", Condition::At(7), Expiry::Keep),
            put("blind", "2", Condition::Always, Expiry::Keep),
            put("gone", "2", Condition::Absent, Expiry::AfterMs(500)),
        ];
        assert_eq!(draft.writes(), expected);
    }

    #[test]
    fn an_answer_after_a_write_has_to_hold_and_one_before_it_need_not() {
        let mut before = draft(false);
        before.read("a");
        before.set("b", held("2", Life::Stays));
        assert_eq!(before.writes(), [put("b", "2", Condition::Always, Expiry::Never)]);
        let mut after = draft(false);
        after.set("b", held("2", Life::Stays));
        after.read("a");
        after.read("gone");
        let check = |key: &str, condition| Write { key: key.into(), condition, action: Action::Check };
        let expected = [
            check("a", Condition::At(7)),
            put("b", "2", Condition::Always, Expiry::Never),
            check("gone", Condition::Absent),
        ];
        assert_eq!(after.writes(), expected);
    }

    #[test]
    fn what_was_written_here_depends_on_nobody() {
        let mut draft = draft(true);
        draft.set("a", held("2", Life::Stays));
        assert_eq!(draft.decide("a").unwrap().value, "2");
        draft.set("a", held("3", Life::Stays));
        draft.remove("gone");
        assert_eq!(draft.read("gone"), None);
        let delete = Write { key: "gone".into(), condition: Condition::Always, action: Action::Delete };
        assert_eq!(draft.writes(), [put("a", "3", Condition::Always, Expiry::Never), delete]);
    }

    #[test]
    fn a_life_is_the_last_that_was_given() {
        let mut draft = draft(false);
        draft.set("a", held("2", Life::Until(900)));
        assert_eq!(draft.read("a"), None, "it ended before it began");
        draft.set("a", held("3", Life::Kept(None)));
        assert_eq!(draft.read("a").map(|held| held.life), Some(Life::Stays), "there is nothing to keep");
        draft.remove("gone");
        let writes = draft.writes();
        assert_eq!(writes[0].action, Action::Put(Content { value: b"3".to_vec(), expiry: Expiry::Never }));
    }
}
