//! [`Decision`]: what was asked and what it came to, as it is kept.

use std::{borrow::Cow, collections::BTreeSet};

use platform_capability::Caller;
use serde::{Deserialize, Serialize};

use super::named::Named;
use crate::auth::Verdict;

/// Stands where a value was left out.
pub const REDACTED: &str = "redacted";

/// A decision that a slot made. What is empty is not written. Texts can be those of the line that it is read from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decision<'a> {
    /// The interface that was asked, with its version.
    #[serde(borrow)]
    pub interface: Cow<'a, str>,
    /// The slot.
    #[serde(borrow)]
    pub slot: Cow<'a, str>,
    /// When it was asked: unix time in nanoseconds.
    pub time_ns: u64,
    /// Namespace that it was asked in.
    #[serde(borrow)]
    pub namespace: Cow<'a, str>,
    /// The verified caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<Asker>,
    /// HTTP method, or the action that was named.
    #[serde(borrow)]
    pub action: Cow<'a, str>,
    /// Path without query, or the resource that was named.
    #[serde(borrow)]
    pub target: Cow<'a, str>,
    /// Headers of the request.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub headers: Named,
    /// What the gateway added.
    #[serde(skip_serializing_if = "Named::is_empty")]
    pub attributes: Named,
    /// What was left out, as `header:NAME`, `attribute:NAME` or `claim:NAME`: it was there, and [`REDACTED`] stands for it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub redacted: BTreeSet<String>,
    /// What it came to.
    #[serde(borrow)]
    pub outcome: Outcome<'a>,
}

/// A caller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asker {
    /// Subject of the token.
    pub subject: String,
    /// Roles of the token.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    /// Claims of the token.
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// What a decision came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome<'a> {
    /// Whether the request may pass.
    pub allowed: bool,
    /// Why.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
    /// HTTP status of a denial; 200 for what is allowed.
    pub status: u16,
    /// Headers set on the request that passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub set_headers: Vec<(String, String)>,
    /// Headers removed from the request that passes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_headers: Vec<String>,
    /// Headers of the answer to a request that does not pass.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub response_headers: Vec<(String, String)>,
    /// The component that decided; empty when none did.
    #[serde(borrow)]
    pub decided_by: Cow<'a, str>,
    /// The generation that decided.
    pub generation: u64,
    /// Kind of the fault that decided; empty when none did.
    #[serde(borrow, skip_serializing_if = "str::is_empty")]
    pub fault: Cow<'a, str>,
}

impl From<&Caller> for Asker {
    fn from(caller: &Caller) -> Self {
        let Caller { subject, roles, claims } = caller.clone();
        Self { subject, roles, claims }
    }
}

impl From<Asker> for Caller {
    fn from(asker: Asker) -> Self {
        let Asker { subject, roles, claims } = asker;
        Self { subject, roles, claims }
    }
}

impl From<&Verdict> for Outcome<'_> {
    fn from(verdict: &Verdict) -> Self {
        Self {
            allowed: verdict.allowed,
            reason: verdict.reason.clone().into(),
            status: verdict.status,
            set_headers: verdict.set_headers.clone(),
            remove_headers: verdict.remove_headers.clone(),
            response_headers: verdict.response_headers.clone(),
            decided_by: verdict.decided_by.as_deref().unwrap_or_default().to_owned().into(),
            generation: verdict.generation,
            fault: verdict.fault.unwrap_or_default().into(),
        }
    }
}
