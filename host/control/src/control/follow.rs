//! Following what other daemons change, and telling them how far this one is.
//!
//! A change of the desired state takes the same path here as on the daemon that made it: prepared off the request path, then
//! flipped. Owns when that is done and tried again. Invariant: what can't be brought to serve leaves the generation before in
//! its place, and shows in readiness, in the slot and to all daemons until it does serve.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use platform_base::clock;
use platform_dataplane::SlotName;
use platform_runtime::Digest;

use super::{Control, bind::Flip};
use crate::{
    daemons::{BEAT, DaemonRecord, DaemonView, Following, Served, Towards},
    error::{Error, Result},
    state::View,
};

/// Longest wait for a change before it is asked for anew.
const WAIT: Duration = Duration::from_secs(30);
/// Wait after storage failed.
const PAUSE: Duration = Duration::from_millis(500);
/// Wait before a slot that could not be brought to its generation is tried again, doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// Slots that are prepared at once.
const SLOTS_AT_ONCE: usize = 8;

/// When a slot that failed is tried again.
struct Again {
    generation: u64,
    at: clock::Instant,
    pause: Duration,
}

/// Slots that failed.
type Agains = BTreeMap<SlotName, Again>;

impl Control {
    /// Whether other daemons may share the desired state.
    pub(super) fn is_shared(&self) -> bool {
        self.storage.objects().is_some()
    }

    /// Makes this daemon, which listens at `address`, one of those that share the storage: from now on it follows what the
    /// others change, and they see what it serves. Does nothing where nobody shares it.
    pub async fn join(&self, address: String) {
        if !self.is_shared() {
            return;
        }
        // What changed since the state was read is brought here before anybody is served.
        let (mut agains, mut said) = (Agains::new(), None);
        let begun = async {
            self.state.fresh().await?;
            self.converge(&mut agains).await;
            self.say(&address, &mut said).await?;
            self.daemons.fresh().await.map(drop)
        };
        if let Err(error) = begun.await {
            tracing::warn!(%error, "other daemons do not see this one yet");
        }
        let this = self.this.clone();
        self.tasks.spawn_until_cancelled("desired state", async move {
            let Some(control) = this.upgrade() else { return };
            control.keep_objects().await;
            let mut before = control.state.view();
            loop {
                let now = control.state.view();
                control.forget_files(&before, &now).await;
                let advised = !now.revocations().eq(before.revocations());
                before = now;
                if advised {
                    control.heed_advisories().await;
                }
                control.converge(&mut agains).await;
                let next = agains.values().map(|again| again.at.saturating_duration_since(clock::now())).min();
                if let Err(error) = control.state.changed(next.unwrap_or(WAIT).min(WAIT)).await {
                    tracing::debug!(%error, "the desired state can't be followed now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        let this = self.this.clone();
        self.tasks.spawn_until_cancelled("what this daemon serves", async move {
            let Some(control) = this.upgrade() else { return };
            loop {
                // Whether it has changed or a while has passed, it is said again.
                let _beat = tokio::time::timeout(BEAT, control.served.notified()).await;
                if let Err(error) = control.say(&address, &mut said).await {
                    // The record may have expired meanwhile.
                    said = None;
                    tracing::debug!(%error, "what this daemon serves can't be said now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        let this = self.this.clone();
        self.tasks.spawn_until_cancelled("other daemons", async move {
            let Some(control) = this.upgrade() else { return };
            loop {
                if let Err(error) = control.daemons.changed(WAIT).await {
                    tracing::debug!(%error, "other daemons can't be seen now");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
    }

    /// Tells the other daemons that this one has gone.
    pub async fn leave(&self) {
        if self.is_shared()
            && let Err(error) = self.daemons.leave(&self.daemon).await
        {
            tracing::debug!(%error, "other daemons will find out by themselves that this one has gone");
        }
    }

    /// Says what this daemon serves, when that is something else than it `said` or time has passed.
    async fn say(&self, address: &str, said: &mut Option<DaemonRecord>) -> Result<()> {
        let mut slots: BTreeMap<SlotName, Served> = BTreeMap::new();
        for status in self.plane.slots() {
            let served = slots.entry(status.name).or_default();
            served.generation = status.generation;
            served.candidate = status.rollout.map_or(0, |rollout| rollout.generation);
        }
        for (slot, ended) in self.ended.lock().iter() {
            if let Some(served) = slots.get_mut(slot).filter(|served| served.candidate < ended.generation) {
                (served.failed, served.problem) = (ended.generation, ended.why.clone());
            }
        }
        for (slot, problem) in self.problems.lock().iter() {
            let served = slots.entry(slot.clone()).or_default();
            (served.failed, served.problem) = (problem.generation, problem.why.clone());
        }
        let record = DaemonRecord { address: address.to_owned(), slots };
        self.daemons.say(&self.daemon, &record, said.as_ref()).await?;
        *said = Some(record);
        Ok(())
    }

    /// Brings every slot to what it should hold, save those that failed just now.
    async fn converge(&self, agains: &mut Agains) {
        let view = self.state.view();
        let wanted = |slot: &SlotName| view.slot(slot).current.map_or(0, |binding| binding.generation);
        let served: BTreeSet<SlotName> = self.plane.slots().into_iter().map(|status| status.name).collect();
        let slots: BTreeSet<&SlotName> = view.slots().map(|(slot, _)| slot).chain(&served).collect();
        let now = clock::now();
        let differs = |slot: &SlotName| {
            let serving = self.plane.slot(slot).and_then(|slot| slot.binding());
            serving.map_or(0, |serving| serving.generation) != wanted(slot) || !self.tries_what_it_should(slot)
        };
        let due = slots.into_iter().filter(|slot| {
            let rests = agains.get(*slot).is_some_and(|again| again.generation == wanted(slot) && again.at > now);
            !rests && differs(slot)
        });
        let due: Vec<SlotName> = due.cloned().collect();
        agains.retain(|slot, _| differs(slot));
        let done = stream::iter(due).map(|slot| async move { (self.bring(&slot).await, slot) });
        let done: Vec<_> = done.buffer_unordered(SLOTS_AT_ONCE).collect().await;
        for (result, slot) in done {
            let generation = wanted(&slot);
            if result.is_ok() {
                agains.remove(&slot);
                continue;
            }
            let pause = match agains.get(&slot) {
                Some(again) if again.generation == generation => (again.pause * 2).min(AGAIN_MAX),
                _ => AGAIN,
            };
            agains.insert(slot, Again { generation, at: clock::now() + pause, pause });
        }
    }

    /// Brings a slot to what it should hold, by the path of every other change; what is in the way is kept as its problem.
    pub(super) async fn bring(&self, slot: &SlotName) -> Result<u64> {
        let _turn = self.turn(slot).await;
        let wanted = self.state.view().slot(slot).current;
        let generation = wanted.as_ref().map_or(0, |binding| binding.generation);
        let serving = self.plane.slot_status(slot).map_or(0, |status| status.generation);
        let brought: Result<()> = async {
            match wanted {
                _ if serving == generation => Ok(()),
                None => Ok(self.plane.unbind(slot).await?),
                Some(_) if self.plane.rollout(slot).is_some_and(|rollout| rollout.generation() == generation) => {
                    Ok(self.flip(slot, Flip::Candidate, generation).await?)
                }
                Some(binding) => {
                    let prepared = self.plane.prepare(slot, self.spec(&binding).await?).await?;
                    Ok(self.flip(slot, Flip::Prepared(Box::new(prepared)), generation).await?)
                }
            }
        }
        .await;
        match brought {
            Ok(()) => self.solved(slot),
            Err(error) => {
                tracing::error!(%slot, generation, serving, %error, "slot could not be brought to its generation");
                let kept = if serving == 0 { String::new() } else { format!("; generation {serving} serves on") };
                self.failed(slot, generation, format!("generation {generation}: {error}{kept}"));
                return Err(error);
            }
        }
        self.bring_rollout(slot).await?;
        Ok(generation)
    }

    /// Removes files of components that another daemon uninstalled.
    async fn forget_files(&self, before: &View, now: &View) {
        let digests = |view: &View| view.plugins().map(|(_, record)| record.digest).collect::<BTreeSet<Digest>>();
        for gone in digests(before).difference(&digests(now)) {
            self.discard(*gone).await;
        }
    }

    /// How the daemons that share the storage do on the way to what is wanted of a slot; none where nobody shares it.
    #[must_use]
    pub fn towards(&self, slot: &SlotName, wanted: Towards) -> Vec<DaemonView> {
        if self.is_shared() { self.daemons.view().towards(slot, wanted) } else { Vec::new() }
    }

    /// The same each time that it changes, until every daemon that lives is there or has failed to be; where nothing is said, it is
    /// the generation that the slot should be at that is wanted.
    ///
    /// # Errors
    /// Nothing is bound and nothing else was wanted, or storage fails.
    pub async fn progress(
        &self, slot: SlotName, wanted: Option<Towards>,
    ) -> Result<BoxStream<'static, Vec<DaemonView>>> {
        let current = self.state.fresh().await?.slot(&slot).current;
        let current = current.map(|binding| Towards::Generation(binding.generation));
        let wanted = wanted.or(current).ok_or_else(|| Error::NotBound(slot.clone()))?;
        let mut shown = self.daemons.subscribe();
        if self.is_shared() {
            self.daemons.fresh().await?;
        }
        shown.mark_changed();
        let shared = self.is_shared();
        let views = stream::unfold((shown, None), move |(mut shown, mut last): (_, Option<Vec<DaemonView>>)| {
            let slot = slot.clone();
            async move {
                if last.as_ref().is_some_and(|last| is_over(last, shared)) {
                    return None;
                }
                loop {
                    shown.changed().await.ok()?;
                    let daemons = match shared {
                        true => shown.borrow_and_update().view.towards(&slot, wanted),
                        false => Vec::new(),
                    };
                    if last.as_ref() != Some(&daemons) {
                        last = Some(daemons.clone());
                        return Some((daemons, (shown, last)));
                    }
                }
            }
        });
        Ok(views.boxed())
    }
}

/// Whether nobody is on the way any more. Where the storage is shared, this daemon at least will be listed.
fn is_over(daemons: &[DaemonView], shared: bool) -> bool {
    daemons.iter().all(|daemon| daemon.following != Following::Behind) && shared != daemons.is_empty()
}

impl Control {
    /// A slot serves what it should.
    pub(super) fn solved(&self, slot: &SlotName) {
        self.problems.lock().remove(slot);
        self.served.notify_one();
    }

    /// A slot can't be brought to a generation.
    pub(super) fn failed(&self, slot: &SlotName, generation: u64, why: String) {
        self.problems.lock().insert(slot.clone(), Arc::new(super::Problem { generation, why }));
        self.served.notify_one();
    }
}
