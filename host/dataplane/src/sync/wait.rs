//! Waiting for a place, and for its loss.
//!
//! Invariant: every place that is waited for has a [`Claim`], and a claim that is dropped gives its place up.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, stream::BoxStream};
use platform_base::clock::{self, Instant};
use platform_capability::{
    Call,
    sync::{Error, Lease, Lock, Place},
};

use super::{CLEAN_UP, Result, Sync, on_behalf_of};
use crate::{error::CallError, watch::Event};

/// Pause before what failed for now is tried again.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest call that is made on behalf of somebody who waits.
const CALL: Duration = Duration::from_secs(10);

/// A place that is held.
#[derive(Debug, Clone)]
pub struct Held {
    /// The place.
    pub place: Place,
    /// The lease that it hangs on.
    pub lease: Lease,
}

/// What came of asking for a place.
#[derive(Debug)]
pub enum Taken {
    /// It is held.
    Held(Held),
    /// It is waited for.
    Queued(Queued),
}

/// How a held place fares.
#[derive(Debug, Clone)]
pub enum Fate {
    /// It is held.
    Held(Place),
    /// It was lost, at a revision.
    Lost(u64),
}

/// A place that nobody has been told of yet, or that is waited for. Dropped, it is given up.
#[derive(Debug)]
pub(super) struct Claim {
    sync: Sync,
    call: Call,
    name: String,
    token: u64,
    open: bool,
}

impl Claim {
    pub(super) fn new(sync: Sync, call: Call, name: String, token: u64) -> Self {
        Self { sync, call, name, token, open: true }
    }

    /// Its caller has the place, or knows that it has not.
    pub(super) fn settle(mut self) {
        self.open = false;
    }

    fn call(&self) -> Call {
        on_behalf_of(&self.call, CALL)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        // A platform that shuts down leaves it to the lease, which ends by itself.
        let Ok(plane) = self.sync.provider.plane() else { return };
        let (sync, call, token) = (self.sync.clone(), Arc::clone(&self.call), self.token);
        let name = std::mem::take(&mut self.name);
        plane.parts.tasks.spawn_until_cancelled("leave line", async move {
            let until = clock::now() + CLEAN_UP;
            while let Err(error) = sync.release(&on_behalf_of(&call, CALL), &name, token).await {
                if !is_passing(&error) || clock::now() > until {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
}

/// A place that is waited for.
#[derive(Debug)]
pub struct Queued {
    claim: Claim,
    place: Place,
    lease: Lease,
    until: Instant,
}

impl Queued {
    pub(super) fn new(claim: Claim, place: Place, lease: Lease, until: Instant) -> Self {
        Self { claim, place, lease, until }
    }

    /// The place.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Waits until it is held. Dropped before that, the place is given up.
    ///
    /// # Errors
    /// [`Error::Held`] when the time is over; [`Error::NotFound`] when the place or its lease was taken away meanwhile.
    pub async fn held(mut self) -> Result<Held> {
        let third = Duration::from_millis(self.lease.ttl_ms / 3);
        let mut next = clock::now() + third;
        // Tokens are not above the revision that they were given at, so nothing since then is missed.
        let mut after = self.place.token.saturating_sub(1);
        let mut changes = self.watch(after)?;
        loop {
            let granted = tokio::select! {
                event = changes.next() => match event {
                    Some(Ok(Event::Changes(locks))) => {
                        after = locks.last().map_or(after, |lock| lock.revision);
                        locks.iter().any(|lock| holds(lock, &self.place, &self.claim.name))
                    }
                    Some(Ok(Event::Progress(_))) => false,
                    Some(Err(_)) | None => {
                        tokio::time::sleep(PAUSE).await;
                        // Whatever came before this revision is found by looking.
                        changes = self.watch(self.revision(after).await)?;
                        self.look().await?
                    }
                },
                () = tokio::time::sleep_until(next.into()) => {
                    next = clock::now() + third;
                    self.keep_alive().await?;
                    self.look().await?
                }
                () = tokio::time::sleep_until(self.until.into()) => {
                    let name = self.claim.name.escape_debug();
                    // The claim gives the place up.
                    return Err(CallError::Capability(Error::Held(format!("`{name}` did not come free in time"))));
                }
            };
            if granted {
                self.keep_alive().await?;
                let Self { claim, mut place, lease, .. } = self;
                claim.settle();
                place.held = true;
                return Ok(Held { place, lease });
            }
        }
    }

    fn watch(&self, after: u64) -> Result<BoxStream<'static, Result<Event<Lock>>>> {
        Ok(self.claim.sync.watch(&self.claim.call(), &self.claim.name, after)?.boxed())
    }

    /// The revision now, as far as it can be told.
    async fn revision(&self, known: u64) -> u64 {
        self.claim.sync.revision(&self.claim.call()).await.unwrap_or(known)
    }

    /// Whether the place is held, as far as that can be told.
    async fn look(&self) -> Result<bool> {
        match self.claim.sync.find(&self.claim.call(), &self.claim.name, self.place.token).await {
            Ok(Some(place)) => Ok(place.held),
            Ok(None) => {
                let name = self.claim.name.escape_debug();
                let why = format!("the place in the line of `{name}` was given up or lost");
                Err(CallError::Capability(Error::NotFound(why)))
            }
            Err(error) if is_passing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn keep_alive(&mut self) -> Result<()> {
        match self.claim.sync.keep_alive(&self.claim.call(), &self.lease.id).await {
            Ok(lease) => self.lease = lease,
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Tells how a held place fares, until it is lost.
pub(super) async fn hold(
    sync: &Sync, call: &Call, name: &str, token: u64,
) -> Result<impl Stream<Item = Result<Fate>> + Send + 'static + use<>> {
    let after = sync.revision(call).await?;
    let place = sync.find(call, name, token).await?.filter(|place| place.held);
    let none = || {
        let why = format!("nobody holds `{}` with the token {token}", name.escape_debug());
        CallError::Capability(Error::NotFound(why))
    };
    let place = place.ok_or_else(none)?;
    let changes = sync.watch(call, name, after)?.boxed();
    let holding = Holding { name: name.to_owned(), place, changes, told: false, over: false };
    Ok(futures::stream::unfold(holding, |mut holding| async move {
        let fate = holding.next().await?;
        holding.over = !matches!(fate, Ok(Fate::Held(_)));
        Some((fate, holding))
    }))
}

struct Holding {
    name: String,
    place: Place,
    changes: BoxStream<'static, Result<Event<Lock>>>,
    told: bool,
    over: bool,
}

impl Holding {
    async fn next(&mut self) -> Option<Result<Fate>> {
        if self.over {
            return None;
        }
        if !std::mem::replace(&mut self.told, true) {
            return Some(Ok(Fate::Held(self.place.clone())));
        }
        loop {
            match self.changes.next().await? {
                Ok(Event::Progress(_)) => return Some(Ok(Fate::Held(self.place.clone()))),
                Ok(Event::Changes(locks)) => {
                    let of_name = |lock: &&Lock| lock.name == self.name;
                    let lost = |lock: &&Lock| !holds(lock, &self.place, &self.name);
                    if let Some(lock) = locks.iter().filter(of_name).find(lost) {
                        return Some(Ok(Fate::Lost(lock.revision)));
                    }
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

fn holds(lock: &Lock, place: &Place, name: &str) -> bool {
    lock.name == name && lock.held.iter().any(|held| held.token == place.token)
}

/// Whether trying again makes sense.
fn is_passing(error: &CallError<Error>) -> bool {
    match error {
        CallError::Capability(error) => matches!(error, Error::Unavailable(_)),
        CallError::Fault { .. } | CallError::NotBound(_) => true,
    }
}
