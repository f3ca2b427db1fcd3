//! The end of a generation: its last calls come back, its memory is given back.
//!
//! Owns which generations still have calls. Must not know why a generation was replaced. Invariant: a generation is
//! listed from the flip until the last call that saw it has ended, however long that takes and wherever the call is: in a
//! queue, in a plugin, or between two plugins of a chain.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;
use platform_base::clock;

use crate::{binding::Binding, plane::Plane, slot::Slot, slot_name::SlotName};

/// Time between two looks at whether a generation is over.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(20);

/// Generations that still have calls, by slot.
#[derive(Debug, Default)]
pub(crate) struct Drains(Mutex<BTreeSet<(SlotName, u64)>>);

impl Drains {
    /// Generations of a slot that still have calls, the latest first.
    pub(crate) fn of(&self, slot: &SlotName) -> Vec<u64> {
        let drains = self.0.lock();
        drains.range((slot.clone(), 0)..=(slot.clone(), u64::MAX)).rev().map(|(_, generation)| *generation).collect()
    }
}

/// A generation that was flipped away from.
struct Drain {
    drains: Arc<Drains>,
    slot: Arc<Slot>,
    old: Arc<Binding>,
}

impl Plane {
    /// Waits for the last calls of an old generation, then gives its memory back.
    pub(crate) fn drain(&self, slot: Arc<Slot>, old: Arc<Binding>) {
        let drain = Drain::begin(Arc::clone(&self.draining), slot, old);
        let deadline = clock::now() + Duration::from_millis(self.parts.config.drain_ms_max);
        let tasks = self.parts.tasks.clone();
        self.parts.tasks.spawn("drain", async move {
            let mut pause = LOOK_MIN;
            let mut retired = false;
            while !drain.is_over() {
                let late = clock::now() >= deadline;
                if late && !retired {
                    let (slot, generation) = (drain.slot.name(), drain.old.generation);
                    tracing::warn!(%slot, generation, "calls did not end before the drain deadline");
                    drain.retire();
                    retired = true;
                }
                if late && tasks.is_cancelled() {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LOOK_MAX);
            }
            drain.retire();
        });
    }
}

impl Drain {
    fn begin(drains: Arc<Drains>, slot: Arc<Slot>, old: Arc<Binding>) -> Self {
        drains.0.lock().insert((slot.name().clone(), old.generation));
        Self { drains, slot, old }
    }

    /// Whether no call is left that saw the generation: each of them holds it. Those that hold it by a guard of the slot
    /// were counted when the slot was flipped.
    fn is_over(&self) -> bool {
        // A qualified slot that was unbound holds it on, for calls that had found the slot; they hold the slot too.
        if self.slot.binding().is_some_and(|current| Arc::ptr_eq(&current, &self.old)) {
            if Arc::strong_count(&self.slot) > 1 {
                return false;
            }
            self.slot.flip(None);
        }
        // Counted first: what is no longer kept after that makes it count one too many, never one too few.
        let holders = Arc::strong_count(&self.old);
        let kept = self.slot.kept().iter().any(|kept| Arc::ptr_eq(kept, &self.old));
        holders <= 1 + usize::from(kept)
    }

    fn retire(&self) {
        for entry in self.old.entries.iter().chain(&self.old.fallback) {
            entry.pool.retire();
        }
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        self.drains.0.lock().remove(&(self.slot.name().clone(), self.old.generation));
    }
}
