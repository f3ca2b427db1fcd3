//! Carries what a store keeps to the one that is about to serve.
//!
//! Copies while writes go on, follows the change feed until it has caught up, then holds writers for the last stretch and until
//! the slot is flipped. Must not know what either store is, nor what it keeps: that is for the capability to say
//! ([`Portable`]). Invariant: what was acknowledged before the flip is in the new store, with the revisions that it had;
//! and where anything fails the old store serves on, unchanged.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use platform_capability::{Call, CallContext, Name, SlotKind};
use platform_runtime::Function;
use tokio::sync::OwnedRwLockWriteGuard;

use crate::{
    binding::Entry,
    error::{CallError, flatten},
    plane::Plane,
    prepare::Prepared,
    provider::{Capability, Provider},
    slot_name::SlotName,
    watch::Revised,
};

/// Longest that one call to a store may take.
const CALL: Duration = Duration::from_secs(60);
/// Bytes that are handed over at once, unless a single change is larger.
const CHUNK_BYTES: usize = 8 << 20;
/// Changes in one answer after which the feed counts as caught up with.
const CAUGHT_UP: usize = 100;
/// Most rounds of following a feed that does not come to an end.
const ROUNDS: u32 = 1000;
/// Most that is asked for in one answer.
pub(crate) const PAGE: u32 = 1000;

type Result<T, E> = std::result::Result<T, CallError<E>>;

/// A capability whose stores can take over what another one keeps.
pub(crate) trait Portable: Capability {
    /// What a change is of. Of several changes of one thing only the last counts, so that writers who come back to the same
    /// things are caught up with.
    type Of: Ord + Send + Sync;
    /// Changes that are handed over at once.
    const CHUNK: usize;

    /// What a change is of.
    fn of(change: &Self::Change) -> Self::Of;
    /// What a change takes, in bytes.
    fn bytes(change: &Self::Change) -> usize;
    /// Whether the slot is the one that serves the namespace, or will be.
    fn serves(_plane: &Plane, _slot: &SlotName, _namespace: &str) -> bool {
        true
    }
    /// Whether a part of a namespace is carried: one that the slot serves, and no other.
    fn carries(_ways: &Ways<'_, Self>, _part: &str) -> bool {
        true
    }
    /// Whether a change is of what is carried.
    fn concerns(_ways: &Ways<'_, Self>, _change: &Self::Change) -> bool {
        true
    }
    /// Whether a change was refused because of another one that is yet to come, or to go.
    fn stands_in_the_way(_error: &Self::Error) -> bool {
        false
    }
    /// Whether the stores are two: what is put into the one is not in the other.
    fn are_apart(ways: &Ways<'_, Self>) -> impl Future<Output = Result<bool, Self::Error>> + Send;
    /// Takes all that is carried out of the new store: what an earlier attempt left is not what is there now.
    fn clear(ways: &Ways<'_, Self>) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Hands over all that the old store holds, page by page.
    fn copy(carrier: &mut Carrier<'_, Self>) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Hands changes over, and the revision that the new store goes on above if it is not 0.
    fn hand_over(
        ways: &Ways<'_, Self>, changes: &[Self::Change], revision: u64,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
    /// Has a store end what is due, where things end by themselves.
    fn end(_ways: &Ways<'_, Self>, _side: Side) -> impl Future<Output = Result<(), Self::Error>> + Send {
        async { Ok(()) }
    }
    /// A change after which the new store ends what `change` says has ended; none where nothing ends by itself.
    fn ended(_change: &Self::Change) -> Option<Self::Change> {
        None
    }
    /// Hands over what no change tells of, while nobody writes.
    fn complete(ways: &Ways<'_, Self>) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// One of two stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that serves.
    Old,
    /// The one that is about to.
    New,
}

/// What was carried is with the new store as it is with the old one, for as long as this is held: writes wait.
pub struct Carried {
    /// Entries or records that were carried.
    pub entries: u64,
    disregard: Box<dyn Fn() + Send + Sync>,
    _held: OwnedRwLockWriteGuard<()>,
}

impl fmt::Debug for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carried").field("entries", &self.entries).finish_non_exhaustive()
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        // The flip is over. What the old store still answers, when it may be written to again, is no news.
        (self.disregard)();
    }
}

/// Why something was not carried. The old store serves on.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// Such slots keep nothing that can be carried.
    #[error("what `{0}` keeps can't be carried; slots of `kv.store` and `db.store` can")]
    Kind(SlotName),
    /// Another slot serves the namespace.
    #[error("`{slot}` does not serve the namespace `{namespace}`; carry it to the slot that does")]
    Elsewhere {
        /// The slot.
        slot: SlotName,
        /// The namespace.
        namespace: Name,
    },
    /// A store failed.
    #[error("the namespace `{namespace}` was not carried: {why}; the old store serves on")]
    Store {
        /// The namespace.
        namespace: Name,
        /// What it said.
        why: String,
    },
    /// Writes did not come to rest.
    #[error("writes did not come to rest within {0} ms; the old store serves on")]
    Restless(u64),
}

impl Plane {
    /// Carries what `slot` keeps in these namespaces to what was prepared for it. Writes wait until the answer is dropped,
    /// which is to be after the flip.
    ///
    /// # Errors
    /// See [`CarryError`].
    pub async fn carry(
        &self, slot: &SlotName, prepared: &Prepared, namespaces: &[Name],
    ) -> std::result::Result<Carried, CarryError> {
        let wrong = || CarryError::Kind(slot.clone());
        let to = prepared.entries.first().ok_or_else(wrong)?;
        match slot.kind {
            SlotKind::KvStore => carry(self.kv().provider(), self, slot, to, namespaces).await,
            SlotKind::DbStore => carry(self.db().provider(), self, slot, to, namespaces).await,
            _ => Err(wrong()),
        }
    }
}

async fn carry<C: Portable>(
    provider: &Arc<Provider<C>>, plane: &Plane, slot: &SlotName, to: &Entry, namespaces: &[Name],
) -> std::result::Result<Carried, CarryError> {
    if let Some(other) = namespaces.iter().find(|namespace| !C::serves(plane, slot, namespace.as_str())) {
        return Err(CarryError::Elsewhere { slot: slot.clone(), namespace: other.clone() });
    }
    let mut carriers = Vec::new();
    for namespace in namespaces {
        let ways = Ways { provider, plane, slot, to, namespace };
        // A slot that holds nothing has nothing to be carried.
        if C::are_apart(&ways).await.map_err(|error| failed(namespace, &error))? {
            carriers.push(Carrier { ways, after: 0, carried: 0, put_off: BTreeMap::new() });
        }
    }
    for carrier in &mut carriers {
        carrier.begin().await.map_err(|error| failed(carrier.ways.namespace, &error))?;
    }
    let wait = plane.parts.config.hold_ms_max;
    let held = tokio::time::timeout(Duration::from_millis(wait), provider.hold()).await;
    let held = held.map_err(|_elapsed| CarryError::Restless(wait))?;
    let mut entries = 0;
    for carrier in &mut carriers {
        carrier.finish().await.map_err(|error| failed(carrier.ways.namespace, &error))?;
        entries += carrier.carried;
    }
    let provider = Arc::clone(provider);
    Ok(Carried { entries, disregard: Box::new(move || provider.disregard()), _held: held })
}

fn failed<E: fmt::Debug>(namespace: &Name, error: &CallError<E>) -> CarryError {
    CarryError::Store { namespace: namespace.clone(), why: error.to_string() }
}

/// The two stores between which a namespace is carried.
pub(crate) struct Ways<'a, C: Capability> {
    provider: &'a Arc<Provider<C>>,
    pub(crate) plane: &'a Plane,
    slot: &'a SlotName,
    to: &'a Entry,
    namespace: &'a Name,
}

impl<C: Capability> Ways<'_, C> {
    fn call(&self) -> Call {
        Arc::new(CallContext::host(self.namespace.shared(), CALL))
    }

    /// The part of a namespace that the slot is for; none for all.
    pub(crate) fn part(&self) -> &str {
        self.slot.qualifier.as_ref().map_or("", Name::as_str)
    }

    /// Calls a function of the store that serves.
    pub(crate) async fn from<F, R>(&self, params: F::Params<'_>) -> Result<R, C::Error>
    where
        F: Function<Results = (std::result::Result<R, C::Error>,)>,
        for<'p> F::Params<'p>: Clone,
    {
        let slot = self.plane.find(C::KIND, C::qualifier(self.namespace.as_str(), self.part()));
        flatten(slot.call::<F>(&self.call(), params).await)
    }

    /// Calls a function of the store that is about to serve.
    pub(crate) async fn to<F, R>(&self, params: F::Params<'_>) -> Result<R, C::Error>
    where
        F: Function<Results = (std::result::Result<R, C::Error>,)>,
    {
        let answer = self.to.call::<F>(&self.call(), params).await;
        let (slot, plugin) = (self.slot.clone(), Arc::clone(&self.to.label));
        answer.map_err(|fault| CallError::Fault { slot, plugin, fault })?.0.map_err(CallError::Capability)
    }
}

/// The way of one namespace from one store to another.
pub(crate) struct Carrier<'a, C: Portable> {
    pub(crate) ways: Ways<'a, C>,
    /// What the feed is followed after.
    after: u64,
    /// What was copied, before what changed meanwhile.
    pub(crate) carried: u64,
    /// Changes that something stood in the way of, which another change has taken away since or will.
    put_off: BTreeMap<C::Of, C::Change>,
}

impl<C: Portable> Carrier<'_, C> {
    /// Copies everything, and follows what changes meanwhile until little is left.
    async fn begin(&mut self) -> Result<(), C::Error> {
        C::clear(&self.ways).await?;
        self.after = self.ways.from::<C::Revision, u64>(()).await?;
        C::copy(self).await?;
        for _ in 0..ROUNDS {
            if self.follow().await? < CAUGHT_UP {
                break;
            }
        }
        Ok(())
    }

    /// The last stretch, while nobody writes.
    async fn finish(&mut self) -> Result<(), C::Error> {
        // What ends by itself goes on ending: up to this revision all of it is handed over, and later ends are for the new
        // store to tell.
        let mut seen;
        loop {
            C::end(&self.ways, Side::Old).await?;
            seen = self.ways.from::<C::Revision, u64>(()).await?;
            if self.follow().await? == 0 {
                break;
            }
        }
        let revision = seen.max(self.after);
        // All at once, for they may stand in each other's way.
        let put_off: Vec<C::Change> = std::mem::take(&mut self.put_off).into_values().collect();
        for chunk in put_off.chunks(C::CHUNK) {
            C::hand_over(&self.ways, chunk, 0).await?;
        }
        C::complete(&self.ways).await?;
        C::hand_over(&self.ways, &[], revision).await?;
        let Ways { provider, namespace, .. } = self.ways;
        provider.settle(namespace.as_str(), revision, |part| C::carries(&self.ways, part)).await?;
        self.make_up(revision).await
    }

    /// Makes up for ends that nobody would be told of: those that the old store came to after `revision`, and the new one before
    /// it went on above it, which keeps no change from before. Whatever was due by then the old store ends here, and the new one
    /// ends all of that which it still has; the rest it gets once more, as what has ended.
    async fn make_up(&self, revision: u64) -> Result<(), C::Error> {
        let ended = self.ends(Side::Old, revision).await?;
        if ended.is_empty() {
            return Ok(());
        }
        let told = self.ends(Side::New, revision).await?;
        let untold = ended.iter().filter(|(of, _)| !told.contains_key(of));
        let again: Vec<C::Change> = untold.filter_map(|(_, change)| C::ended(change)).collect();
        for chunk in again.chunks(C::CHUNK) {
            C::hand_over(&self.ways, chunk, 0).await?;
        }
        Ok(())
    }

    /// What has ended in a store after a revision up to now, while nobody writes.
    async fn ends(&self, side: Side, revision: u64) -> Result<BTreeMap<C::Of, C::Change>, C::Error> {
        let (mut ended, mut after) = (BTreeMap::new(), revision);
        for _ in 0..ROUNDS {
            C::end(&self.ways, side).await?;
            let changes = self.changes(side, after).await?;
            let Some(last) = changes.last() else { break };
            after = last.revision();
            ended.extend(changes.into_iter().map(|change| (C::of(&change), change)));
        }
        Ok(ended)
    }

    /// The next changes of a store that concern what is carried.
    async fn changes(&self, side: Side, after: u64) -> Result<Vec<C::Change>, C::Error> {
        let selector = if self.ways.part().is_empty() { String::new() } else { C::everything(self.ways.part()) };
        let params = (selector.as_str(), after, PAGE, 0);
        match side {
            Side::Old => self.ways.from::<C::Changes, _>(params).await,
            Side::New => self.ways.to::<C::Changes, _>(params).await,
        }
    }

    /// Hands the next changes of the feed over; how many there were.
    async fn follow(&mut self) -> Result<usize, C::Error> {
        let changes = self.changes(Side::Old, self.after).await?;
        let count = changes.len();
        if let Some(last) = changes.last() {
            self.after = last.revision();
        }
        let mine = changes.into_iter().filter(|change| C::concerns(&self.ways, change)).collect();
        self.give(mine).await?;
        Ok(count)
    }

    /// Hands changes over in chunks.
    pub(crate) async fn give(&mut self, changes: Vec<C::Change>) -> Result<(), C::Error> {
        let mut last: BTreeMap<C::Of, C::Change> = BTreeMap::new();
        for change in changes {
            let of = C::of(&change);
            self.put_off.remove(&of);
            last.insert(of, change);
        }
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for change in last.into_values() {
            let size = C::bytes(&change);
            if chunk.len() >= C::CHUNK || (bytes > 0 && bytes + size > CHUNK_BYTES) {
                self.give_chunk(std::mem::take(&mut chunk)).await?;
                bytes = 0;
            }
            bytes += size;
            chunk.push(change);
        }
        self.give_chunk(chunk).await
    }

    async fn give_chunk(&mut self, chunk: Vec<C::Change>) -> Result<(), C::Error> {
        if chunk.is_empty() {
            return Ok(());
        }
        match C::hand_over(&self.ways, &chunk, 0).await {
            Err(CallError::Capability(error)) if C::stands_in_the_way(&error) => {}
            given => return given,
        }
        // Something has moved from one to another while they were read: the feed brings the later state of one of them.
        for change in chunk {
            match C::hand_over(&self.ways, std::slice::from_ref(&change), 0).await {
                Err(CallError::Capability(error)) if C::stands_in_the_way(&error) => {
                    self.put_off.insert(C::of(&change), change);
                }
                given => given?,
            }
        }
        Ok(())
    }
}
