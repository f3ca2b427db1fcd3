//! Names of tables and journals with their newest revision or sequence, and who waits for the next.
//!
//! Owns what is known without reading storage; must not know rows or items. Invariant: a tip moves only after what it
//! tells of is durable and visible, and every waiter is woken when it does.

use std::{collections::HashMap, ops::ControlFlow, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::watch;

use crate::{
    Result,
    backend::View,
    codec::{self, Journal, Kind, Space, Table},
};

/// A table or journal that has been written.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) id: u32,
    pub(crate) name: Vec<u8>,
    /// Revision of a table, last sequence of a journal.
    pub(crate) tip: watch::Sender<u64>,
}

/// All tables and journals.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    names: RwLock<Names>,
    /// Moves when a name is added.
    added: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Names {
    by_name: HashMap<Vec<u8>, Arc<Named>>,
    by_id: HashMap<u32, Arc<Named>>,
    next_id: u32,
}

impl Registry {
    /// What is stored.
    pub(crate) fn load(view: &dyn View) -> Result<Self> {
        let registry = Self::default();
        registry.add(view)?;
        Ok(registry)
    }

    /// Shows all that is stored.
    pub(crate) fn add(&self, view: &dyn View) -> Result<()> {
        view.each(Space::Names, b"t", b"u", |name, table: Table| {
            self.publish(name, table.id, table.revision);
            Ok(ControlFlow::Continue(()))
        })?;
        view.each(Space::Names, b"j", b"k", |name, journal: Journal| {
            self.publish(name, journal.id, journal.next.saturating_sub(1));
            Ok(ControlFlow::Continue(()))
        })
    }

    pub(crate) fn find(&self, name: &[u8]) -> Option<Arc<Named>> {
        self.names.read().by_name.get(name).cloned()
    }

    pub(crate) fn find_id(&self, id: u32) -> Option<Arc<Named>> {
        self.names.read().by_id.get(&id).cloned()
    }

    /// The newest revision or sequence under a name, 0 when there is none.
    pub(crate) fn tip(&self, name: &[u8]) -> u64 {
        self.names.read().by_name.get(name).map_or(0, |named| *named.tip.borrow())
    }

    /// An id that no name has.
    pub(crate) fn next_id(&self) -> u32 {
        self.names.read().next_id
    }

    /// Names of all tables or all journals.
    pub(crate) fn names(&self, kind: Kind) -> Vec<Vec<u8>> {
        let names = self.names.read();
        names.by_name.keys().filter(|name| codec::kind(name) == Some(kind)).cloned().collect()
    }

    /// Moves when a name is added.
    pub(crate) fn added(&self) -> watch::Receiver<()> {
        self.added.subscribe()
    }

    /// Shows a new tip and wakes who waits for it. Tips never go back, so showing an old one again does nothing.
    pub(crate) fn publish(&self, name: &[u8], id: u32, tip: u64) {
        if let Some(named) = self.find(name) {
            named.tip.send_if_modified(|shown| {
                let newer = tip > *shown;
                *shown = tip.max(*shown);
                newer
            });
            return;
        }
        let named = Arc::new(Named { id, name: name.to_vec(), tip: watch::Sender::new(tip) });
        {
            let mut names = self.names.write();
            names.by_name.insert(name.to_vec(), Arc::clone(&named));
            names.by_id.insert(id, named);
            names.next_id = names.next_id.max(id.saturating_add(1));
        }
        self.added.send_replace(());
    }
}
