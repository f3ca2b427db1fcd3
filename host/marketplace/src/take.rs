//! [`Taken`]: a component as an installation on this daemon takes it out of its own registry.
//!
//! Must not know who installs and under which name. Invariant: what is given is what was published under that version, with the signatures that lie beside it.

use bytes::Bytes;
use platform_control::inspect::COMPONENT_BYTES_MAX;
use platform_signing::Evidence;

use crate::{
    config::Limits,
    error::{Error, Result},
    listing::Version,
    marketplace::Marketplace,
    name::{RepositoryName, Selector, Tag},
};

/// A published component.
#[derive(Debug, Clone)]
pub struct Taken {
    /// What is told of it.
    pub version: Version,
    /// The component.
    pub component: Bytes,
    /// Signatures over it.
    pub signatures: Vec<Evidence>,
}

impl Marketplace {
    /// A version of a component, for one who may see what is not listed when `is_publisher`.
    ///
    /// # Errors
    /// There is no such version, or storage can't answer.
    pub async fn take(&self, name: &str, version: &str, is_publisher: bool) -> Result<Taken> {
        let repository: RepositoryName = name.parse()?;
        let tag: Tag = version.parse()?;
        let found = self.store.version(&repository, &tag).await?;
        let found = found.filter(|version| is_publisher || version.unlisted.is_none());
        let version = found.ok_or_else(|| Error::NotListed(format!("{repository}:{tag}")))?;
        let artifact = self.store.manifest(&repository, &Selector::Digest(version.digest)).await?;
        let signatures = self.store.evidence(&repository, version.digest, &artifact.bytes).await?;
        let component = self.store.blobs.read(version.component, COMPONENT_BYTES_MAX as u64).await?;
        let component = component.ok_or(Error::NoBlob(version.component))?;
        Ok(Taken { version, component, signatures })
    }

    /// Counts an installation like a pull.
    pub fn count(&self, taken: &str) {
        if let Ok(repository) = taken.parse() {
            self.downloads.count(&repository);
        }
    }

    /// How much the marketplace takes.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// Whether whoever reaches the port may look without a token.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.config.anonymous_pull
    }
}
