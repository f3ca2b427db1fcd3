//! Binding and unbinding.
//!
//! The order is what makes a crash harmless: everything that can fail is done first (settings, circles, compile, link,
//! configure, self-test), then the binding is made durable in one commit, then the slot is flipped. If the flip fails
//! after all, the commit is taken back.

use std::sync::Arc;

use platform_base::clock;
use platform_capability::Name;
use platform_dataplane::{BindError, BindingSpec, FailureMode, Plan, Plugin, Prepared, SlotName};
use platform_runtime::Mode;
use serde_json::{Map, Value};

use super::{Control, SlotView, blocking};
use crate::{
    cycle,
    error::{Error, Result},
    record::{BindingRecord, LimitChanges, Link, PluginKey, Reference},
    settings,
    state::{Edit, GENERATIONS_MAX, SlotRecord, View},
};

/// Most plugins in a chain.
const CHAIN_MAX: usize = 32;
/// Most bytes of all settings of a binding.
const BINDING_BYTES_MAX: usize = 4 << 20;
/// Longest comment that is kept, in characters.
const COMMENT_CHARS_MAX: usize = 1000;

/// One plugin to bind.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkRequest {
    /// The plugin.
    pub plugin: Reference,
    /// Its settings.
    pub settings: Map<String, Value>,
    /// How its instances are used; none for what the manifest asks for, else the kind's usual mode.
    pub mode: Option<Mode>,
    /// Limits other than the usual.
    pub limits: LimitChanges,
}

impl LinkRequest {
    /// The plugin with no settings, in its usual mode and limits.
    #[must_use]
    pub fn new(plugin: Reference) -> Self {
        Self { plugin, settings: Map::new(), mode: None, limits: LimitChanges::default() }
    }
}

/// Asks to bind a slot.
#[derive(Debug, Clone, PartialEq)]
pub struct Bind {
    /// The plugin, or the chain of decisions in order.
    pub chain: Vec<LinkRequest>,
    /// What happens when one of them fails.
    pub failure: FailureMode,
    /// Goes through everything but the flip, and keeps nothing.
    pub dry_run: bool,
    /// Namespaces that are carried from what serves now, with all that the slot keeps there.
    pub carry: Vec<Name>,
    /// How they are tried beside what serves; none to serve at once.
    pub rollout: Option<Plan>,
    /// The generation that the slot must be at, 0 for an empty slot; none for whatever it is.
    pub if_generation: Option<u64>,
    /// Why, for the audit trail.
    pub comment: String,
    /// Who asks.
    pub by: String,
}

/// How a slot comes to its next generation.
pub(super) enum Flip {
    /// To what was prepared.
    Prepared(Box<Prepared>),
    /// To a generation that the plane kept.
    Kept(u64),
    /// To the candidate that is being tried.
    Candidate,
}

impl Control {
    /// Makes plugins serve a slot, as a new generation: at once, or as a candidate beside what serves.
    ///
    /// # Errors
    /// Why not. The slot is as it was.
    pub async fn bind(&self, slot: SlotName, request: Bind) -> Result<SlotView> {
        self.owned("bind", |this| async move {
            let (by, dry_run, comment) = (request.by.clone(), request.dry_run, request.comment.clone());
            let action = if request.rollout.is_some() { "rollout" } else { "bind" };
            let result = this.bind_now(&slot, request).await;
            if !dry_run {
                this.audit.note(&by, action, &slot.to_string(), &result, |view| told(view, &comment)).await;
            }
            result
        })
        .await
    }

    pub(super) async fn bind_now(&self, slot: &SlotName, request: Bind) -> Result<SlotView> {
        let _turn = self.turn(slot).await;
        let view = self.state.fresh().await?;
        let before = view.slot(slot);
        let current = before.current.as_ref().map_or(0, |binding| binding.generation);
        if let Some(wanted) = request.if_generation.filter(|wanted| *wanted != current) {
            return Err(Error::OtherGeneration { slot: slot.clone(), current, wanted });
        }
        if let Some(plan) = request.rollout.clone() {
            return self.roll_out(slot, &view, &before, request, plan).await;
        }
        before.check_settled(slot)?;
        let dry_run = request.dry_run;
        let carry = request.carry.clone();
        if !carry.is_empty() && self.daemons.fresh().await?.others(&self.daemon) {
            return Err(Error::CarryShared);
        }
        let binding = self.resolved(&view, slot, request, before.last + 1).await?;
        cycle::check(&view, slot, &binding)?;
        let prepared = self.plane.prepare(slot, self.spec(&binding).await?).await?;
        if dry_run {
            let binding = Arc::new(binding);
            return Ok(SlotView { ready: true, problem: String::new(), ..self.slot_view(slot, &binding) });
        }
        // Writes wait until the slot has been flipped: a crash before leaves all with the old store, and one after it finds all
        // in the new one.
        let carried = match carry.as_slice() {
            [] => None,
            namespaces => Some(self.plane.carry(slot, &prepared, namespaces).await?),
        };
        self.serve(slot, &before, binding, Flip::Prepared(Box::new(prepared))).await?;
        if let Some(carried) = carried {
            tracing::info!(%slot, entries = carried.entries, "carried what the slot keeps");
        }
        self.slot(slot)
    }

    /// The binding that a request comes to: plugins found, settings checked.
    pub(super) async fn resolved(
        &self, view: &Arc<View>, slot: &SlotName, request: Bind, generation: u64,
    ) -> Result<BindingRecord> {
        let (view, slot) = (Arc::clone(view), slot.clone());
        blocking(move || {
            let given = request.chain.len();
            if given == 0 {
                return Err(Error::EmptyChain(slot));
            }
            if given > CHAIN_MAX {
                return Err(Error::LongChain { given, max: CHAIN_MAX });
            }
            let chain =
                request.chain.into_iter().map(|link| resolve(&view, &slot, link)).collect::<Result<Vec<_>>>()?;
            let fallback = match &request.failure {
                FailureMode::Fallback(name) => {
                    Some(resolve(&view, &slot, LinkRequest::new(Reference::Name(name.clone())))?)
                }
                _ => None,
            };
            let binding = BindingRecord {
                generation,
                chain,
                failure: request.failure,
                fallback,
                bound_ms: clock::unix_ms(),
                bound_by: request.by,
                comment: request.comment.chars().take(COMMENT_CHARS_MAX).collect(),
            };
            let size = serde_json::to_vec(&binding).map_err(|error| Error::Internal(error.to_string()))?.len();
            if size > BINDING_BYTES_MAX {
                let plugin = slot.to_string();
                return Err(Error::Settings { plugin, error: settings::Error::TooLarge { size } });
            }
            Ok(binding)
        })
        .await
    }

    /// What the data plane needs of a binding: components loaded, their digests and signatures verified.
    pub(super) async fn spec(&self, binding: &BindingRecord) -> Result<BindingSpec> {
        self.fetch(binding).await?;
        let (files, binding, judge) = (Arc::clone(&self.files), binding.clone(), self.judge(&self.state.view()));
        blocking(move || {
            let load = |link: &Link| {
                let wasm = files.load(link.digest)?;
                judge.link(link, &wasm)?;
                Ok(Plugin {
                    name: link.name.clone(),
                    version: link.version.clone(),
                    digest: link.digest,
                    wasm,
                    settings: Value::Object(link.settings.clone()).to_string(),
                    grants: link.grants.clone(),
                    mode: link.mode,
                    limits: link.limits.clone(),
                })
            };
            Ok(BindingSpec {
                plugins: binding.chain.iter().map(load).collect::<Result<_>>()?,
                failure: binding.failure.clone(),
                fallback: binding.fallback.as_ref().map(load).transpose()?,
            })
        })
        .await
    }

    /// Makes a binding durable, then flips the slot to it.
    pub(super) async fn serve(
        &self, slot: &SlotName, before: &SlotRecord, binding: BindingRecord, flip: Flip,
    ) -> Result<()> {
        let generation = binding.generation;
        let binding = Arc::new(binding);
        if let Err(error) = self.state.commit(|view| edits(view, slot, before, &binding)).await {
            if matches!(error, Error::Storage(_)) {
                // Storage may have made the commit before it failed.
                self.take_back(slot, before, &binding).await;
            }
            return Err(error);
        }
        let flipped = self.flip(slot, flip, generation).await;
        if let Err(error) = flipped {
            self.take_back(slot, before, &binding).await;
            return Err(error.into());
        }
        self.solved(slot);
        Ok(())
    }

    pub(super) async fn flip(&self, slot: &SlotName, flip: Flip, generation: u64) -> Result<(), BindError> {
        match flip {
            Flip::Prepared(prepared) => self.plane.bind(slot, *prepared, generation).await.map(drop),
            Flip::Kept(kept) => self.plane.rollback(slot, Some(kept), generation).await.map(drop),
            Flip::Candidate => self.plane.promote(slot, generation).await.map(drop),
        }
    }

    /// Undoes the commit of a binding that could not be flipped to; one that was not made needs no undoing.
    pub(super) async fn take_back(&self, slot: &SlotName, before: &SlotRecord, binding: &Arc<BindingRecord>) {
        let undone = if self.is_shared() { renumbered(before, binding.generation) } else { before.clone() };
        let plan = |view: &View| {
            let ours = view.slot(slot).current.is_some_and(|current| current == *binding);
            if !ours {
                return Err(Error::Changed(format!("`{slot}`")));
            }
            let kept = undone.current.iter().filter(|kept| kept.generation > binding.generation);
            let mut edits: Vec<Edit> = kept.map(|kept| Edit::PutBinding(slot.clone(), Arc::clone(kept))).collect();
            edits.push(Edit::PutSlot(slot.clone(), undone.clone()));
            edits.push(Edit::RemoveBinding(slot.clone(), binding.generation));
            Ok(edits)
        };
        match self.state.commit(plan).await {
            Ok(()) | Err(Error::Changed(_)) => {}
            Err(error) => {
                tracing::error!(%slot, %error, "a binding that failed could not be taken back; a restart will try it again");
            }
        }
    }

    /// Empties a slot; the generation that served until now.
    ///
    /// # Errors
    /// Nothing is bound.
    pub async fn unbind(&self, slot: SlotName, by: String) -> Result<u64> {
        self.owned("unbind", |this| async move {
            let result = this.unbind_now(&slot).await;
            this.audit.note(&by, "unbind", &slot.to_string(), &result, |last| format!("generation {last}")).await;
            result
        })
        .await
    }

    pub(super) async fn unbind_now(&self, slot: &SlotName) -> Result<u64> {
        let _turn = self.turn(slot).await;
        let before = self.state.fresh().await?.slot(slot);
        let current = before.current.clone().ok_or_else(|| Error::NotBound(slot.clone()))?;
        before.check_settled(slot)?;
        let plan = |view: &View| {
            if view.slot(slot) != before {
                return Err(Error::Changed(format!("`{slot}`")));
            }
            Ok(vec![Edit::PutSlot(slot.clone(), SlotRecord { last: before.last, ..SlotRecord::default() })])
        };
        self.state.commit(plan).await?;
        let unbound = self.plane.unbind(slot).await;
        self.solved(slot);
        match unbound {
            // A slot that could not be restored holds nothing.
            Ok(()) | Err(BindError::NotBound(_)) => Ok(current.generation),
            Err(error) => Err(error.into()),
        }
    }
}

/// The edits that make `binding` the one of `slot`, when everything that it was made from is still so.
pub(super) fn edits(
    view: &View, slot: &SlotName, before: &SlotRecord, binding: &Arc<BindingRecord>,
) -> Result<Vec<Edit>> {
    if view.slot(slot) != *before {
        return Err(Error::Changed(format!("`{slot}`")));
    }
    check_links(view, slot, binding)?;
    let after = SlotRecord {
        last: before.last.max(binding.generation),
        current: Some(Arc::clone(binding)),
        ..SlotRecord::default()
    };
    let mut edits = vec![Edit::PutSlot(slot.clone(), after), Edit::PutBinding(slot.clone(), Arc::clone(binding))];
    edits.extend(outdated(slot, binding.generation));
    Ok(edits)
}

/// Checks that the plugins of a binding are what it was made from, and that it closes no circle.
pub(super) fn check_links(view: &View, slot: &SlotName, binding: &BindingRecord) -> Result<()> {
    for link in binding.links() {
        let record = view.plugin(&PluginKey::new(link.name.as_str(), &link.version)?);
        if record.is_none_or(|record| record.digest != link.digest || record.grants != link.grants) {
            return Err(Error::Changed(format!("`{}`", link.label())));
        }
    }
    cycle::check(view, slot, binding)
}

/// Forgets the generation that is too old once there is this one.
pub(super) fn outdated(slot: &SlotName, generation: u64) -> Option<Edit> {
    let old = generation.checked_sub(GENERATIONS_MAX).filter(|old| *old > 0)?;
    Some(Edit::RemoveBinding(slot.clone(), old))
}

/// What a slot held before, above the generation `failed`: other daemons may serve that one by now, and go only forward.
fn renumbered(before: &SlotRecord, failed: u64) -> SlotRecord {
    let again = |binding: &Arc<BindingRecord>| BindingRecord {
        generation: failed + 1,
        comment: format!("generation {failed} did not come to serve"),
        ..BindingRecord::clone(binding)
    };
    match &before.current {
        Some(binding) => {
            SlotRecord { last: failed + 1, current: Some(Arc::new(again(binding))), ..SlotRecord::default() }
        }
        None => SlotRecord { last: failed, ..SlotRecord::default() },
    }
}

fn resolve(view: &View, slot: &SlotName, request: LinkRequest) -> Result<Link> {
    let record = view.resolve(&request.plugin)?;
    if record.slot != slot.kind {
        return Err(Error::WrongSlot { plugin: record.label(), kind: record.slot, slot: slot.clone() });
    }
    settings::check(record.settings_schema.as_ref(), &request.settings)
        .map_err(|error| Error::Settings { plugin: record.label(), error })?;
    Ok(Link {
        name: record.name.clone(),
        version: record.version.clone(),
        digest: record.digest,
        settings: request.settings,
        mode: request.mode.or(record.mode).unwrap_or_else(|| slot.kind.mode()),
        limits: request.limits.apply(&slot.kind.limits()),
        grants: record.grants.clone(),
    })
}

/// What the audit trail says of a binding.
pub(super) fn told(view: &SlotView, comment: &str) -> String {
    let (binding, trial) = match &view.rollout {
        Some(rollout) => (&rollout.record.candidate, format!(", {}", rollout.record.plan.trial)),
        None => (view.binding.as_ref(), String::new()),
    };
    let chain: Vec<_> = binding.chain.iter().map(Link::label).collect();
    let comment = if comment.is_empty() { String::new() } else { format!(": {comment}") };
    format!("generation {}, {}{trial}{comment}", binding.generation, chain.join(", "))
}
