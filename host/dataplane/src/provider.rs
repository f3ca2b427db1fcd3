//! What the capabilities that providers keep have in common: how a call gets to the provider of a namespace, how its
//! changes are asked for, and what another plugin learns when that fails.
//!
//! Must not know what a capability means. Invariant: whoever watches hears of a write through this host at once.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use futures::Stream;
use platform_capability::{Call, CallContext, SlotKind, config, db, discovery, event, kv, sync};
use platform_runtime::Function;
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, RwLockReadGuard};

use crate::{
    error::{CallError, flatten},
    plane::Plane,
    rollout::{self, Read},
    watch::{Event, Hubs, Revised},
};

/// Most entries or changes in one answer.
pub(crate) const LIMIT_MAX: u32 = 1000;

/// A capability that a provider keeps: its slot, its errors, and the two functions that a watch stands on.
pub(crate) trait Capability: Sized + Send + Sync + 'static {
    /// Kind of its slots.
    const KIND: SlotKind;
    /// What its functions fail with.
    type Error: ProviderError;
    /// What its watches yield.
    type Change: Revised;
    /// The last revision.
    type Revision: for<'a> Function<Params<'a> = (), Results = (Result<u64, Self::Error>,)>;
    /// Waits for changes of what a selector names, after a revision, at most so many, for so many milliseconds.
    type Changes: for<'a> Function<Params<'a> = (&'a str, u64, u32, u32), Results = (Result<Vec<Self::Change>, Self::Error>,)>;

    /// The slot of its kind that serves a part of a namespace, where that is bound.
    fn qualifier<'a>(namespace: &'a str, _part: &'a str) -> &'a str {
        namespace
    }
    /// The selector that asks for all changes of a part of a namespace.
    fn everything(_part: &str) -> String {
        String::new()
    }
    /// Whether `selector` asks for the change.
    fn selects(selector: &str, change: &Self::Change) -> bool;
    /// The failure of a call with an argument that is not allowed.
    fn refused(why: impl Into<String>) -> CallError<Self::Error> {
        CallError::Capability(ProviderError::invalid(why.into()))
    }

    /// What a plugin learns of a failed call to another: that it failed, and whether trying again makes sense.
    ///
    /// # Errors
    /// That of the call.
    fn nested<T>(answer: Result<T, CallError<Self::Error>>) -> Result<T, Self::Error> {
        answer.map_err(|error| match error {
            CallError::Capability(error) => error,
            other => ProviderError::unavailable(other.map(|_: Self::Error| "").to_string()),
        })
    }
}

/// The errors that every capability has.
pub(crate) trait ProviderError: fmt::Debug + Send + Sync + 'static {
    /// For an argument that is not allowed.
    fn invalid(why: String) -> Self;
    /// For what may work later.
    fn unavailable(why: String) -> Self;
    /// Whether the provider can't do what it is there for, such as reach what it keeps things in.
    fn is_unable(&self) -> bool;
    /// For changes that are no longer kept; those from `oldest` on are.
    fn compacted(oldest: u64) -> Self;
    /// Whether it is that error.
    fn is_compacted(&self) -> bool;
}

/// The bindings of each interface have types of their own for what all interfaces share.
macro_rules! shared {
    ($($module:ident: $change:ident),*) => {$(
        impl ProviderError for $module::Error {
            fn invalid(why: String) -> Self {
                Self::Invalid(why)
            }

            fn unavailable(why: String) -> Self {
                Self::Unavailable(why)
            }

            fn is_unable(&self) -> bool {
                matches!(self, Self::Unavailable(_) | Self::Other(_))
            }

            fn compacted(oldest: u64) -> Self {
                Self::Compacted(oldest)
            }

            fn is_compacted(&self) -> bool {
                matches!(self, Self::Compacted(_))
            }
        }

        impl Revised for $module::$change {
            fn revision(&self) -> u64 {
                self.revision
            }
        }
    )*};
}
shared!(config: Version, db: Change, discovery: Change, event: Event, kv: Change, sync: Lock);

/// What a watch of a capability yields.
pub(crate) type Watched<C> = Result<Event<<C as Capability>::Change>, CallError<<C as Capability>::Error>>;

/// The way to the providers of one capability.
pub(crate) struct Provider<C: Capability> {
    plane: Weak<Plane>,
    hubs: Hubs<C>,
    /// Held by each write; whoever carries what is kept to another store waits until nobody does.
    writes: Arc<RwLock<()>>,
}

impl<C: Capability> Provider<C> {
    pub(crate) fn new(plane: Weak<Plane>) -> Arc<Self> {
        Arc::new(Self { plane, hubs: Hubs::default(), writes: Arc::default() })
    }

    pub(crate) fn plane(&self) -> Result<Arc<Plane>, CallError<C::Error>> {
        let stopping = || CallError::Capability(ProviderError::unavailable("the platform is shutting down".to_owned()));
        self.plane.upgrade().ok_or_else(stopping)
    }

    /// Lets a write begin, once nothing is being carried to another store; to be held until the write is done.
    pub(crate) async fn writing(&self, call: &Call) -> Result<RwLockReadGuard<'_, ()>, CallError<C::Error>> {
        if let Ok(writing) = self.writes.try_read() {
            return Ok(writing);
        }
        let writing = tokio::time::timeout_at(call.deadline.into(), self.writes.read()).await;
        let why =
            "what is kept is moving to another store, which took longer than the call has time; nothing was written";
        writing.map_err(|_elapsed| CallError::Capability(ProviderError::unavailable(why.to_owned())))
    }

    /// Holds all writes, once those that have begun are done.
    pub(crate) async fn hold(&self) -> OwnedRwLockWriteGuard<()> {
        Arc::clone(&self.writes).write_owned().await
    }

    /// Calls a function of the provider that serves the namespace of the call.
    pub(crate) async fn call<F, R>(&self, call: &Call, params: F::Params<'_>) -> Result<R, CallError<C::Error>>
    where
        F: Function<Results = (Result<R, C::Error>,)>,
        for<'a> F::Params<'a>: Clone,
    {
        self.call_in::<F, R>(call, "", params).await
    }

    /// Calls a function of the provider that serves a part of the namespace of the call.
    pub(crate) async fn call_in<F, R>(
        &self, call: &Call, part: &str, params: F::Params<'_>,
    ) -> Result<R, CallError<C::Error>>
    where
        F: Function<Results = (Result<R, C::Error>,)>,
        for<'a> F::Params<'a>: Clone,
    {
        let plane = self.plane()?;
        flatten(plane.find(C::KIND, C::qualifier(&call.namespace, part)).call::<F>(call, params).await)
    }

    /// The same for a function that only reads, of which a rollout may ask its candidate.
    pub(crate) async fn read<F, R>(&self, call: &Call, params: F::Params<'_>) -> Result<R, CallError<C::Error>>
    where
        F: Read<Results = (Result<R, C::Error>,)>,
        R: fmt::Debug + Send + 'static,
        for<'a> F::Params<'a>: Clone,
    {
        self.read_in::<F, R>(call, "", params).await
    }

    /// The same in a part of the namespace.
    pub(crate) async fn read_in<F, R>(
        &self, call: &Call, part: &str, params: F::Params<'_>,
    ) -> Result<R, CallError<C::Error>>
    where
        F: Read<Results = (Result<R, C::Error>,)>,
        R: fmt::Debug + Send + 'static,
        for<'a> F::Params<'a>: Clone,
    {
        let plane = self.plane()?;
        flatten(
            rollout::read::<F, R, C::Error>(&plane.find(C::KIND, C::qualifier(&call.namespace, part)), call, params)
                .await,
        )
    }

    /// Refuses what changes something when the call may only read.
    pub(crate) fn check_writes(&self, call: &Call) -> Result<(), CallError<C::Error>> {
        if call.reads_only {
            let why = "this call only reads; nothing was written";
            return Err(CallError::Capability(ProviderError::unavailable(why.to_owned())));
        }
        Ok(())
    }

    /// The same for a function that writes: whoever watches is told at once.
    pub(crate) async fn write<F, R>(&self, call: &Call, params: F::Params<'_>) -> Result<R, CallError<C::Error>>
    where
        F: Function<Results = (Result<R, C::Error>,)>,
        for<'a> F::Params<'a>: Clone,
    {
        self.write_in::<F, R>(call, "", params).await
    }

    /// The same in a part of the namespace.
    pub(crate) async fn write_in<F, R>(
        &self, call: &Call, part: &str, params: F::Params<'_>,
    ) -> Result<R, CallError<C::Error>>
    where
        F: Function<Results = (Result<R, C::Error>,)>,
        for<'a> F::Params<'a>: Clone,
    {
        self.check_writes(call)?;
        let answer = self.call_in::<F, R>(call, part, params).await?;
        self.hubs.kick(&call.namespace, part);
        if let Ok(plane) = self.plane() {
            plane.event().tell_of(C::KIND, &call.namespace);
        }
        Ok(answer)
    }

    /// The last revision of the namespace.
    pub(crate) async fn revision(&self, call: &Call) -> Result<u64, CallError<C::Error>> {
        self.revision_in(call, "").await
    }

    /// The last revision of a part of the namespace.
    pub(crate) async fn revision_in(&self, call: &Call, part: &str) -> Result<u64, CallError<C::Error>> {
        self.call_in::<C::Revision, _>(call, part, ()).await
    }

    /// Changes of what `selector` names after a revision; empty when there are none within `wait_ms`.
    pub(crate) async fn changes(
        &self, call: &Call, selector: &str, after: u64, limit: u32, wait_ms: u32,
    ) -> Result<Vec<C::Change>, CallError<C::Error>> {
        self.changes_in(call, "", selector, (after, limit, wait_ms)).await
    }

    async fn changes_in(
        &self, call: &Call, part: &str, selector: &str, (after, limit, wait_ms): (u64, u32, u32),
    ) -> Result<Vec<C::Change>, CallError<C::Error>> {
        self.call_in::<C::Changes, _>(call, part, (selector, after, limit.clamp(1, LIMIT_MAX), wait_ms)).await
    }

    /// Brings watches of the parts of a namespace that `part` accepts up to a revision that nothing follows yet.
    pub(crate) async fn settle(
        self: &Arc<Self>, namespace: &str, revision: u64, part: impl Fn(&str) -> bool,
    ) -> Result<(), CallError<C::Error>> {
        for (at, of) in self.hubs.places().into_iter().filter(|(at, of)| **at == *namespace && part(of)) {
            let source = Source { provider: Arc::clone(self), namespace: at, part: of };
            self.hubs.settle(&source, revision).await?;
        }
        Ok(())
    }

    /// Answers to watches' questions that are under way count no more; see [`Hubs::disregard`].
    pub(crate) fn disregard(&self) {
        self.hubs.disregard();
    }

    /// Changes of what `selector` names after a revision, for as long as the stream is read.
    pub(crate) fn watch(
        self: &Arc<Self>, call: &Call, selector: &str, after: u64,
    ) -> Result<impl Stream<Item = Watched<C>> + Send + 'static + use<C>, CallError<C::Error>> {
        self.watch_in(call, "", selector, after)
    }

    /// The same in a part of the namespace.
    pub(crate) fn watch_in(
        self: &Arc<Self>, call: &Call, part: &str, selector: &str, after: u64,
    ) -> Result<impl Stream<Item = Watched<C>> + Send + 'static + use<C>, CallError<C::Error>> {
        let plane = self.plane()?;
        let source =
            Source { provider: Arc::clone(self), namespace: Arc::clone(&call.namespace), part: Arc::from(part) };
        let most = plane.parts.config.watch_changes_kept;
        Ok(self.hubs.subscribe(source, selector.to_owned(), after, &plane.parts.tasks, most))
    }
}

impl<C: Capability> fmt::Debug for Provider<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").field("kind", &C::KIND).finish_non_exhaustive()
    }
}

/// Time that the host gives a provider on top of the wait it asks for.
const MARGIN: Duration = Duration::from_secs(5);

/// Changes of one namespace, or of a part of one, asked for by the host itself.
pub(crate) struct Source<C: Capability> {
    provider: Arc<Provider<C>>,
    namespace: Arc<str>,
    part: Arc<str>,
}

impl<C: Capability> Source<C> {
    /// Where watches of the same changes meet.
    pub(crate) fn place(&self) -> (Arc<str>, Arc<str>) {
        (Arc::clone(&self.namespace), Arc::clone(&self.part))
    }

    fn call(&self, wait: Duration) -> Call {
        Arc::new(CallContext::host(Arc::clone(&self.namespace), wait + MARGIN))
    }

    /// All changes after a revision.
    pub(crate) async fn all_changes(&self, after: u64, wait: Duration) -> Result<Vec<C::Change>, CallError<C::Error>> {
        self.changes(&C::everything(&self.part), after, wait).await
    }

    /// How often what is kept has moved, for [`Self::counts`].
    pub(crate) fn moves(&self) -> u64 {
        self.provider.hubs.moves()
    }

    /// Whether the answer to a question that was asked after so many moves counts: not when another provider serves by
    /// now. While something is on the move nobody can tell, so that is waited for.
    pub(crate) async fn counts(&self, moves: u64) -> bool {
        drop(self.provider.writes.read().await);
        self.moves() == moves
    }

    /// Changes after a revision, of what `selector` names.
    pub(crate) async fn changes(
        &self, selector: &str, after: u64, wait: Duration,
    ) -> Result<Vec<C::Change>, CallError<C::Error>> {
        let wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        self.provider.changes_in(&self.call(wait), &self.part, selector, (after, LIMIT_MAX, wait_ms)).await
    }

    /// The last revision.
    pub(crate) async fn revision(&self) -> Result<u64, CallError<C::Error>> {
        self.provider.revision_in(&self.call(Duration::ZERO), &self.part).await
    }
}

impl<C: Capability> Clone for Source<C> {
    fn clone(&self) -> Self {
        let (namespace, part) = self.place();
        Self { provider: Arc::clone(&self.provider), namespace, part }
    }
}
