//! What a component has to be to be published, and to be listed.
//!
//! Owns the gates: inspected when its manifest is pushed, judged by its signatures and what came of trying it whenever they change. Must not know HTTP. Invariants: no component gets a tag here
//! that no daemon of this version would take; with `require_signatures` a version is listed only when a key signed it that owns its name, with `require_conformance` only when it passed.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use platform_base::clock;
use platform_control::inspect::{self, COMPONENT_BYTES_MAX};
use platform_registry::{component_of, interfaces_of, signature_tag};
use platform_runtime::Digest;
use platform_signing::Policy;
use platform_storage::Condition;

use crate::{
    blobs::blocking,
    error::{Error, Result},
    listing::Version,
    manifest::Manifest,
    marketplace::Marketplace,
    name::{RepositoryName, Selector, Tag},
    owner::{Owner, folded},
    report::Report,
    store::busy,
    table::{Beside, Head, key, put, read, unchanged},
};

/// How often a change is tried again when another came between.
const TRIES: usize = 64;
/// Largest configuration of a component that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Imports that a refusal names.
const NAMED_MAX: usize = 10;

/// What is found of a version's signatures.
struct Judgement {
    signer: Option<Digest>,
    unlisted: Option<String>,
    /// The owner of its name, if that changes.
    owner: Option<Owner>,
}

impl Judgement {
    /// The same where something else hinders too. A name is nobody's before a version is listed.
    fn with(self, hindrance: Option<String>) -> Self {
        match (self.unlisted, hindrance) {
            (None, Some(why)) => Self { unlisted: Some(why), owner: None, ..self },
            (unlisted, _) => Self { unlisted, ..self },
        }
    }
}

impl Marketplace {
    /// Whose signatures count from now on; everything is judged anew.
    pub fn use_policy(&self, policy: Policy) {
        *self.policy.write() = Arc::new(policy);
        self.judge_again.notify_one();
    }

    /// Takes and judges a manifest; its digest.
    pub(crate) async fn publish(
        &self, repository: &RepositoryName, selector: &Selector, manifest: &Manifest, bytes: &Bytes, by: &str,
    ) -> Result<Digest> {
        let examined = self.examine(repository, selector, manifest, bytes, by).await?;
        let signed = self.signed(repository, selector, manifest).await?;
        for tag in &signed {
            self.refuse_strangers(repository, tag, bytes).await?;
        }
        let digest = self.store.put(repository, selector, manifest, bytes, by, examined.as_ref()).await?;
        let own = examined.and_then(|(version, _)| version.version.parse().ok());
        if own.is_some() {
            self.try_again.notify_one();
        }
        for tag in own.into_iter().chain(signed) {
            self.judge(repository, &tag).await?;
        }
        Ok(digest)
    }

    /// Inspects a manifest that says that it is a component's; what is to be told of it when it is pushed as a version.
    async fn examine(
        &self, repository: &RepositoryName, selector: &Selector, manifest: &Manifest, bytes: &Bytes, by: &str,
    ) -> Result<Option<(Version, Beside)>> {
        if !manifest.is_component {
            return Ok(None);
        }
        let (component, size) = component_of(bytes).map_err(|fault| Error::Manifest(fault.to_string()))?;
        let held = match self.store.blob(repository, component).await {
            Err(Error::NoBlob(component)) => return Err(Error::Missing(component)),
            held => held?,
        };
        if held != size {
            return Err(Error::Size(format!("the manifest gives `{component}` another size than it has")));
        }
        let _turn = self.inspections.acquire().await;
        let held =
            self.store.blobs.read(component, COMPONENT_BYTES_MAX as u64).await?.ok_or(Error::Missing(component))?;
        let facts = blocking(move || inspect::inspect(&held).map_err(Error::Rejected)).await?;
        self.compare(manifest, &facts.imports).await?;
        let Selector::Tag(tag) = selector else { return Ok(None) };
        if !tag.is_version() {
            return Ok(None);
        }
        let beside = Beside { settings_schema: facts.manifest.settings_schema.clone() };
        let version = Version::new(tag.as_str(), Digest::of(bytes), facts, clock::unix_ms(), by);
        Ok(Some((Version { unlisted: self.at_first(), ..version }, beside)))
    }

    /// Refuses a configuration that leaves out what the component imports: it is what others decide by without reading the component.
    async fn compare(&self, manifest: &Manifest, imports: &BTreeSet<String>) -> Result<()> {
        let Some(config) = manifest.config else { return Ok(()) };
        let bytes = self.store.blobs.read(config, CONFIG_BYTES_MAX).await?.ok_or(Error::Missing(config))?;
        let Some(told) = interfaces_of(&bytes) else { return Ok(()) };
        let hidden: Vec<&str> = imports.difference(&told.imports).map(String::as_str).take(NAMED_MAX).collect();
        if hidden.is_empty() {
            return Ok(());
        }
        let hidden = hidden.join("`, `");
        Err(Error::Manifest(format!(
            "the configuration does not say that the component imports `{hidden}`; push it again with a tool that reads them from the component"
        )))
    }

    /// Why a version is not listed before it was judged.
    fn at_first(&self) -> Option<String> {
        self.config.is_gated().then(|| "it was not judged yet".to_owned())
    }

    /// The versions that a manifest is a signature of.
    async fn signed(&self, repository: &RepositoryName, selector: &Selector, manifest: &Manifest) -> Result<Vec<Tag>> {
        let beside = match selector {
            Selector::Tag(tag) => tag.as_str().strip_prefix("sha256-").and_then(|rest| rest.strip_suffix(".sig")),
            Selector::Digest(_) => None,
        };
        let beside = beside.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        let beside =
            beside.filter(|digest| matches!(selector, Selector::Tag(tag) if tag.as_str() == signature_tag(*digest)));
        let Some(subject) = manifest.subject.or(beside) else { return Ok(Vec::new()) };
        let versions = self.store.versions(repository).await?;
        Ok(versions
            .iter()
            .filter(|version| version.digest == subject)
            .filter_map(|version| version.version.parse().ok())
            .collect())
    }

    /// Refuses a signature by a key that another one's name is not for.
    async fn refuse_strangers(&self, repository: &RepositoryName, tag: &Tag, signature: &Bytes) -> Result<()> {
        if !self.config.require_signatures {
            return Ok(());
        }
        let Some(version) = self.store.version(repository, tag).await? else { return Ok(()) };
        let artifact = self.store.manifest(repository, &Selector::Digest(version.digest)).await?;
        let evidence = self.store.evidence_in(repository, &artifact.bytes, signature).await?;
        let signers = self.signers(repository, version.component, &evidence);
        let owner: Option<Owner> = self.store.table.record(&key::owner(&folded(repository.as_str()))).await?;
        match owner {
            Some(owner) if !signers.is_empty() && owner.keys.is_disjoint(&signers) => {
                Err(Error::Denied(foreign(repository, &owner)))
            }
            _ => Ok(()),
        }
    }

    fn signers(
        &self, repository: &RepositoryName, component: Digest, evidence: &[platform_signing::Evidence],
    ) -> BTreeSet<Digest> {
        let name = repository.as_str().rsplit('/').next().unwrap_or_default();
        // All that lies beside an artifact is over its manifest, which has the digest of the component.
        self.policy.read().signers(name, &[], component, evidence).into_iter().collect()
    }

    /// Judges a version by the signatures that lie beside it now.
    pub(crate) async fn judge(&self, repository: &RepositoryName, tag: &Tag) -> Result<()> {
        for _ in 0..TRIES {
            let head_key = key::head(repository);
            let Some(head) = self.store.table.get(&head_key).await? else { return Ok(()) };
            let Some(version) = self.store.version(repository, tag).await? else { return Ok(()) };
            let artifact = self.store.manifest(repository, &Selector::Digest(version.digest)).await?;
            let evidence = self.store.evidence(repository, version.digest, &artifact.bytes).await?;
            let signers = self.signers(repository, version.component, &evidence);
            let owner_key = key::owner(&folded(repository.as_str()));
            let owner_held = self.store.table.get(&owner_key).await?;
            let owner: Option<Owner> = owner_held.as_ref().map(read).transpose()?;
            let report = self.report(version.component).await?;
            let judgement = self.judgement(repository, &signers, owner).with(self.hindrance(report.as_ref()));
            let (signer, unlisted) = (judgement.signer, judgement.unlisted);
            let is_same = version.signer == signer && version.unlisted == unlisted && version.report == report;
            if is_same && judgement.owner.is_none() {
                return Ok(());
            }
            let judged = Version { signer, unlisted, report, ..version };
            let mut writes = self.store.relist(repository, Some(&judged), &[]).await?;
            if let Some(owner) = judgement.owner {
                writes.push(put(owner_key, &owner, unchanged(owner_held.as_ref()))?);
            }
            writes.push(put(head_key, &read::<Head>(&head)?, Condition::At(head.revision))?);
            if self.store.table.commit(writes).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Why what came of trying a component keeps it from being listed.
    fn hindrance(&self, report: Option<&Report>) -> Option<String> {
        if !self.config.require_conformance {
            return None;
        }
        report.map_or_else(|| Some("it was not tried yet, which takes a minute".to_owned()), Report::hindrance)
    }

    fn judgement(&self, repository: &RepositoryName, signers: &BTreeSet<Digest>, owner: Option<Owner>) -> Judgement {
        let first = signers.first().copied();
        if !self.config.require_signatures {
            return Judgement { signer: first, unlisted: None, owner: None };
        }
        let name = repository.to_string();
        let unlisted = |why: String| Judgement { signer: None, unlisted: Some(why), owner: None };
        if signers.is_empty() {
            return unlisted("it is not signed by a key that `[[trust]]` has for its name".to_owned());
        }
        match owner {
            None => {
                let owner = Owner { names: BTreeSet::from([name]), keys: signers.clone() };
                Judgement { signer: first, unlisted: None, owner: Some(owner) }
            }
            Some(mut owner) => match owner.keys.intersection(signers).next().copied() {
                None => unlisted(foreign(repository, &owner)),
                Some(signer) => {
                    let is_new = owner.names.insert(name);
                    Judgement { signer: Some(signer), unlisted: None, owner: is_new.then_some(owner) }
                }
            },
        }
    }

    /// Judges all versions, in the order in which they were published.
    pub(crate) async fn judge_all(&self) -> Result<()> {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.repositories(after.as_deref(), 1000).await?;
            for repository in page.entries.iter().filter_map(|name| name.parse::<RepositoryName>().ok()) {
                let mut versions = self.store.versions(&repository).await?;
                versions.sort_unstable_by_key(|version| version.at_ms);
                for tag in versions.iter().filter_map(|version| version.version.parse::<Tag>().ok()) {
                    self.judge(&repository, &tag).await?;
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }
}

fn foreign(repository: &RepositoryName, owner: &Owner) -> String {
    let name = repository.as_str();
    match owner.names.iter().find(|other| other.as_str() != name).filter(|_| !owner.names.contains(name)) {
        Some(other) => format!("`{name}` looks like `{other}`, which belongs to another key; choose another name"),
        None => format!("`{name}` belongs to the key that signed its first version; sign with that"),
    }
}
