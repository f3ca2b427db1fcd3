//! Watches: one upstream wait for each namespace serves all who watch it.
//!
//! A follower asks the provider for changes and keeps the latest of them; subscribers read from what it keeps, each at
//! its own pace, and ask the provider themselves when they are further behind. Revisions carry a watch across swaps and
//! reconnects, so nothing is lost and nothing comes twice.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use dashmap::DashMap;
use futures::Stream;
use parking_lot::Mutex;
use platform_base::{TaskGroup, clock};
use tokio::sync::{Notify, watch};

use crate::{
    error::CallError,
    provider::{Capability, ProviderError, Source, Watched},
};

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

/// How long the follower waits at the provider. It bounds how long an old generation takes to drain.
const WAIT: Duration = Duration::from_millis(500);
/// How often a provider that can't wait is asked.
const POLL: Duration = Duration::from_millis(100);
/// How often a quiet watch says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// How long a follower outlives its last subscriber.
const LINGER: Duration = Duration::from_secs(30);

/// A namespace, and the part of it that a provider of its own may serve.
pub(crate) type Place = (Arc<str>, Arc<str>);

/// All hubs of one capability.
pub(crate) struct Hubs<C: Capability> {
    by_place: Arc<DashMap<Place, Arc<Hub<C>>>>,
    /// Grows when what is kept moves from one provider to another.
    moves: AtomicU64,
}

impl<C: Capability> Default for Hubs<C> {
    fn default() -> Self {
        Self { by_place: Arc::default(), moves: AtomicU64::new(0) }
    }
}

/// What a follower keeps, and how it tells subscribers.
struct Hub<C: Capability> {
    kept: Mutex<Kept<C::Change>>,
    changed: watch::Sender<u64>,
    kick: Notify,
}

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

impl<C: Capability> Hubs<C> {
    /// Makes a waiting follower look again: something was written through this host.
    pub(crate) fn kick(&self, namespace: &Arc<str>, part: &str) {
        if let Some(hub) = self.by_place.get(&(Arc::clone(namespace), Arc::from(part))) {
            hub.kick.notify_one();
        }
    }

    /// Answers to questions that are under way count no more: they may come from a provider that another took the place of,
    /// and whose numbers mean something else by now.
    pub(crate) fn disregard(&self) {
        self.moves.fetch_add(1, Ordering::SeqCst);
    }

    /// How often that was.
    pub(crate) fn moves(&self) -> u64 {
        self.moves.load(Ordering::SeqCst)
    }

    /// Where watches are.
    pub(crate) fn places(&self) -> Vec<Place> {
        self.by_place.iter().map(|hub| hub.key().clone()).collect()
    }

    /// Reads all that the provider has, up to a revision that nothing follows yet: another provider goes on from there.
    pub(crate) async fn settle(&self, source: &Source<C>, revision: u64) -> Result<(), CallError<C::Error>> {
        let Some(hub) = self.by_place.get(&source.place()).map(|hub| Arc::clone(&hub)) else { return Ok(()) };
        loop {
            let (started, head) = {
                let kept = hub.kept.lock();
                (kept.started, kept.head)
            };
            if !started {
                return Ok(());
            }
            let mut changes = source.all_changes(head, Duration::ZERO).await?;
            // What ends by itself after this revision ends at the other provider too, under a revision of its own.
            changes.retain(|change| change.revision() <= revision);
            if changes.is_empty() {
                let mut kept = hub.kept.lock();
                kept.head = kept.head.max(revision);
                return Ok(());
            }
            hub.push(changes);
        }
    }

    /// The hub of the source's place, and its news. Subscribed to under the lock of its place in the map, under which
    /// a follower ends: nobody is left with a hub that no one follows.
    fn hub(&self, source: &Source<C>, tasks: &TaskGroup, most: usize) -> (Arc<Hub<C>>, watch::Receiver<u64>) {
        let place = self.by_place.entry(source.place()).or_insert_with(|| {
            let kept = Kept { floor: 0, head: 0, changes: VecDeque::new(), most, started: false, epoch: 0 };
            let hub = Arc::new(Hub { kept: Mutex::new(kept), changed: watch::channel(0).0, kick: Notify::new() });
            let (hubs, source, follower) = (Arc::clone(&self.by_place), source.clone(), Arc::clone(&hub));
            tasks.spawn_until_cancelled("watch", async move {
                while hubs.remove_if(&source.place(), |_, hub| hub.changed.receiver_count() == 0).is_none() {
                    follower.follow(&source).await;
                }
            });
            hub
        });
        (Arc::clone(&place), place.changed.subscribe())
    }

    /// Changes that `selector` asks for, after a revision, for as long as the stream is read.
    pub(crate) fn subscribe(
        &self, source: Source<C>, selector: String, after: u64, tasks: &TaskGroup, most: usize,
    ) -> impl Stream<Item = Watched<C>> + Send + 'static + use<C> {
        let (hub, changed) = self.hub(&source, tasks, most);
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

impl<C: Capability> Hub<C> {
    /// Keeps what changes, until nobody has listened for a while.
    async fn follow(&self, source: &Source<C>) {
        let mut alone_since = None;
        let mut seen = 0;
        loop {
            if self.changed.receiver_count() == 0 {
                let since = *alone_since.get_or_insert_with(clock::now);
                if clock::now().saturating_duration_since(since) > LINGER {
                    return;
                }
            } else {
                alone_since = None;
            }
            if let Err(_unavailable) = self.step(source, &mut seen).await {
                // Whoever watches is told only when the changes that it waits for are gone; until then it waits.
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// Asks once; `seen` is a revision that was reached before the step began.
    async fn step(&self, source: &Source<C>, seen: &mut u64) -> Result<(), CallError<C::Error>> {
        let (started, head) = {
            let kept = self.kept.lock();
            (kept.started, kept.head)
        };
        let (begun, moves) = (clock::now(), source.moves());
        if !started {
            let revision = source.revision().await?;
            if source.counts(moves).await {
                self.restart(revision);
            }
            return Ok(());
        }
        let answer = source.all_changes(head, WAIT).await;
        if !source.counts(moves).await {
            return Ok(());
        }
        match answer {
            Ok(changes) if changes.is_empty() => {
                if clock::now().saturating_duration_since(begun) < WAIT / 2 {
                    let _ = tokio::time::timeout(POLL, self.kick.notified()).await;
                }
                // What a store writes for itself is no change, and needs not be looked at again.
                self.pass(*seen);
                let head = head.max(*seen);
                let revision = source.revision().await?;
                if !source.counts(moves).await {
                    return Ok(());
                }
                if revision < head {
                    self.restart(revision);
                }
                *seen = revision;
                Ok(())
            }
            Ok(changes) => {
                self.push(changes);
                Ok(())
            }
            Err(CallError::Capability(error)) if error.is_compacted() => {
                let revision = source.revision().await?;
                if source.counts(moves).await {
                    self.restart(revision);
                }
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

    /// Nothing changed up to a revision.
    fn pass(&self, revision: u64) {
        let mut kept = self.kept.lock();
        kept.head = kept.head.max(revision);
    }

    fn push(&self, changes: Vec<C::Change>) {
        let mut kept = self.kept.lock();
        let before = kept.head;
        // Two may have read the same.
        for change in changes.into_iter().filter(|change| change.revision() > before) {
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

    fn read(&self, after: u64, selects: impl Fn(&C::Change) -> bool) -> Option<(Read<C::Change>, u64)> {
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

struct Subscription<C: Capability> {
    hub: Arc<Hub<C>>,
    source: Source<C>,
    changed: watch::Receiver<u64>,
    selector: String,
    after: u64,
    epoch: Option<u64>,
    ended: bool,
}

impl<C: Capability> Subscription<C> {
    /// What asks the provider is boxed: it is rare, and room for it would be most of what a watch that waits takes.
    async fn next(&mut self) -> Watched<C> {
        if self.epoch.is_none() {
            let current = Box::pin(self.source.revision()).await?;
            if self.after > current {
                let why = format!("revision {} has not been reached; the last one is {current}", self.after);
                return Err(C::refused(why));
            }
        }
        loop {
            self.changed.mark_unchanged();
            let Some((read, epoch)) = self.hub.read(self.after, |change| C::selects(&self.selector, change)) else {
                self.wait(PROGRESS).await;
                continue;
            };
            if *self.epoch.get_or_insert(epoch) != epoch {
                return Err(CallError::Capability(ProviderError::compacted(0)));
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
                    let moves = self.source.moves();
                    let changes = Box::pin(self.source.changes(&self.selector, self.after, Duration::ZERO)).await?;
                    if !Box::pin(self.source.counts(moves)).await {
                        continue;
                    }
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
