//! The chain of validators: every one of them accepts a change, or it is not made.

use std::sync::Arc;

use platform_capability::{
    Call, Guest, SlotKind,
    config::{Change, Proposed, Refusal, proposal, validator::Validate},
};
use platform_document::Pointer;
use platform_runtime::Fault;
use serde_json::Value;

use super::{Config, ConfigError, Result, ask};
use crate::{
    binding::{Binding, Entry, FailureMode},
    error::CallError,
};

/// A change that has not been made.
#[derive(Debug)]
pub(super) struct Proposal {
    before: Option<Value>,
    after: Option<Value>,
    touched: Vec<String>,
    comment: String,
}

impl Proposal {
    pub(super) fn new(before: Option<Value>, after: Option<Value>, change: &Change) -> Self {
        Self { before, after, touched: change.touched.clone(), comment: change.comment.clone() }
    }
}

impl Proposed for Proposal {
    fn before(&self, path: &str) -> Option<String> {
        at(self.before.as_ref(), path)
    }

    fn after(&self, path: &str) -> Option<String> {
        at(self.after.as_ref(), path)
    }

    fn touched(&self) -> Vec<String> {
        self.touched.clone()
    }

    fn comment(&self) -> String {
        self.comment.clone()
    }
}

/// Where no pointer leads nothing is.
fn at(document: Option<&Value>, path: &str) -> Option<String> {
    let path: Pointer = path.parse().ok()?;
    path.get(document?).map(Value::to_string)
}

/// One question.
struct Question<'a> {
    call: &'a Call,
    id: &'a str,
    change: &'a Change,
    proposal: &'a Arc<dyn Proposed>,
}

impl Config {
    /// Asks the validators that are bound for the namespace of the call; without any the change may be made.
    ///
    /// # Errors
    /// One refuses, or fails where the slot's failure mode knows no other way.
    pub(super) async fn judge(&self, call: &Call, id: &str, change: &Change, proposal: Proposal) -> Result<()> {
        let plane = ask(self.provider.plane())?;
        let slot = plane.find(SlotKind::ConfigValidator, &call.namespace);
        let current = slot.binding();
        let Some(binding) = current.as_deref() else { return Ok(()) };
        let proposal: Arc<dyn Proposed> = Arc::new(proposal);
        let question = Question { call, id, change, proposal: &proposal };
        let mut answer = question.put_to(binding, &binding.spec.failure).await;
        if let Err((_, fault)) = &answer
            && binding.spec.failure == FailureMode::LastGood
            && !fault.is_too_late()
            && let Some(kept) = slot.kept().first()
        {
            answer = question.put_to(kept, &FailureMode::Closed).await;
        }
        answer
            .unwrap_or_else(|(by, fault)| Err(ConfigError::Unjudged { by, why: fault.to_string() }))
            .map_err(CallError::Capability)
    }
}

impl Question<'_> {
    /// Asks the chain of one binding. An error outside is a fault that `failure` leaves to the caller.
    async fn put_to(
        &self, binding: &Binding, failure: &FailureMode,
    ) -> Result<Result<(), ConfigError>, (Arc<str>, Fault)> {
        for bound in &binding.entries {
            let (entry, answer) = match self.ask(bound).await {
                Ok(answer) => (bound, answer),
                Err(fault) if fault.is_too_late() => return Err((Arc::clone(&bound.label), fault)),
                Err(fault) => match (failure, &binding.fallback) {
                    (FailureMode::Open, _) => {
                        tracing::warn!(plugin = %bound.label, %fault, "a validator failed and was left out");
                        continue;
                    }
                    (FailureMode::Fallback(_), Some(fallback)) => match self.ask(fallback).await {
                        Ok(answer) => (fallback, answer),
                        Err(fault) => return Err((Arc::clone(&fallback.label), fault)),
                    },
                    _ => return Err((Arc::clone(&bound.label), fault)),
                },
            };
            if let Err(Refusal { reason, at }) = answer {
                return Ok(Err(ConfigError::Refused { by: Arc::clone(&entry.label), reason, at }));
            }
        }
        Ok(Ok(()))
    }

    async fn ask(&self, entry: &Entry) -> Result<Result<(), Refusal>, Fault> {
        let author = self.change.author.as_deref().unwrap_or_default();
        let params = (self.id, self.change.path.as_str(), self.change.action, author, proposal());
        let seat = |guest: &mut Guest| guest.proposal = Some(Arc::clone(self.proposal));
        let (answer,) = entry.call_with::<Validate>(self.call, params, seat).await?;
        Ok(answer)
    }
}
