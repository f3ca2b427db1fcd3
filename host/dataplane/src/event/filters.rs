//! The chain of filters: each sees an event as those before left it, and may drop it or say what is to be different.

use std::sync::Arc;

use platform_capability::{
    Call, Guest, SlotKind,
    event::{Draft, Outcome, Transformation, candidate, filter::Filter},
};
use platform_runtime::Fault;

use super::{Event, EventError, Result, ask};
use crate::{
    binding::{Binding, Entry, FailureMode},
    error::CallError,
};

/// Longest reason that a publisher is told, in characters.
const REASON_CHARS_MAX: usize = 1000;

/// A draft that passed, or why it was dropped.
type Filtered = std::result::Result<Arc<Draft>, String>;

impl Event {
    /// Asks the filters that are bound for the namespace of the call; without any the event is kept as it is.
    ///
    /// # Errors
    /// One fails where the slot's failure mode knows no other way.
    pub(super) async fn filter(&self, call: &Call, topic: &str, draft: Arc<Draft>) -> Result<Filtered> {
        let plane = ask(self.provider.plane())?;
        let slot = plane.find(SlotKind::EventFilter, &call.namespace);
        let current = slot.binding();
        let Some(binding) = current.as_deref() else { return Ok(Ok(draft)) };
        let mut answer = pass(binding, &binding.spec.failure, call, topic, Arc::clone(&draft)).await;
        if let Err((_, fault)) = &answer
            && binding.spec.failure == FailureMode::LastGood
            && !fault.is_too_late()
            && let Some(kept) = slot.kept().first()
        {
            answer = pass(kept, &FailureMode::Closed, call, topic, draft).await;
        }
        answer.map_err(|(by, fault)| CallError::Capability(EventError::Unfiltered { by, why: fault.to_string() }))
    }
}

/// Sends a draft through the chain of one binding. An error is a fault that `failure` leaves to the caller.
async fn pass(
    binding: &Binding, failure: &FailureMode, call: &Call, topic: &str, mut draft: Arc<Draft>,
) -> Result<Filtered, (Arc<str>, Fault)> {
    for bound in &binding.entries {
        let outcome = match put_to(bound, call, topic, &draft).await {
            Ok(outcome) => outcome,
            Err(fault) if fault.is_too_late() => return Err((Arc::clone(&bound.label), fault)),
            Err(fault) => match (failure, &binding.fallback) {
                (FailureMode::Open, _) => {
                    tracing::warn!(plugin = %bound.label, %fault, "a filter failed and was left out");
                    continue;
                }
                (FailureMode::Fallback(_), Some(fallback)) => {
                    put_to(fallback, call, topic, &draft).await.map_err(|fault| (Arc::clone(&fallback.label), fault))?
                }
                _ => return Err((Arc::clone(&bound.label), fault)),
            },
        };
        match outcome {
            Outcome::Pass => {}
            Outcome::Drop(why) => return Ok(Err(why.chars().take(REASON_CHARS_MAX).collect())),
            Outcome::Transform(transformation) => draft = Arc::new(transform(&draft, transformation)),
        }
    }
    Ok(Ok(draft))
}

async fn put_to(entry: &Entry, call: &Call, topic: &str, draft: &Arc<Draft>) -> Result<Outcome, Fault> {
    let publisher = draft.publisher.as_deref().unwrap_or_default();
    let params = (topic, draft.type_.as_str(), draft.origin.as_str(), publisher, candidate());
    let seat = |guest: &mut Guest| guest.draft = Some(Arc::clone(draft));
    let (outcome,) = entry.call_with::<Filter>(call, params, seat).await?;
    Ok(outcome)
}

/// The draft as a filter wants it.
fn transform(draft: &Draft, transformation: Transformation) -> Draft {
    let Transformation { type_, metadata, data } = transformation;
    let mut draft = draft.clone();
    if let Some(kind) = type_ {
        draft.type_ = kind;
    }
    for (name, value) in metadata {
        draft.metadata.retain(|(known, _)| *known != name);
        draft.metadata.extend(value.map(|value| (name, value)));
    }
    draft.metadata.sort();
    if let Some((content_type, data)) = data {
        (draft.content_type, draft.data) = (content_type, data);
    }
    draft
}
