//! Instances of one template, and who may have one.
//!
//! Every call takes a [`Lease`]: it waits its turn within bounds, gets an instance (a fresh one, a warm one of its
//! worker, or the only one), and gives it back if nothing went wrong. Warm instances are kept per worker thread, each
//! shelf behind a lock that only its own worker takes while there is work for all.
//!
//! Invariant: no more calls run than `concurrency` and no more wait than `queue`; an instance that faulted, or was left
//! half way, is dropped; a guest that faults in a row rests for longer and longer, and is never given up.

mod warm;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use platform_base::{clock, worker};
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use self::warm::Warm;
use crate::{fault::Fault, function::Function, instance::Instance, template::Template};

/// How instances are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// A new instance for every call; nothing of one call reaches the next.
    Fresh,
    /// Instances are kept and serve a bounded number of calls each.
    Reused,
    /// Exactly one instance, which keeps state in its memory; calls take turns.
    Single,
}

/// Makes the host's side of an instance and prepares the guest's.
pub trait Initialize<T: 'static>: fmt::Debug + Send + Sync + 'static {
    /// State for a new instance.
    fn guest(&self) -> T;

    /// What has to be called on a new instance before it serves; nothing for one that starts out configured.
    fn prepare<'a>(
        &'a self, instance: &'a mut Instance<T>, template: &'a Template<T>, deadline: Instant,
    ) -> Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;

    /// Whether [`Self::prepare`] does anything.
    fn prepares(&self) -> bool;
}

/// Instances of one template.
pub struct Pool<T: 'static> {
    template: Arc<Template<T>>,
    mode: Mode,
    initialize: Arc<dyn Initialize<T>>,
    shelves: Box<[Shelf<T>]>,
    turns: Semaphore,
    waiting: AtomicU32,
    health: Health,
    memory_bytes: AtomicUsize,
    retired: AtomicBool,
}

/// Warm instances of one worker, on a cache line of their own.
#[repr(align(128))]
struct Shelf<T: 'static>(Mutex<Warm<Instance<T>>>);

impl<T: Send + 'static> Pool<T> {
    /// A pool over `template`.
    #[must_use]
    pub fn new(template: Arc<Template<T>>, mode: Mode, initialize: Arc<dyn Initialize<T>>) -> Self {
        let limits = template.limits();
        let (workers, concurrency) = match mode {
            Mode::Single => (1, 1),
            Mode::Fresh | Mode::Reused => {
                (std::thread::available_parallelism().map_or(1, usize::from), limits.concurrency.max(1))
            }
        };
        Self {
            shelves: (0..workers).map(|_| Shelf(Mutex::default())).collect(),
            turns: Semaphore::new(concurrency as usize),
            waiting: AtomicU32::new(0),
            health: Health::default(),
            memory_bytes: AtomicUsize::new(0),
            retired: AtomicBool::new(false),
            template,
            mode,
            initialize,
        }
    }

    /// The same plugin with no instances, for when it serves again.
    #[must_use]
    pub fn renewed(&self) -> Self {
        Self::new(Arc::clone(&self.template), self.mode, Arc::clone(&self.initialize))
    }

    /// The template.
    #[must_use]
    pub fn template(&self) -> &Template<T> {
        &self.template
    }

    /// How instances are used.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Linear memory of the instance that served last, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Ordering::Relaxed)
    }

    /// Faults since the last call that went well, and the time until the next try when the guest rests.
    #[must_use]
    pub fn health(&self) -> (u32, Option<Duration>) {
        (self.health.faults(), self.health.rest())
    }

    /// Puts an instance on the shelf, so that the first call finds it warm.
    pub fn keep(&self, instance: Instance<T>) {
        if self.mode != Mode::Fresh {
            self.put(instance);
        }
    }

    /// Gives the memory of warm instances back and keeps no more of them. Calls are still served, each by an instance
    /// of its own.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
        self.shelves.iter().for_each(|shelf| *shelf.0.lock() = Warm::default());
    }

    /// Undoes [`Self::retire`].
    pub fn revive(&self) {
        self.retired.store(false, Ordering::SeqCst);
    }

    /// Waits until no call is in the guest and keeps new ones waiting, so that its state can move elsewhere.
    ///
    /// # Errors
    /// Calls in the guest did not end before the deadline.
    pub async fn hold(&self, deadline: Instant) -> Result<Held<'_, T>, Fault> {
        match tokio::time::timeout_at(deadline.into(), self.turns.acquire_many(self.turns_max())).await {
            Ok(Ok(turns)) => Ok(Held { pool: self, _turns: turns }),
            Ok(Err(_)) => Err(Fault::Moved),
            Err(_) => Err(Fault::Waited),
        }
    }

    fn turns_max(&self) -> u32 {
        match self.mode {
            Mode::Single => 1,
            Mode::Fresh | Mode::Reused => self.template.limits().concurrency.max(1),
        }
    }

    /// Waits for a turn and takes an instance. `now` is when the caller came: clocks are dear beside a short call.
    ///
    /// # Errors
    /// The guest rests, too many calls wait, or no instance can be made.
    pub async fn take(&self, now: Instant, deadline: Instant) -> Result<Lease<'_, T>, Fault> {
        // A call that never waits gives no other task a turn: whoever makes one after the other does so here.
        tokio::task::coop::consume_budget().await;
        self.health.admit(self.template.limits().deadline())?;
        let mut since = Some(now);
        let turn = match self.turns.try_acquire() {
            Ok(turn) => turn,
            Err(TryAcquireError::Closed) => return Err(Fault::Moved),
            Err(TryAcquireError::NoPermits) => {
                since = None;
                self.wait(deadline).await?
            }
        };
        let kept = match self.mode {
            Mode::Fresh => None,
            Mode::Reused | Mode::Single => self.shelf().0.lock().take(),
        };
        let instance = match kept {
            Some(instance) => instance,
            None => {
                if self.initialize.prepares() {
                    since = None;
                }
                self.make(deadline).await.inspect_err(|fault| self.health.record(Some(fault)))?
            }
        };
        Ok(Lease { pool: self, instance, since, deadline, _turn: turn })
    }

    async fn wait(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Fault> {
        let limits = self.template.limits();
        let waiting = Waiting::enter(&self.waiting);
        if waiting.before >= limits.queue {
            return Err(Fault::Busy { running: self.turns_max(), queued: waiting.before });
        }
        match tokio::time::timeout_at(deadline.into(), self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) => Err(Fault::Moved),
            Err(_) => Err(Fault::Waited),
        }
    }

    /// A new instance, prepared to serve.
    ///
    /// # Errors
    /// No room for another instance, or the guest faults while it is prepared.
    pub async fn make(&self, deadline: Instant) -> Result<Instance<T>, Fault> {
        let mut instance = self.template.instantiate(self.initialize.guest(), deadline).await?;
        if self.initialize.prepares() {
            let deadline = clock::now() + self.template.limits().deadline();
            self.initialize.prepare(&mut instance, &self.template, deadline).await?;
        }
        Ok(instance)
    }

    fn shelf(&self) -> &Shelf<T> {
        // `% len` is in bounds, and there is always one shelf.
        #[expect(clippy::indexing_slicing, reason = "the index is taken modulo the length")]
        &self.shelves[worker() % self.shelves.len()]
    }

    fn put(&self, instance: Instance<T>) {
        let mut shelf = self.shelf().0.lock();
        // Looked at under the lock: `retire` sets it first and clears the shelf under the lock.
        let dropped = if self.retired.load(Ordering::SeqCst) { vec![instance] } else { shelf.put(instance) };
        drop(shelf);
        drop(dropped);
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("template", &self.template).field("mode", &self.mode).finish_non_exhaustive()
    }
}

/// A place in the queue, given up when the wait ends, also by being dropped.
struct Waiting<'a> {
    count: &'a AtomicU32,
    before: u32,
}

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicU32) -> Self {
        Self { count, before: count.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An instance for the time of one call, or of a few that belong together. Dropped without [`Lease::end`], the instance
/// goes too: whoever stopped waiting left it half way.
#[derive(Debug)]
pub struct Lease<'a, T: Send + 'static> {
    pool: &'a Pool<T>,
    instance: Instance<T>,
    /// When the first call begins; looked up when none.
    since: Option<Instant>,
    deadline: Instant,
    _turn: SemaphorePermit<'a>,
}

impl<T: Send + 'static> Lease<'_, T> {
    /// The state behind the host functions.
    pub fn guest(&mut self) -> &mut T {
        self.instance.guest()
    }

    /// When the first call has to be done. It begins now, or when the lease was taken, which was just before.
    pub fn until(&mut self) -> Instant {
        let began = *self.since.get_or_insert_with(clock::now);
        self.pool.template.limits().until(began, self.deadline)
    }

    /// Calls a function of the guest: on this thread when the guest can't wait for anything and was never slow, else on
    /// a fiber, so that others get their turn.
    ///
    /// # Errors
    /// The guest's fault, which also counts against it.
    pub async fn call<F: Function>(&mut self, params: F::Params<'_>) -> Result<F::Results, Fault> {
        let pool = self.pool;
        let here = !pool.template.is_asynchronous() && pool.mode != Mode::Single && !pool.health.was_slow();
        let result = if here {
            let now = self.since.take().unwrap_or_else(clock::now);
            let result = self.instance.call_here::<F>(&pool.template, now, self.deadline, params);
            if self.instance.was_slow() {
                pool.health.slow.store(true, Ordering::Relaxed);
            }
            result
        } else {
            self.instance.call::<F>(&pool.template, self.deadline, params).await
        };
        pool.health.record(result.as_ref().err());
        result
    }

    /// Gives the instance back, if it may serve on.
    pub fn end(self) {
        let memory_bytes = self.instance.memory_bytes();
        // Written only when it changes: all workers read the same cache line.
        if self.pool.memory_bytes.load(Ordering::Relaxed) != memory_bytes {
            self.pool.memory_bytes.store(memory_bytes, Ordering::Relaxed);
        }
        let serves_on = match self.pool.mode {
            Mode::Fresh => false,
            Mode::Reused => self.instance.calls() < self.pool.template.limits().calls_per_instance,
            Mode::Single => true,
        };
        if serves_on && self.instance.is_usable() {
            self.pool.put(self.instance);
        }
    }
}

/// A pool that lets no call in until this is dropped.
#[derive(Debug)]
pub struct Held<'a, T: Send + 'static> {
    pool: &'a Pool<T>,
    _turns: SemaphorePermit<'a>,
}

impl<T: Send + 'static> Held<'_, T> {
    /// The instance that holds the state, if there is one.
    #[must_use]
    pub fn take(&self) -> Option<Instance<T>> {
        self.pool.shelves.iter().find_map(|shelf| shelf.0.lock().take())
    }

    /// Gives the instance back, for when its state stays.
    pub fn put(&self, instance: Instance<T>) {
        if instance.is_usable() {
            self.pool.put(instance);
        }
    }

    /// Sends all calls that wait, and all that come, to wherever the state has moved.
    pub fn moved(self) {
        self.pool.turns.close();
    }
}

/// Faults in a row and the rest that follows from them.
#[derive(Debug)]
struct Health {
    origin: Instant,
    faults: AtomicU32,
    /// Milliseconds after `origin` until which calls are refused; 0 when none are.
    rests_until_ms: AtomicU64,
    /// Whether a call ever took so long that it kept a thread from others.
    slow: AtomicBool,
    last: Mutex<String>,
}

/// Faults in a row that are taken for accidents. A missed deadline counts as half of it: it costs others time.
const FAULTS_FREE: u32 = 8;
const REST_MIN_MS: u64 = 20;
const REST_MAX_MS: u64 = 5_000;

impl Default for Health {
    fn default() -> Self {
        Self {
            origin: clock::now(),
            faults: AtomicU32::new(0),
            rests_until_ms: AtomicU64::new(0),
            slow: AtomicBool::new(false),
            last: Mutex::default(),
        }
    }
}

impl Health {
    fn faults(&self) -> u32 {
        self.faults.load(Ordering::Relaxed)
    }

    fn was_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(clock::now().saturating_duration_since(self.origin).as_millis()).unwrap_or(u64::MAX)
    }

    fn rest(&self) -> Option<Duration> {
        let until = self.rests_until_ms.load(Ordering::Relaxed);
        (until != 0)
            .then(|| Duration::from_millis(until.saturating_sub(self.elapsed_ms())))
            .filter(|rest| !rest.is_zero())
    }

    /// Lets a call through, unless the guest rests. When a rest is over one call goes first; the others rest on until
    /// it has come back or had its time.
    fn admit(&self, probe: Duration) -> Result<(), Fault> {
        let until = self.rests_until_ms.load(Ordering::Relaxed);
        if until == 0 {
            return Ok(());
        }
        let now = self.elapsed_ms();
        let probe_ms = u64::try_from(probe.as_millis()).unwrap_or(u64::MAX);
        let first = now >= until
            && self
                .rests_until_ms
                .compare_exchange(until, now.saturating_add(probe_ms).max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if first {
            return Ok(());
        }
        let rest = Duration::from_millis(until.saturating_sub(now).max(1));
        Err(Fault::Resting { rest, faults: self.faults(), last: self.last.lock().clone() })
    }

    fn record(&self, fault: Option<&Fault>) {
        let Some(fault) = fault else {
            if self.faults.load(Ordering::Relaxed) != 0 {
                self.faults.store(0, Ordering::Relaxed);
                self.rests_until_ms.store(0, Ordering::Relaxed);
            }
            return;
        };
        if !fault.blames_guest() {
            return;
        }
        let weight = if matches!(fault, Fault::Deadline(_)) { FAULTS_FREE / 2 } else { 1 };
        let faults = self.faults.fetch_add(weight, Ordering::Relaxed).saturating_add(weight);
        *self.last.lock() = fault.to_string();
        if faults > FAULTS_FREE {
            let doublings = ((faults - FAULTS_FREE) / 2).min(16);
            let rest_ms = (REST_MIN_MS << doublings).min(REST_MAX_MS);
            self.rests_until_ms.store(self.elapsed_ms().saturating_add(rest_ms), Ordering::Relaxed);
        }
    }
}
