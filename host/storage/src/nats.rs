//! [`Nats`]: storage that several daemons share, on a NATS server or cluster with JetStream.
//!
//! The whole storage is one log, a stream. What a daemon commits it works out on its own copy of the state (`replica`),
//! which is the sum of the log up to some entry, and publishes as one entry (`entry`) on the condition that no other
//! entry came behind that one; the server decides (`link`). If another came first nothing was made: the daemon reads on
//! (`follow`) and works it out again. So all writes have one order, each saw the one before, and every daemon's copy is
//! a state that storage had. Before a read a daemon learns how long the log is (`frontier`) and waits until its copy is
//! as new. A snapshot now and then lets the start of the log go (`snapshot`). Files that all need lie beside it (`objects`).
//!
//! Owns how these parts are put together, and when storage is unavailable; must not know tables or journals. Invariant:
//! a batch is acknowledged only when the server acknowledged its entry, and what was never acknowledged is made whole or
//! not at all.

mod entry;
mod follow;
mod frontier;
mod link;
mod objects;
mod options;
mod replica;
mod snapshot;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use platform_base::{TaskGroup, clock};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    time,
};

pub use self::options::{NatsOptions, OpenError};
use self::{
    entry::Id,
    frontier::Frontier,
    link::{Link, Unpublished},
    replica::Replica,
};
use crate::{
    Error, Objects, Options, Result,
    backend::{Backend, Op, View, Written},
    store::Store,
};

/// Storage that several daemons share, on NATS.
pub type Nats = Store<Cluster>;

/// Pause before something is asked of NATS again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long an entry that is known to be there may take until it is read, before reading starts anew.
const STALL: Duration = Duration::from_millis(500);
/// How long a batch of another daemon that comes in pieces is left alone.
const AMID: Duration = Duration::from_millis(500);
/// Writes that were outrun in a row before the others are asked for a turn, and how long they give way.
const OUTRUN_MAX: u32 = 4;
const TURN: Duration = Duration::from_millis(250);
/// How often it is asked whether NATS is there while nobody else asks.
const LOOK: Duration = Duration::from_secs(1);
/// Longest that tasks are waited for when closing.
const CLOSE: Duration = Duration::from_secs(2);

impl Nats {
    /// Connects to NATS, makes the streams unless they are there, and reads the state.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn connect(nats: NatsOptions, options: Options) -> Result<Self, OpenError> {
        let cluster = Cluster::connect(nats).await?;
        let registry = Arc::clone(&cluster.inner.replica.registry);
        Self::start_with(cluster, registry, options).map_err(|error| OpenError::Unusable(error.to_string()))
    }
}

/// The copy of the state behind [`Nats`], and the log that it comes from.
pub struct Cluster {
    inner: Arc<Inner>,
    frontier: Frontier,
    tasks: TaskGroup,
    runtime: Handle,
}

/// What the tasks share.
#[derive(Debug)]
struct Inner {
    link: Link,
    replica: Replica,
    options: NatsOptions,
    /// An entry is there but was not read.
    stalled: Notify,
    numbers: AtomicU64,
    first: Id,
    /// Writes that were outrun in a row.
    outrun: AtomicU32,
    /// When NATS did last what was asked of it.
    answered: Mutex<clock::Instant>,
    /// Why it is not asked, none when it is.
    problem: watch::Sender<Option<String>>,
}

impl Inner {
    fn next_id(&self) -> Id {
        Id { number: self.numbers.fetch_add(1, Ordering::Relaxed), ..self.first }
    }

    /// NATS did what was asked.
    fn answered(&self) {
        *self.answered.lock() = clock::now();
        self.problem.send_if_modified(|problem| problem.take().is_some());
    }

    /// NATS did not do what was asked; calls wait for it no longer once that has lasted.
    fn failed(&self, why: &str) {
        let silent = self.answered.lock().elapsed();
        if silent < self.options.patience {
            return;
        }
        let new = self.problem.send_if_modified(|problem| {
            let first = problem.is_none();
            *problem = Some(format!("NATS at {} is not to be had: {why}", self.options.shown()));
            first
        });
        if new {
            tracing::warn!(why, "storage is unavailable until NATS answers");
        }
    }

    /// Why nothing can be asked, with when to ask again.
    fn unavailable(&self) -> Option<Error> {
        if let Some(broken) = self.replica.broken() {
            return Some(broken);
        }
        let problem = self.problem.borrow();
        problem.as_ref().map(|why| Error::Unavailable(format!("{why}; it is asked again every second")))
    }

    /// A place such that all that was acknowledged before this call lies before it.
    async fn frontier(&self) -> Result<u64> {
        let began = clock::now();
        loop {
            if let Some(error) = self.unavailable() {
                return Err(error);
            }
            let seen = self.replica.position().seen;
            match self.link.frontier().await {
                Ok(place) if place < seen => {
                    let why = format!(
                        "the log in NATS went back from entry {seen} to {place}: it lost what it \
                         had acknowledged; restore its data, then restart the platform"
                    );
                    self.replica.give_up(Error::Corrupt(why));
                }
                Ok(place) => {
                    self.answered();
                    return Ok(place);
                }
                Err(why) => {
                    self.failed(&why);
                    if began.elapsed() > self.options.patience {
                        return Err(Error::Unavailable(why));
                    }
                    time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Resolves when this copy shows the entry at `place`.
    async fn reach(&self, place: u64) -> Result<()> {
        let began = clock::now();
        loop {
            let reached = self.replica.reaches(|position| position.seen >= place);
            if time::timeout(STALL, reached).await.is_ok() {
                return Ok(());
            }
            if let Some(error) = self.unavailable() {
                return Err(error);
            }
            if began.elapsed() > self.options.patience {
                let why = "the log in NATS is longer than what could be read of it in time";
                return Err(Error::Unavailable(why.to_owned()));
            }
            self.stalled.notify_waiters();
        }
    }

    /// Puts a piece behind the entry `last`; its place, none when another entry came first.
    ///
    /// Nothing is known when an answer is missing, so the same is asked again: only one entry can lie directly behind
    /// `last`. The place counts as taken only when this copy shows who took it, so that the piece can't land later.
    async fn put(&self, last: u64, piece: &Bytes) -> Result<Option<u64>> {
        let began = clock::now();
        loop {
            if let Some(error) = self.unavailable() {
                return Err(error);
            }
            let problem = match self.link.publish(last, piece.clone()).await {
                Ok(place) => {
                    self.answered();
                    // Spares the wait for what is known already; if entries are missing before it, it is read in turn.
                    let _gap = self.replica.apply(place, true, piece)?;
                    return Ok(Some(place));
                }
                Err(Unpublished::Taken) => {
                    self.answered();
                    let taken = self.replica.reaches(|position| position.log > last);
                    if time::timeout(STALL, taken).await.is_ok() {
                        return Ok(None);
                    }
                    self.stalled.notify_waiters();
                    "another entry came first, which can't be read".to_owned()
                }
                Err(Unpublished::Unknown(why)) => {
                    self.failed(&why);
                    time::sleep(AGAIN).await;
                    why
                }
            };
            if began.elapsed() > self.options.patience {
                return Err(Error::Unavailable(format!("{problem}; the write may have been made")));
            }
        }
    }

    async fn write(&self, ops: Vec<Op>, position: u64) -> Result<Written> {
        self.give_way().await;
        if self.replica.position().log != position {
            return Ok(Written::Outdated);
        }
        let id = self.next_id();
        self.replica.await_landing(id);
        let mut last = position;
        for piece in entry::pieces(id, &ops, self.link.entry_bytes()) {
            match self.put(last, &piece).await? {
                Some(place) => last = place,
                None if self.replica.has_landed() => return Ok(Written::Made),
                None => {
                    self.ask_for_turn().await;
                    return Ok(Written::Outdated);
                }
            }
        }
        self.outrun.store(0, Ordering::Relaxed);
        self.reach(last).await.map(|()| Written::Made)
    }

    /// Waits while another process has its turn: two large batches that void each other's pieces again and again would both
    /// never end, and one that is always a little later would never write.
    async fn give_way(&self) {
        let began = clock::now();
        while (self.replica.is_amid(AMID) || self.replica.owes_turn(TURN)) && began.elapsed() < AMID {
            let position = self.replica.position();
            let _more = time::timeout(AGAIN, self.replica.reaches(|now| now.log > position.log)).await;
        }
    }

    /// Asks the others to give way when this process was outrun again and again. Nothing depends on whether they hear it.
    async fn ask_for_turn(&self) {
        if self.outrun.fetch_add(1, Ordering::Relaxed) % OUTRUN_MAX == OUTRUN_MAX - 1
            && let Err(why) = self.link.mark(entry::ask_for_turn(self.first)).await
        {
            tracing::debug!(why, "others can't be asked for a turn");
        }
    }
}

impl Cluster {
    async fn connect(options: NatsOptions) -> Result<Self, OpenError> {
        options.check()?;
        let link = Link::open(&options).await?;
        let (start_patience, first) = (options.start_patience, Id::first());
        let inner = Arc::new(Inner {
            link,
            replica: Replica::new(first.writer),
            options,
            stalled: Notify::new(),
            numbers: AtomicU64::new(0),
            first,
            outrun: AtomicU32::new(0),
            answered: Mutex::new(clock::now()),
            problem: watch::Sender::new(None),
        });
        let tasks = TaskGroup::new();
        tasks.spawn_until_cancelled("storage log", follow::run(Arc::clone(&inner)));
        tasks.spawn_until_cancelled("storage snapshots", snapshot::run(Arc::clone(&inner)));
        tasks.spawn_until_cancelled("storage health", watch_over(Arc::clone(&inner)));
        let frontier = Frontier::start(&inner, &tasks);
        let cluster = Self { inner, frontier, tasks, runtime: Handle::current() };
        cluster.read_all(start_patience).await?;
        Ok(cluster)
    }

    /// Reads what is there, for as long as it goes on.
    async fn read_all(&self, patience: Duration) -> Result<(), OpenError> {
        let unusable = |error: Error| OpenError::Unusable(error.to_string());
        let end = self.inner.frontier().await.map_err(unusable)?;
        let mut seen = 0;
        loop {
            let reached = self.inner.replica.reaches(|position| position.seen >= end);
            if time::timeout(patience, reached).await.is_ok() {
                return Ok(());
            }
            if let Some(error) = self.inner.replica.broken() {
                return Err(unusable(error));
            }
            let now = self.inner.replica.position().seen;
            if now == seen {
                return Err(OpenError::Unusable(format!("its log has {end} entries, but nothing comes after {now}")));
            }
            seen = now;
        }
    }
}

/// Finds out whether NATS is there while nobody else asks, and that it is there again.
async fn watch_over(inner: Arc<Inner>) {
    loop {
        time::sleep(LOOK).await;
        if inner.problem.borrow().is_none() && inner.answered.lock().elapsed() < LOOK {
            continue;
        }
        match inner.link.frontier().await {
            Ok(_place) => {
                if inner.problem.borrow().is_some() {
                    tracing::info!("NATS answers again");
                }
                inner.answered();
            }
            Err(why) => inner.failed(&why),
        }
    }
}

impl Backend for Cluster {
    const COMMON: bool = true;

    async fn catch_up(&self) -> Result<()> {
        if self.tasks.is_cancelled() {
            return Err(replica::closed());
        }
        let place = self.frontier.ask().await?;
        self.inner.reach(place).await
    }

    fn read<R>(&self, reader: impl FnOnce(&dyn View) -> Result<R>) -> Result<R> {
        self.inner.replica.read(reader)
    }

    fn write(&self, ops: Vec<Op>, position: u64) -> Result<Written> {
        if self.tasks.is_cancelled() {
            return Err(replica::closed());
        }
        if ops.is_empty() {
            self.runtime.block_on(self.catch_up())?;
            let newest = self.inner.replica.position().log == position;
            return Ok(if newest { Written::Made } else { Written::Outdated });
        }
        self.runtime.block_on(self.inner.write(ops, position))
    }

    fn foreign_expiry(&self) -> u64 {
        self.inner.replica.take_expiry()
    }

    fn problem(&self) -> Option<String> {
        self.inner.unavailable().map(|error| error.to_string())
    }

    fn objects(&self) -> Option<&dyn Objects> {
        Some(self)
    }

    fn close(&self) {
        self.runtime.block_on(self.tasks.join(CLOSE));
        self.inner.replica.close();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.cancel();
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.inner.replica.position();
        f.debug_struct("Cluster").field("options", &self.inner.options).field("position", &position).finish()
    }
}
