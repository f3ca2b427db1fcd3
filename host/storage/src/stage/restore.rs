//! Restoring: rows and items that come from another storage as they are there.
//!
//! Owns what such rows leave of a table's own history; must not know where they come from. Invariant: no restored row shows as
//! a change, and a table that goes on above a revision keeps no change from before it.

use std::ops::ControlFlow;

use super::{Made, Stage, Staged};
use crate::{
    Change, Error, Item, Result,
    codec::{self, Row, Space, Stored},
};

impl Stage<'_> {
    /// Stages rows of another storage. See [`Storage::restore`](crate::Storage::restore).
    pub(crate) fn restore(&mut self, name: &[u8], rows: Vec<Change>, revision: u64) -> Result<()> {
        let mut table = self.table(name)?;
        for change in rows {
            let key = change.key().to_owned();
            let old = self.row(table.id, &key)?;
            let new = match change {
                Change::Put(entry) => {
                    Some(Row { revision: entry.revision, expires_ms: entry.expires_ms, value: entry.value })
                }
                Change::Delete { .. } => None,
            };
            let made = Made { key, old, new, counts: false };
            table.usage = made.usage(table.usage);
            self.set_row(table.id, &made.key, made.old.as_ref(), made.new);
        }
        if revision > 0 {
            self.forget_changes(table.id)?;
            (table.changes, table.bytes, table.floor) = (0, 0, revision);
            // Revisions never go back, whatever the table has been through before.
            table.revision = table.revision.max(revision);
        }
        self.tables.insert(name.to_vec(), Staged { state: table, changed: true });
        Ok(())
    }

    /// Stages that a table has no changes, neither made ones nor those that the group has staged.
    fn forget_changes(&mut self, id: u32) -> Result<()> {
        let from = codec::change_key(id, 0, 0);
        let to = codec::after_all(&id.to_be_bytes());
        let staged = self.ops.range_mut((Space::Changes, from.clone())..(Space::Changes, to.clone()));
        staged.for_each(|(_, value)| *value = None);
        let ops = &mut self.ops;
        self.view.walk(Space::Changes, &from, &to, &mut |key, _| {
            ops.insert((Space::Changes, key.to_vec()), None);
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Stages items of another storage. See [`Storage::restore_items`](crate::Storage::restore_items).
    pub(crate) fn restore_items(&mut self, name: &[u8], first: u64, items: Vec<Item>) -> Result<()> {
        let mut journal = self.journal(name)?;
        if journal.next == 1 && first > 1 {
            (journal.first, journal.next, journal.swept) = (first, first, first);
        }
        for item in items {
            if item.sequence != journal.next || item.time_ns < journal.time_ns {
                let why = format!("item {} does not follow, the journal goes on at {}", item.sequence, journal.next);
                return Err(Error::Invalid(why));
            }
            let key = codec::item_key(journal.id, item.sequence);
            (journal.next, journal.time_ns) = (item.sequence + 1, item.time_ns);
            let sealed = item.seal(&key);
            self.ops.insert((Space::Items, key), Some(sealed));
        }
        self.journals.insert(name.to_vec(), Staged { state: journal, changed: true });
        Ok(())
    }
}
