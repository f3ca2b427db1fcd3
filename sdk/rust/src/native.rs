//! What stands in for the host when a plugin is built natively, so that its tests run with plain `cargo test`: a
//! context that the test sets, tables and journals in memory, live load that the test sets, log lines on stderr.
//!
//! Everything belongs to the current thread, hence to one test. It is a stand-in for logic tests; whether a component
//! works in the real host is for `platform plugin verify` to say.
//!
//! ```
//! use platform_sdk::{auth, native};
//!
//! let facts = native::Facts::default().role("admin").header("x-team", "payments");
//! let request = auth::Request::native("svc/checkout", "GET", "/orders", &facts);
//! assert!(request.has_role("admin"));
//! ```

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::context::{Caller, Fence};

pub(crate) mod journal;
pub(crate) mod table;

/// Facts of a request that a policy may ask for.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub(crate) claims: BTreeMap<String, serde_json::Value>,
    pub(crate) roles: BTreeSet<String>,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) attributes: BTreeMap<String, String>,
}

impl Facts {
    /// Adds a role.
    #[must_use]
    pub fn role(mut self, name: &str) -> Self {
        self.roles.insert(name.to_owned());
        self
    }

    /// Adds a claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.claims.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header by its lowercase name.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Adds an attribute of the gateway.
    #[must_use]
    pub fn attribute(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), value.to_owned());
        self
    }
}

/// A change of a configuration that a validator may be asked about.
#[derive(Debug, Clone, Default)]
pub struct Proposed {
    /// The document as it is; null when there is none.
    pub before: serde_json::Value,
    /// The document as it would be; null when there would be none.
    pub after: serde_json::Value,
    /// JSON Pointers to the values that would differ.
    pub touched: Vec<String>,
    /// What the author says about it.
    pub comment: String,
    /// Roles of the author.
    pub roles: Vec<String>,
}

/// An event that a filter may be asked about.
#[derive(Debug, Clone, Default)]
pub struct Candidate {
    /// Its id.
    pub id: String,
    /// Facts beside the data.
    pub metadata: BTreeMap<String, String>,
    /// Media type of the data.
    pub content_type: String,
    /// The data.
    pub data: Vec<u8>,
    /// Roles of the publisher.
    pub roles: Vec<String>,
}

/// Live figures of one node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests picked and not finished.
    pub outstanding: u32,
    /// Moving average of latency, in microseconds.
    pub latency_us: u32,
    /// Moving average of failures, per thousand.
    pub failures_permille: u32,
}

#[derive(Debug)]
struct Host {
    time_ns: u64,
    namespace: String,
    caller: Option<Caller>,
    fence: Option<Fence>,
    zone: String,
    load: Vec<Load>,
    random: u64,
}

thread_local! {
    static HOST: RefCell<Host> = const {
        RefCell::new(Host {
            time_ns: 1_700_000_000_000_000_000,
            namespace: String::new(),
            caller: None,
            fence: None,
            zone: String::new(),
            load: Vec::new(),
            random: 0x9e37_79b9_7f4a_7c15,
        })
    };
}

fn host<T>(call: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with(|host| call(&mut host.borrow_mut()))
}

/// Lets time pass for the calls that follow.
pub fn advance(by: Duration) {
    host(|host| host.time_ns += u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
}

/// Sets the time back, as when a call that was admitted earlier is served later.
pub fn rewind(by: Duration) {
    host(|host| host.time_ns -= u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
}

/// Sets the namespace of the calls that follow; `default` before the first.
pub fn set_namespace(namespace: &str) {
    host(|host| namespace.clone_into(&mut host.namespace));
}

/// Sets the caller of the calls that follow.
pub fn set_caller(caller: Option<Caller>) {
    host(|host| host.caller = caller);
}

/// Sets what the calls that follow are fenced with.
pub fn set_fence(fence: Option<Fence>) {
    host(|host| host.fence = fence);
}

/// Sets the live load of the nodes, by position.
pub fn set_load(load: &[Load]) {
    host(|host| host.load = load.to_vec());
}

/// Sets the zone of the caller.
pub fn set_zone(zone: &str) {
    host(|host| zone.clone_into(&mut host.zone));
}

/// Seeds [`crate::router::load::random`], so that a test repeats.
pub fn seed(seed: u64) {
    host(|host| host.random = seed);
}

pub(crate) mod context {
    use super::{Caller, Fence, host};

    pub(crate) fn who() -> Option<Caller> {
        host(|host| host.caller.clone())
    }

    pub(crate) fn fencing() -> Option<Fence> {
        host(|host| host.fence.clone())
    }

    pub(crate) fn namespace() -> String {
        host(|host| if host.namespace.is_empty() { "default".to_owned() } else { host.namespace.clone() })
    }

    pub(crate) const fn remaining_ms() -> u32 {
        1000
    }

    pub(crate) fn time_ns() -> u64 {
        host(|host| host.time_ns)
    }

    pub(crate) const fn traceparent() -> Option<String> {
        None
    }
}

pub(crate) mod log {
    use crate::log::Level;

    pub(crate) fn write(level: Level, message: &str, fields: &[(String, String)]) {
        eprintln!("{level:?} {message} {fields:?}");
    }
}

pub(crate) mod load {
    use super::{Load, host};

    fn node(node: u32) -> Load {
        host(|host| host.load.get(node as usize).copied().unwrap_or_default())
    }

    pub(crate) fn outstanding(index: u32) -> u32 {
        node(index).outstanding
    }

    pub(crate) fn latency_us(index: u32) -> u32 {
        node(index).latency_us
    }

    pub(crate) fn failures_permille(index: u32) -> u32 {
        node(index).failures_permille
    }

    /// `SplitMix64`: even, and it repeats for a seed.
    pub(crate) fn random() -> u64 {
        host(|host| {
            host.random = host.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut bits = host.random;
            bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            bits ^ (bits >> 31)
        })
    }

    pub(crate) fn zone() -> String {
        host(|host| host.zone.clone())
    }
}
