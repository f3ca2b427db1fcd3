//! Making a configuration file so.
//!
//! What an entry comes to is remembered when it has been applied, and compared with what it comes to the next time: only
//! entries that changed are acted on. So a binding that an operator made by hand stays until its entry changes, also
//! across restarts. Each daemon remembers its own file; what the file of another one said already is not applied again, so
//! that daemons with the same file do it once, and of files that differ the one wins that changed last. Invariant: a bad entry is reported under its name and changes nothing; the others are applied.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use bytes::Bytes;
use platform_dataplane::SlotName;
use platform_signing::Evidence;
use serde::Serialize;

use super::{Bind, Control, GrantChange, Install, LinkRequest, bind::told, blocking};
use crate::{
    error::{Error, Result},
    file::{Declaration, DeclaredBinding, DeclaredLink, DeclaredPlugin},
    files,
    record::{BindingRecord, PluginKey, PluginRecord, Reference},
    state::Edit,
};

/// Who the audit trail says did it.
const CONFIG: &str = "config";
/// Prefix of remembered bindings.
const BINDING: &str = "binding:";
/// What is remembered of a binding that a file is about to lose; no binding comes to it.
const WITHDRAWN: &str = "";
/// Prefix of remembered grants.
const GRANTS: &str = "grants:";

/// One thing that applying a file changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A plugin was installed.
    Installed(PluginKey),
    /// A plugin's grants were set.
    Granted(PluginKey),
    /// A slot was bound, to this generation.
    Bound(SlotName, u64),
    /// A slot that the file no longer declares was emptied.
    Unbound(SlotName),
}

/// What applying a file did.
#[derive(Debug, Default)]
pub struct Applied {
    /// What changed, in this order.
    pub changes: Vec<Change>,
    /// Entries that could not be applied, and why. What they are about is as it was.
    pub problems: Vec<(String, Error)>,
}

/// What a declared binding comes to.
#[derive(Serialize)]
struct Meaning<'a> {
    chain: &'a [crate::record::Link],
    failure: &'a platform_dataplane::FailureMode,
    fallback: &'a Option<crate::record::Link>,
}

impl Control {
    /// Applies what changed in a configuration file since it was applied last, by the same path as every other change.
    ///
    /// # Errors
    /// The daemon stops. Problems of single entries are in the answer.
    pub async fn apply(&self, declaration: Declaration) -> Result<Applied> {
        self.owned("apply", |this| async move {
            let mut applied = Applied::default();
            let mut declared = BTreeSet::new();
            for plugin in &declaration.plugins {
                match this.apply_plugin(&declaration, plugin, &mut applied.changes).await {
                    Ok(key) => drop(declared.insert(key)),
                    Err(error) => applied.problems.push((plugin.label(), error)),
                }
            }
            let mut seen = BTreeSet::new();
            for binding in &declaration.bindings {
                let label = format!("binding of `{}`", binding.slot);
                let result = if seen.insert(binding.slot.clone()) {
                    this.apply_binding(binding, &declared, &mut applied.changes).await
                } else {
                    Err(Error::Declared("the slot is declared twice; put all of its plugins into one entry".to_owned()))
                };
                if let Err(error) = result {
                    applied.problems.push((label, error));
                }
            }
            this.forget(&seen, &mut applied).await;
            for (entry, error) in &applied.problems {
                tracing::error!(entry, %error, "entry of the configuration file was not applied");
            }
            Ok(applied)
        })
        .await
    }

    async fn apply_plugin(
        &self, declaration: &Declaration, declared: &DeclaredPlugin, changes: &mut Vec<Change>,
    ) -> Result<PluginKey> {
        let path = path(declaration, declared)?;
        let read = move || Ok((files::read(&path)?, Evidence::beside(&path)?.into_iter().collect()));
        let (bytes, signatures) = blocking(read).await?;
        let record = self.installed_as(declared, bytes, signatures, changes).await?;
        let key = record.key()?;
        let Some(grants) = &declared.grants else { return Ok(key) };
        let entry = format!("{GRANTS}{key}");
        let meaning = grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        if self.is_applied(&entry, &meaning) {
            return Ok(key);
        }
        if record.grants != *grants && !self.is_said_already(&entry, &meaning) {
            let change = GrantChange { exactly: Some(grants.clone()), by: CONFIG.to_owned(), ..GrantChange::default() };
            let result = self.grant_now(&Reference::Version(key.clone()), &change).await;
            self.audit.note(CONFIG, "grant", &key.to_string(), &result, |_| meaning.clone()).await;
            result?;
            changes.push(Change::Granted(key.clone()));
        }
        self.remember(entry, meaning).await?;
        Ok(key)
    }

    /// Under which name this daemon remembers its file: none as long as it is the only one.
    fn declarer(&self) -> &str {
        if self.is_shared() { &self.daemon } else { "" }
    }

    /// Whether this daemon applied an entry as it is now.
    fn is_applied(&self, entry: &str, meaning: &str) -> bool {
        self.state.view().declared(self.declarer(), entry) == Some(meaning)
    }

    /// Whether an entry that is new to this daemon is what the file of another one said: it was applied then, and what was
    /// changed by hand since stays.
    fn is_said_already(&self, entry: &str, meaning: &str) -> bool {
        let view = self.state.view();
        let new = view.declared(self.declarer(), entry).is_none();
        new && view.declared_anywhere(entry).any(|said| said == meaning)
    }

    async fn remember(&self, entry: String, meaning: String) -> Result<()> {
        let daemon = self.declarer();
        let plan = |_: &_| Ok(vec![Edit::PutDeclared(daemon.to_owned(), entry.clone(), meaning.clone())]);
        self.state.commit(plan).await
    }

    /// The plugin of the declared file, installed when it is not.
    async fn installed_as(
        &self, declared: &DeclaredPlugin, bytes: Vec<u8>, signatures: Vec<Evidence>, changes: &mut Vec<Change>,
    ) -> Result<Arc<PluginRecord>> {
        let digest = platform_runtime::Digest::of(&bytes);
        let view = self.state.view();
        let fits = |record: &&Arc<PluginRecord>| {
            record.digest == digest
                && signatures.iter().all(|signature| record.signatures.contains(signature))
                && declared.name.as_ref().is_none_or(|name| record.name == *name)
                && declared.version.as_ref().is_none_or(|version| record.version == *version)
        };
        if let Some(record) = view.plugins().map(|(_, record)| record).find(fits) {
            return Ok(Arc::clone(record));
        }
        let request = Install {
            name: declared.name.as_ref().map(ToString::to_string),
            version: declared.version.clone(),
            signatures,
            accept_grants: false,
            dry_run: false,
            by: CONFIG.to_owned(),
        };
        let result = self.install_now(Bytes::from(bytes), &request).await;
        let subject = result.as_ref().map_or_else(|_| declared.label(), |done| done.plugin.label());
        self.audit.note(CONFIG, "install", &subject, &result, |done| done.plugin.digest.to_string()).await;
        let installed = result?;
        if !installed.existed {
            changes.push(Change::Installed(installed.plugin.key()?));
        }
        Ok(installed.plugin)
    }

    async fn apply_binding(
        &self, declared: &DeclaredBinding, plugins: &BTreeSet<PluginKey>, changes: &mut Vec<Change>,
    ) -> Result<()> {
        let slot = &declared.slot;
        let request = request(declared, plugins)?;
        let entry = format!("{BINDING}{slot}");
        loop {
            let view = self.state.fresh().await?;
            let wanted = self.resolved(&view, slot, request.clone(), 0).await?;
            let meaning = meaning(&wanted)?;
            if self.is_applied(&entry, &meaning) {
                return Ok(());
            }
            let current = view.slot(slot).current;
            let if_generation = Some(current.as_ref().map_or(0, |current| current.generation));
            if self.is_said_already(&entry, &meaning) || current.is_some_and(|current| current.serves_like(&wanted)) {
                return self.remember(entry, meaning).await;
            }
            let result = self.bind_now(slot, Bind { if_generation, ..request.clone() }).await;
            if matches!(result, Err(Error::Changed(_) | Error::OtherGeneration { .. })) {
                // Daemons with the same file start at the same time.
                continue;
            }
            self.audit.note(CONFIG, "bind", &slot.to_string(), &result, |view| told(view, &declared.comment)).await;
            changes.push(Change::Bound(slot.clone(), result?.binding.generation));
            return self.remember(entry, meaning).await;
        }
    }

    /// Empties slots that the file declared once and declares no more, unless an operator has bound them since.
    async fn forget(&self, declared: &BTreeSet<SlotName>, applied: &mut Applied) {
        let view = self.state.view();
        let gone = view.declared_with(self.declarer(), BINDING).filter_map(|slot| slot.parse::<SlotName>().ok());
        for slot in gone.filter(|slot| !declared.contains(slot)) {
            if let Err(error) = self.forget_binding(&slot, &mut applied.changes).await {
                applied.problems.push((format!("binding of `{slot}`"), error));
            }
        }
    }

    /// First it is said that the file declares the slot no more, then looked whether any does: of daemons that lose an entry at the
    /// same time the last one finds that none is left. What is said is taken back in the end, so that a daemon that was
    /// stopped meanwhile goes on when it starts.
    async fn forget_binding(&self, slot: &SlotName, changes: &mut Vec<Change>) -> Result<()> {
        let entry = format!("{BINDING}{slot}");
        self.remember(entry.clone(), WITHDRAWN.to_owned()).await?;
        loop {
            let view = self.state.fresh().await?;
            let is_declared = view.declared_anywhere(&entry).any(|meaning| meaning != WITHDRAWN);
            if is_declared || view.slot(slot).current.is_none_or(|current| current.bound_by != CONFIG) {
                break;
            }
            let result = self.unbind_now(slot).await;
            if matches!(result, Err(Error::Changed(_) | Error::NotBound(_))) {
                // Another daemon found the same.
                continue;
            }
            self.audit.note(CONFIG, "unbind", &slot.to_string(), &result, |last| format!("generation {last}")).await;
            result?;
            changes.push(Change::Unbound(slot.clone()));
        }
        let forget = |_: &_| Ok(vec![Edit::RemoveDeclared(self.declarer().to_owned(), entry.clone())]);
        self.state.commit(forget).await
    }
}

fn path(declaration: &Declaration, declared: &DeclaredPlugin) -> Result<PathBuf> {
    match (&declared.path, &declared.name) {
        (Some(path), _) => Ok(declaration.folder.join(path)),
        (None, Some(name)) => {
            let candidates = declaration.bundled.iter().map(|folder| folder.join(format!("{name}.wasm")));
            let missing =
                || Error::Declared(format!("`{name}` does not ship with the daemon; give its file as `path`"));
            candidates.into_iter().find(|path| path.is_file()).ok_or_else(missing)
        }
        (None, None) => Err(Error::Declared(
            "the entry needs `path`, or the `name` of a plugin that ships with the daemon".to_owned(),
        )),
    }
}

fn request(declared: &DeclaredBinding, plugins: &BTreeSet<PluginKey>) -> Result<Bind> {
    let shared = !declared.settings.is_empty() || declared.mode.is_some() || declared.limits != Default::default();
    if shared && declared.plugins.len() > 1 {
        let why = "`settings`, `mode` and `limits` of a binding are for one plugin; with several, write `{ plugin = \"NAME\", settings = { .. } }`";
        return Err(Error::Declared(why.to_owned()));
    }
    let chain = declared.plugins.iter().map(|link| {
        let DeclaredLink { plugin, settings, mode, limits } = link;
        Ok(LinkRequest {
            plugin: preferred(plugin.parse()?, plugins),
            settings: if settings.is_empty() { declared.settings.clone() } else { settings.clone() },
            mode: mode.or(declared.mode),
            limits: if *limits == Default::default() { declared.limits.clone() } else { limits.clone() },
        })
    });
    Ok(Bind {
        carry: Vec::new(),
        rollout: None,
        chain: chain.collect::<Result<_>>()?,
        failure: declared.failure.clone(),
        dry_run: false,
        if_generation: None,
        comment: declared.comment.clone(),
        by: CONFIG.to_owned(),
    })
}

/// A bare name means the version that the same file declares, so that a version installed by hand changes nothing.
fn preferred(reference: Reference, plugins: &BTreeSet<PluginKey>) -> Reference {
    let Reference::Name(name) = &reference else { return reference };
    let declared = plugins.iter().rfind(|key| key.name == *name);
    declared.map_or_else(|| reference.clone(), |key| Reference::Version(key.clone()))
}

/// What a binding comes to, without the grants, which have entries of their own.
fn meaning(binding: &BindingRecord) -> Result<String> {
    let mut binding = binding.clone();
    for link in binding.chain.iter_mut().chain(&mut binding.fallback) {
        link.grants.clear();
    }
    let meaning = Meaning { chain: &binding.chain, failure: &binding.failure, fallback: &binding.fallback };
    serde_json::to_string(&meaning).map_err(|error| Error::Internal(error.to_string()))
}
