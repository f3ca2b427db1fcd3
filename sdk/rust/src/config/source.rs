//! The trait of sources.

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Problem,
    bindings::config_source::exports::platform::config::source::Guest,
    export::{Adapter, Instance},
};

pub use crate::bindings::config_source::exports::platform::config::source::Document;

/// Loads configurations from elsewhere. The host asks again and again, and makes a version when something differs. One that
/// remembers what it heard is exported with `mode = "single"`, so that there is one memory.
pub trait Source: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the source from its settings, once per instance. No import may be called.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> Result<Self, Problem>;

    /// Checks itself before a generation is asked.
    ///
    /// # Errors
    /// When the source would not work; the previous generation then stays.
    fn self_test(&mut self) -> Result<(), Problem> {
        Ok(())
    }

    /// Everything that the source has now, each id once.
    ///
    /// # Errors
    /// It can't be read, and why: one sentence, lowercase, without a full stop. What it said last stays.
    fn load(&mut self) -> Result<Vec<Document>, String>;
}

impl Document {
    /// A configuration of this name.
    ///
    /// # Errors
    /// The content can't be written as JSON.
    pub fn new(id: impl Into<String>, content: &impl Serialize) -> Result<Self, String> {
        let content = serde_json::to_string(content).map_err(|error| format!("the content is no JSON: {error}"))?;
        Ok(Self { id: id.into(), content })
    }
}

impl<P: Source + Instance<State = P>> Guest for Adapter<P> {
    fn load() -> Result<Vec<Document>, String> {
        P::with(P::load).unwrap_or_else(|problem| Err(problem.message().to_owned()))
    }
}
