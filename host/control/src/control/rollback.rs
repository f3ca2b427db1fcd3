//! Returning a slot to an earlier generation.
//!
//! A generation that the data plane still holds is flipped to at once; an older one is prepared again from its record.
//! Either way its plugins run with the grants of today, so that a rollback never brings back a grant that was taken.

use std::sync::Arc;

use platform_base::clock;
use platform_dataplane::SlotName;

use super::{
    Control, SlotView,
    bind::{Flip, told},
};
use crate::{
    cycle,
    error::{Error, Result},
    record::{BindingRecord, PluginKey},
    state::{SlotRecord, View},
};

impl Control {
    /// Returns a slot to generation `to`, else to the one before, under a new number. An unbound slot returns to its last.
    ///
    /// # Errors
    /// There is no such generation, or it can't serve any more. The slot is as it was.
    pub async fn rollback(&self, slot: SlotName, to: Option<u64>, by: String) -> Result<SlotView> {
        self.owned("rollback", |this| async move {
            let result = this.rollback_now(&slot, to, &by).await;
            let note = |view: &SlotView| told(view, &view.binding.comment);
            this.audit.note(&by, "rollback", &slot.to_string(), &result, note).await;
            result
        })
        .await
    }

    async fn rollback_now(&self, slot: &SlotName, to: Option<u64>, by: &str) -> Result<SlotView> {
        let _turn = self.turn(slot).await;
        let view = self.state.fresh().await?;
        let before = view.slot(slot);
        before.check_settled(slot)?;
        let old = self.earlier(slot, &before, to).await?;
        self.return_to(slot, &view, &before, &old, by).await
    }

    /// Makes an earlier binding serve, in the turn of its slot.
    pub(super) async fn return_to(
        &self, slot: &SlotName, view: &View, before: &SlotRecord, old: &BindingRecord, by: &str,
    ) -> Result<SlotView> {
        let binding = renewed(view, old, before.last + 1, by)?;
        cycle::check(view, slot, &binding)?;
        // Also where it is still warm: it may have been revoked since, or be signed by a key that is trusted no more.
        let spec = self.spec(&binding).await?;
        let status = self.plane.slot_status(slot);
        let warm = binding.serves_like(old) && status.is_some_and(|status| status.kept.contains(&old.generation));
        let flip = if warm {
            Flip::Kept(old.generation)
        } else {
            Flip::Prepared(Box::new(self.plane.prepare(slot, spec).await?))
        };
        self.serve(slot, before, binding, flip).await?;
        self.slot(slot)
    }

    async fn earlier(&self, slot: &SlotName, before: &SlotRecord, to: Option<u64>) -> Result<BindingRecord> {
        let current = before.current.as_ref().map(|binding| binding.generation);
        let found = match to {
            Some(to) => self.state.generation(slot, to).await?.filter(|_| current != Some(to)),
            None => {
                let records = self.state.generations(slot).await?;
                records.into_iter().rev().find(|record| current.is_none_or(|current| record.generation < current))
            }
        };
        found.ok_or_else(|| Error::UnknownGeneration {
            slot: slot.clone(),
            wanted: to.map_or_else(|| "before the one that serves".to_owned(), |to| to.to_string()),
        })
    }
}

/// An old binding under a new number, with the grants that its plugins have now.
fn renewed(view: &View, old: &BindingRecord, generation: u64, by: &str) -> Result<BindingRecord> {
    let mut binding = BindingRecord {
        generation,
        bound_ms: clock::unix_ms(),
        bound_by: by.to_owned(),
        comment: format!("back to generation {}", old.generation),
        ..old.clone()
    };
    for link in binding.chain.iter_mut().chain(&mut binding.fallback) {
        let record = view.plugin(&PluginKey::new(link.name.as_str(), &link.version)?);
        let record = record.filter(|record| record.digest == link.digest).map(Arc::clone);
        link.grants = record.ok_or_else(|| Error::UnknownPlugin(link.label()))?.grants.clone();
    }
    Ok(binding)
}
