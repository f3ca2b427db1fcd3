//! `[marketplace]`: the settings.
//!
//! Owns their shape and defaults; must not read files. Invariant: off unless it is switched on, and every limit stands here.

use serde::{Deserialize, Serialize};

/// Settings of the marketplace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether there is one.
    pub enabled: bool,
    /// Whether whoever reaches the port may pull without a token.
    pub anonymous_pull: bool,
    /// Whether versions are listed, and found by their tags, only when a key signed them that owns the name.
    pub require_signatures: bool,
    /// Whether components are tried in a sandbox when they were published: whether they keep the promises of their slot's interface, and what their calls take.
    pub trials: bool,
    /// Whether versions are listed, and found by their tags, only when their component passed.
    pub require_conformance: bool,
    /// How much it takes.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: false,
            anonymous_pull: false,
            require_signatures: false,
            trials: true,
            require_conformance: false,
            limits: Limits::default(),
        }
    }
}

impl Config {
    /// Whether what was published is listed only when it was judged to be good enough.
    pub(crate) fn is_gated(&self) -> bool {
        self.require_signatures || self.require_conformance
    }
}

/// How much the marketplace takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of a blob.
    pub blob_bytes: u64,
    /// Bytes of a manifest; at most 4 MiB.
    pub manifest_bytes: usize,
    /// Uploads that are open at once.
    pub uploads_max: usize,
    /// How long an upload may rest before it is dropped, in milliseconds, and a blob be there before a manifest names it.
    pub upload_ms: u64,
    /// How long the next bytes of a body may take, in milliseconds.
    pub idle_ms: u64,
    /// How long trying a component may take, in milliseconds.
    pub trial_ms: u64,
    /// Who is signed in to the page at once, on each daemon; one more ends the oldest session.
    pub sessions_max: usize,
    /// How long a session on the page lasts, in milliseconds, unless its token ends before.
    pub session_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // The largest component, and room for what describes it.
        Self {
            blob_bytes: 64 << 20,
            manifest_bytes: Self::MANIFEST_BYTES_MAX,
            uploads_max: 64,
            upload_ms: 3_600_000,
            idle_ms: 60_000,
            trial_ms: 300_000,
            sessions_max: 1000,
            session_ms: 3_600_000,
        }
    }
}

impl Limits {
    /// Largest manifest that any registry has to take (OCI distribution 1.1, "Pushing Manifests"), and the largest here.
    pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
}
