//! Expiry: keys whose time has come go in commits of their own.
//!
//! Owns when a key goes; must not know who waits for it. Invariant: the expiries hold exactly one entry for each row
//! that expires, so looking from the last look to now misses none.

use std::{collections::BTreeMap, ops::ControlFlow};

use super::{Made, Stage, Staged};
use crate::{
    Change, MAX_COMMIT_WRITES, Result,
    codec::{self, Space},
};

/// What a look for due expiries found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Where the next look starts: nothing due lies before.
    pub(crate) next_ms: u64,
    /// Whether more is due than one look takes.
    pub(crate) more: bool,
}

impl Stage<'_> {
    /// Stages the expiry of what is due from `from_ms` to now, at most as many keys as a commit has writes. Comes first
    /// in a stage, because it looks at what is made and not at what is staged.
    pub(crate) fn expire_due(&mut self, from_ms: u64) -> Result<Look> {
        let from = from_ms.to_be_bytes();
        let to = self.now_ms.saturating_add(1).to_be_bytes();
        let mut due: BTreeMap<u32, Vec<String>> = BTreeMap::new();
        let mut found = Vec::new();
        let mut look = Look { next_ms: self.now_ms.saturating_add(1).max(from_ms), more: false };
        // The key says it all, and the row is checked before anything is done.
        self.view.walk(Space::Expiries, &from, &to, &mut |key, _| {
            if found.len() == MAX_COMMIT_WRITES {
                look.more = true;
                return Ok(ControlFlow::Break(()));
            }
            found.extend(codec::expiry_parts(key));
            Ok(ControlFlow::Continue(()))
        })?;
        if look.more {
            look.next_ms = found.last().map_or(from_ms, |(expires_ms, ..)| *expires_ms);
        }
        for (expires_ms, id, key) in found {
            let row = self.row(id, &key).unwrap_or_else(|error| {
                // Reads of the row report the damage; the expiry of all others goes on.
                tracing::error!(%error, key, "a damaged row can't expire");
                None
            });
            if row.is_some_and(|row| row.expires_ms == Some(expires_ms)) {
                due.entry(id).or_default().push(key);
            } else {
                self.ops.insert((Space::Expiries, codec::expiry_key(expires_ms, id, &key)), None);
            }
        }
        for (id, keys) in due {
            if let Some(table) = self.registry.find_id(id) {
                self.expire(&table.name, &keys)?;
            }
        }
        Ok(look)
    }

    /// Stages the removal of keys as one commit.
    pub(super) fn expire(&mut self, name: &[u8], keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut table = self.table(name)?;
        let revision = table.revision + 1;
        let mut position = 0;
        for key in keys {
            let made = Made { key: key.clone(), old: self.row(table.id, key)?, new: None, counts: true };
            table.usage = made.usage(table.usage);
            self.set_row(table.id, key, made.old.as_ref(), None);
            self.log(&mut table, revision, &mut position, &Change::Delete { key: made.key, revision });
        }
        table.revision = revision;
        self.tables.insert(name.to_vec(), Staged { state: table, changed: true });
        Ok(())
    }
}
