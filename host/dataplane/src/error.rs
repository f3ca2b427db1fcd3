//! Why a call did not get an answer, and why a generation did not come to serve.

use std::sync::Arc;

use platform_capability::{
    LinkError, Name,
    plugin::{Problem, describe},
};
use platform_runtime::Fault;

use crate::slot_name::SlotName;

/// Why a call through a slot failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CallError<E> {
    /// The plugin answered with an error of its capability.
    #[error("{0:?}")]
    Capability(E),
    /// The plugin did not answer, and the slot's failure mode knew no other way.
    #[error("`{plugin}` in `{slot}`: {fault}")]
    Fault {
        /// The slot.
        slot: SlotName,
        /// Name and version of the plugin.
        plugin: Arc<str>,
        /// What went wrong.
        fault: Fault,
    },
    /// Nothing is bound.
    #[error("nothing is bound to `{0}`; bind a plugin with `platform plugin bind {0} NAME`")]
    NotBound(SlotName),
}

impl<E> CallError<E> {
    /// The same failure for another capability error.
    pub(crate) fn map<F>(self, map: impl FnOnce(E) -> F) -> CallError<F> {
        match self {
            Self::Capability(error) => CallError::Capability(map(error)),
            Self::Fault { slot, plugin, fault } => CallError::Fault { slot, plugin, fault },
            Self::NotBound(slot) => CallError::NotBound(slot),
        }
    }
}

/// Puts the result that a plugin returned and the failure to get one into one error.
pub(crate) fn flatten<R, E>(
    result: Result<(Result<R, E>,), CallError<std::convert::Infallible>>,
) -> Result<R, CallError<E>> {
    match result {
        Ok((answer,)) => answer.map_err(CallError::Capability),
        Err(error) => Err(error.map(|never| match never {})),
    }
}

/// Why a binding could not be prepared. The slot is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// No plugin, or several where the slot holds one.
    #[error("`{slot}` holds {expected}, not {given} plugins")]
    Count {
        /// The slot.
        slot: SlotName,
        /// What it holds.
        expected: &'static str,
        /// How many were given.
        given: usize,
    },
    /// The failure mode does not go with the slot or the plugins given.
    #[error("failure mode `{mode}` can't be used for `{slot}`: {why}")]
    Failure {
        /// The slot.
        slot: SlotName,
        /// The mode.
        mode: String,
        /// Why not.
        why: &'static str,
    },
    /// A limit beyond what the host has set aside.
    #[error("`{plugin}`: {what}")]
    Limit {
        /// The plugin.
        plugin: Name,
        /// Which limit, and the most that is allowed.
        what: String,
    },
    /// The component does not compile.
    #[error("`{plugin}` does not compile: {why}")]
    Compile {
        /// The plugin.
        plugin: Name,
        /// What the compiler says.
        why: String,
    },
    /// An import is missing a grant or is not offered.
    #[error("`{plugin}` can't be linked: {why}")]
    Link {
        /// The plugin.
        plugin: Name,
        /// Which import.
        why: LinkError,
    },
    /// An import or export has another type than ours.
    #[error("`{plugin}` does not fit `{slot}`: {why}")]
    Type {
        /// The plugin.
        plugin: Name,
        /// The slot.
        slot: SlotName,
        /// Which function, and what differs.
        why: String,
    },
    /// The plugin refuses its settings.
    #[error("`{plugin}` refuses its settings: {}", describe(problem))]
    Settings {
        /// The plugin.
        plugin: Name,
        /// What it said.
        problem: Problem,
    },
    /// The plugin failed its own test.
    #[error("`{plugin}` failed its self-test: {}", describe(problem))]
    SelfTest {
        /// The plugin.
        plugin: Name,
        /// What it said.
        problem: Problem,
    },
    /// The plugin faulted while it was prepared.
    #[error("`{plugin}` failed while {stage}: {fault}")]
    Fault {
        /// The plugin.
        plugin: Name,
        /// What it was doing.
        stage: &'static str,
        /// What went wrong.
        fault: Fault,
    },
    /// The host could not do its part.
    #[error("the host could not prepare `{plugin}`: {why}")]
    Host {
        /// The plugin.
        plugin: Name,
        /// Why.
        why: String,
    },
}

/// Why a prepared binding was not flipped to. The slot is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The state of the old generation could not be handed to the new one.
    #[error("the state of `{slot}` could not be handed over: {why}")]
    Handover {
        /// The slot.
        slot: SlotName,
        /// Who failed, and why.
        why: String,
    },
    /// There is no such generation to go back to.
    #[error("`{slot}` keeps no generation {wanted}; it keeps {kept:?}")]
    NotKept {
        /// The slot.
        slot: SlotName,
        /// The generation asked for.
        wanted: String,
        /// Those that are kept.
        kept: Vec<u64>,
    },
    /// Nothing is bound.
    #[error("nothing is bound to `{0}`")]
    NotBound(SlotName),
    /// The host is shutting down.
    #[error("the host shut down while `{0}` was exchanged; what it holds is known after the next start")]
    Interrupted(SlotName),
    /// Another candidate is being tried, or none is.
    #[error("{}", rollout_problem(.slot, *.running))]
    Rollout {
        /// The slot.
        slot: SlotName,
        /// Generation of the candidate that is being tried.
        running: Option<u64>,
    },
    /// Generations only grow.
    #[error("generation {given} of `{slot}` is not above the current one, {current}")]
    Generation {
        /// The slot.
        slot: SlotName,
        /// The generation given.
        given: u64,
        /// The current one.
        current: u64,
    },
}

fn rollout_problem(slot: &SlotName, running: Option<u64>) -> String {
    match running {
        Some(running) => format!("generation {running} is being rolled out to `{slot}`; promote or abort it first"),
        None => format!("nothing is being rolled out to `{slot}`"),
    }
}
