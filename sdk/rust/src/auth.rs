//! Slot `auth.policy`: may this caller do this?

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::auth::{exports::platform::auth::policy::Guest, platform::auth::types},
    export::{Adapter, Instance},
};

pub use types::{Allow, Decision, Deny};

/// Decides whether a request may go ahead. Quick and without side effects: by default every call runs in a fresh copy
/// of the configured instance, so nothing that a call leaves in memory reaches the next.
pub trait Policy: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the policy from its settings, once per binding. Everything that can be prepared belongs here. No import
    /// may be called, and what it leaves in memory is shared by all calls.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When the policy would not work; the previous generation then stays.
    fn self_test(&self) -> Result<(), Problem> {
        Ok(())
    }

    /// The decision on one request.
    fn authorize(&self, request: &Request<'_>) -> Decision;
}

/// What is asked. Headers, claims, roles and attributes are fetched from the host when a policy asks for them.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The verified caller; empty when there is none.
    pub subject: &'a str,
    /// HTTP method, or the action that the asker named.
    pub action: &'a str,
    /// Path without query, or the resource that the asker named.
    pub target: &'a str,
    facts: Facts<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Facts<'a> {
    Host(&'a types::Request),
    #[cfg(not(target_arch = "wasm32"))]
    Native(&'a crate::native::Facts),
}

impl<'a> Request<'a> {
    /// A request with facts of a test's choosing.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn native(subject: &'a str, action: &'a str, target: &'a str, facts: &'a crate::native::Facts) -> Self {
        Self { subject, action, target, facts: Facts::Native(facts) }
    }

    /// A claim of the verified token; none without a token, without the claim, or when it is no `T`.
    #[must_use]
    pub fn claim<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_str(&self.claim_json(name)?).ok()
    }

    /// A claim of the verified token as JSON text.
    #[must_use]
    pub fn claim_json(&self, name: &str) -> Option<String> {
        match self.facts {
            Facts::Host(request) => request.claim(name),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(facts) => facts.claims.get(name).map(ToString::to_string),
        }
    }

    /// Whether the verified token carries the role.
    #[must_use]
    pub fn has_role(&self, name: &str) -> bool {
        match self.facts {
            Facts::Host(request) => request.has_role(name),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(facts) => facts.roles.contains(name),
        }
    }

    /// A header as the gateway received it, by its lowercase name; several values are joined by `, `.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        match self.facts {
            Facts::Host(request) => request.header(name),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(facts) => facts.headers.get(name).cloned(),
        }
    }

    /// What the gateway adds: `method`, `host`, `path`, `query`, `scheme`, `source-address`, `gateway`, and its own.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        match self.facts {
            Facts::Host(request) => request.attribute(name),
            #[cfg(not(target_arch = "wasm32"))]
            Facts::Native(facts) => facts.attributes.get(name).cloned(),
        }
    }
}

impl Decision {
    /// The request may go ahead, unless another policy of the chain denies it.
    #[must_use]
    pub fn allow(reason: impl Into<String>) -> Self {
        Self::Allow(Allow { reason: reason.into(), set_headers: Vec::new(), remove_headers: Vec::new() })
    }

    /// The request must not go ahead: 401 without a verified caller, else 403.
    #[must_use]
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::deny_with(0, reason)
    }

    /// The request must not go ahead; the HTTP status is 400 to 599.
    #[must_use]
    pub fn deny_with(status: u16, reason: impl Into<String>) -> Self {
        Self::Deny(Deny { reason: reason.into(), status, headers: Vec::new() })
    }

    /// Leaves the decision to the rest of the chain; a chain of abstentions is a denial.
    #[must_use]
    pub fn abstain() -> Self {
        Self::Abstain
    }

    /// Adds a header: to the request that is passed on when this allows, to the answer when this denies.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        match &mut self {
            Self::Allow(allow) => allow.set_headers.push((name.into(), value.into())),
            Self::Deny(deny) => deny.headers.push((name.into(), value.into())),
            Self::Abstain => {}
        }
        self
    }
}

impl<P: Policy + Instance<State = P>> Guest for Adapter<P> {
    fn authorize(subject: String, action: String, target: String, request: &types::Request) -> Decision {
        let request = Request { subject: &subject, action: &action, target: &target, facts: Facts::Host(request) };
        P::with(|policy| policy.authorize(&request))
            .unwrap_or_else(|problem| Decision::deny_with(503, problem.message()))
    }
}
