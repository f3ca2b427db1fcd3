//! Components that daemons share, in the object store of the storage that they share.
//!
//! Owns under which name a component lies there and who removes it. Invariant: an object is there before a record names it
//! and until none does, and no two records name the same, so nobody removes what another one needs.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use platform_base::clock;
use platform_runtime::Digest;
use platform_storage::Objects;

use super::{Control, blocking};
use crate::{
    error::{Error, Result},
    record::{BindingRecord, PluginRecord},
    state::Edit,
};

/// How long an object may be there before a record names it: an installation may be under way.
const NAMELESS_MS_MAX: u64 = 3_600_000;
/// What the names of objects begin with: a digest of so many digits. Others keep theirs in the same place.
const DIGEST_DIGITS: usize = 64;

impl Control {
    /// Keeps a component where all daemons find it, under a name of its own; none where nobody shares the storage.
    pub(super) async fn put_object(&self, digest: Digest, component: &Bytes) -> Result<Option<String>> {
        let Some(objects) = self.storage.objects() else { return Ok(None) };
        let name = format!("{}.{}.{}", digest.hex(), self.daemon, clock::unix_ns());
        objects.put(&name, component.clone()).await?;
        Ok(Some(name))
    }

    /// Removes objects that no record names any more. What stays behind is removed at a later start.
    pub(super) async fn remove_objects(&self, names: impl IntoIterator<Item = String>) {
        let Some(objects) = self.storage.objects() else { return };
        for name in names {
            if let Err(error) = objects.remove(&name).await {
                tracing::warn!(name, %error, "the object of a component stays until the next start");
            }
        }
    }

    /// Brings the components of a binding here that other daemons installed.
    pub(super) async fn fetch(&self, binding: &BindingRecord) -> Result<()> {
        let Some(objects) = self.storage.objects() else { return Ok(()) };
        for link in binding.links() {
            let (files, digest) = (Arc::clone(&self.files), link.digest);
            if blocking(move || Ok(files.load(digest).is_ok())).await? {
                continue;
            }
            let component = self.download(objects, digest).await?;
            let component = component.ok_or_else(|| Error::NotShared(link.label()))?;
            let files = Arc::clone(&self.files);
            blocking(move || files.put(digest, &component)).await?;
            tracing::info!(plugin = link.label(), %digest, "brought a component here that another daemon installed");
        }
        Ok(())
    }

    async fn download(&self, objects: &dyn Objects, digest: Digest) -> Result<Option<Bytes>> {
        let view = self.state.fresh().await?;
        let of_digest = view.plugins().map(|(_, record)| record).filter(|record| record.digest == digest);
        for name in of_digest.filter_map(|record| record.object.as_ref()) {
            let Some(component) = objects.get(name).await? else { continue };
            let bytes = component.clone();
            if blocking(move || Ok(Digest::of(&bytes))).await? == digest {
                return Ok(Some(component));
            }
            tracing::error!(name, %digest, "an object is not the component that was installed");
        }
        Ok(None)
    }

    /// Shares components that were installed while nobody shared the storage, and removes what interrupted installations left.
    pub(super) async fn keep_objects(&self) {
        let Some(objects) = self.storage.objects() else { return };
        let records: Vec<Arc<PluginRecord>> =
            self.state.view().plugins().map(|(_, record)| Arc::clone(record)).collect();
        for record in records.into_iter().filter(|record| record.object.is_none()) {
            if let Err(error) = self.share(&record).await {
                tracing::warn!(plugin = record.label(), %error, "other daemons can't get this component");
            }
        }
        let nameless = async {
            // Listed first: what is named later was too young to be removed.
            let listed = objects.list().await?;
            let view = self.state.fresh().await?;
            let named: BTreeSet<&String> = view.plugins().filter_map(|(_, record)| record.object.as_ref()).collect();
            let ours = |name: &str| name.split_once('.').is_some_and(|(digest, _)| digest.len() == DIGEST_DIGITS);
            let old = |kept_ms: u64| kept_ms.saturating_add(NAMELESS_MS_MAX) < clock::unix_ms();
            let nameless = listed
                .into_iter()
                .filter(|object| ours(&object.name) && old(object.kept_ms) && !named.contains(&object.name));
            Ok::<_, Error>(nameless.map(|object| object.name).collect::<Vec<_>>())
        };
        match nameless.await {
            Ok(nameless) => self.remove_objects(nameless).await,
            Err(error) => tracing::warn!(%error, "objects that nothing names stay until the next start"),
        }
    }

    async fn share(&self, record: &Arc<PluginRecord>) -> Result<()> {
        let (files, digest) = (Arc::clone(&self.files), record.digest);
        let Ok(component) = blocking(move || files.load(digest)).await else {
            // Another daemon may have it.
            return Ok(());
        };
        let object = self.put_object(digest, &Bytes::copy_from_slice(&component)).await?;
        let key = record.key()?;
        let mut taken = false;
        let named = self.state.commit(|view| {
            let known = view.plugin(&key).filter(|known| known.digest == digest && known.object.is_none());
            taken = known.is_some();
            let put = |known: &Arc<PluginRecord>| PluginRecord { object: object.clone(), ..PluginRecord::clone(known) };
            Ok(known.map(|known| Edit::PutPlugin(Arc::new(put(known)))).into_iter().collect())
        });
        named.await?;
        if !taken {
            self.remove_objects(object).await;
        }
        Ok(())
    }
}
