//! A table of control's as it is in storage, folded into a view in memory.
//!
//! Storage is the truth, and other daemons may write to it too; so a view only ever changes by what storage says has
//! changed, in its order, also where this daemon made the change. Must not know what the entries mean. Invariant: a view is
//! what the table was at one revision, and never goes back.

use std::{sync::Arc, time::Duration};

use platform_storage::{Change, Entry, Error as StorageError, MAX_LIMIT, Scope, Storage, Write};
use tokio::sync::watch;

use crate::error::Result;

/// Owner of everything that control keeps.
pub(crate) const OWNER: &str = "_control";

/// What the entries of a table add up to.
pub(crate) trait Fold: Clone + Default + Send + Sync + 'static {
    /// Starts of the keys that count.
    const PREFIXES: &'static [&'static str];

    /// Takes an entry in, in place of what its key held.
    fn put(&mut self, entry: &Entry) -> Result<()>;

    /// Takes a key out.
    fn remove(&mut self, key: &str) -> Result<()>;
}

/// A view and the revision that it shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown<V> {
    revision: u64,
    pub(crate) view: Arc<V>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Followed<V> {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) scope: Scope,
    pub(crate) table: &'static str,
    shown: watch::Sender<Shown<V>>,
    /// Held while the view moves on.
    turn: tokio::sync::Mutex<()>,
}

impl<V: Fold> Followed<V> {
    /// Reads the table.
    pub(crate) async fn open(storage: Arc<dyn Storage>, table: &'static str) -> Result<Self> {
        let followed = Self {
            storage,
            scope: Scope::new(OWNER, ""),
            table,
            shown: watch::Sender::new(Shown { revision: 0, view: Arc::default() }),
            turn: tokio::sync::Mutex::default(),
        };
        followed.load().await?;
        Ok(followed)
    }

    /// The view now.
    pub(crate) fn view(&self) -> Arc<V> {
        Arc::clone(&self.shown.borrow().view)
    }

    /// The view now, and as it changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Shown<V>> {
        self.shown.subscribe()
    }

    /// The view with everything that was acknowledged before, by whichever daemon.
    pub(crate) async fn fresh(&self) -> Result<Arc<V>> {
        let _turn = self.turn.lock().await;
        self.advance().await?;
        Ok(self.view())
    }

    /// Waits up to `wait` for the next change by whomever, and shows it; whether there was one.
    pub(crate) async fn changed(&self, wait: Duration) -> Result<bool> {
        let after = self.shown.borrow().revision;
        match self.storage.changes(&self.scope, self.table, "", after, 1, wait).await {
            Ok(changes) if changes.is_empty() => return Ok(false),
            Ok(_) | Err(StorageError::Compacted(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.fresh().await.map(|_view| true)
    }

    /// Makes the writes that `plan` asks for, all or none. `plan` sees the state that they are made on, and is asked again
    /// when another daemon wrote one of the same keys meanwhile.
    pub(crate) async fn commit(&self, mut plan: impl FnMut(&V) -> Result<Vec<Write>> + Send) -> Result<()> {
        let _turn = self.turn.lock().await;
        for attempt in 1.. {
            self.advance().await?;
            let writes = plan(&self.view())?;
            if writes.is_empty() {
                return Ok(());
            }
            match self.storage.commit(&self.scope, self.table, writes).await {
                Ok(_revision) => break,
                Err(StorageError::Conflict(_)) if attempt < ATTEMPTS_MAX => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Err(error) = self.advance().await {
            tracing::warn!(%error, table = self.table, "a change that was made will show later");
        }
        Ok(())
    }

    /// Shows what was changed since.
    async fn advance(&self) -> Result<()> {
        loop {
            let Shown { revision, view } = self.shown.borrow().clone();
            let changes = self.storage.changes(&self.scope, self.table, "", revision, MAX_LIMIT, Duration::ZERO).await;
            let changes = match changes {
                Err(StorageError::Compacted(_)) => {
                    self.load().await?;
                    continue;
                }
                changes => changes?,
            };
            let Some(revision) = changes.last().map(Change::revision) else { return Ok(()) };
            let mut next = V::clone(&view);
            for change in changes.iter().filter(|change| counts::<V>(change.key())) {
                match change {
                    Change::Put(entry) => next.put(entry)?,
                    Change::Delete { key, .. } => next.remove(key)?,
                }
            }
            self.shown.send_replace(Shown { revision, view: Arc::new(next) });
        }
    }

    /// Reads all of it. What changes while pages are read has a later revision, and is taken in again as a change.
    async fn load(&self) -> Result<()> {
        let revision = self.storage.revision(&self.scope, self.table).await?;
        let mut view = V::default();
        for prefix in V::PREFIXES {
            for entry in self.scan(prefix).await? {
                view.put(&entry)?;
            }
        }
        self.shown.send_replace(Shown { revision, view: Arc::new(view) });
        Ok(())
    }

    /// All entries whose keys start so.
    pub(crate) async fn scan(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after = entries.last().map(|entry| entry.key.clone());
            let page = self.storage.scan(&self.scope, self.table, prefix, after.as_deref(), MAX_LIMIT).await?;
            if page.is_empty() {
                return Ok(entries);
            }
            entries.extend(page);
        }
    }
}

/// Times that a plan is made again because other daemons were quicker.
const ATTEMPTS_MAX: usize = 10;

fn counts<V: Fold>(key: &str) -> bool {
    V::PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}
