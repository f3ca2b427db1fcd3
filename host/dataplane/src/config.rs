//! The config capability: documents with versions, whatever component keeps them.
//!
//! Owns what every store must do alike: names, paths, merging, limits, and that a change is judged before it lands. Must not
//! know how versions are kept. Invariant: a version is made against the one that it was computed from, or not at all.

mod edit;
mod error;
mod keys;
mod recent;
mod schema;
mod secrets;
mod served;
mod sources;
mod stage;
mod validators;
mod watch;

use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use futures::Stream;
use platform_capability::{
    Call, Name, SlotKind,
    config::{self, Content, Error, Version},
};
use platform_document::{Operation, Pointer, canonical, difference};
use serde_json::Value;

pub use edit::{Action, Edit, Edited};
pub use error::ConfigError;
pub use keys::{KeyError, Keys, Sealed, SecretKey, SecretsConfig};
pub use watch::Seen;

use recent::Recent;
use secrets::Secrets;

use crate::{
    error::CallError,
    plane::Plane,
    provider::{Capability, Provider},
    watch::Event,
};

type Result<T, E = CallError<ConfigError>> = std::result::Result<T, E>;

/// Most versions in one answer: their differences may be large, and clients take 4 MiB by default.
const VERSIONS_MAX: u32 = 128;
/// Most configurations in one answer.
const FOUND_MAX: u32 = 500;
/// Pages of a store that one search looks through; an author's changes may be rare.
const SEARCH_PAGES_MAX: u32 = 16;

/// Typed calls to `config.store`, or to `config.store/NAMESPACE` where it is bound.
#[derive(Debug, Clone)]
pub struct Config {
    provider: Arc<Provider<Self>>,
    keys: Arc<ArcSwap<Keys>>,
    recent: Arc<Recent>,
}

/// A version of a configuration, and the value at the path that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The version.
    pub version: Version,
    /// The value.
    pub value: Value,
    /// Whether it is that of the candidate.
    pub staged: bool,
}

/// What is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read<'a> {
    /// Name of the configuration.
    pub id: &'a str,
    /// JSON Pointer of what is wanted; empty for the whole document.
    pub path: &'a str,
    /// The version; the current one when none is given.
    pub number: Option<u64>,
    /// The instance that reads, which may be served the candidate; empty for none.
    pub instance: &'a str,
}

impl<'a> Read<'a> {
    /// The whole current document, to be completed.
    #[must_use]
    pub const fn new(id: &'a str) -> Self {
        Self { id, path: "", number: None, instance: "" }
    }
}

/// Which configurations a search finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Search<'a> {
    /// Start of their ids.
    pub prefix: &'a str,
    /// Who made their current version; anyone when empty.
    pub author: &'a str,
    /// Whether deleted ones are found too.
    pub deleted: bool,
    /// Only ids greater than this one.
    pub after: Option<&'a str>,
    /// At most this many.
    pub limit: u32,
}

/// Which versions of all configurations an audit tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Audit<'a> {
    /// Not before this, unix time in milliseconds.
    pub from_ms: u64,
    /// Not after this, unix time in milliseconds.
    pub to_ms: u64,
    /// After the position that the page before ended at.
    pub after: Option<&'a str>,
    /// At most this many.
    pub limit: u32,
    /// Newest first.
    pub reverse: bool,
}

impl Config {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        Self { provider: Provider::new(plane), keys: Arc::default(), recent: Arc::default() }
    }

    /// Encrypts and decrypts secret values with these keys from now on.
    pub fn use_keys(&self, keys: Keys) {
        self.keys.store(Arc::new(keys));
    }

    /// The keys that are in use, for other secrets that the host keeps.
    #[must_use]
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    /// The value at a path of a configuration. Marks stand for secrets.
    ///
    /// # Errors
    /// There is no such configuration or version, or nothing at the path; see [`CallError`]. So for all methods.
    pub async fn get(&self, call: &Call, read: &Read<'_>) -> Result<Reading> {
        let Reading { version, value, staged } = self.stored(call, read).await?;
        Ok(Reading { version, value: secrets::redact(value)?, staged })
    }

    /// The same with secrets as they are; a secret whose key is not here says so in its place. Whether the caller may see
    /// them is not asked here.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn reveal(&self, call: &Call, read: &Read<'_>) -> Result<Reading> {
        let mut reading = self.stored(call, read).await?;
        Secrets::of(&self.keys.load(), call, read.id).reveal_each(&mut reading.value)?;
        Ok(reading)
    }

    /// The value at a path as it is stored.
    async fn stored(&self, call: &Call, read: &Read<'_>) -> Result<Reading> {
        let Read { id, path, number, instance } = *read;
        check_id(id)?;
        let path = pointer(path)?;
        secrets::check_path(&path)?;
        let (version, content) = self.version(call, id, number).await?;
        let (content, staged) = stage::serve(content, id, instance);
        let gone = || {
            ConfigError::NotFound(format!(
                "`{id}` was deleted by version {}; go back to an earlier one with `rollback`",
                version.number
            ))
        };
        let document = read_document(&content)?.ok_or_else(gone).map_err(CallError::Capability)?;
        let nothing = || ConfigError::NotFound(format!("`{id}` has nothing at `{}`", path.to_string().escape_debug()));
        let value = path.get(&document).cloned().ok_or_else(nothing).map_err(CallError::Capability)?;
        Ok(Reading { version, value, staged })
    }

    /// The schema of a configuration, a JSON text, in its current version when no number is given.
    ///
    /// # Errors
    /// None is attached; see [`CallError`].
    pub async fn schema(&self, call: &Call, id: &str, number: Option<u64>) -> Result<(Version, String)> {
        check_id(id)?;
        let (version, content) = self.version(call, id, number).await?;
        let none = || ConfigError::NotFound(format!("`{id}` has no schema at version {}", version.number));
        let schema = content.schema.ok_or_else(none).map_err(CallError::Capability)?;
        Ok((version, schema))
    }

    /// Versions of a configuration by number, from `from` to `to`, at most `limit`, and whether there may be more.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn history(
        &self, call: &Call, id: &str, (from, to): (u64, u64), limit: u32, reverse: bool,
    ) -> Result<(Vec<Version>, bool)> {
        check_id(id)?;
        let limit = limit.clamp(1, VERSIONS_MAX);
        let found = ask(self.provider.call::<config::History, _>(call, (id, from, to, limit, reverse)).await)?;
        if found.is_empty() {
            self.version(call, id, None).await?;
        }
        let more = found.len() >= limit as usize;
        Ok((found, more))
    }

    /// Versions of all configurations by time, each with its position, and whether there may be more.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn audit(&self, call: &Call, audit: &Audit<'_>) -> Result<(Vec<(String, Version)>, bool)> {
        let Audit { from_ms, to_ms, after, limit, reverse } = *audit;
        let limit = limit.clamp(1, VERSIONS_MAX);
        let found = ask(self.provider.call::<config::Audit, _>(call, (from_ms, to_ms, after, limit, reverse)).await)?;
        let more = found.len() >= limit as usize;
        Ok((found, more))
    }

    /// Current versions of the configurations that are searched for, in order of ids, and the id to go on after; none when
    /// there are no more.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn search(&self, call: &Call, search: &Search<'_>) -> Result<(Vec<Version>, Option<String>)> {
        check_prefix(search.prefix)?;
        let limit = search.limit.clamp(1, FOUND_MAX);
        let mut after = search.after.map(ToOwned::to_owned);
        let mut found = Vec::new();
        for _ in 0..SEARCH_PAGES_MAX {
            let asked = (search.prefix, after.as_deref(), limit);
            let page = ask(self.provider.call::<config::Search, _>(call, asked).await)?;
            let more = page.len() >= limit as usize;
            for version in page {
                if found.len() >= limit as usize {
                    return Ok((found, after));
                }
                after = Some(version.id.clone());
                let author = version.change.author.as_deref().unwrap_or_default();
                if (search.deleted || version.has_document) && (search.author.is_empty() || search.author == author) {
                    found.push(version);
                }
            }
            if !more {
                return Ok((found, None));
            }
        }
        Ok((found, after))
    }

    /// The steps (RFC 6902) that lead from one version of a configuration to another, the current one when none is given.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn difference(&self, call: &Call, id: &str, from: u64, to: Option<u64>) -> Result<Difference> {
        check_id(id)?;
        let (old, before) = self.version(call, id, Some(from)).await?;
        let (new, after) = self.version(call, id, to).await?;
        let (before, after) = (read_shown(&before)?, read_shown(&after)?);
        Ok(Difference { from: old.number, to: new.number, steps: difference(before.as_ref(), after.as_ref()) })
    }

    /// The last revision of the namespace.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revision(&self, call: &Call) -> Result<u64> {
        ask(self.provider.revision(call).await)
    }

    /// Changes after a revision, for as long as the stream is read: of the configuration `selector`, or of all that start
    /// with what stands before its `*`. With a path, only those that changed the value there; with an instance, only those
    /// that changed what the instance is served.
    ///
    /// # Errors
    /// The selector or the path is not allowed, or the host is shutting down. The stream ends with an error when changes
    /// that it asks for are no longer kept.
    pub fn watch(
        &self, call: &Call, selector: &str, path: Option<&str>, instance: &str, after: u64,
    ) -> Result<impl Stream<Item = Result<Event<Seen>>> + Send + 'static + use<>> {
        match selector.strip_suffix('*') {
            Some(prefix) => check_prefix(prefix)?,
            None => check_id(selector)?,
        }
        let path = path.map(pointer).transpose()?;
        path.as_ref().map_or(Ok(()), secrets::check_path)?;
        let changes = ask(self.provider.watch(call, selector, after))?;
        Ok(watch::follow(self.clone(), Arc::clone(&call.namespace), (path, instance.to_owned()), changes))
    }

    /// A version and what it holds.
    async fn version(&self, call: &Call, id: &str, number: Option<u64>) -> Result<(Version, Content)> {
        let found = ask(self.provider.call::<config::Get, _>(call, (id, number)).await)?;
        found.ok_or_else(|| {
            let what = match number {
                None => format!("there is no configuration `{id}`"),
                Some(number) => format!("there is no version {number} of a configuration `{id}`"),
            };
            CallError::Capability(ConfigError::NotFound(what))
        })
    }
}

/// The steps between two versions.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The version that they start at.
    pub from: u64,
    /// The version that they lead to.
    pub to: u64,
    /// The steps.
    pub steps: Vec<Operation>,
}

impl Difference {
    /// The steps as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        serde_json::to_string(&self.steps).unwrap_or_default()
    }
}

impl Reading {
    /// The value as JSON.
    #[must_use]
    pub fn json(&self) -> String {
        canonical(&self.value)
    }
}

impl Capability for Config {
    const KIND: SlotKind = SlotKind::ConfigStore;
    type Error = Error;
    type Change = Version;
    type Revision = config::Revision;
    type Changes = config::Changes;

    fn selects(selector: &str, version: &Version) -> bool {
        match selector.strip_suffix('*') {
            Some(prefix) => version.id.starts_with(prefix),
            None => version.id == selector,
        }
    }

    fn everything(_part: &str) -> String {
        "*".to_owned()
    }
}

fn refused(why: impl Into<String>) -> CallError<ConfigError> {
    CallError::Capability(ConfigError::Invalid(why.into()))
}

/// The answer of a store in the words of this capability.
fn ask<T>(answer: Result<T, CallError<Error>>) -> Result<T> {
    answer.map_err(|error| error.map(ConfigError::from))
}

fn check_id(id: &str) -> Result<()> {
    id.parse::<Name>().map(drop).map_err(|error| refused(format!("id: {error}")))
}

fn check_prefix(prefix: &str) -> Result<()> {
    if prefix.is_empty() { Ok(()) } else { check_id(prefix) }
}

fn pointer(path: &str) -> Result<Pointer> {
    path.parse().map_err(|error: platform_document::InvalidPointer| refused(error.to_string()))
}

/// What a store keeps is what this host gave it, or it is damaged.
fn read_document(content: &Content) -> Result<Option<Value>> {
    let Some(text) = &content.document else { return Ok(None) };
    platform_document::parse(text).map(Some).map_err(|error| {
        CallError::Capability(ConfigError::Other(format!("the store answers with a document that is none: {error}")))
    })
}

/// The document as it is shown.
fn read_shown(content: &Content) -> Result<Option<Value>> {
    read_document(content)?.map(secrets::redact).transpose()
}
