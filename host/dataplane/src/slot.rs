//! One slot: the binding that new calls see, the generations kept for going back, and the way a call takes.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Instant};

use arc_swap::{ArcSwapOption, Guard};
use parking_lot::Mutex;
use platform_base::clock;
use platform_capability::{Call, Guest};
use platform_runtime::{Fault, Function};

use crate::{
    binding::{Binding, Entry, FailureMode},
    error::CallError,
    slot_name::SlotName,
};

/// A named place that holds one provider or a chain of decisions.
#[derive(Debug)]
pub struct Slot {
    name: SlotName,
    current: ArcSwapOption<Binding>,
    /// Generations before the current one, the latest first.
    kept: Mutex<VecDeque<Arc<Binding>>>,
    /// Held while the binding is exchanged, so that exchanges come one after the other.
    pub(crate) exchange: tokio::sync::Mutex<()>,
}

impl Slot {
    pub(crate) fn new(name: SlotName) -> Self {
        Self { name, current: ArcSwapOption::empty(), kept: Mutex::default(), exchange: tokio::sync::Mutex::new(()) }
    }

    /// The slot's name.
    #[must_use]
    pub fn name(&self) -> &SlotName {
        &self.name
    }

    /// The binding that a call which starts now would see.
    #[must_use]
    pub fn binding(&self) -> Option<Arc<Binding>> {
        self.current.load_full()
    }

    /// The same for the time of one call, without counting a reference.
    pub(crate) fn current(&self) -> Guard<Option<Arc<Binding>>> {
        self.current.load()
    }

    /// Generations that can be gone back to, the latest first.
    #[must_use]
    pub fn kept(&self) -> Vec<Arc<Binding>> {
        self.kept.lock().iter().cloned().collect()
    }

    /// Whether the slot holds something.
    pub(crate) fn is_bound(&self) -> bool {
        self.current.load().is_some()
    }

    /// The flip. Returns what the slot held.
    pub(crate) fn flip(&self, binding: Option<Arc<Binding>>) -> Option<Arc<Binding>> {
        self.current.swap(binding)
    }

    /// Keeps `binding` for going back, in its place; returns what is no longer kept.
    pub(crate) fn keep(&self, binding: Arc<Binding>, most: usize) -> Vec<Arc<Binding>> {
        let mut kept = self.kept.lock();
        let place = kept.partition_point(|later| later.generation > binding.generation);
        kept.insert(place, binding);
        let most = most.min(kept.len());
        kept.drain(most..).collect()
    }

    /// Takes a kept generation out; the latest when none is named.
    pub(crate) fn take_kept(&self, generation: Option<u64>) -> Option<Arc<Binding>> {
        let mut kept = self.kept.lock();
        let place = match generation {
            None => 0,
            Some(generation) => kept.iter().position(|binding| binding.generation == generation)?,
        };
        kept.remove(place)
    }

    /// The snapshot of the binding that a call works with.
    pub(crate) fn route(&self) -> Result<Route<'_>, CallError<Infallible>> {
        let binding = self.current();
        if binding.is_none() {
            return Err(CallError::NotBound(self.name.clone()));
        }
        Ok(Route { slot: self, binding, last_good: None, stage: Stage::Bound })
    }

    /// Calls a function of the slot's only plugin.
    pub(crate) async fn call<F: Function>(
        &self, call: &Call, params: F::Params<'_>,
    ) -> Result<F::Results, CallError<Infallible>>
    where
        for<'a> F::Params<'a>: Clone,
    {
        let mut route = self.route()?;
        loop {
            let answer = match route.entry() {
                Some(entry) => entry.call::<F>(call, params.clone()).await,
                None => return Err(CallError::NotBound(self.name.clone())),
            };
            match answer {
                Ok(results) => return Ok(results),
                Err(fault) => route.after(fault)?,
            }
        }
    }
}

/// Which plugin of a binding a call tries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Bound,
    Fallback,
    LastGood,
}

/// The way of one call: the binding that it saw, and where it goes when a plugin fails.
pub(crate) struct Route<'a> {
    slot: &'a Slot,
    binding: Guard<Option<Arc<Binding>>>,
    last_good: Option<Arc<Binding>>,
    stage: Stage,
}

impl Route<'_> {
    /// The binding that the call saw.
    pub(crate) fn binding(&self) -> Option<&Binding> {
        match self.stage {
            Stage::LastGood => self.last_good.as_deref(),
            Stage::Bound | Stage::Fallback => self.binding.as_deref(),
        }
    }

    /// The plugin to try, of a slot that holds one.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        let entry = match self.stage {
            Stage::Bound => self.binding.as_deref()?.entries.first(),
            Stage::Fallback => self.binding.as_deref()?.fallback.as_ref(),
            Stage::LastGood => self.last_good.as_deref()?.entries.first(),
        };
        entry.map(Arc::as_ref)
    }

    /// Where to go after a fault: on, or back to the caller with the reason.
    pub(crate) fn after(&mut self, fault: Fault) -> Result<(), CallError<Infallible>> {
        // A provider that was entered may have written: nobody else may do it again.
        let may_have_written = self.slot.name.kind.is_provider() && fault.was_entered();
        let ends_here = self.stage != Stage::Bound || may_have_written || fault.is_too_late();
        if matches!(fault, Fault::Moved) && self.stage == Stage::Bound {
            // The state has moved to a newer generation, which has been flipped to.
            self.binding = self.slot.current();
            return Ok(());
        }
        let plugin = self.entry().map_or_else(|| Arc::from(""), |entry| Arc::clone(&entry.label));
        let failed = CallError::Fault { slot: self.slot.name.clone(), plugin, fault };
        if ends_here {
            return Err(failed);
        }
        match self.binding().map(|binding| &binding.spec.failure) {
            Some(FailureMode::Fallback(_)) => self.stage = Stage::Fallback,
            Some(FailureMode::LastGood) => {
                self.last_good = self.slot.kept.lock().front().cloned();
                self.stage = Stage::LastGood;
            }
            _ => return Err(failed),
        }
        if self.entry().is_some() { Ok(()) } else { Err(failed) }
    }
}

impl Entry {
    /// Calls a function of the plugin.
    pub(crate) async fn call<F: Function>(&self, call: &Call, params: F::Params<'_>) -> Result<F::Results, Fault> {
        self.call_with::<F>(call, params, |_| {}).await
    }

    /// Calls a function of the plugin after `seat` has set what the host functions will answer.
    pub(crate) async fn call_with<F: Function>(
        &self, call: &Call, params: F::Params<'_>, seat: impl FnOnce(&mut Guest),
    ) -> Result<F::Results, Fault> {
        let started = clock::now();
        let answer = self.enter::<F>(call, started, params, seat).await;
        self.count(call, started, answer.as_ref().err());
        answer
    }

    /// Counts a call that ended now; what the plugin is to blame for, its log tells.
    pub(crate) fn count(&self, call: &Call, started: Instant, fault: Option<&Fault>) {
        self.metrics.record(clock::now().saturating_duration_since(started), fault);
        if let Some(fault) = fault.filter(|fault| fault.blames_guest()) {
            self.parts.write_fault(fault, call);
        }
    }

    async fn enter<F: Function>(
        &self, call: &Call, now: Instant, params: F::Params<'_>, seat: impl FnOnce(&mut Guest),
    ) -> Result<F::Results, Fault> {
        let mut lease = self.pool.take(now, call.deadline).await?;
        let until = lease.until();
        let guest = lease.guest();
        guest.serve(call, until);
        seat(guest);
        let answer = lease.call::<F>(params).await;
        lease.end();
        answer
    }
}
