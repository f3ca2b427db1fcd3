//! The settings of webhooks.
//!
//! Invariant: the defaults reach public addresses over TLS, and nothing else.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::network::{Network, is_public};

/// Settings of webhooks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Networks that targets may be in although they are not public, as `ADDRESS/BITS`.
    pub networks: Vec<Network>,
    /// Whether targets may be `http://` too.
    pub plain_http: bool,
    /// Attempts at the same time, of all webhooks.
    pub attempts_max: usize,
    /// Webhooks in all namespaces.
    pub webhooks_max: usize,
    /// Webhooks in one namespace.
    pub webhooks_per_namespace_max: usize,
    /// Longest rest that a target gets by asking for it with `Retry-After`, in milliseconds.
    pub retry_after_ms_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            networks: Vec::new(),
            plain_http: false,
            attempts_max: 256,
            webhooks_max: 1_000,
            webhooks_per_namespace_max: 200,
            retry_after_ms_max: 3_600_000,
        }
    }
}

impl Config {
    /// Whether a connection may be made to the address.
    pub(crate) fn reaches(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address) || self.networks.iter().any(|network| network.contains(address))
    }
}
