//! The chain of sources: what they have elsewhere becomes configurations here, as versions like all others.
//!
//! What sources load is the document: a change by hand lasts until they are asked again. Later ones of a chain are merged over
//! earlier ones. Invariant: a source that can't be read changes nothing, and neither does one that says what it said.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use platform_capability::{
    Call, CallContext, NAMESPACE_DEFAULT, SlotKind,
    config::source::{self, Load},
};
use platform_document::{canonical, merge, parse};
use serde_json::Value;

use super::{Action, Config, Edit};
use crate::{
    binding::{Binding, Entry, FailureMode},
    slot::Slot,
};

/// Time for one look at all sources of a slot.
const TIME: Duration = Duration::from_secs(30);

type Documents = BTreeMap<String, Value>;

/// What the sources of one slot said last.
#[derive(Debug, Default)]
struct Heard {
    /// The generation that said it.
    generation: u64,
    /// Of each source in the chain, once it has answered.
    documents: Vec<Option<Documents>>,
    /// What is wrong, so that it is logged once.
    trouble: Option<String>,
}

impl Config {
    /// Loads from the sources that are bound from now on: at once when they are, and again and again.
    pub fn follow_sources(&self) {
        let Ok(plane) = self.provider.plane() else { return };
        let mut rebound = plane.rebound(SlotKind::ConfigSource);
        let pause = Duration::from_millis(plane.parts.config.sources_ms.max(1));
        let this = self.clone();
        plane.parts.tasks.spawn_until_cancelled("configuration sources", async move {
            let mut heard = BTreeMap::new();
            loop {
                rebound.borrow_and_update();
                let Ok(plane) = this.provider.plane() else { return };
                let slots = plane.bound(SlotKind::ConfigSource);
                drop(plane);
                heard.retain(|name, _| slots.iter().any(|slot| slot.name() == name));
                for slot in &slots {
                    this.load(slot, heard.entry(slot.name().clone()).or_default()).await;
                }
                tokio::select! {
                    changed = rebound.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
    }

    /// What the sources that are bound for the namespace of the call have now, by id.
    ///
    /// # Errors
    /// One of them can't say, and why.
    pub async fn sourced(&self, call: &Call) -> Result<BTreeMap<String, Value>, String> {
        let plane = self.provider.plane().map_err(|error| error.map(|error| format!("{error:?}")).to_string())?;
        let current = plane.find(SlotKind::ConfigSource, &call.namespace).binding();
        let mut all = Documents::new();
        for entry in current.iter().flat_map(|binding| &binding.entries) {
            lay_over(&mut all, ask(call, entry).await?);
        }
        Ok(all)
    }

    /// Asks the sources of a slot and makes configurations what they say.
    async fn load(&self, slot: &Slot, heard: &mut Heard) {
        let Some(binding) = slot.binding() else { return };
        if heard.generation != binding.generation {
            *heard = Heard { generation: binding.generation, ..Heard::default() };
        }
        let namespace = slot.name().qualifier.as_ref().map_or(NAMESPACE_DEFAULT, |name| name.as_str());
        let call: Call = Arc::new(CallContext::host(Arc::from(namespace), TIME));
        let trouble = self.take(&call, &binding, heard).await.err();
        match (&heard.trouble, &trouble) {
            (before, Some(now)) if before.as_ref() != Some(now) => {
                tracing::warn!(slot = %slot.name(), "configurations can't be loaded: {now}");
            }
            (Some(_), None) => tracing::info!(slot = %slot.name(), "configurations are loaded again"),
            _ => {}
        }
        heard.trouble = trouble;
    }

    /// What is wrong, in words, after everything that could be done was done.
    async fn take(&self, call: &Call, binding: &Binding, heard: &mut Heard) -> Result<(), String> {
        let mut trouble = None;
        heard.documents.resize_with(binding.entries.len(), || None);
        for (entry, said) in binding.entries.iter().zip(&mut heard.documents) {
            let mut answer = ask(call, entry).await;
            if answer.is_err()
                && let (FailureMode::Fallback(_), Some(fallback)) = (&binding.spec.failure, &binding.fallback)
            {
                answer = ask(call, fallback).await;
            }
            match answer {
                Ok(documents) => *said = Some(documents),
                Err(why) => trouble = Some(why),
            }
        }
        let mut all = Documents::new();
        for said in &heard.documents {
            match said {
                Some(documents) => lay_over(&mut all, documents.clone()),
                // Without what it would say, a document would lose what is there only.
                None if binding.spec.failure != FailureMode::Open => return trouble.map_or(Ok(()), Err),
                None => {}
            }
        }
        let names: Vec<&str> = binding.entries.iter().map(|entry| &*entry.label).collect();
        let comment = format!("loaded by {}", names.join(", "));
        for (id, document) in all {
            let content = canonical(&document);
            let edit = Edit { value: &content, comment: &comment, ..Edit::new(&id, Action::Set) };
            if let Err(error) = self.edit(call, &edit).await {
                trouble = Some(format!("`{id}`: {}", error.map(|error| error.to_string())));
            }
        }
        trouble.map_or(Ok(()), Err)
    }
}

/// Merges documents over those of sources before.
fn lay_over(all: &mut Documents, documents: Documents) {
    for (id, document) in documents {
        merge(all.entry(id).or_default(), document);
    }
}

/// What one source has, or why that can't be said.
async fn ask(call: &Call, entry: &Entry) -> Result<Documents, String> {
    let by = |why: String| format!("`{}`: {why}", entry.label);
    let (answer,) = entry.call_with::<Load>(call, (), |_| {}).await.map_err(|fault| by(fault.to_string()))?;
    let mut documents = Documents::new();
    for source::Document { id, content } in answer.map_err(by)? {
        super::check_id(&id)
            .map_err(|error| by(format!("`{}`: {}", id.escape_debug(), error.map(|e| e.to_string()))))?;
        let document = parse(&content).map_err(|error| by(format!("`{id}` can't be taken: {error}")))?;
        if documents.insert(id.clone(), document).is_some() {
            return Err(by(format!("`{id}` is there twice")));
        }
    }
    Ok(documents)
}
