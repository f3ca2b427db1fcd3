//! `platform:auth`: what policies export, and the request that they ask about.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use platform_runtime::{Functions, function::Row};
use wasmtime::component::Resource;

pub use crate::bindings::platform::auth::types::{Allow, Decision, Deny};
use crate::{
    bindings::platform::auth::types,
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, SelfTest},
};

/// The interface that a policy exports.
pub const INTERFACE: &str = "platform:auth/policy@0.1.0";

/// The request of the current call. It has no state of its own: facts are those of the [`Guest`].
#[derive(Debug)]
pub enum Request {}

functions! { "platform:auth/policy@0.1.0" from LIFECYCLE;
    /// May this caller do this?
    Authorize = "authorize" (&'a str, &'a str, &'a str, Resource<Request>) -> (Decision,);
}

/// What the host calls in a policy.
pub const FUNCTIONS: Functions<Guest> =
    &[Row::required::<Configure>(), Row::required::<SelfTest>(), Row::required::<Authorize>()];

/// The handle under which a policy sees the request of its call.
#[must_use]
pub fn request() -> Resource<Request> {
    Resource::new_borrow(0)
}

/// Facts of a request besides its caller, as the front door received them.
pub trait Facts: fmt::Debug + Send + Sync {
    /// A header by its name in lowercase.
    fn header(&self, name: &str) -> Option<Cow<'_, str>>;
    /// What the gateway told: `method`, `host`, `path`, `query`, `scheme`, `source-address`, `gateway`, and its own.
    fn attribute(&self, name: &str) -> Option<Cow<'_, str>>;
    /// All that [`Facts::header`] answers, to be kept.
    fn headers(&self) -> BTreeMap<String, String>;
    /// All that [`Facts::attribute`] answers, to be kept.
    fn attributes(&self) -> BTreeMap<String, String>;
}

/// Names of the attributes that gateways of every kind may tell.
pub const ATTRIBUTES: [&str; 7] = ["gateway", "method", "path", "query", "host", "scheme", "source-address"];

impl types::HostRequest for Guest {
    fn claim(&mut self, _: Resource<Request>, name: String) -> Option<String> {
        self.call.caller.as_ref()?.claims.get(&name).map(serde_json::Value::to_string)
    }

    fn has_role(&mut self, _: Resource<Request>, name: String) -> bool {
        self.call.caller.as_ref().is_some_and(|caller| caller.roles.contains(&name))
    }

    fn header(&mut self, _: Resource<Request>, name: String) -> Option<String> {
        let name = name.to_ascii_lowercase();
        self.facts.as_ref()?.header(&name).map(Cow::into_owned)
    }

    fn attribute(&mut self, _: Resource<Request>, name: String) -> Option<String> {
        self.facts.as_ref()?.attribute(&name).map(Cow::into_owned)
    }

    fn drop(&mut self, _: Resource<Request>) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl types::Host for Guest {}
