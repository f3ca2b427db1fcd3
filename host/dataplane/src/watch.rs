//! Watches: one upstream wait for each namespace serves all who watch it.
//!
//! A follower asks the provider for changes and keeps the latest of them; subscribers read from what it keeps, each at
//! its own pace, and ask the provider themselves when they are further behind. Revisions carry a watch across swaps and
//! reconnects, so nothing is lost and nothing comes twice.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use dashmap::DashMap;
use futures::Stream;
use parking_lot::Mutex;
use platform_base::{TaskGroup, clock};
use tokio::sync::{Notify, watch};

use crate::error::CallError;

/// Something that happened at a revision.
pub trait Revised: Clone + Send + Sync + 'static {
    /// The revision.
    fn revision(&self) -> u64;
}

/// What a watch yields.
#[derive(Debug, Clone, PartialEq)]
pub enum Event<C> {
    /// Changes, oldest first.
    Changes(Vec<C>),
    /// Nothing that the watch asks for happened up to this revision.
    Progress(u64),
}

/// Where changes come from: a capability in one namespace.
#[async_trait]
pub(crate) trait Source: Send + Sync + 'static {
    type Change: Revised;
    type Error: Send + 'static;

    /// Changes of the whole namespace, or of what `selector` names.
    async fn changes(
        &self, selector: &str, after: u64, wait: Duration,
    ) -> Result<Vec<Self::Change>, CallError<Self::Error>>;
    /// The last revision.
    async fn revision(&self) -> Result<u64, CallError<Self::Error>>;
    /// Whether `selector` asks for the change.
    fn selects(selector: &str, change: &Self::Change) -> bool;
    /// The error for a revision that has not been reached.
    fn ahead(after: u64, current: u64) -> Self::Error;
    /// The error for a watch whose changes are no longer kept.
    fn behind(oldest: u64) -> Self::Error;
    /// Whether it is that error.
    fn is_behind(error: &Self::Error) -> bool;
}

/// How long the follower waits at the provider. It bounds how long an old generation takes to drain.
const WAIT: Duration = Duration::from_millis(500);
/// How often a provider that can't wait is asked.
const POLL: Duration = Duration::from_millis(100);
/// How often a quiet watch says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long a follower outlives its last subscriber.
const LINGER: Duration = Duration::from_secs(30);

/// All hubs of one capability, by namespace.
#[derive(Debug)]
pub(crate) struct Hubs<C: 'static> {
    by_namespace: Arc<DashMap<Arc<str>, Weak<Hub<C>>>>,
}

impl<C: Revised> Default for Hubs<C> {
    fn default() -> Self {
        Self { by_namespace: Arc::default() }
    }
}

/// What a follower keeps, and how it tells subscribers.
#[derive(Debug)]
pub(crate) struct Hub<C> {
    kept: Mutex<Kept<C>>,
    changed: watch::Sender<u64>,
    kick: Notify,
}

#[derive(Debug)]
struct Kept<C> {
    /// Changes after this revision are all in `changes`.
    floor: u64,
    head: u64,
    changes: VecDeque<C>,
    most: usize,
    /// Whether the first revision is known.
    started: bool,
    /// Grows when revisions start over, after a swap to another store.
    epoch: u64,
}

enum Read<C> {
    /// Up to the revision.
    Changes(Vec<C>, u64),
    /// The revision is before what is kept; the floor.
    Behind(u64),
}

impl<C: Revised> Hubs<C> {
    /// Makes a waiting follower look again: something was written through this host.
    pub(crate) fn kick(&self, namespace: &str) {
        if let Some(hub) = self.by_namespace.get(namespace).and_then(|hub| hub.upgrade()) {
            hub.kick.notify_one();
        }
    }

    fn hub<S: Source<Change = C>>(
        &self, namespace: &Arc<str>, source: &Arc<S>, tasks: &TaskGroup, most: usize,
    ) -> Arc<Hub<C>> {
        let mut place = self.by_namespace.entry(Arc::clone(namespace)).or_default();
        if let Some(hub) = place.upgrade() {
            return hub;
        }
        let kept = Kept { floor: 0, head: 0, changes: VecDeque::new(), most, started: false, epoch: 0 };
        let hub = Arc::new(Hub { kept: Mutex::new(kept), changed: watch::channel(0).0, kick: Notify::new() });
        *place = Arc::downgrade(&hub);
        let (source, follower) = (Arc::clone(source), Arc::clone(&hub));
        tasks.spawn_until_cancelled("watch", async move { follower.follow(&*source).await });
        hub
    }

    /// Changes that `selector` asks for, after a revision, for as long as the stream is read.
    pub(crate) fn subscribe<S: Source<Change = C>>(
        &self, namespace: &Arc<str>, source: Arc<S>, selector: String, after: u64, tasks: &TaskGroup, most: usize,
    ) -> impl Stream<Item = Result<Event<C>, CallError<S::Error>>> + Send + 'static + use<S, C> {
        let hub = self.hub(namespace, &source, tasks, most);
        let changed = hub.changed.subscribe();
        let subscription = Subscription { hub, source, changed, selector, after, epoch: None, ended: false };
        futures::stream::unfold(subscription, |mut subscription| async move {
            if subscription.ended {
                return None;
            }
            let item = subscription.next().await;
            subscription.ended = item.is_err();
            Some((item, subscription))
        })
    }
}

impl<C: Revised> Hub<C> {
    async fn follow<S: Source<Change = C>>(&self, source: &S) {
        let mut alone_since = None;
        loop {
            if self.changed.receiver_count() == 0 {
                let since = *alone_since.get_or_insert_with(clock::now);
                if clock::now().saturating_duration_since(since) > LINGER {
                    return;
                }
            } else {
                alone_since = None;
            }
            if let Err(_unavailable) = self.step(source).await {
                // Whoever watches is told only when the changes that it waits for are gone; until then it waits.
                tokio::time::sleep(POLL).await;
            }
        }
    }

    async fn step<S: Source<Change = C>>(&self, source: &S) -> Result<(), CallError<S::Error>> {
        let (started, head) = {
            let kept = self.kept.lock();
            (kept.started, kept.head)
        };
        if !started {
            let revision = source.revision().await?;
            self.restart(revision);
            return Ok(());
        }
        let begun = clock::now();
        match source.changes("", head, WAIT).await {
            Ok(changes) if changes.is_empty() => {
                if clock::now().saturating_duration_since(begun) < WAIT / 2 {
                    let _ = tokio::time::timeout(POLL, self.kick.notified()).await;
                }
                let revision = source.revision().await?;
                if revision < head {
                    self.restart(revision);
                }
                Ok(())
            }
            Ok(changes) => {
                self.push(changes);
                Ok(())
            }
            Err(CallError::Capability(error)) if S::is_behind(&error) => {
                let revision = source.revision().await?;
                self.restart(revision);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn restart(&self, revision: u64) {
        let mut kept = self.kept.lock();
        if kept.started {
            kept.epoch += 1;
        }
        kept.started = true;
        kept.floor = revision;
        kept.head = revision;
        kept.changes.clear();
        drop(kept);
        self.changed.send_modify(|version| *version += 1);
    }

    fn push(&self, changes: Vec<C>) {
        let mut kept = self.kept.lock();
        for change in changes {
            kept.head = kept.head.max(change.revision());
            kept.changes.push_back(change);
        }
        while kept.changes.len() > kept.most {
            // All changes of one revision go together.
            let Some(oldest) = kept.changes.front().map(Revised::revision) else { break };
            while kept.changes.front().is_some_and(|change| change.revision() == oldest) {
                kept.changes.pop_front();
            }
            kept.floor = oldest;
        }
        drop(kept);
        self.changed.send_modify(|version| *version += 1);
    }

    fn read(&self, after: u64, selects: impl Fn(&C) -> bool) -> Option<(Read<C>, u64)> {
        let kept = self.kept.lock();
        if !kept.started {
            return None;
        }
        if after < kept.floor {
            return Some((Read::Behind(kept.floor), kept.epoch));
        }
        let from = kept.changes.partition_point(|change| change.revision() <= after);
        let changes = kept.changes.range(from..).filter(|change| selects(change)).cloned().collect();
        Some((Read::Changes(changes, kept.head.max(after)), kept.epoch))
    }
}

struct Subscription<S: Source> {
    hub: Arc<Hub<S::Change>>,
    source: Arc<S>,
    changed: watch::Receiver<u64>,
    selector: String,
    after: u64,
    epoch: Option<u64>,
    ended: bool,
}

impl<S: Source> Subscription<S> {
    async fn next(&mut self) -> Result<Event<S::Change>, CallError<S::Error>> {
        if self.epoch.is_none() {
            let current = self.source.revision().await?;
            if self.after > current {
                return Err(CallError::Capability(S::ahead(self.after, current)));
            }
        }
        loop {
            self.changed.mark_unchanged();
            let Some((read, epoch)) = self.hub.read(self.after, |change| S::selects(&self.selector, change)) else {
                self.wait(PROGRESS).await;
                continue;
            };
            if *self.epoch.get_or_insert(epoch) != epoch {
                return Err(CallError::Capability(S::behind(0)));
            }
            match read {
                Read::Changes(changes, head) if !changes.is_empty() => {
                    self.after = head;
                    return Ok(Event::Changes(changes));
                }
                Read::Changes(_, head) => {
                    self.after = head;
                    if !self.wait(PROGRESS).await {
                        return Ok(Event::Progress(self.after));
                    }
                }
                Read::Behind(floor) => {
                    let changes = self.source.changes(&self.selector, self.after, Duration::ZERO).await?;
                    match changes.last() {
                        Some(last) => {
                            self.after = last.revision();
                            return Ok(Event::Changes(changes));
                        }
                        // The provider was at the floor or past it when it said that there is nothing more.
                        None => self.after = floor,
                    }
                }
            }
        }
    }

    /// Waits for news; whether there are any.
    async fn wait(&mut self, most: Duration) -> bool {
        matches!(tokio::time::timeout(most, self.changed.changed()).await, Ok(Ok(())))
    }
}
