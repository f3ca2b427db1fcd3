//! The context of a call: who, where, until when. Made by a front door, read by guests, passed on to nested calls.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use platform_base::clock;

use crate::{fence::Fence, name::Name};

/// Namespace of a call that names none.
pub const NAMESPACE_DEFAULT: &str = "default";

/// A verified caller.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// Subject of the token.
    pub subject: String,
    /// Roles of the token.
    pub roles: BTreeSet<String>,
    /// Claims of the token, by name.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// One call's context, shared by everything that the call does.
pub type Call = Arc<CallContext>;

/// What the host knows of a call. Immutable.
#[derive(Debug, Clone)]
pub struct CallContext {
    /// Who called; none without a token.
    pub caller: Option<Arc<Caller>>,
    /// Namespace that the call works in.
    pub namespace: Arc<str>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// When the call was admitted: unix time in nanoseconds.
    pub time_ns: u64,
    /// W3C `traceparent`.
    pub traceparent: Option<Arc<str>>,
    /// What its writes are fenced with, also those of nested calls.
    pub fence: Option<Arc<Fence>>,
    /// Whatever it wants to write is refused, here and in nested calls: it was made already, or is another's to make.
    pub reads_only: bool,
}

impl CallContext {
    /// A call of `caller` in `namespace` that may take `timeout`.
    #[must_use]
    pub fn new(caller: Option<Arc<Caller>>, namespace: &Name, timeout: Duration) -> Self {
        Self { caller, ..Self::host(namespace.shared(), timeout) }
    }

    /// A call of the host itself in `namespace`.
    #[must_use]
    pub fn host(namespace: Arc<str>, timeout: Duration) -> Self {
        Self {
            caller: None,
            namespace,
            deadline: clock::now() + timeout,
            time_ns: clock::unix_ns(),
            traceparent: None,
            fence: None,
            reads_only: false,
        }
    }

    /// Subject of the caller; empty when there is none.
    #[must_use]
    pub fn subject(&self) -> &str {
        self.caller.as_ref().map_or("", |caller| caller.subject.as_str())
    }

    /// Time left, zero when the deadline has passed.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(clock::now())
    }
}
