//! [`Version`] and [`Listing`]: what is told of published components.
//!
//! Owns what of a component is kept for those who look for one; must not know how it was inspected and judged. Invariant: texts of a component are kept as
//! they are, within their bounds; whoever shows them escapes them.

use platform_capability::Grant;
use platform_control::inspect::Facts;
use platform_runtime::Digest;
use semver::Version as Semver;
use serde::{Deserialize, Serialize};

use crate::report::Report;

/// Most warnings that are kept.
const WARNINGS_MAX: usize = 10;

/// A version of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Its tag.
    pub version: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Digest of the component.
    pub component: Digest,
    /// Size of the component in bytes.
    pub size: u64,
    /// When it was published, unix time in milliseconds.
    pub at_ms: u64,
    /// Who published it.
    pub by: String,
    /// What it does, as it says.
    pub description: String,
    /// Its licence, as it says.
    pub license: String,
    /// Where its source is, as it says.
    pub source: String,
    /// The slot that it is for.
    pub slot: String,
    /// The grants that it asks for.
    pub grants: Vec<Grant>,
    /// Interfaces that it imports, with their versions.
    pub imports: Vec<String>,
    /// Interfaces that it exports.
    pub exports: Vec<String>,
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// The key of `[[trust]]` that signed it.
    pub signer: Option<Digest>,
    /// Why it is not listed; none when it is.
    pub unlisted: Option<String>,
    /// What came of trying it; none when it was not tried yet.
    #[serde(default)]
    pub report: Option<Report>,
}

/// What is listed under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// The name of its repository.
    pub name: String,
    /// The newest version, which is one before a release only where there is no release.
    pub newest: Version,
    /// All versions, the newest first.
    pub versions: Vec<String>,
    /// How often it was pulled.
    #[serde(skip)]
    pub downloads: u64,
}

impl Version {
    pub(crate) fn new(version: &str, digest: Digest, facts: Facts, at_ms: u64, by: &str) -> Self {
        Self {
            version: version.to_owned(),
            digest,
            component: facts.digest,
            size: facts.size,
            at_ms,
            by: by.to_owned(),
            description: facts.manifest.description,
            license: facts.manifest.license,
            source: facts.manifest.source,
            slot: facts.slot.to_string(),
            grants: facts.requested.into_iter().collect(),
            imports: facts.imports.into_iter().collect(),
            exports: facts.exports.into_iter().collect(),
            warnings: facts.warnings.into_iter().take(WARNINGS_MAX).collect(),
            signer: None,
            unlisted: None,
            report: None,
        }
    }

    /// How versions follow each other: by their number, releases behind those before one.
    fn rank(&self) -> (bool, Option<Semver>) {
        let version = platform_registry::version(&self.version);
        (version.as_ref().is_some_and(|version| version.pre.is_empty()), version)
    }
}

impl Listing {
    /// What is listed of versions; none when none is.
    pub(crate) fn of<'a>(name: &str, versions: impl IntoIterator<Item = &'a Version>) -> Option<Self> {
        let mut listed: Vec<&Version> = versions.into_iter().filter(|version| version.unlisted.is_none()).collect();
        listed.sort_by_cached_key(|version| std::cmp::Reverse(version.rank()));
        let newest = listed.first().copied()?.clone();
        let versions = listed.into_iter().map(|version| version.version.clone()).collect();
        Some(Self { name: name.to_owned(), newest, versions, downloads: 0 })
    }
}

/// What a grant lets a component do, for those who have to decide.
#[must_use]
pub fn in_words(grant: &Grant) -> String {
    match grant {
        Grant::Storage => "keep tables and journals of its own in the platform's storage".to_owned(),
        Grant::Kv => "read and write keys, in the namespace of the call".to_owned(),
        Grant::Discovery => "read and change which services run where, in the namespace of the call".to_owned(),
        Grant::Config => "read configurations, in the namespace of the call".to_owned(),
        Grant::Db => "read and write records of all databases, in the namespace of the call".to_owned(),
        Grant::Event => {
            "publish events, and read and take those of all topics, in the namespace of the call".to_owned()
        }
        Grant::Sync => "take locks and give them up for the caller, in the namespace of the call".to_owned(),
        Grant::Marketplace => {
            "look up and install components in this marketplace, with the rights of whoever uses it".to_owned()
        }
        Grant::Wasi => "read clocks and random numbers and write to its log; no files, no network".to_owned(),
        Grant::Network { host, port } => format!("connect to port {port} of {host}"),
        Grant::Files(folder) => format!("read all files below {folder} on the machine of the daemon"),
        Grant::Env(name) if name.ends_with('*') => format!("read variables {name} of the daemon's environment"),
        Grant::Env(name) => format!("read the variable {name} of the daemon's environment"),
    }
}
