//! The trait of validators, and the change that they judge.

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::config_validator::{exports::platform::config::validator::Guest, platform::config::proposals},
    config::Action,
    export::{Adapter, Instance},
};

pub use crate::bindings::config_validator::exports::platform::config::validator::Refusal;

/// Judges whether a change may be made, before it lands. Quick and without side effects: by default every call runs in a
/// fresh copy of the configured instance.
pub trait Validator: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the validator from its settings, once per binding. No import may be called, and what it leaves in memory is
    /// shared by all calls.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When the validator would not work; the previous generation then stays.
    fn self_test(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// Accepts the change, or says why not.
    ///
    /// # Errors
    /// The change must not be made; the author is shown why.
    fn validate(&self, proposal: &Proposal<'_>) -> Result<(), Refusal>;
}

/// A change that has not been made. Documents are fetched from the host when a validator asks for them.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    /// Name of the configuration.
    pub id: &'a str,
    /// JSON Pointer of what is changed; empty for the whole document.
    pub path: &'a str,
    /// What is done.
    pub action: Action,
    /// The verified caller; empty when there is none.
    pub author: &'a str,
    facts: Facts<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Facts<'a> {
    Host(&'a proposals::Proposal),
    #[cfg(not(target_arch = "wasm32"))]
    Native(&'a crate::native::Proposed),
}

impl<'a> Proposal<'a> {
    /// A change of a test's choosing: `alice` sets the whole document.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn native(id: &'a str, proposed: &'a crate::native::Proposed) -> Self {
        Self { id, path: "", action: Action::Set, author: "alice", facts: Facts::Native(proposed) }
    }

    /// The value at a JSON Pointer as it is now; none when there is none, or when it is no `T`.
    #[must_use]
    pub fn before<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let text = match self.facts {
            Facts::Host(proposal) => proposal.before(path)?,
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(proposed) => proposed.before.pointer(path)?.to_string(),
        };
        serde_json::from_str(&text).ok()
    }

    /// The value at a JSON Pointer as it would be; none when there would be none, or when it is no `T`.
    #[must_use]
    pub fn after<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        let text = match self.facts {
            Facts::Host(proposal) => proposal.after(path)?,
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(proposed) => proposed.after.pointer(path)?.to_string(),
        };
        serde_json::from_str(&text).ok()
    }

    /// JSON Pointers to the values that would differ; where there would be more than 64, ancestors stand for them.
    #[must_use]
    pub fn touched(&self) -> Vec<String> {
        match self.facts {
            Facts::Host(proposal) => proposal.touched(),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(proposed) => proposed.touched.clone(),
        }
    }

    /// What the author says about it; may be empty.
    #[must_use]
    pub fn comment(&self) -> String {
        match self.facts {
            Facts::Host(proposal) => proposal.comment(),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(proposed) => proposed.comment.clone(),
        }
    }

    /// Whether the author's verified token carries the role.
    #[must_use]
    pub fn has_role(&self, name: &str) -> bool {
        match self.facts {
            Facts::Host(proposal) => proposal.has_role(name),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(proposed) => proposed.roles.iter().any(|role| role == name),
        }
    }
}

impl Refusal {
    /// A refusal that no single value causes: one sentence, lowercase, without a full stop.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), at: None }
    }

    /// Names the value at fault by its JSON Pointer.
    #[must_use]
    pub fn at(self, pointer: impl Into<String>) -> Self {
        Self { at: Some(pointer.into()), ..self }
    }
}

impl<P: Validator + Instance<State = P>> Guest for Adapter<P> {
    fn validate(
        id: String, path: String, action: Action, author: String, proposal: &proposals::Proposal,
    ) -> Result<(), Refusal> {
        let proposal = Proposal { id: &id, path: &path, action, author: &author, facts: Facts::Host(proposal) };
        P::with(|validator| validator.validate(&proposal))
            .unwrap_or_else(|problem| Err(Refusal::new(problem.message().to_owned())))
    }
}
