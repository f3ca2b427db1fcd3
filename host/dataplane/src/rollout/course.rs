//! How a rollout begins, changes and ends: each is a flip of the slot.
//!
//! While one runs, the slot holds what serves with the rollout on top of it; that it is gone again is a flip back, so calls pay
//! for a rollout only while there is one. Invariant: the candidate's instances are given back when its last call has ended, or
//! serve on when it was promoted.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use super::{Plan, Rollout, Stopped, Tally, tally::Shadows};
use crate::{
    binding::Binding, error::BindError, plane::Plane, prepare::Prepared, slot::Slot, slot_name::SlotName,
    status::RolloutStatus, swap::Swapped,
};

/// Time between two looks at the limits while nothing fails.
const LOOK: Duration = Duration::from_millis(200);
/// Questions of a shadow that the candidate is asked at once.
const SHADOWS_AT_ONCE: usize = 8;

impl Plane {
    /// Tries `prepared` as `generation` beside what serves in a slot.
    ///
    /// # Errors
    /// Nothing serves, or another candidate is being tried. The slot is as it was.
    pub async fn begin_rollout(
        &self, name: &SlotName, prepared: Prepared, generation: u64, plan: Plan,
    ) -> Result<Arc<Rollout>, BindError> {
        let slot = self.slot(name).ok_or_else(|| BindError::NotBound(name.clone()))?;
        let _exchange = slot.exchange.lock().await;
        let base = slot.binding().filter(|_| self.is_known(&slot)).ok_or_else(|| BindError::NotBound(name.clone()))?;
        if let Some(running) = &base.rollout {
            return Err(BindError::Rollout { slot: name.clone(), running: Some(running.generation()) });
        }
        if base.generation >= generation {
            return Err(BindError::Generation { slot: name.clone(), given: generation, current: base.generation });
        }
        let Prepared { spec, entries, fallback } = prepared;
        let candidate = Arc::new(Binding { generation, spec, entries, fallback, rollout: None });
        let (tally, shadows) = Tally::new();
        let rollout = Rollout { slot: name.clone(), plan, base, candidate, tally: Arc::new(tally) };
        let rollout = self.lay_on(&slot, rollout);
        self.parts.tasks.spawn_until_cancelled("shadow", ask_all(shadows));
        self.watch_limits(&slot, &rollout);
        tracing::info!(slot = %name, generation, "rollout began");
        Ok(rollout)
    }

    /// Goes on with a candidate by another plan; what it has come to so far counts on.
    ///
    /// # Errors
    /// That candidate is not being tried.
    pub async fn change_rollout(
        &self, name: &SlotName, generation: u64, plan: Plan,
    ) -> Result<Arc<Rollout>, BindError> {
        let slot = self.slot(name).ok_or_else(|| BindError::NotBound(name.clone()))?;
        let _exchange = slot.exchange.lock().await;
        let running = running(&slot, generation)?;
        let (base, candidate, tally) =
            (Arc::clone(&running.base), Arc::clone(&running.candidate), Arc::clone(&running.tally));
        Ok(self.lay_on(&slot, Rollout { slot: name.clone(), plan, base, candidate, tally }))
    }

    /// Makes the candidate the one that serves: the instances that it has serve on.
    ///
    /// # Errors
    /// That candidate is not being tried.
    pub async fn promote(&self, name: &SlotName, generation: u64) -> Result<Swapped, BindError> {
        let slot = self.slot(name).ok_or_else(|| BindError::NotBound(name.clone()))?;
        self.to_the_end(name, move |plane| async move {
            let _exchange = slot.exchange.lock().await;
            let candidate = Arc::clone(&running(&slot, generation)?.candidate);
            plane.exchange(&slot, candidate).await
        })
        .await
    }

    /// Takes a candidate away; all calls go to what serves.
    ///
    /// # Errors
    /// That candidate is not being tried.
    pub async fn end_rollout(&self, name: &SlotName, generation: u64) -> Result<(), BindError> {
        let slot = self.slot(name).ok_or_else(|| BindError::NotBound(name.clone()))?;
        let _exchange = slot.exchange.lock().await;
        let running = running(&slot, generation)?;
        self.take_off(&slot, &running);
        Ok(())
    }

    /// The rollout of a slot.
    #[must_use]
    pub fn rollout(&self, name: &SlotName) -> Option<Arc<Rollout>> {
        self.slot(name)?.binding()?.rollout.clone()
    }

    /// Flips a slot to what serves with a rollout on top.
    fn lay_on(&self, slot: &Arc<Slot>, rollout: Rollout) -> Arc<Rollout> {
        let rollout = Arc::new(rollout);
        let base = &rollout.base;
        slot.flip(Some(Arc::new(Binding {
            generation: base.generation,
            spec: base.spec.clone(),
            entries: base.entries.clone(),
            fallback: base.fallback.clone(),
            rollout: Some(Arc::clone(&rollout)),
        })));
        self.tell_rebound(slot.name().kind);
        rollout
    }

    /// Flips a slot back to what serves.
    pub(crate) fn take_off(&self, slot: &Arc<Slot>, rollout: &Rollout) {
        slot.flip(Some(Arc::clone(&rollout.base)));
        self.tell_rebound(slot.name().kind);
        rollout.tally.news.notify_one();
        self.drain(Arc::clone(slot), Arc::clone(&rollout.candidate));
        tracing::info!(slot = %slot.name(), generation = rollout.generation(), "rollout ended");
    }

    /// Ends a rollout by itself when it breaks a limit. Holds neither slot nor candidate while it waits.
    fn watch_limits(&self, slot: &Arc<Slot>, rollout: &Rollout) {
        let (plane, name) = (Weak::clone(&self.this), slot.name().clone());
        let (tally, generation) = (Arc::clone(&rollout.tally), rollout.generation());
        self.parts.tasks.spawn_until_cancelled("rollout limits", async move {
            loop {
                let _looked_at_anyway = tokio::time::timeout(LOOK, tally.news.notified()).await;
                let Some(plane) = plane.upgrade() else { return };
                let Some(rollout) = plane.rollout(&name).filter(|rollout| rollout.generation() == generation) else {
                    return;
                };
                let status = RolloutStatus::of(&rollout);
                let Some(why) = rollout.plan.stop.breach(&status.current, &status.candidate, &status.compared) else {
                    continue;
                };
                drop(rollout);
                if plane.end_rollout(&name, generation).await.is_ok() {
                    tracing::warn!(slot = %name, generation, why, "rollout stopped by itself");
                    tally.stop(Stopped { why, status });
                }
                return;
            }
        });
    }
}

/// The rollout of a candidate, while it is being tried.
fn running(slot: &Slot, generation: u64) -> Result<Arc<Rollout>, BindError> {
    let running = slot.binding().and_then(|binding| binding.rollout.clone());
    let running = running.filter(|running| running.generation() == generation);
    running.ok_or_else(|| BindError::Rollout { slot: slot.name().clone(), running: None })
}

/// Asks a candidate all that comes, a few questions at once. They share this one task, so a shadow takes no more than one
/// worker's time.
async fn ask_all(shadows: Shadows) {
    use futures::StreamExt as _;
    let questions = futures::stream::unfold(shadows, async |mut shadows| Some((shadows.recv().await?, shadows)));
    questions.for_each_concurrent(SHADOWS_AT_ONCE, |question| question).await;
}
