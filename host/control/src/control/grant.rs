//! Grants.
//!
//! A changed grant is a new generation of every slot that uses the plugin, prepared like any other before anything
//! changes: a plugin that needs a grant keeps it until it is unbound. The record and all bindings change in one commit.

use std::{collections::BTreeSet, sync::Arc};

use platform_base::clock;
use platform_capability::{Grant, Grants};
use platform_dataplane::{Prepared, SlotName};

use super::{
    Control, PluginView,
    bind::{Flip, edits},
    is_plugin,
};
use crate::{
    error::{Error, Result},
    record::{BindingRecord, PluginRecord, Reference},
    state::{Edit, SlotRecord, View},
};

/// Times that a change of grants starts over because bindings changed meanwhile.
const ATTEMPTS_MAX: usize = 5;

/// What is to be granted and taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrantChange {
    /// Starts from these grants instead of those that the plugin has.
    pub exactly: Option<Grants>,
    /// Gives all that the plugin asks for.
    pub requested: bool,
    /// Gives these.
    pub give: Vec<Grant>,
    /// Takes these, after everything was given.
    pub take: Vec<Grant>,
    /// Who asks.
    pub by: String,
}

/// A slot that follows a change of grants.
struct Follower {
    slot: SlotName,
    before: SlotRecord,
    binding: Arc<BindingRecord>,
    prepared: Prepared,
}

impl Control {
    /// Changes the grants of a plugin, and brings every slot that uses it to a generation with them.
    ///
    /// # Errors
    /// Why not. Unless it is [`Error::PartlyGranted`], nothing has changed.
    pub async fn grant(&self, reference: Reference, change: GrantChange) -> Result<PluginView> {
        self.owned("grant", |this| async move {
            let result = this.grant_now(&reference, &change).await;
            let subject = result.as_ref().map_or_else(|_| reference.to_string(), |view| view.plugin.label());
            let note = |view: &PluginView| match texts(&view.plugin.grants) {
                texts if texts.is_empty() => "no grants".to_owned(),
                texts => texts.join(", "),
            };
            this.audit.note(&change.by, "grant", &subject, &result, note).await;
            result
        })
        .await
    }

    pub(super) async fn grant_now(&self, reference: &Reference, change: &GrantChange) -> Result<PluginView> {
        for _ in 0..ATTEMPTS_MAX {
            let view = self.state.fresh().await?;
            let record = Arc::clone(view.resolve(reference)?);
            let grants = wanted(&record, change);
            if grants == record.grants {
                return Ok(self.plugin_view(record));
            }
            let slots = users(&view, &record);
            check_settled(&view, &record)?;
            let mut turns = Vec::new();
            for slot in &slots {
                // In the order of names, so that two changes never wait for each other.
                turns.push(self.turn(slot).await);
            }
            let view = self.state.view();
            if users(&view, &record) != slots || view.plugin(&record.key()?) != Some(&record) {
                continue;
            }
            let granted = Arc::new(PluginRecord { grants, ..PluginRecord::clone(&record) });
            let followers = self.followers(&view, &slots, &granted, &change.by).await?;
            let plan = |view: &View| {
                let key = granted.key()?;
                check_settled(view, &record)?;
                if users(view, &record) != slots || view.plugin(&key) != Some(&record) {
                    return Err(Error::Changed(format!("`{key}`")));
                }
                let mut changes = vec![Edit::PutPlugin(Arc::clone(&granted))];
                let granted_view = view.with_plugin(&granted)?;
                for follower in &followers {
                    changes.extend(edits(&granted_view, &follower.slot, &follower.before, &follower.binding)?);
                }
                Ok(changes)
            };
            match self.state.commit(plan).await {
                Err(Error::Changed(_)) => continue,
                result => result?,
            }
            self.follow(followers, &granted).await?;
            return Ok(self.plugin_view(granted));
        }
        Err(Error::Changed(format!("`{reference}`")))
    }

    /// The next generations of the slots that use a plugin, ready to be flipped to.
    async fn followers(
        &self, view: &View, slots: &BTreeSet<SlotName>, granted: &PluginRecord, by: &str,
    ) -> Result<Vec<Follower>> {
        let mut followers = Vec::new();
        for slot in slots {
            let before = view.slot(slot);
            let Some(current) = &before.current else { continue };
            let mut binding = BindingRecord {
                generation: before.last + 1,
                bound_ms: clock::unix_ms(),
                bound_by: by.to_owned(),
                comment: format!("grants of {} changed", granted.label()),
                ..BindingRecord::clone(current)
            };
            for link in binding.chain.iter_mut().chain(&mut binding.fallback).filter(|link| is_plugin(link, granted)) {
                link.grants = granted.grants.clone();
            }
            crate::cycle::check(view, slot, &binding)?;
            let prepared = self.plane.prepare(slot, self.spec(&binding).await?).await?;
            followers.push(Follower { slot: slot.clone(), before, binding: Arc::new(binding), prepared });
        }
        Ok(followers)
    }

    async fn follow(&self, followers: Vec<Follower>, granted: &PluginRecord) -> Result<()> {
        let mut problems = Vec::new();
        for Follower { slot, before, binding, prepared } in followers {
            match self.flip(&slot, Flip::Prepared(Box::new(prepared)), binding.generation).await {
                Ok(()) => self.solved(&slot),
                Err(error) => {
                    self.take_back(&slot, &before, &binding).await;
                    problems.push(format!("`{slot}`: {error}"));
                }
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(Error::PartlyGranted { plugin: granted.label(), problems: problems.join("; ") })
    }
}

fn wanted(record: &PluginRecord, change: &GrantChange) -> Grants {
    let mut grants = change.exactly.clone().unwrap_or_else(|| record.grants.clone());
    if change.requested {
        grants.extend(record.requested.iter().cloned());
    }
    grants.extend(change.give.iter().cloned());
    grants.retain(|grant| !change.take.contains(grant));
    grants
}

fn users(view: &View, record: &PluginRecord) -> BTreeSet<SlotName> {
    let uses = |binding: &BindingRecord| binding.links().any(|link| is_plugin(link, record));
    view.bindings().filter(|(_, binding)| uses(binding)).map(|(slot, _)| slot.clone()).collect()
}

/// Checks that no candidate that uses the plugin, or is compared with what does, is being tried.
fn check_settled(view: &View, record: &PluginRecord) -> Result<()> {
    let uses = |binding: &BindingRecord| binding.links().any(|link| is_plugin(link, record));
    for (name, slot) in view.slots() {
        let concerned = slot.current.iter().any(|current| uses(current));
        if concerned || slot.rollout.iter().any(|rollout| uses(&rollout.candidate)) {
            slot.check_settled(name)?;
        }
    }
    Ok(())
}

fn texts(grants: &Grants) -> Vec<String> {
    grants.iter().map(ToString::to_string).collect()
}
