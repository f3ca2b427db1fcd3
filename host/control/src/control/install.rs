//! Installing and uninstalling.
//!
//! A component is compiled first, then written, then shared with other daemons, then recorded: whatever fails in between
//! leaves a file and an object that nothing refers to, which are removed at once, or at a later start after a crash.

use bytes::Bytes;
use platform_base::clock;
use platform_capability::Grants;
use platform_runtime::{Digest, Mode, snapshot};
use platform_signing::Evidence;
use std::sync::Arc;

use super::{Control, GrantChange, PluginView, blocking, is_plugin};
use crate::{
    error::{Error, Result},
    inspect::{Facts, Rejection, inspect},
    record::{BindingRecord, PluginKey, PluginRecord, Reference, SIGNATURES_MAX},
    state::{Edit, View},
};

/// Asks to install a component.
#[derive(Debug, Clone, Default)]
pub struct Install {
    /// Name, instead of the manifest's.
    pub name: Option<String>,
    /// Version, instead of the manifest's.
    pub version: Option<String>,
    /// Signatures that come with it.
    pub signatures: Vec<Evidence>,
    /// Gives it all grants that it asks for.
    pub accept_grants: bool,
    /// Verifies and tells, and keeps nothing.
    pub dry_run: bool,
    /// Who asks.
    pub by: String,
}

/// What was installed.
#[derive(Debug, Clone)]
pub struct Installed {
    /// The plugin as it is now known.
    pub plugin: Arc<PluginRecord>,
    /// What the operator should know; nothing that hinders.
    pub warnings: Vec<String>,
    /// Whether these bytes were installed before.
    pub existed: bool,
    /// How it differs from another version that is installed.
    pub upgrade: Option<Upgrade>,
}

/// What a version asks for, beside what another one has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The other version: the newest one.
    pub from: String,
    /// Grants that the other one has not, and this one asks for.
    pub added: Grants,
    /// Grants that the other one has, and this one does not ask for.
    pub dropped: Grants,
}

/// What is known of a component before it is compiled.
struct Examined {
    view: Arc<View>,
    key: PluginKey,
    facts: Facts,
    known: Option<Arc<PluginRecord>>,
    warnings: Vec<String>,
    signer: Option<Digest>,
}

impl Control {
    /// Verifies, compiles and keeps a component. Installing the same bytes again succeeds, and repairs a damaged file.
    ///
    /// # Errors
    /// Why it is refused. Nothing of it is kept.
    pub async fn install(&self, component: Bytes, request: Install) -> Result<Installed> {
        self.owned("install", |this| async move {
            let result = this.install_now(component, &request).await;
            let subject = match &result {
                Ok(installed) => installed.plugin.label(),
                Err(_) => request.name.clone().unwrap_or_else(|| "a component".to_owned()),
            };
            if !request.dry_run {
                let note = |done: &Installed| {
                    let existed = if done.existed { ", which was installed before" } else { "" };
                    format!("{}{existed}", done.plugin.digest)
                };
                this.audit.note(&request.by, "install", &subject, &result, note).await;
            }
            result
        })
        .await
    }

    /// Tells what would come of installing a component, without compiling it; nothing is kept.
    ///
    /// # Errors
    /// Why it would be refused.
    pub async fn review(&self, component: Bytes, request: &Install) -> Result<Installed> {
        let _turn = self.installs.acquire().await.map_err(|error| Error::Internal(error.to_string()))?;
        let Examined { view, key, facts, known, warnings, signer } = self.examine(&component, request).await?;
        let plugin = known.clone().unwrap_or_else(|| Arc::new(record(&key, facts, &request.by)));
        let plugin = Arc::new(plugin.signed(&request.signatures, signer));
        let upgrade = upgrade(&view, &key, &plugin);
        Ok(Installed { plugin, warnings, existed: known.is_some(), upgrade })
    }

    /// Looks at a component and judges its signatures, before anything of it is compiled.
    async fn examine(&self, component: &Bytes, request: &Install) -> Result<Examined> {
        let given = request.signatures.len();
        if given > SIGNATURES_MAX {
            return Err(Error::TooManySignatures { given, max: SIGNATURES_MAX });
        }
        let bytes = component.clone();
        let facts = blocking(move || Ok(inspect(&bytes)?)).await?;
        let key = key(&facts, request)?;
        let digest = facts.digest;
        let view = self.state.fresh().await?;
        let known = taken(view.plugin(&key), &key, digest)?.cloned();
        let mut warnings = facts.warnings.clone();
        // What came with it before counts too.
        let mut signatures = request.signatures.clone();
        signatures.extend(known.iter().flat_map(|known| known.signatures.clone()));
        let (judge, name, bytes) = (self.judge(&view), key.name.clone(), component.clone());
        let judged = blocking(move || judge.component(name.as_str(), &bytes, digest, &signatures)).await?;
        warnings.extend(judged.warnings);
        Ok(Examined { view, key, facts, known, warnings, signer: judged.signer })
    }

    pub(super) async fn install_now(&self, component: Bytes, request: &Install) -> Result<Installed> {
        let _turn = self.installs.acquire().await.map_err(|error| Error::Internal(error.to_string()))?;
        let Examined { view, key, facts, known, mut warnings, signer } = self.examine(&component, request).await?;
        let digest = facts.digest;
        if let Err(error) = self.compile(&facts, component.clone(), &mut warnings).await {
            self.discard(digest).await;
            return Err(error);
        }
        let plugin = known.clone().unwrap_or_else(|| Arc::new(record(&key, facts, &request.by)));
        let plugin = Arc::new(plugin.signed(&request.signatures, signer));
        let upgrade = upgrade(&view, &key, &plugin);
        if request.dry_run {
            self.discard(digest).await;
            return Ok(Installed { plugin, warnings, existed: known.is_some(), upgrade });
        }
        let kept = self.keep(&key, component, Arc::clone(&plugin)).await;
        if kept.is_err() {
            self.discard(digest).await;
        }
        let existed = kept?;
        if request.accept_grants {
            let change = GrantChange { requested: true, by: request.by.clone(), ..GrantChange::default() };
            let result = self.grant_now(&Reference::Version(key.clone()), &change).await;
            let note = |_: &PluginView| "all that it asks for, at its installation".to_owned();
            self.audit.note(&request.by, "grant", &key.to_string(), &result, note).await;
            result?;
        }
        let plugin = self.state.view().plugin(&key).map_or(plugin, Arc::clone);
        Ok(Installed { plugin, warnings, existed, upgrade })
    }

    /// Compiles what binding will need: the component, and its instrumented form when it is to be snapshotted.
    async fn compile(&self, facts: &Facts, component: Bytes, warnings: &mut Vec<String>) -> Result<()> {
        let artifacts = self.artifacts.clone();
        let digest = facts.digest;
        let snapshots = facts.manifest.mode.unwrap_or_else(|| facts.slot.mode()) == Mode::Fresh;
        let warning = blocking(move || {
            artifacts
                .component(digest, "component", || Ok(component.to_vec()))
                .map_err(|error| Rejection::Invalid(format!("{error:#}")))?;
            let prepared = if snapshots { snapshot::prepare(&artifacts, digest, &component) } else { Ok(()) };
            Ok(prepared
                .err()
                .map(|error| format!("{error}; every instance will read the settings anew, which takes longer")))
        })
        .await?;
        warnings.extend(warning);
        Ok(())
    }

    /// Writes the file, shares it, then writes the record; whether the record was there.
    async fn keep(&self, key: &PluginKey, component: Bytes, plugin: Arc<PluginRecord>) -> Result<bool> {
        let _both = self.installed.lock().await;
        let (files, digest, bytes) = (Arc::clone(&self.files), plugin.digest, component.clone());
        blocking(move || files.put(digest, &bytes)).await?;
        let view = self.state.fresh().await?;
        let known = taken(view.plugin(key), key, digest)?;
        let has_object = known.is_some_and(|known| known.object.is_some());
        let is_complete = has_object || !self.is_shared();
        let signed = |known: &PluginRecord| known.signed(&plugin.signatures, plugin.signer);
        if known.is_some_and(|known| is_complete && signed(known) == **known) {
            return Ok(true);
        }
        let object = if has_object { None } else { self.put_object(digest, &component).await? };
        let (mut existed, mut named) = (false, false);
        let plan = |view: &crate::state::View| {
            let known = taken(view.plugin(key), key, digest)?;
            existed = known.is_some();
            named = object.is_some() && known.is_none_or(|known| known.object.is_none());
            let mut record = signed(known.unwrap_or(&plugin));
            if named {
                record.object.clone_from(&object);
            }
            let changed = known.is_none_or(|known| **known != record);
            Ok(if changed { vec![Edit::PutPlugin(Arc::new(record))] } else { Vec::new() })
        };
        let kept = self.state.commit(plan).await;
        // Where storage failed, the record may have been made; then the object is left for the next start to judge.
        if !named && !matches!(kept, Err(Error::Storage(_))) {
            self.remove_objects(object).await;
        }
        kept.map(|()| existed)
    }

    /// Removes files of a component that no record names.
    pub(super) async fn discard(&self, digest: Digest) {
        let _both = self.installed.lock().await;
        match self.state.fresh().await {
            Ok(view) if view.with_digest(digest).is_none() => {}
            // Without the state it is not known whether a record names it; the next start will know.
            _ => return,
        }
        let (files, artifacts) = (Arc::clone(&self.files), self.artifacts.clone());
        let removed = blocking(move || {
            files.remove(digest);
            artifacts.remove(digest);
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!(%digest, %error, "files of a component that is not installed stay until the next start");
        }
    }

    /// Removes a plugin: the newest version of a name, one version, or all with a digest.
    ///
    /// # Errors
    /// A binding uses it, or one that a rollback returns to.
    pub async fn uninstall(&self, reference: Reference, by: String) -> Result<Vec<Digest>> {
        self.owned("uninstall", |this| async move {
            let result = this.uninstall_now(&reference).await;
            let note = |gone: &Vec<Digest>| gone.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            this.audit.note(&by, "uninstall", &reference.to_string(), &result, note).await;
            result
        })
        .await
    }

    async fn uninstall_now(&self, reference: &Reference) -> Result<Vec<Digest>> {
        let view = self.state.fresh().await?;
        let first = Arc::clone(view.resolve(reference)?);
        let mut previous = Vec::new();
        for (slot, current) in view.bindings() {
            let records = self.state.generations(slot).await?;
            let before = records.into_iter().rev().find(|record| record.generation < current.generation);
            previous.extend(before.map(|before| (slot.clone(), before)));
        }
        let mut objects = Vec::new();
        let plan = |view: &crate::state::View| {
            let by_digest = matches!(reference, Reference::Digest(_));
            let gone = view.plugins().filter(|(_, record)| match by_digest {
                true => record.digest == first.digest,
                false => record.name == first.name && record.version == first.version,
            });
            let gone: Vec<_> = gone.map(|(key, record)| (key.clone(), Arc::clone(record))).collect();
            for (key, record) in &gone {
                let uses = |binding: &BindingRecord| binding.links().any(|link| is_plugin(link, record));
                let current = view.bindings().map(|(slot, binding)| (slot, binding.as_ref(), "serves as"));
                let previous = previous.iter().map(|(slot, binding)| (slot, binding, "can be returned to as"));
                let tried =
                    view.slots().filter_map(|(slot, held)| Some((slot, &held.running()?.candidate, "is tried as")));
                let mut bindings = current.chain(previous).chain(tried);
                if let Some((slot, binding, how)) = bindings.find(|(_, binding, _)| uses(binding)) {
                    let uses = format!("it {how} generation {} of `{slot}`", binding.generation);
                    return Err(Error::InUse { plugin: key.to_string(), uses });
                }
            }
            if gone.is_empty() {
                return Err(Error::UnknownPlugin(reference.to_string()));
            }
            objects = gone.iter().filter_map(|(_, record)| record.object.clone()).collect();
            Ok(gone.into_iter().map(|(key, _)| Edit::RemovePlugin(key)).collect())
        };
        {
            let _both = self.installed.lock().await;
            self.state.commit(plan).await?;
        }
        self.remove_objects(objects).await;
        self.discard(first.digest).await;
        Ok(vec![first.digest])
    }
}

/// The record that has the key, when it is of the same bytes; versions don't change.
fn taken<'a>(
    record: Option<&'a Arc<PluginRecord>>, key: &PluginKey, given: Digest,
) -> Result<Option<&'a Arc<PluginRecord>>> {
    match record {
        Some(record) if record.digest != given => {
            Err(Error::VersionTaken { plugin: key.to_string(), installed: record.digest, given })
        }
        record => Ok(record),
    }
}

/// How a version differs from the newest other one of its name.
fn upgrade(view: &View, key: &PluginKey, plugin: &PluginRecord) -> Option<Upgrade> {
    let others = view.plugins().filter(|(other, _)| other.name == key.name && other.version != key.version);
    let (_, other) = others.max_by_key(|(other, _)| (other.version.pre.is_empty(), *other))?;
    Some(Upgrade {
        from: other.version.clone(),
        added: plugin.requested.difference(&other.grants).cloned().collect(),
        dropped: other.grants.difference(&plugin.requested).cloned().collect(),
    })
}

fn key(facts: &Facts, request: &Install) -> Result<PluginKey> {
    let manifest = &facts.manifest;
    let name = request.name.as_deref().or(manifest.name.as_ref().map(platform_capability::Name::as_str));
    let version = request.version.as_deref().or(manifest.version.as_deref());
    PluginKey::new(name.ok_or(Error::Unnamed("name"))?, version.ok_or(Error::Unnamed("version"))?)
}

fn record(key: &PluginKey, facts: Facts, by: &str) -> PluginRecord {
    let manifest = facts.manifest;
    PluginRecord {
        name: key.name.clone(),
        version: key.version.to_string(),
        digest: facts.digest,
        size: facts.size,
        description: manifest.description,
        license: manifest.license,
        source: manifest.source,
        slot: facts.slot,
        mode: manifest.mode,
        imports: facts.imports.into_iter().collect(),
        exports: facts.exports.into_iter().collect(),
        requested: facts.requested,
        grants: platform_capability::Grants::new(),
        settings_schema: manifest.settings_schema,
        object: None,
        signatures: Vec::new(),
        signer: None,
        installed_ms: clock::unix_ms(),
        installed_by: by.to_owned(),
    }
}
