//! The chain of validators: every one of them accepts a change, or it is not made.

use std::sync::Arc;

use futures::future::BoxFuture;
use platform_capability::{
    Call, Guest, SlotKind,
    config::{Change, Proposed, Refusal, proposal, validator::Validate},
};
use platform_document::{Pointer, touched};
use platform_runtime::Fault;
use serde_json::Value;

use super::{Config, ConfigError, Edit, Result, ask};
use crate::{
    binding::{Binding, Entry, FailureMode},
    decide::{Failed, Question, decide},
    error::CallError,
    rollout::Asked,
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
struct Judgement<'a> {
    call: &'a Call,
    id: &'a str,
    change: &'a Change,
    proposal: &'a Arc<dyn Proposed>,
}

impl Config {
    /// What the validators say of a change that nobody makes, from one document to another.
    ///
    /// # Errors
    /// One refuses, or fails where the slot's failure mode knows no other way.
    pub async fn would_take(
        &self, call: &Call, edit: &Edit<'_>, before: Option<Value>, after: Option<Value>,
    ) -> Result<()> {
        let change = Change {
            action: edit.action,
            path: edit.path.to_owned(),
            author: call.caller.as_ref().map(|caller| caller.subject.clone()),
            comment: edit.comment.to_owned(),
            time_ms: call.time_ns / 1_000_000,
            touched: touched(before.as_ref(), after.as_ref()).iter().map(ToString::to_string).collect(),
            difference: None,
            restores: edit.restores,
            checksum: String::new(),
        };
        let proposal = Proposal::new(before, after, &change);
        self.judge(call, edit.id, &change, proposal).await
    }

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
        let question = Judgement { call, id, change, proposal: &proposal };
        let unjudged =
            |(by, fault): Failed| Err(ConfigError::Unjudged { by: Arc::clone(&by.label), why: fault.to_string() });
        decide(&slot, binding, &question).await.unwrap_or_else(unjudged).map_err(CallError::Capability)
    }
}

impl Question for Judgement<'_> {
    type Answer = Result<(), ConfigError>;

    fn call(&self) -> &Call {
        self.call
    }

    /// An error inside is a refusal.
    async fn put_to(&self, binding: &Binding, failure: &FailureMode) -> Result<Self::Answer, Failed> {
        for bound in &binding.entries {
            let (entry, answer) = match self.ask(bound).await {
                Ok(answer) => (bound, answer),
                Err(fault) if fault.is_too_late() => return Err((Arc::clone(bound), fault)),
                Err(fault) => match (failure, &binding.fallback) {
                    (FailureMode::Open, _) => {
                        tracing::warn!(plugin = %bound.label, %fault, "a validator failed and was left out");
                        continue;
                    }
                    (FailureMode::Fallback(_), Some(fallback)) => match self.ask(fallback).await {
                        Ok(answer) => (fallback, answer),
                        Err(fault) => return Err((Arc::clone(fallback), fault)),
                    },
                    _ => return Err((Arc::clone(bound), fault)),
                },
            };
            if let Err(Refusal { reason, at }) = answer {
                return Ok(Err(ConfigError::Refused { by: Arc::clone(&entry.label), reason, at }));
            }
        }
        Ok(Ok(()))
    }

    fn shadow(&self, candidate: Arc<Binding>, call: Call) -> BoxFuture<'static, Result<String, Fault>> {
        let (id, change, proposal) = (self.id.to_owned(), self.change.clone(), Arc::clone(self.proposal));
        Box::pin(async move {
            let question = Judgement { call: &call, id: &id, change: &change, proposal: &proposal };
            let answer = question.put_to(&candidate, &FailureMode::Closed).await.map_err(|(_, fault)| fault)?;
            Ok(question.told(&answer))
        })
    }

    fn asked(&self) -> Asked {
        let subject = self.change.author.clone().unwrap_or_default();
        // Generated types show themselves with their path.
        let action = format!("{:?}", self.change.action);
        let action = action.rsplit("::").next().unwrap_or_default().to_lowercase();
        Asked { subject, action, resource: format!("{}{}", self.id, self.change.path) }
    }

    fn told(&self, answer: &Self::Answer) -> String {
        match answer {
            Ok(()) => "accept".to_owned(),
            Err(ConfigError::Refused { at: Some(at), .. }) => format!("refuse {at}"),
            Err(_) => "refuse".to_owned(),
        }
    }
}

impl Judgement<'_> {
    async fn ask(&self, entry: &Entry) -> Result<Result<(), Refusal>, Fault> {
        let author = self.change.author.as_deref().unwrap_or_default();
        let params = (self.id, self.change.path.as_str(), self.change.action, author, proposal());
        let seat = |guest: &mut Guest| guest.proposal = Some(Arc::clone(self.proposal));
        let (answer,) = entry.call_with::<Validate>(self.call, params, seat).await?;
        Ok(answer)
    }
}
