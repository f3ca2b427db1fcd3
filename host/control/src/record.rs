//! What is kept of plugins and bindings, and how callers name them.

use std::{fmt, str::FromStr};

use platform_capability::{Grants, InvalidName, Name, SlotKind};
use platform_dataplane::{FailureMode, Plan};
use platform_runtime::{Digest, InvalidDigest, Limits, Mode};
use platform_signing::Evidence;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Longest version, in bytes.
const VERSION_BYTES_MAX: usize = 64;
/// Signatures of a plugin that are kept.
pub(crate) const SIGNATURES_MAX: usize = 16;

/// Name and version of a plugin, in the order of names and versions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PluginKey {
    /// The name.
    pub name: Name,
    /// The version.
    pub version: Version,
}

impl PluginKey {
    /// The key of `name` and `version`.
    ///
    /// # Errors
    /// One of them is not allowed.
    pub fn new(name: &str, version: &str) -> Result<Self> {
        Ok(Self { name: name.parse()?, version: parse_version(version)? })
    }
}

impl fmt::Display for PluginKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)
    }
}

fn parse_version(text: &str) -> Result<Version> {
    let version = Some(text).filter(|text| text.len() <= VERSION_BYTES_MAX).and_then(|text| Version::parse(text).ok());
    version.ok_or_else(|| Error::Version(text.chars().take(80).collect()))
}

/// An installed plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PluginRecord {
    /// Its name.
    pub name: Name,
    /// Its version.
    pub version: String,
    /// Digest of its bytes.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// What it does, by its manifest.
    #[serde(default)]
    pub description: String,
    /// Its licence, by its manifest.
    #[serde(default)]
    pub license: String,
    /// Where its source is, by its manifest.
    #[serde(default)]
    pub source: String,
    /// Slot that it is for.
    pub slot: SlotKind,
    /// Instance mode that it asks for.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    /// Interfaces that it exports.
    pub exports: Vec<String>,
    /// Grants that it asks for.
    pub requested: Grants,
    /// Grants that it has.
    pub grants: Grants,
    /// JSON Schema of its settings.
    #[serde(default)]
    pub settings_schema: Option<Value>,
    /// Name of its bytes among the objects of the storage; none when nobody shared the storage yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Signatures that came with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Evidence>,
    /// Id of the key by whose signature it was let in; none where no signature was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<Digest>,
    /// When it was installed: unix time in milliseconds.
    pub installed_ms: u64,
    /// Who installed it.
    pub installed_by: String,
}

impl PluginRecord {
    /// `NAME@VERSION`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// The same with signatures that came later.
    pub(crate) fn signed(&self, signatures: &[Evidence], signer: Option<Digest>) -> Self {
        let mut record = self.clone();
        record.signatures.retain(|signature| !signatures.contains(signature));
        record.signatures.splice(..0, signatures.iter().cloned());
        record.signatures.truncate(SIGNATURES_MAX);
        record.signer = signer.or(record.signer);
        record
    }

    pub(crate) fn key(&self) -> Result<PluginKey> {
        Ok(PluginKey { name: self.name.clone(), version: parse_version(&self.version)? })
    }
}

/// One plugin of a binding, as it was bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Name of the plugin.
    pub name: Name,
    /// Version of the plugin.
    pub version: String,
    /// Digest of the plugin.
    pub digest: Digest,
    /// Its settings.
    pub settings: Map<String, Value>,
    /// How its instances are used.
    pub mode: Mode,
    /// What it may use.
    pub limits: Limits,
    /// What it may import and reach.
    pub grants: Grants,
}

impl Link {
    /// `NAME@VERSION`.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// What a slot holds, or held.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BindingRecord {
    /// Its number within the slot.
    pub generation: u64,
    /// The plugins, in order.
    pub chain: Vec<Link>,
    /// What happens when one of them fails.
    pub failure: FailureMode,
    /// The plugin to fall back to.
    #[serde(default)]
    pub fallback: Option<Link>,
    /// When it was made: unix time in milliseconds.
    pub bound_ms: u64,
    /// Who made it.
    pub bound_by: String,
    /// Why, as the one who made it said.
    #[serde(default)]
    pub comment: String,
}

impl BindingRecord {
    /// All plugins of the binding, the one to fall back to included.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.chain.iter().chain(&self.fallback)
    }

    /// The same plugins, settings and rules, whoever bound them and when.
    pub(crate) fn serves_like(&self, other: &Self) -> bool {
        self.chain == other.chain && self.failure == other.failure && self.fallback == other.fallback
    }
}

/// A candidate that is tried beside what a slot holds, or was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// What the slot holds when it is promoted.
    pub candidate: BindingRecord,
    /// How it is tried.
    pub plan: Plan,
    /// Why it is tried no more, when a daemon stopped it by itself.
    #[serde(default)]
    pub stopped: Option<StopRecord>,
}

/// Why a rollout stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRecord {
    /// In words.
    pub why: String,
    /// When: unix time in milliseconds.
    pub time_ms: u64,
}

/// An advisory against a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Why, as the one who made it said.
    pub reason: String,
    /// When: unix time in milliseconds.
    pub revoked_ms: u64,
    /// Who made it.
    pub revoked_by: String,
}

/// How a caller names a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The newest version of that name.
    Name(Name),
    /// That version.
    Version(PluginKey),
    /// Those bytes.
    Digest(Digest),
}

/// The text names no plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The version is none.
    #[error("`{0}` names no plugin: write NAME, NAME@VERSION with a version such as `0.1.0`, or `sha256:HEX`")]
    Version(String),
    /// The digest is none.
    #[error("{0}")]
    Digest(String),
}

impl From<InvalidDigest> for InvalidReference {
    fn from(error: InvalidDigest) -> Self {
        Self::Digest(error.to_string())
    }
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.starts_with("sha256:") {
            return Ok(Self::Digest(text.parse()?));
        }
        let Some((name, version)) = text.split_once('@') else { return Ok(Self::Name(text.parse()?)) };
        let name = name.parse()?;
        match parse_version(version) {
            Ok(version) => Ok(Self::Version(PluginKey { name, version })),
            Err(_) => Err(InvalidReference::Version(text.chars().take(200).collect())),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Version(key) => key.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

/// Limits that an operator sets; what is left out stays as the slot's kind has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitChanges {
    /// See [`Limits::memory_kib`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_kib: Option<u32>,
    /// See [`Limits::table_elements`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_elements: Option<u32>,
    /// See [`Limits::deadline_ms`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u32>,
    /// See [`Limits::concurrency`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// See [`Limits::queue`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// See [`Limits::calls_per_instance`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls_per_instance: Option<u32>,
    /// See [`Limits::log_lines_per_second`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_lines_per_second: Option<u32>,
    /// See [`Limits::transfer_kib`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_kib: Option<u32>,
}

impl LimitChanges {
    /// `limits` with the changes made.
    #[must_use]
    pub fn apply(&self, limits: &Limits) -> Limits {
        Limits {
            memory_kib: self.memory_kib.unwrap_or(limits.memory_kib),
            table_elements: self.table_elements.unwrap_or(limits.table_elements),
            deadline_ms: self.deadline_ms.unwrap_or(limits.deadline_ms),
            concurrency: self.concurrency.unwrap_or(limits.concurrency),
            queue: self.queue.unwrap_or(limits.queue),
            calls_per_instance: self.calls_per_instance.unwrap_or(limits.calls_per_instance),
            log_lines_per_second: self.log_lines_per_second.unwrap_or(limits.log_lines_per_second),
            transfer_kib: self.transfer_kib.unwrap_or(limits.transfer_kib),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip_and_bad_ones_are_refused() {
        let digest = Digest::of(b"x").to_string();
        for good in ["auth-scopes", "auth-scopes@0.1.0", "auth-scopes@1.0.0-rc.1+build", &digest] {
            assert_eq!(good.parse::<Reference>().unwrap().to_string(), good);
        }
        for bad in ["", "../x", "a@", "a@1", "a@1.0", "a@1.0.0@2", "sha256:00", "a/b", "a@../../x"] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
        assert!(PluginKey::new("a", &format!("1.0.0-{}", "x".repeat(100))).is_err());
    }

    #[test]
    fn keys_are_in_the_order_of_versions() {
        let key = |version| PluginKey::new("a", version).unwrap();
        assert!(key("0.9.0") < key("0.10.0"));
        assert!(key("1.0.0-rc.1") < key("1.0.0"));
    }
}
