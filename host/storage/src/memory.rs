//! [`Memory`]: storage that ends with the process, for tests and throw-away daemons.
//!
//! Owns ordered maps; everything else it shares with embedded storage. Invariant: a batch is applied under one lock,
//! so that no view sees a part of it.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use parking_lot::RwLock;

use crate::{
    Error, Options, Result,
    backend::{Backend, Op, View, Visit, Written},
    codec::Space,
    store::Store,
};

/// Storage that ends with the process.
pub type Memory = Store<Maps>;

impl Memory {
    /// Empty storage.
    ///
    /// # Panics
    /// When the system has no thread left for the committer.
    #[must_use]
    #[expect(clippy::expect_used, reason = "without threads the process can't go on")]
    pub fn new(options: Options) -> Self {
        Self::start(Maps::default(), options).expect("a committer thread starts and empty maps can be read")
    }
}

/// Ordered bytes.
pub(crate) type Map = BTreeMap<(Space, Vec<u8>), Bytes>;

/// The maps behind [`Memory`].
#[derive(Debug)]
pub struct Maps {
    map: RwLock<Option<Map>>,
}

impl Default for Maps {
    fn default() -> Self {
        Self { map: RwLock::new(Some(Map::new())) }
    }
}

/// Makes a batch.
pub(crate) fn apply(map: &mut Map, ops: impl IntoIterator<Item = Op>) {
    for Op { space, key, value } in ops {
        match value {
            Some(value) => map.insert((space, key), value),
            None => map.remove(&(space, key)),
        };
    }
}

fn closed() -> Error {
    Error::Unavailable("it is closed".to_owned())
}

impl Backend for Maps {
    fn read<R>(&self, reader: impl FnOnce(&dyn View) -> Result<R>) -> Result<R> {
        reader(self.map.read().as_ref().ok_or_else(closed)?)
    }

    fn write(&self, ops: Vec<Op>, _position: u64) -> Result<Written> {
        let mut guard = self.map.write();
        apply(guard.as_mut().ok_or_else(closed)?, ops);
        Ok(Written::Made)
    }

    fn close(&self) {
        *self.map.write() = None;
    }
}

impl View for Map {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(Self::get(self, &(space, key.to_vec())).cloned())
    }

    fn walk(&self, space: Space, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let range = (Bound::Included((space, from.to_vec())), Bound::Excluded((space, to.to_vec())));
        for ((_, key), value) in self.range(range) {
            if visit(key, value.clone())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn place(&self, space: Space) -> String {
        format!("memory, {}", space.name())
    }
}
