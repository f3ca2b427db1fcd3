//! The auth capability: a chain of policies decides, and a decision always comes of it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use futures::future::BoxFuture;
use platform_capability::{
    Call, SlotKind,
    auth::{Authorize, Decision as Answer, Facts, INTERFACE, request},
};
use platform_runtime::Fault;

use crate::{
    binding::{Binding, Entry, FailureMode},
    decide::{Failed, Question, decide, fingerprint},
    plane::Plane,
    recorder::{Asker, Decision},
    rollout::Asked,
    slot_name::SlotName,
};

/// Decisions by `auth.policy`, or by `auth.policy/NAME` where the asker names it.
#[derive(Debug)]
pub struct Auth {
    plane: Weak<Plane>,
}

/// What came of a chain of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request may pass.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// HTTP status of a denial; 200 for what is allowed.
    pub status: u16,
    /// Headers to set on the request that passes.
    pub set_headers: Vec<(String, String)>,
    /// Headers to remove from the request that passes.
    pub remove_headers: Vec<String>,
    /// Headers of the answer to a request that does not pass.
    pub response_headers: Vec<(String, String)>,
    /// The plugin that decided; none when nobody did.
    pub decided_by: Option<Arc<str>>,
    /// The generation that decided; 0 when nothing is bound.
    pub generation: u64,
    /// Kind of the fault that decided, when one did.
    pub fault: Option<&'static str>,
}

/// One question.
struct Check<'a> {
    call: &'a Call,
    action: &'a str,
    target: &'a str,
    facts: &'a Arc<dyn Facts>,
}

impl Auth {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        Self { plane }
    }

    /// Whether the caller of `call` may do `action` on `target`. Never fails: what goes wrong is decided by the slot's
    /// failure mode, and without a binding everything is denied.
    pub async fn check(
        &self, call: &Call, policy: Option<&str>, action: &str, target: &str, facts: Arc<dyn Facts>,
    ) -> Verdict {
        let Some(plane) = self.plane.upgrade() else { return denial(503, "the platform is shutting down") };
        let slot = plane.find(SlotKind::AuthPolicy, policy.unwrap_or_default());
        if policy.is_some_and(|policy| slot.name().qualifier.as_ref().is_none_or(|bound| bound.as_str() != policy)) {
            return denial(403, "no policy of that name is bound");
        }
        let current = slot.current();
        let Some(binding) = current.as_deref() else { return denial(403, "no policy is bound") };
        let check = Check { call, action, target, facts: &facts };
        let verdict = match decide(&slot, binding, &check).await {
            Ok(verdict) => verdict,
            Err((entry, fault)) => failed(binding, &entry, &fault),
        };
        if let Some(recorder) = plane.recorder()
            && recorder.draws()
        {
            recorder.keep(check.decision(slot.name(), &verdict));
        }
        verdict
    }
}

impl Check<'_> {
    /// The question and what it came to, to be kept.
    fn decision(&self, slot: &SlotName, verdict: &Verdict) -> Decision<'static> {
        Decision {
            interface: INTERFACE.into(),
            slot: slot.to_string().into(),
            time_ns: self.call.time_ns,
            namespace: self.call.namespace.to_string().into(),
            caller: self.call.caller.as_deref().map(Asker::from),
            action: self.action.to_owned().into(),
            target: self.target.to_owned().into(),
            headers: self.facts.headers().iter().collect(),
            attributes: self.facts.attributes().iter().collect(),
            redacted: BTreeSet::new(),
            outcome: verdict.into(),
        }
    }
}

impl Question for Check<'_> {
    type Answer = Verdict;

    fn call(&self) -> &Call {
        self.call
    }

    async fn put_to(&self, binding: &Binding, failure: &FailureMode) -> Result<Verdict, Failed> {
        let mut allowed: Option<Verdict> = None;
        for bound in &binding.entries {
            let (entry, decision) = match ask(bound, self).await {
                Ok(decision) => (bound, decision),
                // A caller who is in a hurry can't have a policy left out.
                Err(fault) if fault.is_too_late() => return Err((Arc::clone(bound), fault)),
                Err(fault) => match (failure, &binding.fallback) {
                    (FailureMode::Open, _) => continue,
                    (FailureMode::Fallback(_), Some(fallback)) => match ask(fallback, self).await {
                        Ok(decision) => (fallback, decision),
                        Err(fault) => return Err((Arc::clone(fallback), fault)),
                    },
                    _ => return Err((Arc::clone(bound), fault)),
                },
            };
            match decision {
                Answer::Abstain => {}
                Answer::Deny(deny) => {
                    let status = match deny.status {
                        400..=599 => deny.status,
                        _ if self.call.caller.is_none() => 401,
                        _ => 403,
                    };
                    return Ok(Verdict {
                        reason: deny.reason,
                        status,
                        response_headers: deny.headers,
                        decided_by: Some(Arc::clone(&entry.label)),
                        generation: binding.generation,
                        ..denial(status, "")
                    });
                }
                Answer::Allow(allow) => {
                    let verdict = allowed.get_or_insert_with(|| Verdict {
                        allowed: true,
                        reason: allow.reason,
                        decided_by: Some(Arc::clone(&entry.label)),
                        generation: binding.generation,
                        ..denial(200, "")
                    });
                    verdict.set_headers.extend(allow.set_headers);
                    verdict.remove_headers.extend(allow.remove_headers);
                }
            }
        }
        Ok(allowed.unwrap_or_else(|| Verdict {
            generation: binding.generation,
            ..denial(if self.call.caller.is_none() { 401 } else { 403 }, "no policy allows it")
        }))
    }

    fn shadow(&self, candidate: Arc<Binding>, call: Call) -> BoxFuture<'static, Result<String, Fault>> {
        let (action, target, facts) = (self.action.to_owned(), self.target.to_owned(), Arc::clone(self.facts));
        Box::pin(async move {
            let check = Check { call: &call, action: &action, target: &target, facts: &facts };
            let verdict = check.put_to(&candidate, &FailureMode::Closed).await.map_err(|(_, fault)| fault)?;
            Ok(check.told(&verdict))
        })
    }

    fn asked(&self) -> Asked {
        let (action, resource) = (self.action.to_owned(), self.target.to_owned());
        Asked { subject: self.call.subject().to_owned(), action, resource }
    }

    /// Reasons may differ: they are words.
    fn told(&self, verdict: &Verdict) -> String {
        let mut told = if verdict.allowed { "allow".to_owned() } else { format!("deny {}", verdict.status) };
        for (what, headers) in [("sets", &verdict.set_headers), ("answers", &verdict.response_headers)] {
            for (name, value) in headers {
                told.push_str(&format!(", {what} {name} {}", fingerprint(value)));
            }
        }
        for name in &verdict.remove_headers {
            told.push_str(&format!(", removes {name}"));
        }
        told
    }
}

async fn ask(entry: &Entry, question: &Check<'_>) -> Result<Answer, Fault> {
    let subject = question.call.caller.as_ref().map_or("", |caller| caller.subject.as_str());
    let params = (subject, question.action, question.target, request());
    let seat = |guest: &mut platform_capability::Guest| guest.facts = Some(Arc::clone(question.facts));
    let (decision,) = entry.call_with::<Authorize>(question.call, params, seat).await?;
    Ok(decision)
}

fn denial(status: u16, reason: &str) -> Verdict {
    Verdict {
        allowed: false,
        reason: reason.to_owned(),
        status,
        set_headers: Vec::new(),
        remove_headers: Vec::new(),
        response_headers: Vec::new(),
        decided_by: None,
        generation: 0,
        fault: None,
    }
}

/// The denial that a fault comes to. The caller learns that a policy failed, not how.
fn failed(binding: &Binding, entry: &Entry, fault: &Fault) -> Verdict {
    tracing::warn!(plugin = %entry.label, generation = binding.generation, %fault, "policy failed");
    Verdict {
        decided_by: Some(Arc::clone(&entry.label)),
        generation: binding.generation,
        fault: Some(fault.kind()),
        ..denial(503, "a policy failed")
    }
}
