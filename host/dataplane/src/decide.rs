//! How a slot of decisions comes to an answer: by what serves, by the generation before, or by a candidate that is tried.
//!
//! Must not know what is asked. Invariant: an answer comes of one generation; a candidate that can't answer is as if it had not
//! been asked.

use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::{Arc, LazyLock},
    time::Duration,
};

use futures::future::BoxFuture;
use platform_base::clock;
use platform_capability::{Call, CallContext};
use platform_runtime::Fault;

use crate::{
    binding::{Binding, Entry, FailureMode},
    rollout::{Asked, Rollout},
    slot::Slot,
};

/// Time that a candidate has to answer what was answered before.
const SHADOW_TIME: Duration = Duration::from_secs(5);

/// The plugin that failed, and how.
pub(crate) type Failed = (Arc<Entry>, Fault);

/// What a chain of decisions is asked.
pub(crate) trait Question: Send + Sync {
    /// What it comes to.
    type Answer: Send + Sync;

    /// The call that it is asked in.
    fn call(&self) -> &Call;

    /// Asks the chain of one binding. An error is a fault that `failure` leaves to the caller.
    fn put_to(
        &self, binding: &Binding, failure: &FailureMode,
    ) -> impl Future<Output = Result<Self::Answer, Failed>> + Send;

    /// Asks a candidate the same in `call`, for its answer as [`Self::told`] tells it.
    fn shadow(&self, candidate: Arc<Binding>, call: Call) -> BoxFuture<'static, Result<String, Fault>>;

    /// What it is about, as it may be shown.
    fn asked(&self) -> Asked;

    /// An answer in words that hold no secrets; answers that are told alike are alike.
    fn told(&self, answer: &Self::Answer) -> String;
}

/// Asks what a slot holds.
pub(crate) async fn decide<Q: Question>(slot: &Slot, binding: &Binding, question: &Q) -> Result<Q::Answer, Failed> {
    match &binding.rollout {
        None => current(slot, binding, question).await,
        // Apart, so that calls of slots without a rollout carry nothing of it.
        Some(rollout) => Box::pin(tried(slot, rollout, question)).await,
    }
}

/// Asks what serves; when it fails, the generation before where the failure mode says so.
async fn current<Q: Question>(slot: &Slot, binding: &Binding, question: &Q) -> Result<Q::Answer, Failed> {
    let failed = match question.put_to(binding, &binding.spec.failure).await {
        Ok(answer) => return Ok(answer),
        Err(failed) => failed,
    };
    if binding.spec.failure == FailureMode::LastGood
        && !failed.1.is_too_late()
        && let Some(kept) = slot.kept().first()
        && let Ok(answer) = question.put_to(kept, &FailureMode::Closed).await
    {
        return Ok(answer);
    }
    Err(failed)
}

/// Asks while a candidate is tried. One that fails counts as failed, and what serves answers: a decision has no side effects,
/// so it can be made twice.
async fn tried<Q: Question>(slot: &Slot, rollout: &Rollout, question: &Q) -> Result<Q::Answer, Failed> {
    if rollout.takes(question.call()) {
        let begun = clock::now();
        let answer = question.put_to(&rollout.candidate, &FailureMode::Closed).await;
        let fault = answer.as_ref().err().map(|(_, fault)| fault);
        rollout.tally.tried(clock::now().saturating_duration_since(begun), fault.map(Fault::kind));
        match answer {
            Ok(answer) => return Ok(answer),
            Err(failed) if failed.1.is_too_late() => return Err(failed),
            Err((entry, fault)) => {
                tracing::warn!(plugin = %entry.label, generation = rollout.generation(), %fault, "candidate failed");
            }
        }
    }
    let begun = clock::now();
    let answer = current(slot, &rollout.base, question).await;
    let fault = answer.as_ref().err().map(|(_, fault)| fault);
    rollout.tally.current.record(clock::now().saturating_duration_since(begun), fault);
    if rollout.is_shadow()
        && let Ok(used) = &answer
    {
        let candidate = question.shadow(Arc::clone(&rollout.candidate), later(question.call()));
        rollout.tally.compare(question.asked(), question.told(used), candidate);
    }
    answer
}

/// The same call for a candidate, whose answer nobody waits for and which must not write again what was written.
pub(crate) fn later(call: &Call) -> Call {
    Arc::new(CallContext { deadline: clock::now() + SHADOW_TIME, reads_only: true, ..CallContext::clone(call) })
}

/// Stands for a value that may be secret: the same for the same value as long as this process runs.
pub(crate) fn fingerprint(value: impl Hash) -> String {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    format!("#{:08x}", KEYS.hash_one(value) >> 32)
}
