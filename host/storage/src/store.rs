//! [`Store`]: the [`Storage`] that memory and disk share.
//!
//! Owns the way of a call through the other modules, and waiting for what is not there yet; must not know where bytes
//! lie. Invariant: no call blocks a Tokio worker on fsync, and waiting costs nothing until something changes.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    Change, Entry, Error, Item, Objects, Options, Result, Scope, Storage, Usage, Write,
    backend::{Backend, View},
    check,
    codec::{self, Kind, Row, Space},
    committer,
    queue::{Queue, Work},
    read,
    registry::Registry,
};

/// Answers that reach back further than this are read on a blocking thread; nearer ones are in memory.
const NEAR: u64 = 64;

/// As many keys are read inline; more of them on a blocking thread.
const QUICK_KEYS: usize = 64;

/// Storage over some place for bytes: [`Memory`](crate::Memory), [`Embedded`](crate::Embedded) or
/// [`Nats`](crate::Nats).
pub struct Store<B> {
    shared: Arc<Shared<B>>,
    committer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What callers and the committer share.
pub(crate) struct Shared<B> {
    pub(crate) backend: B,
    pub(crate) registry: Arc<Registry>,
    pub(crate) queue: Queue,
    pub(crate) options: Options,
    pub(crate) counters: Counters,
    closed: CancellationToken,
}

/// What storage has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Requests that were made durable: commits, appends, trims.
    pub requests: u64,
    /// Batches they were made in; one fsync each.
    pub batches: u64,
    /// Keys written by them, with changes, expiries and states.
    pub writes: u64,
    /// Time spent making batches durable.
    pub writing: Duration,
    /// Longest of these times.
    pub longest: Duration,
}

/// The counters behind [`Figures`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    requests: AtomicU64,
    batches: AtomicU64,
    writes: AtomicU64,
    nanoseconds: AtomicU64,
    longest: AtomicU64,
}

impl Counters {
    pub(crate) fn batch(&self, requests: usize, writes: usize, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.requests.fetch_add(requests as u64, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(writes as u64, Ordering::Relaxed);
        self.nanoseconds.fetch_add(took, Ordering::Relaxed);
        self.longest.fetch_max(took, Ordering::Relaxed);
    }
}

impl<B> Store<B> {
    /// What it has done since it was opened.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            requests: read(&counters.requests),
            batches: read(&counters.batches),
            writes: read(&counters.writes),
            writing: Duration::from_nanos(read(&counters.nanoseconds)),
            longest: Duration::from_nanos(read(&counters.longest)),
        }
    }

    /// Expires now what is due, without waiting for the timer.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when closed or when the expiry can't be written.
    pub async fn expire_due(&self) -> Result<()> {
        self.shared.queue.call(Work::Expire, 0).await.map(drop)
    }

    pub(crate) fn backend(&self) -> &B {
        &self.shared.backend
    }
}

#[expect(private_bounds, reason = "only this crate says where bytes lie")]
impl<B: Backend> Store<B> {
    pub(crate) fn start(backend: B, options: Options) -> Result<Self> {
        let registry = Arc::new(backend.read(Registry::load)?);
        Self::start_with(backend, registry, options)
    }

    /// The same with a registry that shows what is stored already, and that the backend may add to.
    pub(crate) fn start_with(backend: B, registry: Arc<Registry>, options: Options) -> Result<Self> {
        let queue = Queue::new(options.queue_bytes);
        let (counters, closed) = (Counters::default(), CancellationToken::new());
        let shared = Arc::new(Shared { backend, registry, queue, options, counters, closed });
        let committer = committer::start(Arc::clone(&shared))
            .map_err(|error| Error::Unavailable(format!("no thread for the committer: {error}")))?;
        Ok(Self { shared, committer: Mutex::new(Some(committer)) })
    }

    /// All names of a kind, in order.
    async fn names(&self, kind: Kind) -> Result<Vec<(Scope, String)>> {
        if self.shared.closed.is_cancelled() {
            return Err(Error::Unavailable("it is closed".to_owned()));
        }
        self.shared.backend.catch_up().await?;
        let mut names = self.shared.registry.names(kind);
        names.sort_unstable();
        Ok(names.iter().filter_map(|name| codec::name_parts(name)).collect())
    }

    /// Reads inline when that is quick, else on a thread that may block.
    async fn read<R: Send + 'static>(
        &self, quick: bool, reader: impl FnOnce(&dyn View) -> Result<R> + Send + 'static,
    ) -> Result<R> {
        if quick {
            return self.shared.backend.read(reader);
        }
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.backend.read(reader))
            .await
            .unwrap_or_else(|error| Err(Error::Unavailable(format!("a read did not end: {error}"))))
    }

    /// Calls `attempt` now and after each change under `name`, until it has an answer or `wait` is over.
    async fn poll<T, F>(&self, name: &[u8], wait: Duration, mut attempt: impl FnMut() -> F) -> Result<Option<T>>
    where
        F: Future<Output = Result<Option<T>>>,
    {
        let shared = &self.shared;
        // Once is enough: whoever waits sees what is made later as it comes.
        tokio::select! {
            caught_up = shared.backend.catch_up() => caught_up?,
            () = shared.closed.cancelled() => {}
        }
        let mut added = shared.registry.added();
        let mut tip: Option<watch::Receiver<u64>> = None;
        let mut over = std::pin::pin!(tokio::time::sleep(wait));
        loop {
            if shared.closed.is_cancelled() {
                return Err(Error::Unavailable("it is closed".to_owned()));
            }
            // Subscribed before the attempt: a change during it is seen by the wait below.
            if tip.is_none() {
                tip = shared.registry.find(name).map(|named| named.tip.subscribe());
            }
            if let Some(answer) = attempt().await? {
                return Ok(Some(answer));
            }
            if wait.is_zero() {
                return Ok(None);
            }
            let changed = async {
                match &mut tip {
                    Some(tip) => tip.changed().await.is_ok(),
                    None => added.changed().await.is_ok(),
                }
            };
            tokio::select! {
                _changed = changed => {}
                () = shared.closed.cancelled() => {}
                () = &mut over => return Ok(None),
            }
        }
    }
}

#[async_trait]
impl<B: Backend> Storage for Store<B> {
    async fn get(&self, scope: &Scope, table: &str, key: &str) -> Result<Option<Entry>> {
        let name = check::table(scope, table)?;
        check::key(key)?;
        self.shared.backend.catch_up().await?;
        let now_ms = self.shared.options.clock.unix_ms();
        let Some(table) = self.shared.registry.find(&name) else { return self.shared.backend.read(|_| Ok(None)) };
        let row: Option<Row> = self.shared.backend.load(Space::Rows, &codec::row_key(table.id, key))?;
        Ok(read::entry(row, key, now_ms))
    }

    async fn get_many(&self, scope: &Scope, table: &str, keys: &[&str]) -> Result<Vec<Option<Entry>>> {
        let name = check::table(scope, table)?;
        check::keys(keys)?;
        self.shared.backend.catch_up().await?;
        let now_ms = self.shared.options.clock.unix_ms();
        let quick = keys.len() <= QUICK_KEYS;
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let found = self.shared.registry.find(&name);
        self.read(quick, move |view| match found {
            Some(table) => read::get_many(view, table.id, &keys, now_ms),
            None => Ok(vec![None; keys.len()]),
        })
        .await
    }

    async fn commit_within(&self, scope: &Scope, table: &str, writes: Vec<Write>, limit: Usage) -> Result<u64> {
        let name = check::table(scope, table)?;
        let bytes = check::writes(&writes)?;
        if writes.is_empty() {
            return self.revision(scope, table).await;
        }
        self.shared.queue.call(Work::Commit(name, writes, limit), bytes).await
    }

    async fn used(&self, scope: &Scope, table: &str) -> Result<Usage> {
        let name = check::table(scope, table)?;
        self.shared.backend.catch_up().await?;
        self.shared.backend.read(|view| read::used(view, &name))
    }

    async fn scan(
        &self, scope: &Scope, table: &str, prefix: &str, after: Option<&str>, limit: usize,
    ) -> Result<Vec<Entry>> {
        let name = check::table(scope, table)?;
        check::prefix(prefix)?;
        let limit = check::limit(limit)?;
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.shared.backend.catch_up().await?;
        let now_ms = self.shared.options.clock.unix_ms();
        let found = self.shared.registry.find(&name);
        self.read(false, move |view| match found {
            Some(table) => read::scan(view, table.id, &prefix, after.as_deref(), limit, now_ms),
            None => Ok(Vec::new()),
        })
        .await
    }

    async fn changes(
        &self, scope: &Scope, table: &str, prefix: &str, after: u64, limit: usize, wait: Duration,
    ) -> Result<Vec<Change>> {
        let name = Arc::<[u8]>::from(check::table(scope, table)?);
        check::prefix(prefix)?;
        let prefix = Arc::<str>::from(prefix);
        let limit = check::limit(limit)?;
        // Changes that do not match the prefix are looked at once, not again for every one that follows.
        let seen = AtomicU64::new(after);
        let answer = self.poll(&name, wait, || async {
            let after = seen.load(Ordering::Relaxed);
            let tip = self.shared.registry.tip(&name);
            if after != 0 && tip <= after {
                return Ok(None);
            }
            let (of, with) = (Arc::clone(&name), Arc::clone(&prefix));
            let near = tip.saturating_sub(after) <= NEAR;
            let (changes, complete) =
                self.read(near, move |view| read::changes(view, &of, &with, after, limit)).await?;
            seen.fetch_max(complete, Ordering::Relaxed);
            Ok(Some(changes).filter(|changes| !changes.is_empty()))
        });
        Ok(answer.await?.unwrap_or_default())
    }

    async fn revision(&self, scope: &Scope, table: &str) -> Result<u64> {
        let name = check::table(scope, table)?;
        if self.shared.closed.is_cancelled() {
            return Err(Error::Unavailable("it is closed".to_owned()));
        }
        self.shared.backend.catch_up().await?;
        Ok(self.shared.registry.tip(&name))
    }

    async fn restore(&self, scope: &Scope, table: &str, rows: Vec<Change>, revision: u64) -> Result<()> {
        let name = check::table(scope, table)?;
        let bytes = check::rows(&rows)?;
        self.shared.queue.call(Work::Restore(name, rows, revision), bytes).await.map(drop)
    }

    async fn restore_items(&self, scope: &Scope, journal: &str, first: u64, items: Vec<Item>) -> Result<()> {
        let name = check::journal(scope, journal)?;
        let bytes = check::restored(first, &items)?;
        self.shared.queue.call(Work::RestoreItems(name, first, items), bytes).await.map(drop)
    }

    async fn tables(&self) -> Result<Vec<(Scope, String)>> {
        self.names(Kind::Table).await
    }

    async fn journals(&self) -> Result<Vec<(Scope, String)>> {
        self.names(Kind::Journal).await
    }

    async fn append(&self, scope: &Scope, journal: &str, items: Vec<Bytes>) -> Result<u64> {
        let name = check::journal(scope, journal)?;
        let bytes = check::items(&items)?;
        self.shared.queue.call(Work::Append(name, items), bytes).await
    }

    async fn read(&self, scope: &Scope, journal: &str, from: u64, limit: usize, wait: Duration) -> Result<Vec<Item>> {
        let name = Arc::<[u8]>::from(check::journal(scope, journal)?);
        let limit = check::limit(limit)?;
        let answer = self.poll(&name, wait, || async {
            let of = Arc::clone(&name);
            let near = self.shared.registry.tip(&name).saturating_sub(from) <= NEAR;
            let items = self.read(near, move |view| read::items(view, &of, from, limit)).await?;
            Ok(Some(items).filter(|items| !items.is_empty()))
        });
        Ok(answer.await?.unwrap_or_default())
    }

    async fn bounds(&self, scope: &Scope, journal: &str) -> Result<(u64, u64)> {
        let name = check::journal(scope, journal)?;
        self.shared.backend.catch_up().await?;
        let journal = self.shared.backend.read(|view| read::journal(view, &name))?;
        Ok((journal.first, journal.next - 1))
    }

    async fn trim(&self, scope: &Scope, journal: &str, before: u64) -> Result<()> {
        let name = check::journal(scope, journal)?;
        self.shared.queue.call(Work::Trim(name, before), 0).await.map(drop)
    }

    fn problem(&self) -> Option<String> {
        self.shared.backend.problem()
    }

    fn objects(&self) -> Option<&dyn Objects> {
        self.shared.backend.objects()
    }

    async fn close(&self) {
        self.shared.closed.cancel();
        self.shared.queue.close();
        let committer = self.committer.lock().take();
        let shared = Arc::clone(&self.shared);
        let closing = tokio::task::spawn_blocking(move || {
            if let Some(committer) = committer
                && committer.join().is_err()
            {
                tracing::error!("the storage committer had panicked");
            }
            shared.backend.close();
        });
        if let Err(error) = closing.await {
            tracing::error!(%error, "closing storage did not end in order");
        }
    }
}

impl<B> Drop for Store<B> {
    fn drop(&mut self) {
        // The committer ends by itself and takes the last hold of the files with it.
        self.shared.closed.cancel();
        self.shared.queue.close();
    }
}

impl<B: fmt::Debug> fmt::Debug for Store<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("backend", &self.shared.backend).field("figures", &self.figures()).finish()
    }
}
