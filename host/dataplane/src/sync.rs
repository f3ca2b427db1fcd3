//! The sync capability: what an argument may be, before any plugin sees it, and how a place in a line is waited for.
//!
//! Must not know how lines are kept. Invariant: a place that is waited for is held by a call that still waits, or is given
//! up; while the call waits, its lease lasts.

mod served;
mod wait;

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Weak},
    time::Duration,
};

use futures::Stream;
use platform_base::clock::{self, Instant};
use platform_capability::{
    Call, CallContext, SlotKind,
    sync::{self, Error, Lease, Lock, Mode, Permits, Place, Want},
};
use rand::random;
use tokio::sync::oneshot;

use crate::{
    error::CallError,
    plane::Plane,
    provider::{Capability, LIMIT_MAX, Provider},
    watch::Event,
};

use wait::Claim;
pub use wait::{Fate, Held, Queued, Taken};

type Result<T, E = CallError<Error>> = std::result::Result<T, E>;

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// Longest text that a holder says of itself, in bytes.
const VALUE_BYTES_MAX: usize = 1024;
/// Most permits of a semaphore.
const PERMITS_MAX: u32 = 1_000_000;
/// Shortest and longest lease, in milliseconds.
const TTL_MS: std::ops::RangeInclusive<u64> = 500..=86_400_000;
/// Names that share a turn: those of one daemon who change the same line take turns, so that they do not try in vain.
const TURNS: usize = 64;
/// How long the host tries to give up a place or a lease that its caller left behind.
const CLEAN_UP: Duration = Duration::from_secs(10);

/// How a place is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// By a lease of its own that lasts so many milliseconds.
    Own(u64),
    /// By a lease that the caller has made.
    Lease(String),
}

/// Typed calls to `sync.lock`, or to `sync.lock/NAMESPACE` where it is bound.
#[derive(Debug, Clone)]
pub struct Sync {
    provider: Arc<Provider<Self>>,
    turns: Arc<Turns>,
}

#[derive(Debug)]
struct Turns {
    hash: RandomState,
    turns: [tokio::sync::Mutex<()>; TURNS],
}

impl Sync {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        let turns = std::array::from_fn(|_| tokio::sync::Mutex::default());
        Self { provider: Provider::new(plane), turns: Arc::new(Turns { hash: RandomState::new(), turns }) }
    }

    /// Makes a lease.
    ///
    /// # Errors
    /// See [`CallError`]; so for all methods.
    pub async fn grant(&self, call: &Call, ttl_ms: u64) -> Result<Lease> {
        check_ttl(ttl_ms)?;
        self.provider.write::<sync::Grant, _>(call, (&lease_id(), ttl_ms)).await
    }

    /// Lets a lease last for its whole time from now on.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn keep_alive(&self, call: &Call, lease: &str) -> Result<Lease> {
        check_lease(lease)?;
        self.provider.call::<sync::KeepAlive, _>(call, (lease,)).await
    }

    /// Ends a lease and gives up what hangs on it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revoke(&self, call: &Call, lease: &str) -> Result<()> {
        check_lease(lease)?;
        self.provider.write::<sync::Revoke, _>(call, (lease,)).await
    }

    /// Takes a place in the line of a lock: held at once, or, when `until` lies ahead, waited for with
    /// [`Queued::held`].
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn acquire(&self, call: &Call, name: &str, want: &Want, keep: &Keep, until: Instant) -> Result<Taken> {
        check_name(name)?;
        check_want(want)?;
        let (lease, ttl_ms) = match keep {
            Keep::Lease(lease) => {
                check_lease(lease)?;
                (lease.clone(), None)
            }
            Keep::Own(ttl_ms) => {
                check_ttl(*ttl_ms)?;
                (lease_id(), Some(*ttl_ms))
            }
        };
        let queue = until > clock::now();
        let (tell, told) = oneshot::channel();
        let (sync, call, name, want) = (self.clone(), Arc::clone(call), name.to_owned(), want.clone());
        // A task of its own, so that what is taken is known, and given up when the caller has gone meanwhile.
        self.provider.plane()?.parts.tasks.spawn("acquire", async move {
            let answer = sync.join(&call, &name, &want, &lease, ttl_ms, queue).await;
            let taken = answer.map(|(place, lease)| {
                let claim = Claim::new(sync, call, name, place.token);
                (claim, place, lease)
            });
            // Nobody listens any more: the claim is dropped, and gives the place up.
            drop(tell.send(taken));
        });
        let stopping = |_| CallError::Capability(Error::Unavailable("the platform is shutting down".to_owned()));
        let (claim, place, lease) = told.await.map_err(stopping)??;
        Ok(if place.held {
            claim.settle();
            Taken::Held(Held { place, lease })
        } else {
            Taken::Queued(Queued::new(claim, place, lease, until))
        })
    }

    async fn join(
        &self, call: &Call, name: &str, want: &Want, lease: &str, ttl_ms: Option<u64>, queue: bool,
    ) -> Result<(Place, Lease)> {
        let _turn = self.turn(call, name).await;
        let answer = self.provider.write::<sync::Acquire, _>(call, (name, want, lease, ttl_ms, queue)).await;
        if ttl_ms.is_some()
            && let Err(error) = &answer
            && may_be_made(error)
        {
            // If this fails too the lease ends by itself.
            let _ = self.revoke(&on_behalf_of(call, CLEAN_UP), lease).await;
        }
        answer
    }

    /// Gives a place up, held or waited for.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn release(&self, call: &Call, name: &str, token: u64) -> Result<()> {
        check_name(name)?;
        let _turn = self.turn(call, name).await;
        self.provider.write::<sync::Release, _>(call, (name, token)).await
    }

    /// Changes what the holder of a place says of itself; the revision.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn proclaim(&self, call: &Call, name: &str, token: u64, value: Option<&str>) -> Result<u64> {
        check_name(name)?;
        check_value(value)?;
        let _turn = self.turn(call, name).await;
        self.provider.write::<sync::Proclaim, _>(call, (name, token, value)).await
    }

    /// What a lock is like; none when nobody holds it or waits for it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get(&self, call: &Call, name: &str) -> Result<Option<Lock>> {
        check_name(name)?;
        self.provider.call::<sync::Get, _>(call, (name,)).await
    }

    /// The place with a token.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn find(&self, call: &Call, name: &str, token: u64) -> Result<Option<Place>> {
        check_name(name)?;
        self.provider.call::<sync::Find, _>(call, (name, token)).await
    }

    /// Locks that are held, in byte order of their names, at most `limit`.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn search(&self, call: &Call, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Lock>> {
        check_prefix(prefix)?;
        self.provider.call::<sync::Search, _>(call, (prefix, after, limit.clamp(1, LIMIT_MAX))).await
    }

    /// The last revision of the namespace.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revision(&self, call: &Call) -> Result<u64> {
        self.provider.revision(call).await
    }

    /// Locks as they change, for as long as the stream is read.
    ///
    /// # Errors
    /// The prefix is not allowed, or the host is shutting down. The stream ends with an error when changes that it asks
    /// for are no longer kept.
    pub fn watch(
        &self, call: &Call, prefix: &str, after: u64,
    ) -> Result<impl Stream<Item = Result<Event<Lock>>> + Send + 'static + use<>> {
        check_prefix(prefix)?;
        self.provider.watch(call, prefix, after)
    }

    /// Tells how a held place fares, until it is lost.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nobody holds it.
    pub async fn hold(
        &self, call: &Call, name: &str, token: u64,
    ) -> Result<impl Stream<Item = Result<Fate>> + Send + 'static + use<>> {
        check_name(name)?;
        wait::hold(self, call, name, token).await
    }

    /// Waits for the turn of a name.
    async fn turn(&self, call: &Call, name: &str) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let place =
            usize::try_from(self.turns.hash.hash_one((&*call.namespace, name)) % TURNS as u64).unwrap_or_default();
        match self.turns.turns.get(place) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }
}

impl Capability for Sync {
    const KIND: SlotKind = SlotKind::SyncLock;
    type Error = Error;
    type Change = Lock;
    type Revision = sync::Revision;
    type Changes = sync::Changes;

    fn selects(selector: &str, change: &Lock) -> bool {
        change.name.starts_with(selector)
    }
}

/// Whether a call that failed so may have been made all the same.
fn may_be_made(error: &CallError<Error>) -> bool {
    match error {
        CallError::Capability(error) => matches!(error, Error::Unavailable(_) | Error::Other(_)),
        CallError::Fault { .. } => true,
        CallError::NotBound(_) => false,
    }
}

/// The call as the host goes on with it for its caller.
fn on_behalf_of(call: &Call, time: Duration) -> Call {
    Arc::new(CallContext { deadline: clock::now() + time, fence: None, ..call.as_ref().clone() })
}

/// An id that was never used.
fn lease_id() -> String {
    format!("{:032x}", random::<u128>())
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Sync::refused("the name is empty"));
    }
    check_prefix(name)
}

fn check_prefix(name: &str) -> Result<()> {
    if name.len() > NAME_BYTES_MAX {
        let why = format!("the name has {} bytes, more than {NAME_BYTES_MAX}", name.len());
        return Err(CallError::Capability(Error::TooLarge(why)));
    }
    if name.chars().any(char::is_control) {
        return Err(Sync::refused(format!("the name `{}` holds control characters", name.escape_debug())));
    }
    Ok(())
}

fn check_lease(id: &str) -> Result<()> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if id.len() == 32 && id.bytes().all(digit) {
        return Ok(());
    }
    let id: String = id.chars().take(64).collect();
    Err(Sync::refused(format!("`{}` is no id of a lease, which has 32 hexadecimal digits", id.escape_debug())))
}

fn check_ttl(ttl_ms: u64) -> Result<()> {
    if TTL_MS.contains(&ttl_ms) {
        return Ok(());
    }
    Err(Sync::refused(format!("a lease of {ttl_ms} ms is not within {} to {} ms", TTL_MS.start(), TTL_MS.end())))
}

fn check_want(want: &Want) -> Result<()> {
    check_value(want.value.as_deref())?;
    match want.mode {
        Mode::Permits(Permits { count, limit }) if count == 0 || count > limit || limit > PERMITS_MAX => {
            Err(Sync::refused(format!(
                "{count} of {limit} permits can't be had: ask for 1 or more, of at most {PERMITS_MAX} in all"
            )))
        }
        Mode::Permits(_) | Mode::Exclusive | Mode::Shared => Ok(()),
    }
}

fn check_value(value: Option<&str>) -> Result<()> {
    let length = value.map_or(0, str::len);
    if length > VALUE_BYTES_MAX {
        let why = format!("the value has {length} bytes, more than {VALUE_BYTES_MAX}");
        return Err(CallError::Capability(Error::TooLarge(why)));
    }
    Ok(())
}
