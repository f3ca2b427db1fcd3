//! [`Gate`]: lets calls in, then closes and tells when the last one has left.
//!
//! Owns the count of calls in flight of whatever is to be drained; must not know what a call is. Invariant: once
//! [`Gate::drained`] returns no call is inside, none enters later, and no wake-up is ever lost.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// Set in the state once the gate is closed; the bits below count who is inside.
const CLOSED: usize = 1 << (usize::BITS - 1);

/// Admits calls until it is closed.
///
/// Entering and leaving are one atomic operation each. A call that is refused counts as inside for an instant, so
/// that deciding and counting need no second operation; it leaves through the same door and wakes who waits.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let gate = platform_base::Gate::new();
/// let pass = gate.enter().expect("a new gate is open");
/// gate.close();
/// assert!(gate.enter().is_none());
/// drop(pass);
/// gate.drained().await;
/// # });
/// ```
#[derive(Default)]
pub struct Gate {
    state: AtomicUsize,
    emptied: Notify,
}

impl Gate {
    /// An open gate with nobody inside.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets one call in for as long as the pass lives; none when the gate is closed.
    #[must_use]
    pub fn enter(&self) -> Option<Pass<'_>> {
        self.admit().then(|| Pass { gate: self })
    }

    /// Like [`Gate::enter`], with a pass that can move to another task.
    #[must_use]
    pub fn enter_owned(self: &Arc<Self>) -> Option<OwnedPass> {
        self.admit().then(|| OwnedPass { gate: Arc::clone(self) })
    }

    /// Lets nobody in from now on; those inside may finish. Closing twice is closing once.
    pub fn close(&self) {
        let before = self.state.fetch_or(CLOSED, Ordering::AcqRel);
        if before == 0 {
            self.emptied.notify_waiters();
        }
    }

    /// Whether the gate is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Acquire) & CLOSED != 0
    }

    /// Calls inside; may count one that is being refused at this instant.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.load(Ordering::Acquire) & !CLOSED
    }

    /// Returns once the gate is closed and the last call has left. Any number of tasks may wait; waiting does not
    /// close the gate.
    pub async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Registered before the state is read: whoever empties the gate after that reading wakes this waiter.
            emptied.as_mut().enable();
            if self.state.load(Ordering::Acquire) == CLOSED {
                return;
            }
            emptied.await;
        }
    }

    fn admit(&self) -> bool {
        let open = self.state.fetch_add(1, Ordering::AcqRel) & CLOSED == 0;
        if !open {
            self.leave();
        }
        open
    }

    fn leave(&self) {
        if self.state.fetch_sub(1, Ordering::AcqRel) == CLOSED | 1 {
            self.emptied.notify_waiters();
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("closed", &self.is_closed()).field("in_flight", &self.in_flight()).finish()
    }
}

/// A call that was let in; dropping it leaves.
#[derive(Debug)]
#[must_use = "dropping the pass ends the call"]
pub struct Pass<'a> {
    gate: &'a Gate,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

/// A call that was let in and may outlive the borrow of its gate; dropping it leaves.
#[derive(Debug)]
#[must_use = "dropping the pass ends the call"]
pub struct OwnedPass {
    gate: Arc<Gate>,
}

impl Drop for OwnedPass {
    fn drop(&mut self) {
        self.gate.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::AtomicBool, thread, time::Duration};

    use futures::FutureExt;
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Enter,
        Leave(usize),
        Close,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Enter),
            4 => any::<usize>().prop_map(Step::Leave),
            1 => Just(Step::Close),
        ];
        proptest::collection::vec(step, 0..64)
    }

    proptest! {
        #[test]
        fn follows_its_model(steps in steps()) {
            let gate = Gate::new();
            let mut inside = Vec::new();
            let mut closed = false;
            for step in steps {
                match step {
                    Step::Enter => {
                        let pass = gate.enter();
                        prop_assert_eq!(pass.is_some(), !closed);
                        inside.extend(pass);
                    }
                    Step::Leave(which) if !inside.is_empty() => drop(inside.swap_remove(which % inside.len())),
                    Step::Leave(_) => {}
                    Step::Close => {
                        gate.close();
                        closed = true;
                    }
                }
                prop_assert_eq!(gate.in_flight(), inside.len());
                prop_assert_eq!(gate.is_closed(), closed);
                prop_assert_eq!(gate.drained().now_or_never().is_some(), closed && inside.is_empty());
            }
        }
    }

    /// Many threads enter and leave while one closes: nobody is inside after the drain, and it never hangs.
    #[test]
    fn drains_under_contention() {
        for _ in 0..200 {
            let gate = Arc::new(Gate::new());
            let drained = Arc::new(AtomicBool::new(false));
            let callers: Vec<_> = (0..4)
                .map(|_| {
                    let (gate, drained) = (Arc::clone(&gate), Arc::clone(&drained));
                    thread::spawn(move || {
                        while let Some(_pass) = gate.enter() {
                            assert!(!drained.load(Ordering::SeqCst), "inside after the drain");
                        }
                    })
                })
                .collect();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                gate.close();
                tokio::time::timeout(Duration::from_secs(10), gate.drained()).await.expect("a wake-up was lost");
                drained.store(true, Ordering::SeqCst);
            });
            for caller in callers {
                caller.join().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn wakes_every_waiter() {
        let gate = Arc::new(Gate::new());
        let pass = gate.enter_owned().unwrap();
        let waiters: Vec<_> = (0..100).map(|_| Box::pin(gate.drained())).collect();
        let mut waiters: futures::stream::FuturesUnordered<_> = waiters.into_iter().collect();
        assert!(futures::StreamExt::next(&mut waiters).now_or_never().is_none(), "the gate is open");
        gate.close();
        assert!(futures::StreamExt::next(&mut waiters).now_or_never().is_none(), "a call is inside");
        drop(pass);
        let mut woken = 0;
        while futures::StreamExt::next(&mut waiters).await.is_some() {
            woken += 1;
        }
        assert_eq!(woken, 100);
    }
}
