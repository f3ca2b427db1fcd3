//! Rollouts of providers: what only reads may be asked of a candidate, and nothing else is.
//!
//! Owns which functions those are. Must not know what their answers mean. Invariant: the candidate makes no write, neither one of a
//! caller nor one of its own; what it can't answer, the generation that serves does.

use std::{
    convert::Infallible,
    fmt::{self, Write as _},
    sync::Arc,
};

use futures::future::BoxFuture;
use platform_base::clock;
use platform_capability::{Call, CallContext, db, discovery, kv};
use platform_runtime::{Fault, Function};

use super::{Asked, Rollout, Tally};
use crate::{
    binding::Entry,
    decide::{fingerprint, later},
    error::CallError,
    metrics::UNABLE,
    provider::ProviderError,
    slot::Slot,
};

/// Longest answer that is compared, in bytes as it would be printed.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Times that both are asked while what they read changes.
const ATTEMPTS: usize = 3;

/// A function that only reads, with arguments that can be kept until a candidate is asked.
pub(crate) trait Read: Function + Sized + 'static {
    /// Its arguments.
    type Kept: Send + Sync + 'static;

    /// Keeps arguments.
    fn keep(params: Self::Params<'_>) -> Self::Kept;

    /// What is read, for people.
    fn resource(kept: &Self::Kept) -> String;

    /// Asks one plugin.
    fn ask(entry: Arc<Entry>, call: Call, kept: Arc<Self::Kept>) -> BoxFuture<'static, Result<Self::Results, Fault>>;
}

macro_rules! reads {
    ($($function:ty: $kept:ty, $params:pat => $keep:expr, $lent:ident => $lend:expr, $resource:expr;)+) => {$(
        impl Read for $function {
            type Kept = $kept;

            fn keep($params: Self::Params<'_>) -> Self::Kept {
                $keep
            }

            fn resource($lent: &Self::Kept) -> String {
                $resource
            }

            fn ask(
                entry: Arc<Entry>, call: Call, kept: Arc<Self::Kept>,
            ) -> BoxFuture<'static, Result<Self::Results, Fault>> {
                Box::pin(async move {
                    let $lent = kept.as_ref();
                    entry.call::<Self>(&call, $lend).await
                })
            }
        }
    )+};
}

type After = Option<String>;

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn lent(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

reads! {
    kv::Get: String, (key,) => key.to_owned(), key => (key,), key.clone();
    kv::GetMany: Vec<String>, (keys,) => owned(keys), keys => (&lent(keys),), keys.join(" ");
    kv::Used: (), () => (), _nothing => (), String::new();
    kv::Scan: (String, After, u32), (prefix, after, limit) => (prefix.to_owned(), after.map(str::to_owned), limit),
        page => (&page.0, page.1.as_deref(), page.2), format!("{}*", page.0);
    discovery::Get: (String, After, u32), (service, after, limit) => (service.to_owned(), after.map(str::to_owned), limit),
        page => (&page.0, page.1.as_deref(), page.2), page.0.clone();
    discovery::List: (After, u32), (after, limit) => (after.map(str::to_owned), limit),
        page => (page.0.as_deref(), page.1), page.0.clone().unwrap_or_default();
    db::Tables: (String, After, u32), (prefix, after, limit) => (prefix.to_owned(), after.map(str::to_owned), limit),
        page => (&page.0, page.1.as_deref(), page.2), format!("{}*", page.0);
    db::Get: (String, String, Vec<String>), (database, table, ids) => (database.to_owned(), table.to_owned(), owned(ids)),
        of => (&of.0, &of.1, &lent(&of.2)), format!("{}/{}: {}", of.0, of.1, of.2.join(" "));
    db::Find: (String, String, db::Query), (database, table, query) => (database.to_owned(), table.to_owned(), query.clone()),
        of => (&of.0, &of.1, &of.2), format!("{}/{}", of.0, of.1);
}

/// Reads what a slot keeps.
pub(crate) async fn read<F, R, E>(
    slot: &Slot, call: &Call, params: F::Params<'_>,
) -> Result<F::Results, CallError<Infallible>>
where
    F: Read<Results = (Result<R, E>,)>,
    R: fmt::Debug + Send + 'static,
    E: ProviderError,
    for<'a> F::Params<'a>: Clone,
{
    let rollout = slot.current().as_ref().and_then(|binding| binding.rollout.clone());
    match rollout {
        None => slot.call::<F>(call, params).await,
        // Apart, so that calls of slots without a rollout carry nothing of it.
        Some(rollout) => Box::pin(tried::<F, R, E>(slot, &rollout, call, params)).await,
    }
}

async fn tried<F, R, E>(
    slot: &Slot, rollout: &Rollout, call: &Call, params: F::Params<'_>,
) -> Result<F::Results, CallError<Infallible>>
where
    F: Read<Results = (Result<R, E>,)>,
    R: fmt::Debug + Send + 'static,
    E: ProviderError,
    for<'a> F::Params<'a>: Clone,
{
    if rollout.takes(call)
        && let Some(candidate) = rollout.candidate.entries.first()
    {
        let begun = clock::now();
        let answer = candidate.call::<F>(&reading(call), params.clone()).await;
        let failed = answer.as_ref().map_or_else(|fault| Some(fault.kind()), unable);
        rollout.tally.tried(clock::now().saturating_duration_since(begun), failed);
        match answer {
            Ok(results) if failed.is_none() => return Ok(results),
            Err(fault) if fault.is_too_late() => {
                return Err(CallError::Fault {
                    slot: slot.name().clone(),
                    plugin: Arc::clone(&candidate.label),
                    fault,
                });
            }
            other => {
                let why = other.map_or_else(|fault| fault.to_string(), |(answer,)| format!("{:?}", answer.err()));
                tracing::warn!(plugin = %candidate.label, generation = rollout.generation(), why, "candidate failed");
            }
        }
    }
    let begun = clock::now();
    let answer = slot.call::<F>(call, params.clone()).await;
    let failed = match &answer {
        Ok(results) => unable(results),
        Err(CallError::Fault { fault, .. }) => Some(fault.kind()),
        Err(_) => None,
    };
    rollout.tally.current.count(clock::now().saturating_duration_since(begun), failed);
    if rollout.is_shadow()
        && let Ok((used,)) = &answer
        && let (Some(candidate), Some(serving)) = (rollout.candidate.entries.first(), rollout.base.entries.first())
    {
        let Some(used) = told(used) else {
            rollout.tally.dropped();
            return answer;
        };
        let question = Question::<F> {
            candidate: Arc::clone(candidate),
            serving: Arc::clone(serving),
            call: Arc::clone(call),
            kept: Arc::new(F::keep(params)),
        };
        rollout.tally.queue(Box::pin(question.compare::<R, E>(Arc::clone(&rollout.tally), used)));
    }
    answer
}

/// What a shadow is asked.
struct Question<F: Read> {
    candidate: Arc<Entry>,
    serving: Arc<Entry>,
    call: Call,
    kept: Arc<F::Kept>,
}

impl<F: Read> Question<F> {
    /// Compares the candidate's answer with the one that was used. What is read may have changed in between: answers that
    /// differ count once the generation that serves says again what it said.
    async fn compare<R, E>(self, tally: Arc<Tally>, used: String)
    where
        F: Read<Results = (Result<R, E>,)>,
        R: fmt::Debug + Send + 'static,
        E: ProviderError,
    {
        let mut now = used.clone();
        for _ in 0..ATTEMPTS {
            let begun = clock::now();
            let answer = self.ask(&self.candidate).await;
            let failed = answer.as_ref().map_or_else(|fault| Some(fault.kind()), unable);
            tally.tried(clock::now().saturating_duration_since(begun), failed);
            let (Ok((answer,)), None) = (answer, failed) else { return };
            let Some(answer) = told(&answer) else { break };
            if answer == now {
                return tally.compared(self.asked(), used.clone(), used);
            }
            let Ok((again,)) = self.ask(&self.serving).await else { break };
            let Some(again) = told(&again) else { break };
            if again == now {
                return tally.compared(self.asked(), now, answer);
            }
            now = again;
        }
        tally.dropped();
    }

    fn ask(&self, entry: &Arc<Entry>) -> BoxFuture<'static, Result<F::Results, Fault>> {
        F::ask(Arc::clone(entry), later(&self.call), Arc::clone(&self.kept))
    }

    fn asked(&self) -> Asked {
        Asked { subject: self.call.subject().to_owned(), action: F::NAME.to_owned(), resource: F::resource(&self.kept) }
    }
}

/// The same call for one that must not write.
fn reading(call: &Call) -> Call {
    Arc::new(CallContext { reads_only: true, ..CallContext::clone(call) })
}

/// How an answer failed, if it did: a provider that says that it can't is as bad as one that falls over.
fn unable<R, E: ProviderError>(results: &(Result<R, E>,)) -> Option<&'static str> {
    results.0.as_ref().err().filter(|error| error.is_unable()).map(|_| UNABLE)
}

/// An answer in words that hold no secrets; none for one that is too long to be compared.
fn told<R: fmt::Debug, E: fmt::Debug>(answer: &Result<R, E>) -> Option<String> {
    let mut text = Bounded(String::new());
    match answer {
        Err(error) => write!(text, "{error:?}").ok()?,
        Ok(found) => write!(text, "{found:?}").ok()?,
    }
    let Bounded(text) = text;
    let is_plain = answer.is_err() || matches!(text.as_str(), "None" | "[]");
    Some(if is_plain { text } else { fingerprint(text) })
}

/// Takes text up to a length.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > ANSWER_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_without_being_shown() {
        let told = |value: &str| told::<_, kv::Error>(&Ok(Some(value.to_owned())));
        let one = told("secret").unwrap();
        assert!(one == told("secret").unwrap() && one != told("other").unwrap() && !one.contains("secret"), "{one}");
        assert_eq!(told(&"x".repeat(ANSWER_BYTES_MAX)), None);
        assert_eq!(super::told::<Option<()>, kv::Error>(&Ok(None)).unwrap(), "None");
        let refused = kv::Error::Invalid("the key is empty".to_owned());
        assert!(super::told::<(), _>(&Err(refused)).unwrap().contains("the key is empty"));
    }
}
