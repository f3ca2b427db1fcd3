//! The auth capability: a chain of policies decides, and a decision always comes of it.

use std::sync::{Arc, Weak};

use platform_capability::{
    Call, SlotKind,
    auth::{Authorize, Decision, Facts, request},
};
use platform_runtime::Fault;

use crate::{
    binding::{Binding, Entry, FailureMode},
    plane::Plane,
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
struct Question<'a> {
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
        let question = Question { call, action, target, facts: &facts };
        match decide(binding, &question, &binding.spec.failure).await {
            Ok(verdict) => verdict,
            Err((entry, fault)) => {
                let last_good = match &binding.spec.failure {
                    FailureMode::LastGood => slot.kept().into_iter().next(),
                    _ => None,
                };
                if let Some(kept) = last_good
                    && let Ok(verdict) = decide(&kept, &question, &FailureMode::Closed).await
                {
                    return verdict;
                }
                failed(binding, &entry, &fault)
            }
        }
    }
}

/// Asks the chain of one binding. An error is a fault that `failure` leaves to the caller.
async fn decide(
    binding: &Binding, question: &Question<'_>, failure: &FailureMode,
) -> Result<Verdict, (Arc<Entry>, Fault)> {
    let mut allowed: Option<Verdict> = None;
    for bound in &binding.entries {
        let (entry, decision) = match ask(bound, question).await {
            Ok(decision) => (bound, decision),
            // A caller who is in a hurry can't have a policy left out.
            Err(fault) if fault.is_too_late() => return Err((Arc::clone(bound), fault)),
            Err(fault) => match (failure, &binding.fallback) {
                (FailureMode::Open, _) => continue,
                (FailureMode::Fallback(_), Some(fallback)) => match ask(fallback, question).await {
                    Ok(decision) => (fallback, decision),
                    Err(fault) => return Err((Arc::clone(fallback), fault)),
                },
                _ => return Err((Arc::clone(bound), fault)),
            },
        };
        match decision {
            Decision::Abstain => {}
            Decision::Deny(deny) => {
                let status = match deny.status {
                    400..=599 => deny.status,
                    _ if question.call.caller.is_none() => 401,
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
            Decision::Allow(allow) => {
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
        ..denial(if question.call.caller.is_none() { 401 } else { 403 }, "no policy allows it")
    }))
}

async fn ask(entry: &Entry, question: &Question<'_>) -> Result<Decision, Fault> {
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
