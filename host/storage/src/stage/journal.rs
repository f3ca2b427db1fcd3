//! Journals: dense sequences that grow at one end and are trimmed at the other.
//!
//! Owns sequences and times of items; must not know tables. Invariant: items from `first` to `next - 1` exist, and
//! nothing before `first` is ever read, though it may lie on disk until it is swept.

use bytes::Bytes;

use super::{Stage, Staged};
use crate::{
    Item, MAX_COMMIT_WRITES, Result,
    codec::{self, Journal, Space, Stored},
};

impl Stage<'_> {
    /// Stages an append; the sequence of its first item.
    pub(crate) fn append(&mut self, name: &[u8], items: Vec<Bytes>) -> Result<u64> {
        let mut journal = self.journal(name)?;
        let first = journal.next;
        journal.time_ns = journal.time_ns.max(self.now_ns);
        for data in items {
            let key = codec::item_key(journal.id, journal.next);
            let item = Item { sequence: journal.next, time_ns: journal.time_ns, data };
            self.ops.insert((Space::Items, key.clone()), Some(item.seal(&key)));
            journal.next += 1;
        }
        self.journals.insert(name.to_vec(), Staged { state: journal, changed: true });
        Ok(first)
    }

    /// Stages that items before `before` are gone; the first that is kept.
    pub(crate) fn trim(&mut self, name: &[u8], before: u64) -> Result<u64> {
        let mut journal = self.journal(name)?;
        let first = before.clamp(journal.first, journal.next);
        if first > journal.first {
            journal.first = first;
            self.journals.insert(name.to_vec(), Staged { state: journal, changed: true });
        }
        Ok(journal.first)
    }

    /// Stages the removal of some trimmed items from disk; whether more are left.
    pub(crate) fn sweep(&mut self, name: &[u8]) -> Result<bool> {
        let mut journal = self.journal(name)?;
        let to = journal.first.min(journal.swept + MAX_COMMIT_WRITES as u64);
        if to > journal.swept {
            for sequence in journal.swept..to {
                self.ops.insert((Space::Items, codec::item_key(journal.id, sequence)), None);
            }
            journal.swept = to;
            self.journals.insert(name.to_vec(), Staged { state: journal, changed: true });
        }
        Ok(journal.swept < journal.first)
    }

    pub(super) fn journal(&mut self, name: &[u8]) -> Result<Journal> {
        if let Some(staged) = self.journals.get(name) {
            return Ok(staged.state);
        }
        let state = match self.view.load(Space::Names, name)? {
            Some(state) => state,
            None => Journal { id: self.new_id(), ..Journal::default() },
        };
        self.journals.insert(name.to_vec(), Staged { state, changed: false });
        Ok(state)
    }
}
