//! The flip, and what comes with it: state that moves, generations that are kept.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use platform_base::clock;
use platform_capability::{
    Guest,
    plugin::{Load, Save, describe},
};
use platform_runtime::{Instance, Mode, Pool};

use crate::{
    binding::{Binding, Entry},
    error::BindError,
    plane::Plane,
    prepare::Prepared,
    slot::Slot,
    slot_name::SlotName,
};

/// What a swap did.
#[derive(Debug, Clone)]
pub struct Swapped {
    /// The generation that new calls see.
    pub generation: u64,
    /// The generation that they saw before.
    pub previous: Option<u64>,
    /// Time from the decision to flip until new calls see the new generation, any handover included.
    pub took: Duration,
}

/// Most state that moves from one generation to the next, in bytes.
const STATE_BYTES_MAX: usize = 64 << 20;

impl Plane {
    /// Flips `slot` to `prepared` as `generation`. Calls that have begun end on the generation that they saw. Once begun
    /// it goes on to its end, also when the caller stops waiting.
    ///
    /// # Errors
    /// The slot is as it was.
    pub async fn bind(&self, slot: &SlotName, prepared: Prepared, generation: u64) -> Result<Swapped, BindError> {
        let name = slot.clone();
        self.to_the_end(slot, move |plane| async move { plane.bind_now(&name, prepared, generation).await }).await
    }

    async fn bind_now(&self, name: &SlotName, prepared: Prepared, generation: u64) -> Result<Swapped, BindError> {
        loop {
            let slot = self.slot_or_new(name);
            let _exchange = slot.exchange.lock().await;
            if !self.is_known(&slot) {
                continue;
            }
            let Prepared { spec, entries, fallback } = prepared;
            let binding = Binding { generation, spec, entries, fallback, rollout: None };
            let swapped = self.exchange(&slot, Arc::new(binding)).await;
            if swapped.is_err() && !slot.is_bound() {
                self.forget(name);
            }
            return swapped;
        }
    }

    /// Goes back to a kept generation, the latest when none is named, as `generation`. Once begun it goes on to its end,
    /// also when the caller stops waiting.
    ///
    /// # Errors
    /// There is none; or its state could not be moved. The slot is as it was.
    pub async fn rollback(&self, slot: &SlotName, to: Option<u64>, generation: u64) -> Result<Swapped, BindError> {
        let name = slot.clone();
        self.to_the_end(slot, move |plane| async move { plane.rollback_now(&name, to, generation).await }).await
    }

    async fn rollback_now(&self, name: &SlotName, to: Option<u64>, generation: u64) -> Result<Swapped, BindError> {
        let slot = self.slot(name).ok_or_else(|| BindError::NotBound(name.clone()))?;
        let _exchange = slot.exchange.lock().await;
        if !self.is_known(&slot) {
            return Err(BindError::NotBound(name.clone()));
        }
        let Some(kept) = slot.take_kept(to) else {
            return Err(BindError::NotKept {
                slot: name.clone(),
                wanted: to.map_or_else(|| "before the current one".to_owned(), |to| to.to_string()),
                kept: slot.kept().iter().map(|kept| kept.generation).collect(),
            });
        };
        let renewed = Binding {
            generation,
            spec: kept.spec.clone(),
            entries: kept.entries.iter().map(|entry| Arc::new(entry.renewed())).collect(),
            fallback: kept.fallback.as_ref().map(|entry| Arc::new(entry.renewed())),
            rollout: None,
        };
        let swapped = self.exchange(&slot, Arc::new(renewed)).await;
        if swapped.is_err() {
            slot.keep(kept, self.parts.config.generations_kept);
        }
        swapped
    }

    /// Takes a slot's plugins away. Calls that have begun end; new ones find nothing bound, or the plain slot.
    ///
    /// # Errors
    /// Nothing is bound.
    pub async fn unbind(&self, slot: &SlotName) -> Result<(), BindError> {
        let slot = self.slot(slot).ok_or_else(|| BindError::NotBound(slot.clone()))?;
        let _exchange = slot.exchange.lock().await;
        let not_bound = || BindError::NotBound(slot.name().clone());
        if !self.is_known(&slot) {
            return Err(not_bound());
        }
        if let Some(running) = slot.binding().and_then(|binding| binding.rollout.clone()) {
            self.take_off(&slot, &running);
        }
        // A qualified slot is forgotten with what it holds: a call that found it before is served, not turned away.
        let old = match slot.name().qualifier {
            Some(_) => slot.binding(),
            None => slot.flip(None),
        };
        let old = old.ok_or_else(not_bound)?;
        self.forget(slot.name());
        self.tell_rebound(slot.name().kind);
        self.drain(Arc::clone(&slot), old);
        Ok(())
    }

    /// Runs a change in a task of its own: half way, state is with neither generation, so it must not be dropped there.
    pub(crate) async fn to_the_end<F>(
        &self, slot: &SlotName, change: impl FnOnce(Arc<Self>) -> F,
    ) -> Result<Swapped, BindError>
    where
        F: Future<Output = Result<Swapped, BindError>> + Send + 'static,
    {
        let interrupted = || BindError::Interrupted(slot.clone());
        let change = change(self.this.upgrade().ok_or_else(interrupted)?);
        let (done, outcome) = tokio::sync::oneshot::channel();
        self.parts.tasks.spawn("exchange", async move {
            // Perhaps nobody waits for the outcome any more; the slot's status tells it too.
            let _ = done.send(change.await);
        });
        outcome.await.unwrap_or_else(|_| Err(interrupted()))
    }

    /// Flips a slot; to be called by one at a time. A rollout ends with what it was on top of, unless its candidate is what is
    /// flipped to.
    pub(crate) async fn exchange(&self, slot: &Arc<Slot>, binding: Arc<Binding>) -> Result<Swapped, BindError> {
        let serving = slot.binding();
        let rollout = serving.as_ref().and_then(|serving| serving.rollout.clone());
        let old = match &rollout {
            Some(rollout) => Some(Arc::clone(&rollout.base)),
            None => serving.clone(),
        };
        drop(serving);
        let previous = old.as_ref().map(|old| old.generation);
        if let Some(current) = previous.filter(|current| *current >= binding.generation) {
            return Err(BindError::Generation { slot: slot.name().clone(), given: binding.generation, current });
        }
        let generation = binding.generation;
        let begun = clock::now();
        let handover = match &old {
            Some(old) => self.handover_pair(old, &binding),
            None => None,
        };
        if let Some((from, to)) = handover {
            let deadline = begun + Duration::from_millis(self.parts.config.hold_ms_max);
            let held = from.pool.hold(deadline).await.map_err(|fault| refused(slot, from, &fault.to_string()))?;
            if let Some(mut giver) = held.take() {
                let moved = move_state(&mut giver, from, to, deadline).await;
                if let Err(why) = moved {
                    held.put(giver);
                    return Err(BindError::Handover { slot: slot.name().clone(), why });
                }
            }
            slot.flip(Some(Arc::clone(&binding)));
            held.moved();
        } else {
            slot.flip(Some(Arc::clone(&binding)));
        }
        self.tell_rebound(slot.name().kind);
        if let Some(rollout) = rollout {
            rollout.tally.news.notify_one();
            if !Arc::ptr_eq(&rollout.candidate, &binding) {
                self.drain(Arc::clone(slot), Arc::clone(&rollout.candidate));
            }
        }
        let took = clock::now().saturating_duration_since(begun);
        if let Some(old) = old {
            for gone in slot.keep(Arc::clone(&old), self.parts.config.generations_kept) {
                tracing::debug!(slot = %slot.name(), generation = gone.generation, "generation is no longer kept");
            }
            self.drain(Arc::clone(slot), old);
        }
        tracing::info!(slot = %slot.name(), generation, took_us = took.as_micros(), "bound");
        Ok(Swapped { generation, previous, took })
    }

    /// The plugins between which state has to move: both keep it in their only instance and can hand it over.
    fn handover_pair<'a>(&self, old: &'a Binding, new: &'a Binding) -> Option<(&'a Entry, &'a Entry)> {
        let (from, to) = (old.entries.first()?, new.entries.first()?);
        let keeps = |entry: &Entry| entry.pool.mode() == Mode::Single;
        let moves = keeps(from) && keeps(to) && exports::<Save>(&from.pool) && exports::<Load>(&to.pool);
        moves.then_some((from.as_ref(), to.as_ref()))
    }
}

fn exports<F: platform_runtime::Function>(pool: &Pool<Guest>) -> bool {
    pool.template().has::<F>()
}

fn refused(slot: &Slot, entry: &Entry, why: &str) -> BindError {
    BindError::Handover { slot: slot.name().clone(), why: format!("`{}` did not come to rest: {why}", entry.label) }
}

async fn move_state(giver: &mut Instance<Guest>, from: &Entry, to: &Entry, deadline: Instant) -> Result<(), String> {
    let (saved,) = giver
        .call::<Save>(from.pool.template(), deadline, ())
        .await
        .map_err(|fault| format!("`{}` could not save: {fault}", from.label))?;
    let state = saved.map_err(|problem| format!("`{}` could not save: {}", from.label, describe(&problem)))?;
    if state.len() > STATE_BYTES_MAX {
        return Err(format!("`{}` saved {} bytes, more than {STATE_BYTES_MAX}", from.label, state.len()));
    }
    let mut lease =
        to.pool.take(clock::now(), deadline).await.map_err(|fault| format!("`{}` did not start: {fault}", to.label))?;
    let (loaded,) = lease
        .call::<Load>((state.as_slice(),))
        .await
        .map_err(|fault| format!("`{}` could not load: {fault}", to.label))?;
    lease.end();
    loaded.map_err(|problem| format!("`{}` could not load: {}", to.label, describe(&problem)))
}
