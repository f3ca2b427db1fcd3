//! `platform:config`: what stores, validators and sources export, the proposal that validators ask about, and what users of the
//! capability import.

use std::fmt;

use async_trait::async_trait;
use platform_runtime::{Functions, function::Row};
use wasmtime::component::Resource;

pub use crate::bindings::platform::config::{
    source::Document,
    types::{Action, Candidate, Change, Content, Error, Version},
    validator::Refusal,
};
use crate::{
    bindings::platform::config::{proposals, types, values},
    context::Call,
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, Load, Save, SelfTest},
};

/// The interface that a provider exports.
pub const INTERFACE: &str = "platform:config/store@0.1.0";

functions! { "platform:config/store@0.1.0" from LIFECYCLE;
    /// Reads a version.
    Get = "get" (&'a str, Option<u64>) -> (Result<Option<(Version, Content)>, Error>,);
    /// Makes a version.
    Commit = "commit" (&'a str, u64, &'a Change, &'a Content) -> (Result<Version, Error>,);
    /// Versions of one configuration.
    History = "history" (&'a str, u64, u64, u32, bool) -> (Result<Vec<Version>, Error>,);
    /// Versions of all configurations.
    Audit = "audit" (u64, u64, Option<&'a str>, u32, bool) -> (Result<Vec<(String, Version)>, Error>,);
    /// Current versions.
    Search = "search" (&'a str, Option<&'a str>, u32) -> (Result<Vec<Version>, Error>,);
    /// Waits for changes.
    Changes = "changes" (&'a str, u64, u32, u32) -> (Result<Vec<Version>, Error>,);
    /// The last revision.
    Revision = "revision" () -> (Result<u64, Error>,);
}

/// What the host calls in a provider.
pub const FUNCTIONS: Functions<Guest> = &[
    Row::required::<Configure>(),
    Row::required::<SelfTest>(),
    Row::optional::<Save>(),
    Row::optional::<Load>(),
    Row::required::<Get>(),
    Row::required::<Commit>(),
    Row::required::<History>(),
    Row::required::<Audit>(),
    Row::required::<Search>(),
    Row::required::<Changes>(),
    Row::required::<Revision>(),
];

/// What validators export.
pub mod validator {
    use super::{
        Action, Configure, Functions, Guest, LIFECYCLE, Proposal, Refusal, Resource, Row, SelfTest, functions,
    };

    /// The interface that a validator exports.
    pub const INTERFACE: &str = "platform:config/validator@0.1.0";

    functions! { "platform:config/validator@0.1.0" from LIFECYCLE;
        /// May this change be made?
        Validate = "validate" (&'a str, &'a str, Action, &'a str, Resource<Proposal>) -> (Result<(), Refusal>,);
    }

    /// What the host calls in a validator.
    pub const FUNCTIONS: Functions<Guest> =
        &[Row::required::<Configure>(), Row::required::<SelfTest>(), Row::required::<Validate>()];
}

/// What sources export.
pub mod source {
    pub use super::Document;
    use super::{Configure, Functions, Guest, LIFECYCLE, Row, SelfTest, functions};

    /// The interface that a source exports.
    pub const INTERFACE: &str = "platform:config/source@0.1.0";

    functions! { "platform:config/source@0.1.0" from LIFECYCLE;
        /// Everything that the source has.
        Load = "load" () -> (Result<Vec<Document>, String>,);
    }

    /// What the host calls in a source.
    pub const FUNCTIONS: Functions<Guest> =
        &[Row::required::<Configure>(), Row::required::<SelfTest>(), Row::required::<Load>()];
}

/// The change that the current call is about. It has no state of its own: documents are those of the [`Guest`].
#[derive(Debug)]
pub enum Proposal {}

/// The handle under which a validator sees the change of its call.
#[must_use]
pub fn proposal() -> Resource<Proposal> {
    Resource::new_borrow(0)
}

/// A change that has not been made, as validators see it.
pub trait Proposed: fmt::Debug + Send + Sync {
    /// The value at a JSON Pointer as it is, a JSON text.
    fn before(&self, path: &str) -> Option<String>;
    /// The value at a JSON Pointer as it would be, a JSON text.
    fn after(&self, path: &str) -> Option<String>;
    /// JSON Pointers to the values that would differ.
    fn touched(&self) -> Vec<String>;
    /// What the author says about it.
    fn comment(&self) -> String;
}

impl proposals::HostProposal for Guest {
    fn before(&mut self, _: Resource<Proposal>, path: String) -> Option<String> {
        self.proposal.as_ref()?.before(&path)
    }

    fn after(&mut self, _: Resource<Proposal>, path: String) -> Option<String> {
        self.proposal.as_ref()?.after(&path)
    }

    fn touched(&mut self, _: Resource<Proposal>) -> Vec<String> {
        self.proposal.as_ref().map(|proposal| proposal.touched()).unwrap_or_default()
    }

    fn comment(&mut self, _: Resource<Proposal>) -> String {
        self.proposal.as_ref().map(|proposal| proposal.comment()).unwrap_or_default()
    }

    fn has_role(&mut self, _: Resource<Proposal>, name: String) -> bool {
        self.call.caller.as_ref().is_some_and(|caller| caller.roles.contains(&name))
    }

    fn drop(&mut self, _: Resource<Proposal>) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// Values of configurations for guests that import them: answers under the grants and the context of the importer.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// See `platform:config/values`.
    async fn get(&self, call: &Call, id: &str, path: &str) -> Result<Option<String>, Error>;
}

impl values::Host for Guest {
    async fn get(&mut self, id: String, path: String) -> Result<Option<String>, Error> {
        let backend = self.parts.config.as_deref();
        let backend = backend.ok_or_else(|| Error::Unavailable("the plugin has no `config` grant".to_owned()))?;
        backend.get(&self.nested(), &id, &path).await
    }
}

impl proposals::Host for Guest {}
impl types::Host for Guest {}
