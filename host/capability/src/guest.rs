//! The state behind the host functions of one instance.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use platform_base::clock;
use platform_storage::{Scope, Storage};

use crate::{
    auth::Facts,
    config::{self, Proposed},
    context::{Call, CallContext},
    db, discovery,
    event::{self, Draft},
    kv,
    logs::{LogMeter, Tail},
    marketplace,
    router::NodeTable,
    sync,
    wasi::{Reach, Wasi},
};

/// What all instances of a binding share.
#[derive(Debug)]
pub struct GuestParts {
    /// Name and version of the plugin, for logs.
    pub plugin: Arc<str>,
    /// Slot that it is bound to, for logs and as the owner of its storage.
    pub slot: Arc<str>,
    /// Its log rate.
    pub log: LogMeter,
    /// Keeps its latest lines.
    pub tail: Arc<Tail>,
    /// Storage, when granted.
    pub storage: Option<Arc<dyn Storage>>,
    /// The kv capability, when granted.
    pub kv: Option<Arc<dyn kv::Backend>>,
    /// The discovery capability, when granted.
    pub discovery: Option<Arc<dyn discovery::Backend>>,
    /// Values of configurations, when granted.
    pub config: Option<Arc<dyn config::Backend>>,
    /// Records of databases, when granted.
    pub db: Option<Arc<dyn db::Backend>>,
    /// Topics, when granted.
    pub event: Option<Arc<dyn event::Backend>>,
    /// Locks, when granted.
    pub sync: Option<Arc<dyn sync::Backend>>,
    /// What of the machine it may reach.
    pub reach: Reach,
}

/// State of one instance: what it shares with its binding, and the call that it serves.
#[derive(Debug)]
pub struct Guest {
    pub(crate) parts: Arc<GuestParts>,
    /// The call being served.
    pub(crate) call: Call,
    /// When it has to be done: the caller's deadline or the plugin's own, whichever comes first.
    until: Instant,
    /// Facts of the request that an auth policy decides on.
    pub facts: Option<Arc<dyn Facts>>,
    /// Change that a config validator decides on.
    pub proposal: Option<Arc<dyn Proposed>>,
    /// Event that an event filter decides on.
    pub draft: Option<Arc<Draft>>,
    /// The marketplace, as the caller of a page may use it.
    pub marketplace: Option<Arc<dyn marketplace::Backend>>,
    /// Nodes that a router policy picks from.
    pub nodes: Option<Arc<NodeTable>>,
    /// Zone of the caller that a router policy picks for.
    pub zone: Box<str>,
    /// Version of each node table that this instance was given.
    pub tables: HashMap<u32, u64>,
    pub(crate) wasi: Option<Box<Wasi>>,
}

impl Guest {
    /// State for a new instance that first serves `call`.
    #[must_use]
    pub fn new(parts: Arc<GuestParts>, call: Call) -> Self {
        let until = call.deadline;
        Self {
            parts,
            call,
            until,
            facts: None,
            proposal: None,
            draft: None,
            marketplace: None,
            nodes: None,
            zone: Box::default(),
            tables: HashMap::new(),
            wasi: None,
        }
    }

    /// Turns to `call`, which has to be served by `until`.
    pub fn serve(&mut self, call: &Call, until: Instant) {
        self.until = until;
        self.call = Arc::clone(call);
    }

    /// Time left for the call, zero when there is none.
    pub(crate) fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(clock::now())
    }

    /// The call as what the guest calls in turn sees it: it does not outlive the guest's own time.
    pub(crate) fn nested(&self) -> Call {
        if self.call.deadline <= self.until {
            return Arc::clone(&self.call);
        }
        Arc::new(CallContext { deadline: self.until, ..self.call.as_ref().clone() })
    }

    /// The scope of its tables in the namespace of the call.
    pub(crate) fn scope(&self) -> Scope {
        Scope { owner: Arc::clone(&self.parts.slot), namespace: Arc::clone(&self.call.namespace) }
    }
}
