//! The trait of filters, and the event that they judge.

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::event_filter::{exports::platform::event::filter::Guest, platform::event::candidates},
    export::{Adapter, Instance},
};

pub use crate::bindings::event_filter::exports::platform::event::filter::{Outcome, Transformation};

/// Says what becomes of an event before it is kept. Quick and without side effects: by default every call runs in a fresh
/// copy of the configured instance.
pub trait Filter: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the filter from its settings, once per binding. No import may be called, and what it leaves in memory is
    /// shared by all calls.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When the filter would not work; the previous generation then stays.
    fn self_test(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// Lets the event pass, drops it, or says what is to be different about it.
    fn filter(&self, candidate: &Candidate<'_>) -> Outcome;
}

/// An event that has not been kept. Metadata and data are fetched from the host when a filter asks for them.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The topic.
    pub topic: &'a str,
    /// What happened.
    pub kind: &'a str,
    /// Where it happened; may be empty.
    pub origin: &'a str,
    /// The verified caller; empty when there is none.
    pub publisher: &'a str,
    facts: Facts<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Facts<'a> {
    Host(&'a candidates::Candidate),
    #[cfg(not(target_arch = "wasm32"))]
    Native(&'a crate::native::Candidate),
}

impl<'a> Candidate<'a> {
    /// An event of a test's choosing: `alice` publishes to `orders`.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn native(kind: &'a str, candidate: &'a crate::native::Candidate) -> Self {
        Self { topic: "orders", kind, origin: "", publisher: "alice", facts: Facts::Native(candidate) }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> String {
        match self.facts {
            Facts::Host(candidate) => candidate.id(),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(candidate) => candidate.id.clone(),
        }
    }

    /// Id of the event that its chain of causes began with.
    #[must_use]
    pub fn root(&self) -> String {
        match self.facts {
            Facts::Host(candidate) => candidate.root(),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(candidate) => candidate.id.clone(),
        }
    }

    /// Id of the event that caused it; none when none did.
    #[must_use]
    pub fn parent(&self) -> Option<String> {
        match self.facts {
            Facts::Host(candidate) => candidate.parent(),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(_) => None,
        }
    }

    /// A fact beside the data; none when there is none of that name.
    #[must_use]
    pub fn metadata(&self, name: &str) -> Option<String> {
        match self.facts {
            Facts::Host(candidate) => candidate.metadata(name),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(candidate) => candidate.metadata.get(name).cloned(),
        }
    }

    /// Media type of the data; empty when there is none.
    #[must_use]
    pub fn content_type(&self) -> String {
        match self.facts {
            Facts::Host(candidate) => candidate.content_type(),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(candidate) => candidate.content_type.clone(),
        }
    }

    /// The data.
    #[must_use]
    pub fn data(&self) -> Vec<u8> {
        match self.facts {
            Facts::Host(candidate) => candidate.data(),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(candidate) => candidate.data.clone(),
        }
    }

    /// Whether the publisher's verified token carries the role.
    #[must_use]
    pub fn has_role(&self, name: &str) -> bool {
        match self.facts {
            Facts::Host(candidate) => candidate.has_role(name),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(candidate) => candidate.roles.iter().any(|role| role == name),
        }
    }
}

impl Transformation {
    /// Nothing is different, to be completed.
    #[must_use]
    pub const fn new() -> Self {
        Self { type_: None, metadata: Vec::new(), data: None }
    }

    /// Gives the event another type.
    #[must_use]
    pub fn kind(self, kind: impl Into<String>) -> Self {
        Self { type_: Some(kind.into()), ..self }
    }

    /// Sets a fact beside the data.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.push((name.into(), Some(value.into())));
        self
    }

    /// Removes a fact beside the data.
    #[must_use]
    pub fn remove(mut self, name: impl Into<String>) -> Self {
        self.metadata.push((name.into(), None));
        self
    }

    /// Gives the event other data.
    #[must_use]
    pub fn data(self, content_type: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self { data: Some((content_type.into(), data.into())), ..self }
    }
}

impl Default for Transformation {
    fn default() -> Self {
        Self::new()
    }
}

impl<P: Filter + Instance<State = P>> Guest for Adapter<P> {
    fn filter(
        topic: String, kind: String, origin: String, publisher: String, candidate: &candidates::Candidate,
    ) -> Outcome {
        let facts = Facts::Host(candidate);
        let candidate = Candidate { topic: &topic, kind: &kind, origin: &origin, publisher: &publisher, facts };
        P::with(|filter| filter.filter(&candidate))
            // Not to be configured is a fault of the host's: nothing may be kept that no filter has seen.
            .unwrap_or_else(|problem| Outcome::Drop(problem.message().to_owned()))
    }
}
