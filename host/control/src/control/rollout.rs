//! Rollouts: a candidate is tried beside what a slot holds, then promoted or taken away.
//!
//! What is tried is a part of the slot's desired state, so it is there again after a restart, and on every daemon. Invariant: a
//! daemon that has found a candidate too bad never tries it again, whether the others could be told already or not.

use std::{sync::Arc, time::Duration};

use platform_base::clock;
use platform_capability::SlotKind;
use platform_dataplane::{BindError, Plan, Rollout, RolloutStatus, SlotName, SlotStatus};
use platform_runtime::Mode;

use super::{
    Bind, Control, SlotView,
    bind::{Flip, check_links, outdated, told},
};
use crate::{
    cycle,
    error::{Error, Result},
    record::{RolloutRecord, StopRecord},
    state::{Edit, SlotRecord, View},
};

/// Who the audit trail says stopped a rollout.
const DAEMON: &str = "daemon";
/// Wait after storage failed.
const PAUSE: Duration = Duration::from_millis(500);

/// What is tried beside what a slot holds, or was.
#[derive(Debug, Clone)]
pub struct RolloutView {
    /// The candidate, and why it is tried no more.
    pub record: Arc<RolloutRecord>,
    /// How it fares on this daemon, or did when it ended; none when it never began here.
    pub status: Option<RolloutStatus>,
}

/// A rollout that ended on this daemon.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) generation: u64,
    /// In words.
    pub(super) why: String,
    status: Option<RolloutStatus>,
}

impl Control {
    /// Begins a rollout; one of the same candidate goes on by the new plan.
    pub(super) async fn roll_out(
        &self, slot: &SlotName, view: &Arc<View>, before: &SlotRecord, request: Bind, plan: Plan,
    ) -> Result<SlotView> {
        plan.check()?;
        if !can_roll_out(slot.kind) {
            return Err(Error::RolloutKind(slot.clone()));
        }
        if before.current.is_none() {
            return Err(Error::NotBound(slot.clone()));
        }
        let dry_run = request.dry_run;
        let candidate = self.resolved(view, slot, request, before.last + 1).await?;
        if let Some(running) = before.running() {
            if !running.candidate.serves_like(&candidate) {
                before.check_settled(slot)?;
            }
            return self.change_plan(slot, before, running, plan, dry_run).await;
        }
        cycle::check(view, slot, &candidate)?;
        if slot.kind.is_provider()
            && let Some(link) = candidate.links().find(|link| link.mode == Mode::Single)
        {
            return Err(Error::RolloutState { slot: slot.clone(), plugin: link.label() });
        }
        let prepared = self.plane.prepare(slot, self.spec(&candidate).await?).await?;
        let generation = candidate.generation;
        let record = Arc::new(RolloutRecord { candidate, plan: plan.clone(), stopped: None });
        if dry_run {
            let rollout = Some(RolloutView { record, status: None });
            return Ok(SlotView { rollout, ..self.slot(slot)? });
        }
        let after = SlotRecord { last: generation, rollout: Some(Arc::clone(&record)), ..before.clone() };
        let edits = |view: &View| {
            if view.slot(slot) != *before {
                return Err(Error::Changed(format!("`{slot}`")));
            }
            check_links(view, slot, &record.candidate)?;
            let put = Edit::PutSlot(slot.clone(), after.clone());
            Ok(outdated(slot, generation).into_iter().chain([put]).collect())
        };
        if let Err(error) = self.state.commit(edits).await {
            if matches!(error, Error::Storage(_)) {
                // Storage may have made the commit before it failed.
                self.take_rollout_back(slot, &after).await;
            }
            return Err(error);
        }
        match self.plane.begin_rollout(slot, prepared, generation, plan).await {
            Ok(rollout) => self.watch_rollout(slot, &rollout),
            Err(error) => {
                self.take_rollout_back(slot, &after).await;
                return Err(error.into());
            }
        }
        self.slot(slot)
    }

    async fn change_plan(
        &self, slot: &SlotName, before: &SlotRecord, running: &RolloutRecord, plan: Plan, dry_run: bool,
    ) -> Result<SlotView> {
        if dry_run {
            return self.slot(slot);
        }
        let generation = running.candidate.generation;
        let record = RolloutRecord { plan: plan.clone(), ..running.clone() };
        self.replace(slot, before, Some(Arc::new(record))).await?;
        self.plane.change_rollout(slot, generation, plan).await?;
        self.slot(slot)
    }

    /// Writes another rollout of a slot, or none.
    async fn replace(&self, slot: &SlotName, before: &SlotRecord, rollout: Option<Arc<RolloutRecord>>) -> Result<()> {
        let after = SlotRecord { rollout, ..before.clone() };
        let edits = |view: &View| match view.slot(slot) == *before {
            true => Ok(vec![Edit::PutSlot(slot.clone(), after.clone())]),
            false => Err(Error::Changed(format!("`{slot}`"))),
        };
        self.state.commit(edits).await
    }

    /// Undoes the commit of a rollout that could not begin; one that was not made needs no undoing.
    async fn take_rollout_back(&self, slot: &SlotName, after: &SlotRecord) {
        match self.replace(slot, after, None).await {
            Ok(()) | Err(Error::Changed(_)) => {}
            Err(error) => tracing::error!(%slot, %error, "a rollout that could not begin could not be taken back"),
        }
    }

    /// Makes the candidate of a rollout serve.
    ///
    /// # Errors
    /// There is none, or it stopped. The slot is as it was.
    pub async fn promote(&self, slot: SlotName, by: String) -> Result<SlotView> {
        self.owned("promote", |this| async move {
            let result = this.promote_now(&slot).await;
            this.audit.note(&by, "promote", &slot.to_string(), &result, |view| told(view, "")).await;
            result
        })
        .await
    }

    async fn promote_now(&self, slot: &SlotName) -> Result<SlotView> {
        let _turn = self.turn(slot).await;
        let view = self.state.fresh().await?;
        let before = view.slot(slot);
        let rollout = before.rollout.clone().ok_or_else(|| Error::NoRollout(slot.clone()))?;
        for link in rollout.candidate.links() {
            self.judge(&view).revoked(&link.label(), link.digest)?;
        }
        if let Some(StopRecord { why, .. }) = &rollout.stopped {
            return Err(Error::RolloutStopped { slot: slot.clone(), why: why.clone() });
        }
        let generation = rollout.candidate.generation;
        let flip = match self.plane.rollout(slot).filter(|tried| tried.generation() == generation) {
            Some(_) => Flip::Candidate,
            None => Flip::Prepared(Box::new(self.plane.prepare(slot, self.spec(&rollout.candidate).await?).await?)),
        };
        self.serve(slot, &before, rollout.candidate.clone(), flip).await?;
        self.slot(slot)
    }

    /// Takes the candidate of a rollout away, or the word that it stopped.
    ///
    /// # Errors
    /// There is none.
    pub async fn abort(&self, slot: SlotName, by: String) -> Result<SlotView> {
        self.owned("abort", |this| async move {
            let result = this.abort_now(&slot).await;
            let note = |(generation, _): &(u64, SlotView)| format!("generation {generation}");
            this.audit.note(&by, "abort", &slot.to_string(), &result, note).await;
            result.map(|(_, view)| view)
        })
        .await
    }

    async fn abort_now(&self, slot: &SlotName) -> Result<(u64, SlotView)> {
        let _turn = self.turn(slot).await;
        let before = self.state.fresh().await?.slot(slot);
        let rollout = before.rollout.clone().ok_or_else(|| Error::NoRollout(slot.clone()))?;
        self.replace(slot, &before, None).await?;
        self.bring_rollout(slot).await?;
        Ok((rollout.candidate.generation, self.slot(slot)?))
    }

    /// What is tried in a slot, or was, and how it fares here.
    pub(super) fn rollout_view(&self, slot: &SlotName, status: Option<&SlotStatus>) -> Option<RolloutView> {
        let record = self.state.view().slot(slot).rollout?;
        let generation = record.candidate.generation;
        let tried = status.and_then(|status| status.rollout.clone()).filter(|tried| tried.generation == generation);
        let ended = || self.ended.lock().get(slot).filter(|ended| ended.generation == generation)?.status.clone();
        let status = tried.or_else(ended);
        Some(RolloutView { record, status })
    }

    /// What this daemon should try in a slot.
    fn wanted_rollout(&self, slot: &SlotName) -> Option<Arc<RolloutRecord>> {
        let wanted = self.state.view().slot(slot).running().cloned()?;
        let ended = self.ended.lock().get(slot).is_some_and(|ended| ended.generation == wanted.candidate.generation);
        (!ended).then_some(wanted)
    }

    /// Whether this daemon tries in a slot what it should, and nothing else.
    pub(super) fn tries_what_it_should(&self, slot: &SlotName) -> bool {
        match (self.plane.rollout(slot), self.wanted_rollout(slot)) {
            (None, None) => true,
            (Some(tried), Some(wanted)) => {
                tried.generation() == wanted.candidate.generation && *tried.plan() == wanted.plan
            }
            _ => false,
        }
    }

    /// Brings a slot to try what it should; for whoever has the turn to change it.
    pub(super) async fn bring_rollout(&self, slot: &SlotName) -> Result<()> {
        let wanted = self.wanted_rollout(slot);
        if let Some(tried) = self.plane.rollout(slot) {
            match &wanted {
                Some(wanted) if wanted.candidate.generation == tried.generation() => {
                    if *tried.plan() != wanted.plan {
                        let changed = self.plane.change_rollout(slot, tried.generation(), wanted.plan.clone()).await;
                        unless_gone(changed.map(drop))?;
                    }
                    return Ok(());
                }
                _ => {
                    let status = self.plane.slot_status(slot).and_then(|status| status.rollout);
                    self.ended_here(slot, tried.generation(), "the rollout has ended", status);
                    unless_gone(self.plane.end_rollout(slot, tried.generation()).await)?;
                }
            }
        }
        let Some(wanted) = wanted else { return Ok(()) };
        let generation = wanted.candidate.generation;
        let begun: Result<()> = async {
            let prepared = self.plane.prepare(slot, self.spec(&wanted.candidate).await?).await?;
            let rollout = self.plane.begin_rollout(slot, prepared, generation, wanted.plan.clone()).await?;
            self.watch_rollout(slot, &rollout);
            Ok(())
        }
        .await;
        if let Err(error) = begun {
            // What one daemon can't even begin with is not to be promoted on any.
            tracing::error!(%slot, generation, %error, "candidate could not be tried");
            let (this, slot) = (self.this.clone(), slot.clone());
            let why = format!("daemon `{}` could not try it: {error}", self.daemon);
            self.ended_here(&slot, generation, &why, None);
            self.tasks.spawn_until_cancelled("rollout", async move {
                let Some(control) = this.upgrade() else { return };
                control.tell_stopped(&slot, generation, &why).await;
            });
        }
        Ok(())
    }

    /// Makes it known when a rollout stops by itself.
    fn watch_rollout(&self, slot: &SlotName, rollout: &Rollout) {
        self.served.notify_one();
        let (this, slot) = (self.this.clone(), slot.clone());
        let (generation, stopped) = (rollout.generation(), rollout.stopped());
        self.tasks.spawn_until_cancelled("rollout", async move {
            let Some(stopped) = stopped.await else { return };
            let Some(control) = this.upgrade() else { return };
            control.ended_here(&slot, generation, &stopped.why, Some(stopped.status.clone()));
            control.tell_stopped(&slot, generation, &stopped.why).await;
        });
    }

    fn ended_here(&self, slot: &SlotName, generation: u64, why: &str, status: Option<RolloutStatus>) {
        let ended = Ended { generation, why: why.to_owned(), status };
        self.ended.lock().insert(slot.clone(), Arc::new(ended));
        self.served.notify_one();
    }

    /// Writes down that a rollout stopped, however long that takes.
    async fn tell_stopped(&self, slot: &SlotName, generation: u64, why: &str) {
        while let Err(error) = self.stop(slot, generation, why).await {
            tracing::warn!(%slot, generation, %error, "a rollout stopped here, which others can't be told now");
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn stop(&self, slot: &SlotName, generation: u64, why: &str) -> Result<()> {
        let mut first = false;
        let edits = |view: &View| {
            let before = view.slot(slot);
            let running = before.running().filter(|running| running.candidate.generation == generation);
            first = running.is_some();
            let Some(running) = running else { return Ok(Vec::new()) };
            let stopped = Some(StopRecord { why: why.to_owned(), time_ms: clock::unix_ms() });
            let rollout = Some(Arc::new(RolloutRecord { stopped, ..RolloutRecord::clone(running) }));
            Ok(vec![Edit::PutSlot(slot.clone(), SlotRecord { rollout, ..before })])
        };
        self.state.commit(edits).await?;
        if first {
            let note = |(): &()| format!("generation {generation}: {why}");
            self.audit.note(DAEMON, "stop", &slot.to_string(), &Ok(()), note).await;
        }
        Ok(())
    }
}

/// A rollout that stopped by itself meanwhile needs nothing more.
fn unless_gone(result: Result<(), BindError>) -> Result<()> {
    match result {
        Ok(()) | Err(BindError::Rollout { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a candidate can be tried: as a whole where plugins decide, on what only reads where they keep something.
fn can_roll_out(kind: SlotKind) -> bool {
    use SlotKind::{AuthPolicy, ConfigValidator, DbStore, DiscoveryRegistry, EventFilter, KvStore, RouterPolicy};
    matches!(kind, AuthPolicy | RouterPolicy | EventFilter | ConfigValidator | KvStore | DbStore | DiscoveryRegistry)
}
