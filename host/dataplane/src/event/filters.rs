//! The chain of filters: each sees an event as those before left it, and may drop it or say what is to be different.

use std::sync::Arc;

use futures::future::BoxFuture;
use platform_capability::{
    Call, Guest, SlotKind,
    event::{Draft, Outcome, Transformation, candidate, filter::Filter},
};
use platform_runtime::Fault;

use super::{Event, EventError, Result, ask};
use crate::{
    binding::{Binding, Entry, FailureMode},
    decide::{Failed, Question, decide, fingerprint},
    error::CallError,
    rollout::Asked,
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
        let unfiltered =
            |(by, fault): Failed| EventError::Unfiltered { by: Arc::clone(&by.label), why: fault.to_string() };
        let passage = Passage { call, topic, draft };
        decide(&slot, binding, &passage).await.map_err(|failed| CallError::Capability(unfiltered(failed)))
    }
}

/// One event on its way.
struct Passage<'a> {
    call: &'a Call,
    topic: &'a str,
    draft: Arc<Draft>,
}

impl Question for Passage<'_> {
    type Answer = Filtered;

    fn call(&self) -> &Call {
        self.call
    }

    async fn put_to(&self, binding: &Binding, failure: &FailureMode) -> Result<Filtered, Failed> {
        pass(binding, failure, self.call, self.topic, Arc::clone(&self.draft)).await
    }

    fn shadow(&self, candidate: Arc<Binding>, call: Call) -> BoxFuture<'static, Result<String, Fault>> {
        let (topic, draft) = (self.topic.to_owned(), Arc::clone(&self.draft));
        Box::pin(async move {
            let passage = Passage { call: &call, topic: &topic, draft };
            let answer = passage.put_to(&candidate, &FailureMode::Closed).await.map_err(|(_, fault)| fault)?;
            Ok(passage.told(&answer))
        })
    }

    fn asked(&self) -> Asked {
        let subject = self.draft.publisher.clone().unwrap_or_default();
        Asked { subject, action: self.draft.type_.clone(), resource: self.topic.to_owned() }
    }

    fn told(&self, answer: &Filtered) -> String {
        match answer {
            Ok(draft) => {
                let content = fingerprint((&draft.metadata, &draft.content_type, &draft.data));
                format!("keep as `{}` {content}", draft.type_)
            }
            Err(_) => "drop".to_owned(),
        }
    }
}

/// Sends a draft through the chain of one binding. An error is a fault that `failure` leaves to the caller.
async fn pass(
    binding: &Binding, failure: &FailureMode, call: &Call, topic: &str, mut draft: Arc<Draft>,
) -> Result<Filtered, Failed> {
    for bound in &binding.entries {
        let outcome = match put_to(bound, call, topic, &draft).await {
            Ok(outcome) => outcome,
            Err(fault) if fault.is_too_late() => return Err((Arc::clone(bound), fault)),
            Err(fault) => match (failure, &binding.fallback) {
                (FailureMode::Open, _) => {
                    tracing::warn!(plugin = %bound.label, %fault, "a filter failed and was left out");
                    continue;
                }
                (FailureMode::Fallback(_), Some(fallback)) => {
                    put_to(fallback, call, topic, &draft).await.map_err(|fault| (Arc::clone(fallback), fault))?
                }
                _ => return Err((Arc::clone(bound), fault)),
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
