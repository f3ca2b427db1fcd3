//! Versions that watches read a moment ago: a change that thousands hear of is read from the store once.
//!
//! Invariant: what is kept belongs to exactly the version that is asked about, also after a swap to another store, whose
//! versions may have the same numbers.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use platform_capability::config::Version;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::Result;

/// Most versions that are kept. A document takes a few times its size.
const KEPT_MAX: usize = 16;

/// What a version holds, as it is shown.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Shown {
    pub(super) document: Option<Value>,
    /// The candidate, and the percentage of instances that are served it.
    pub(super) candidate: Option<(Value, u32)>,
}

/// Names a version: its own number and what tells the version asked about from one of another store.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    namespace: Arc<str>,
    id: String,
    number: u64,
    revision: u64,
    time_ms: u64,
    checksum: String,
}

type Place = Arc<OnceCell<Arc<Shown>>>;

/// The versions that are kept.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<(Key, Place)>>);

impl Recent {
    /// What version `number` holds, which is `version` or one before it; read by `read` unless someone else did.
    pub(super) async fn get(
        &self, namespace: &Arc<str>, version: &Version, number: u64, read: impl Future<Output = Result<Shown>>,
    ) -> Result<Arc<Shown>> {
        let key = Key {
            namespace: Arc::clone(namespace),
            id: version.id.clone(),
            number,
            revision: version.revision,
            time_ms: version.change.time_ms,
            checksum: version.change.checksum.clone(),
        };
        let place = self.place(key);
        place.get_or_try_init(|| async { read.await.map(Arc::new) }).await.cloned()
    }

    fn place(&self, key: Key) -> Place {
        let mut kept = self.0.lock();
        if let Some((_, place)) = kept.iter().find(|(known, _)| *known == key) {
            return Arc::clone(place);
        }
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        let place = Place::default();
        kept.push_back((key, Arc::clone(&place)));
        place
    }
}
