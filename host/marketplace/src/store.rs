//! [`Store`]: the operations on repositories.
//!
//! Owns what changes together. Must not know HTTP and who may ask. Invariants: a manifest becomes visible in the commit that checks that all it names
//! is there; a tag that is a version leads to one manifest for ever, also after it was deleted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use platform_base::clock;
use platform_runtime::Digest;
use platform_storage::{Condition, Entry, MAX_LIMIT, Storage, Write};
use serde_json::{Value, json};

use crate::{
    blobs::Blobs,
    error::{Error, Result},
    listing::{Listing, Version},
    manifest::Manifest,
    name::{RepositoryName, Selector, Tag},
    table::{Beside, Head, Kept, Linked, Table, Tagged, key, put, read, unchanged},
    uploads::Upload,
};

/// How often a change is tried again when another came between.
const TRIES: usize = 64;
/// How often, and how far apart, it is looked whether bytes that are being removed are gone.
const LEAVING_TRIES: usize = 50;
const LEAVING_PAUSE: Duration = Duration::from_millis(100);
/// Longest that keeping bytes takes, after which others may take them for left behind.
const COMING: Duration = Duration::from_secs(600);
/// Tags that are removed in one commit with their manifest.
const TAGS_PER_COMMIT: usize = 300;
/// Most bytes of a page of referrers: clients take no more in one answer.
const PAGE_BYTES_MAX: usize = 3 << 20;

/// What is kept of repositories.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) table: Table,
    pub(crate) blobs: Blobs,
}

/// A manifest.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) digest: Digest,
    pub(crate) media_type: String,
    pub(crate) bytes: Bytes,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listed<T> {
    pub(crate) entries: Vec<T>,
    /// Where the next page begins; none when this is the last.
    pub(crate) next: Option<String>,
}

pub(crate) fn busy() -> Error {
    Error::Busy("others change this repository all the time; try again".to_owned())
}

impl Store {
    pub(crate) fn new(storage: Arc<dyn Storage>, blobs: Blobs) -> Self {
        Self { table: Table::new(storage), blobs }
    }

    /// Makes the bytes of an upload a blob of a repository.
    pub(crate) async fn keep(&self, repository: &RepositoryName, upload: &Upload, expected: Digest) -> Result<()> {
        let (got, size) = upload.finish().await?;
        if got != expected {
            return Err(Error::Digest { expected: expected.to_string(), got });
        }
        let linked = Linked { size, at_ms: clock::unix_ms() };
        let coming = key::coming(expected, &upload.id);
        for _ in 0..LEAVING_TRIES {
            // From here on nobody begins to remove the bytes; who has begun is waited for.
            let value = Bytes::from_static(b"{}");
            let mark = Write::Put { key: coming.clone(), value, condition: Condition::Always, ttl: Some(COMING) };
            let absent = Write::Check { key: key::leaving(expected), condition: Condition::Absent };
            if !self.table.commit(vec![absent, mark]).await? {
                tokio::time::sleep(LEAVING_PAUSE).await;
                continue;
            }
            self.blobs.keep(upload.path(), expected).await?;
            let writes = vec![
                Write::Delete { key: coming.clone(), condition: Condition::Present },
                put(key::link(expected, repository), &linked, Condition::Always)?,
            ];
            if self.table.commit(writes).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Makes a blob of one repository also one of another; whether it is there.
    pub(crate) async fn mount(
        &self, repository: &RepositoryName, from: &RepositoryName, digest: Digest,
    ) -> Result<bool> {
        let Some(linked) = self.table.record::<Linked>(&key::link(digest, from)).await? else { return Ok(false) };
        let linked = Linked { at_ms: clock::unix_ms(), ..linked };
        let mut writes = vec![
            Write::Check { key: key::leaving(digest), condition: Condition::Absent },
            put(key::link(digest, repository), &linked, Condition::Always)?,
        ];
        if from != repository {
            writes.push(Write::Check { key: key::link(digest, from), condition: Condition::Present });
        }
        self.table.commit(writes).await
    }

    /// Size of a blob.
    pub(crate) async fn blob(&self, repository: &RepositoryName, digest: Digest) -> Result<u64> {
        let linked: Option<Linked> = self.table.record(&key::link(digest, repository)).await?;
        linked.map(|linked| linked.size).ok_or(Error::NoBlob(digest))
    }

    /// Puts a manifest; its digest.
    pub(crate) async fn put(
        &self, repository: &RepositoryName, selector: &Selector, manifest: &Manifest, bytes: &Bytes, by: &str,
        version: Option<&(Version, Beside)>,
    ) -> Result<Digest> {
        let digest = Digest::of(bytes);
        let tag = match selector {
            Selector::Digest(expected) if *expected != digest => {
                return Err(Error::Digest { expected: expected.to_string(), got: digest });
            }
            Selector::Digest(_) => None,
            Selector::Tag(tag) => Some(tag),
        };
        for _ in 0..TRIES {
            match self.change(repository, tag, manifest, bytes, by, version).await? {
                None => return Ok(digest),
                Some(writes) if self.table.commit(writes.clone()).await? => return Ok(digest),
                Some(_) => {}
            }
        }
        Err(busy())
    }

    /// What putting a manifest changes; none when all is as it should be.
    async fn change(
        &self, repository: &RepositoryName, tag: Option<&Tag>, manifest: &Manifest, bytes: &Bytes, by: &str,
        version: Option<&(Version, Beside)>,
    ) -> Result<Option<Vec<Write>>> {
        let (digest, at_ms) = (Digest::of(bytes), clock::unix_ms());
        let (head, own, tagged) =
            (key::head(repository), key::manifest(repository, digest), tag.map(|tag| key::tag(repository, tag)));
        let links = manifest.blobs.iter().map(|(blob, size)| (key::link(*blob, repository), *blob, *size));
        let parts = manifest.manifests.iter().map(|(part, size)| (key::manifest(repository, *part), *part, *size));
        let named: Vec<(String, Digest, u64)> = links.chain(parts).collect();
        let keys = [head.clone(), own.clone()]
            .into_iter()
            .chain(tagged.clone())
            .chain(named.iter().map(|(key, ..)| key.clone()));
        let mut held = self.table.all(&keys.collect::<Vec<_>>()).await?.into_iter();
        let (head_held, own_held) = (held.next().flatten(), held.next().flatten());
        let tag_held = tagged.as_ref().and_then(|_| held.next().flatten());
        let mut writes = Vec::new();
        for ((key, named, size), entry) in named.into_iter().zip(held) {
            let entry = entry.ok_or(Error::Missing(named))?;
            let is = size_of(&entry)?;
            if is != size {
                return Err(Error::Size(format!("the manifest says that `{named}` has {size} bytes, and it has {is}")));
            }
            writes.push(Write::Check { key, condition: Condition::Present });
        }
        let before: Option<Tagged> = tag_held.as_ref().map(read).transpose()?;
        let is_tagged = before.as_ref().is_some_and(|before| before.digest == digest && !before.gone);
        if own_held.is_some() && (tag.is_none() || is_tagged) {
            return Ok(None);
        }
        if let (Some(tag), Some(key)) = (tag, tagged) {
            may_lead(tag, before.as_ref(), digest)?;
            writes.push(put(key, &Tagged { digest, at_ms, gone: false }, unchanged(tag_held.as_ref()))?);
        }
        let mut manifests = head_held.as_ref().map(read::<Head>).transpose()?.unwrap_or_default().manifests;
        if own_held.is_none() {
            manifests = manifests.saturating_add(1);
            let kept = Kept {
                media_type: manifest.media_type.clone(),
                size: bytes.len() as u64,
                at_ms,
                by: by.to_owned(),
                blobs: manifest.blobs.keys().copied().collect(),
                subject: manifest.subject,
                is_component: manifest.is_component,
            };
            writes.push(put(own, &kept, Condition::Absent)?);
            let bytes_key = key::bytes(repository, digest);
            writes.push(Write::Put { key: bytes_key, value: bytes.clone(), condition: Condition::Always, ttl: None });
            if let Some(subject) = manifest.subject {
                let descriptor = descriptor(manifest, digest, bytes.len());
                writes.push(put(key::referrer(repository, subject, digest), &descriptor, Condition::Always)?);
            }
        }
        if let Some((version, beside)) = version {
            writes.extend(self.relist(repository, Some(version), &[]).await?);
            writes.push(put(key::component(repository, version.component), beside, Condition::Always)?);
        }
        writes.push(put(head, &Head { manifests }, unchanged(head_held.as_ref()))?);
        Ok(Some(writes))
    }

    /// The manifest that a tag leads to.
    pub(crate) async fn lead(&self, repository: &RepositoryName, selector: &Selector) -> Result<Digest> {
        let unknown = || Error::NoManifest(selector.to_string());
        match selector {
            Selector::Digest(digest) => Ok(*digest),
            Selector::Tag(tag) => {
                let tagged: Option<Tagged> = self.table.record(&key::tag(repository, tag)).await?;
                tagged.filter(|tagged| !tagged.gone).map(|tagged| tagged.digest).ok_or_else(unknown)
            }
        }
    }

    /// A manifest.
    pub(crate) async fn manifest(&self, repository: &RepositoryName, selector: &Selector) -> Result<Found> {
        let digest = self.lead(repository, selector).await?;
        let keys = [key::manifest(repository, digest), key::bytes(repository, digest)];
        let mut held = self.table.all(&keys).await?.into_iter().flatten();
        let (Some(kept), Some(bytes)) = (held.next(), held.next()) else {
            return Err(Error::NoManifest(selector.to_string()));
        };
        let kept: Kept = read(&kept)?;
        Ok(Found { digest, media_type: kept.media_type, bytes: bytes.value })
    }

    /// Removes a tag. A version stays taken.
    pub(crate) async fn untag(&self, repository: &RepositoryName, tag: &Tag) -> Result<()> {
        for _ in 0..TRIES {
            let key = key::tag(repository, tag);
            let unknown = || Error::NoManifest(tag.to_string());
            let held = self.table.get(&key).await?.ok_or_else(unknown)?;
            let tagged: Tagged = read(&held)?;
            if tagged.gone {
                return Err(unknown());
            }
            let head_key = key::head(repository);
            let head = self.table.get(&head_key).await?.ok_or_else(unknown)?;
            let mut writes = self.relist(repository, None, std::slice::from_ref(tag)).await?;
            writes.push(removal(tag, key, &tagged, &held)?);
            writes.push(put(head_key, &read::<Head>(&head)?, Condition::At(head.revision))?);
            if self.table.commit(writes).await? {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Removes a manifest, and the tags that lead to it. Its blobs go when nothing names them any more.
    pub(crate) async fn remove(&self, repository: &RepositoryName, digest: Digest) -> Result<()> {
        for _ in 0..TRIES {
            let (head_key, own) = (key::head(repository), key::manifest(repository, digest));
            let mut held = self.table.all(&[head_key.clone(), own.clone()]).await?.into_iter();
            let (head, kept) = (held.next().flatten(), held.next().flatten());
            let (Some(head), Some(kept)) = (head, kept) else { return Err(Error::NoManifest(digest.to_string())) };
            let kept: Kept = read(&kept)?;
            let (mut tags, mut gone) = (Vec::new(), Vec::new());
            let prefix = key::tags(repository);
            for entry in self.table.under(&prefix).await? {
                let tagged: Tagged = read(&entry)?;
                let tag = entry.key.strip_prefix(&prefix).and_then(|tag| tag.parse::<Tag>().ok());
                if let Some(tag) = tag.filter(|_| tagged.digest == digest && !tagged.gone) {
                    tags.push(removal(&tag, entry.key.clone(), &tagged, &entry)?);
                    gone.push(tag);
                }
            }
            let is_last = tags.len() <= TAGS_PER_COMMIT;
            tags.truncate(TAGS_PER_COMMIT);
            gone.truncate(TAGS_PER_COMMIT);
            let before: Head = read(&head)?;
            let manifests = before.manifests.saturating_sub(u64::from(is_last));
            let condition = Condition::At(head.revision);
            let mut writes = self.relist(repository, None, &gone).await?;
            writes.extend(tags);
            if manifests == 0 {
                writes.push(Write::Delete { key: head_key, condition });
            } else {
                writes.push(put(head_key, &Head { manifests }, condition)?);
            }
            if is_last {
                let referrer = kept.subject.map(|subject| key::referrer(repository, subject, digest));
                let keys = [own, key::bytes(repository, digest)].into_iter().chain(referrer);
                writes.extend(keys.map(|key| Write::Delete { key, condition: Condition::Always }));
            }
            if self.table.commit(writes).await? && is_last {
                return Ok(());
            }
        }
        Err(busy())
    }

    /// Versions of a component that were published under a name, listed or not.
    pub(crate) async fn versions(&self, repository: &RepositoryName) -> Result<Vec<Version>> {
        self.table.under(&key::versions(repository)).await?.iter().map(read).collect()
    }

    /// Whether a tag leads to a component that is not listed as any version.
    pub(crate) async fn is_unlisted(&self, repository: &RepositoryName, tag: &Tag) -> Result<bool> {
        let digest = self.lead(repository, &Selector::Tag(tag.clone())).await?;
        let kept: Option<Kept> = self.table.record(&key::manifest(repository, digest)).await?;
        if !kept.is_some_and(|kept| kept.is_component) {
            return Ok(false);
        }
        let versions = self.versions(repository).await?;
        Ok(!versions.iter().any(|version| version.digest == digest && version.unlisted.is_none()))
    }

    /// One of them.
    pub(crate) async fn version(&self, repository: &RepositoryName, tag: &Tag) -> Result<Option<Version>> {
        self.table.record(&key::version(repository, tag)).await
    }

    /// What the index of a repository becomes with another version, or without some.
    pub(crate) async fn relist(
        &self, repository: &RepositoryName, version: Option<&Version>, gone: &[Tag],
    ) -> Result<Vec<Write>> {
        let mut versions: BTreeMap<String, Version> =
            self.versions(repository).await?.into_iter().map(|one| (one.version.clone(), one)).collect();
        let (mut writes, before) = (Vec::new(), versions.len());
        for tag in gone.iter().filter(|tag| versions.remove(tag.as_str()).is_some()) {
            writes.push(Write::Delete { key: key::version(repository, tag), condition: Condition::Always });
        }
        if let Some(version) = version {
            let tag: Tag = version.version.parse()?;
            writes.push(put(key::version(repository, &tag), version, Condition::Always)?);
            versions.insert(version.version.clone(), version.clone());
        }
        if before == 0 && versions.is_empty() {
            return Ok(writes);
        }
        let listing_key = key::listing(repository);
        writes.push(match Listing::of(repository.as_str(), versions.values()) {
            Some(listing) => put(listing_key, &listing, Condition::Always)?,
            None => Write::Delete { key: listing_key, condition: Condition::Always },
        });
        Ok(writes)
    }

    /// Digests of what refers to a manifest, so many of them.
    pub(crate) async fn referring(
        &self, repository: &RepositoryName, subject: Digest, most: usize,
    ) -> Result<Vec<Digest>> {
        let prefix = key::referrers(repository, subject);
        let page = self.table.page(&prefix, None, most).await?;
        Ok(page.iter().filter_map(|entry| entry.key.strip_prefix(&prefix)?.parse().ok()).collect())
    }

    /// Tags of a repository, in order, after one.
    pub(crate) async fn tags(
        &self, repository: &RepositoryName, after: Option<&str>, limit: usize,
    ) -> Result<Listed<String>> {
        if self.table.get(&key::head(repository)).await?.is_none() {
            return Err(Error::NoRepository(repository.to_string()));
        }
        let is_there = |entry: &Entry| Ok(!read::<Tagged>(entry)?.gone);
        self.names(&key::tags(repository), after, limit, is_there).await
    }

    /// Names of repositories, in order, after one.
    pub(crate) async fn repositories(&self, after: Option<&str>, limit: usize) -> Result<Listed<String>> {
        self.names(key::REPOSITORIES, after, limit, |_entry| Ok(true)).await
    }

    async fn names(
        &self, prefix: &str, after: Option<&str>, limit: usize, is_there: impl Fn(&Entry) -> Result<bool>,
    ) -> Result<Listed<String>> {
        let mut entries: Vec<String> = Vec::new();
        // What a client says it saw last need not be there, but can't lead elsewhere either: only keys with the prefix are read.
        let mut after = after
            .filter(|after| after.len() <= 255 && !after.contains(char::is_control))
            .map(|after| format!("{prefix}{after}"));
        if limit == 0 {
            return Ok(Listed { entries, next: None });
        }
        loop {
            let page = self.table.page(prefix, after.as_deref(), MAX_LIMIT.min(limit.saturating_add(1))).await?;
            let Some(last) = page.last() else { return Ok(Listed { entries, next: None }) };
            after = Some(last.key.clone());
            for entry in &page {
                if !is_there(entry)? {
                    continue;
                }
                if entries.len() == limit {
                    let next = entries.last().cloned();
                    return Ok(Listed { entries, next });
                }
                entries.extend(entry.key.strip_prefix(prefix).map(str::to_owned));
            }
        }
    }

    /// Descriptors of what refers to a manifest.
    pub(crate) async fn referrers(
        &self, repository: &RepositoryName, subject: Digest, kind: Option<&str>, after: Option<&str>,
    ) -> Result<Listed<Value>> {
        let prefix = key::referrers(repository, subject);
        let after: Option<Digest> = after.and_then(|after| after.parse().ok());
        let after = after.map(|after| format!("{prefix}{after}"));
        let page = self.table.page(&prefix, after.as_deref(), MAX_LIMIT).await?;
        let (mut entries, mut bytes) = (Vec::new(), 0_usize);
        let is_full = page.len() == MAX_LIMIT;
        let mut last: Option<String> = None;
        for entry in page {
            let descriptor: Value = read(&entry)?;
            let is_wanted =
                kind.is_none_or(|kind| descriptor.get("artifactType").and_then(Value::as_str) == Some(kind));
            if is_wanted {
                bytes = bytes.saturating_add(entry.value.len());
                if bytes > PAGE_BYTES_MAX && !entries.is_empty() {
                    return Ok(Listed { entries, next: last });
                }
                entries.push(descriptor);
            }
            last = entry.key.strip_prefix(&prefix).map(str::to_owned);
        }
        Ok(Listed { entries, next: last.filter(|_| is_full) })
    }
}

/// Whether a tag may lead to a manifest.
fn may_lead(tag: &Tag, before: Option<&Tagged>, digest: Digest) -> Result<()> {
    let Some(before) = before.filter(|before| tag.is_version() && before.digest != digest) else { return Ok(()) };
    let was = if before.gone { "was" } else { "is" };
    Err(Error::Denied(format!(
        "the version `{tag}` {was} `{}`, and a version never becomes something else here; publish another version",
        before.digest
    )))
}

/// How a tag goes: a version stays taken.
fn removal(tag: &Tag, key: String, tagged: &Tagged, held: &Entry) -> Result<Write> {
    let condition = Condition::At(held.revision);
    if tag.is_version() {
        put(key, &Tagged { gone: true, ..tagged.clone() }, condition)
    } else {
        Ok(Write::Delete { key, condition })
    }
}

fn descriptor(manifest: &Manifest, digest: Digest, size: usize) -> Value {
    let mut descriptor = json!({"mediaType": manifest.media_type, "digest": digest, "size": size});
    if let Some(members) = descriptor.as_object_mut() {
        members.extend(manifest.artifact_type.as_ref().map(|kind| ("artifactType".to_owned(), json!(kind))));
        if !manifest.annotations.is_empty() {
            members.insert("annotations".to_owned(), json!(manifest.annotations));
        }
    }
    descriptor
}

/// The size of what an entry tells of.
fn size_of(entry: &Entry) -> Result<u64> {
    #[derive(serde::Deserialize)]
    struct Sized {
        size: u64,
    }
    Ok(read::<Sized>(entry)?.size)
}
