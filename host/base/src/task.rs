//! [`TaskGroup`]: every task has an owner that names, instruments, cancels and awaits it.
//!
//! Owns the life of spawned tasks; must not know what they do. Invariant: after [`TaskGroup::join`] no task of the
//! group is left that could be stopped.

use std::{
    any::Any,
    borrow::Cow,
    collections::BTreeMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};
use tracing::Instrument;

/// Name of a task, as it stands in logs.
pub type Name = Cow<'static, str>;

/// Tasks that are stopped and awaited together. Clones are handles of the same group.
///
/// Stopping has two steps. [`TaskGroup::cancel`] asks: tasks of [`TaskGroup::spawn`] watch
/// [`TaskGroup::cancelled`] and finish in order, those of [`TaskGroup::spawn_until_cancelled`] end at their next await.
/// [`TaskGroup::join`] waits, and at its deadline drops what has not ended.
#[derive(Debug, Clone, Default)]
pub struct TaskGroup {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    tracker: TaskTracker,
    cancelled: CancellationToken,
    dropped: CancellationToken,
    next: AtomicU64,
    running: Mutex<BTreeMap<u64, Name>>,
}

impl TaskGroup {
    /// A group without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` as a task of this group, in a tracing span `task` with its name. A panic is logged with the name
    /// and ends that task only. The future should end soon after [`TaskGroup::cancelled`].
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn spawn(&self, name: impl Into<Name>, future: impl Future<Output = ()> + Send + 'static) {
        let name = name.into();
        let span = tracing::info_span!("task", name = %name);
        let entry = Running::enter(&self.shared, name);
        let dropped = self.shared.dropped.clone();
        let task = async move {
            let ended = AssertUnwindSafe(dropped.run_until_cancelled(future)).catch_unwind().await;
            if let Err(panic) = ended {
                tracing::error!(task = %entry.name, panic = panic_text(&*panic), "task panicked");
            }
        };
        self.shared.tracker.spawn(task.instrument(span));
    }

    /// Like [`TaskGroup::spawn`], for a future that may be dropped at any await: it is, once the group is cancelled.
    pub fn spawn_until_cancelled(&self, name: impl Into<Name>, future: impl Future<Output = ()> + Send + 'static) {
        let cancelled = self.token();
        self.spawn(name, async move {
            cancelled.run_until_cancelled(future).await;
        });
    }

    /// Asks every task to end, those spawned later too.
    pub fn cancel(&self) {
        self.shared.cancelled.cancel();
    }

    /// Resolves once the group is cancelled.
    pub fn cancelled(&self) -> WaitForCancellationFutureOwned {
        self.token().cancelled_owned()
    }

    /// Whether the group was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.is_cancelled()
    }

    /// The token behind [`TaskGroup::cancelled`]; children of it end with the group.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.shared.cancelled.clone()
    }

    /// Names of the tasks that run, in the order they were spawned.
    #[must_use]
    pub fn running(&self) -> Vec<Name> {
        self.shared.running.lock().values().cloned().collect()
    }

    /// Cancels, and waits up to `deadline` for all tasks. Names of those that had not ended by then; they are dropped
    /// at their next await.
    pub async fn join(&self, deadline: Duration) -> Vec<Name> {
        self.cancel();
        self.shared.tracker.close();
        if tokio::time::timeout(deadline, self.shared.tracker.wait()).await.is_ok() {
            return Vec::new();
        }
        let late = self.running();
        self.shared.dropped.cancel();
        late
    }
}

/// Keeps a task in the list of those that run, also while it panics or is dropped by its runtime.
struct Running {
    shared: Arc<Shared>,
    id: u64,
    name: Name,
}

impl Running {
    fn enter(shared: &Arc<Shared>, name: Name) -> Self {
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        shared.running.lock().insert(id, name.clone());
        Self { shared: Arc::clone(shared), id, name }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.running.lock().remove(&self.id);
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&'static str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is no text")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use tokio::sync::oneshot;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn join_awaits_tasks_that_finish_in_order() {
        let group = TaskGroup::new();
        let finished = Arc::new(AtomicBool::new(false));
        let (cancelled, flag) = (group.cancelled(), Arc::clone(&finished));
        group.spawn("orderly", async move {
            cancelled.await;
            tokio::task::yield_now().await;
            flag.store(true, Ordering::SeqCst);
        });
        assert_eq!(group.running(), ["orderly"]);
        assert_eq!(group.join(SOON).await, Vec::<Name>::new());
        assert!(finished.load(Ordering::SeqCst));
        assert!(group.running().is_empty());
    }

    #[tokio::test]
    async fn cancel_drops_what_may_be_dropped() {
        let group = TaskGroup::new();
        group.spawn_until_cancelled("endless", std::future::pending());
        assert!(group.join(SOON).await.is_empty());
    }

    #[tokio::test]
    async fn join_names_and_drops_those_that_are_late() {
        let group = TaskGroup::new();
        let (guard, dropped) = oneshot::channel::<()>();
        group.spawn("deaf", async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        group.spawn("quick", async {});
        assert_eq!(group.join(Duration::from_millis(50)).await, ["deaf"]);
        dropped.await.expect_err("dropping the task drops what it holds");
    }

    #[tokio::test]
    async fn a_panic_ends_one_task_only() {
        let group = TaskGroup::new();
        let (tell, told) = oneshot::channel();
        group.spawn("clumsy", async { panic!("dropped a plate") });
        group.spawn("calm", async move { tell.send(7).unwrap() });
        assert_eq!(told.await, Ok(7));
        assert!(group.join(SOON).await.is_empty());
    }

    #[test]
    fn panic_payloads_are_told() {
        assert_eq!(panic_text(&"literal"), "literal");
        assert_eq!(panic_text(&String::from("formatted")), "formatted");
        assert_eq!(panic_text(&1_u8), "a value that is no text");
    }

    #[test]
    fn a_runtime_that_ends_first_is_no_deadlock() {
        let group = TaskGroup::new();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { group.spawn("orphan", std::future::pending()) });
        drop(runtime);
        assert!(group.running().is_empty());
    }
}
