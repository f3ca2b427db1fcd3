//! [`Attachment`]: what was published beside a component, as manifests that refer to its own.
//!
//! Owns what is told of it; must not know what a signature proves. Invariant: what is read for one version is bounded, however much lies there, and a text is
//! a version's README only if whoever published the version attached it.

use platform_registry::{CYCLONEDX, README, REPORT, SPDX};
use platform_runtime::Digest;
use serde::Deserialize;

use crate::{
    error::Result,
    listing::Version,
    marketplace::Marketplace,
    name::{RepositoryName, Selector},
    store::Store,
    table::{Beside, Kept, key},
};

/// Attachments of one version that are told of.
const ATTACHMENTS_MAX: usize = 32;
/// Largest manifest of an attachment that is read, in bytes.
const MANIFEST_BYTES_MAX: u64 = 64 << 10;
/// Longest README that is told, in bytes.
pub(crate) const README_BYTES_MAX: u64 = 256 << 10;
/// Types of signatures begin so.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";

/// What was published beside a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// `readme`, `sbom`, `report` or `signature`; empty for what is none of them.
    pub kind: &'static str,
    /// What its manifest says it is.
    pub artifact_type: String,
    /// Digest of its manifest.
    pub digest: Digest,
    /// Type of its content.
    pub media_type: String,
    /// Digest of its content.
    pub content: Digest,
    /// Size of its content in bytes.
    pub size: u64,
    /// When it was attached, unix time in milliseconds.
    pub at_ms: u64,
    /// Who attached it.
    pub by: String,
}

/// What lies beside one version.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Enclosed {
    pub(crate) attachments: Vec<Attachment>,
    pub(crate) readme: String,
    pub(crate) settings_schema: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    #[serde(default)]
    artifact_type: String,
    config: Part,
    layers: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    media_type: String,
    digest: Digest,
    size: u64,
}

impl Marketplace {
    /// What lies beside a version.
    pub(crate) async fn enclosed(&self, repository: &RepositoryName, version: &Version) -> Result<Enclosed> {
        let beside: Option<Beside> = self.store.table.record(&key::component(repository, version.component)).await?;
        let mut attachments = Vec::new();
        for digest in self.store.referring(repository, version.digest, ATTACHMENTS_MAX).await? {
            attachments.extend(self.store.attachment(repository, digest).await?);
        }
        attachments.sort_by_key(|attachment| std::cmp::Reverse(attachment.at_ms));
        let own = attachments.iter().find(|found| found.kind == "readme" && found.by == version.by);
        let readme = match own {
            Some(found) => self.store.text(found).await?,
            None => String::new(),
        };
        Ok(Enclosed { attachments, readme, settings_schema: beside.and_then(|beside| beside.settings_schema) })
    }
}

impl Store {
    /// What a manifest attaches; none when that is nothing, or several things.
    async fn attachment(&self, repository: &RepositoryName, digest: Digest) -> Result<Option<Attachment>> {
        let kept: Option<Kept> = self.table.record(&key::manifest(repository, digest)).await?;
        let Some(kept) = kept.filter(|kept| kept.size <= MANIFEST_BYTES_MAX) else { return Ok(None) };
        let Ok(found) = self.manifest(repository, &Selector::Digest(digest)).await else { return Ok(None) };
        let Ok(mut written) = serde_json::from_slice::<Written>(&found.bytes) else { return Ok(None) };
        let (Some(layer), true) = (written.layers.pop(), written.layers.is_empty()) else { return Ok(None) };
        let artifact_type =
            if written.artifact_type.is_empty() { written.config.media_type } else { written.artifact_type };
        let Part { media_type, digest: content, size } = layer;
        let (kind, at_ms, by) = (kind(&artifact_type, &media_type), kept.at_ms, kept.by);
        Ok(Some(Attachment { kind, artifact_type, digest, media_type, content, size, at_ms, by }))
    }

    /// The text of an attachment; empty when it is too long or no text.
    async fn text(&self, attachment: &Attachment) -> Result<String> {
        if attachment.size > README_BYTES_MAX {
            return Ok(String::new());
        }
        let bytes = self.blobs.read(attachment.content, README_BYTES_MAX).await?.unwrap_or_default();
        Ok(std::str::from_utf8(&bytes).unwrap_or_default().to_owned())
    }
}

/// What an attachment is for, by the types that it has. Parameters, as in `text/markdown; charset=utf-8`, make no difference.
fn kind(artifact_type: &str, media_type: &str) -> &'static str {
    for of in [artifact_type, media_type].map(|of| of.split(';').next().unwrap_or_default().trim()) {
        match of {
            README => return "readme",
            SPDX | CYCLONEDX => return "sbom",
            REPORT => return "report",
            of if of.starts_with(BUNDLE) => return "signature",
            _ => {}
        }
    }
    ""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_told_by_their_types() {
        for (artifact_type, media_type, expected) in [
            (README, README, "readme"),
            ("application/x", "text/markdown; charset=utf-8", "readme"),
            (SPDX, SPDX, "sbom"),
            ("application/x", CYCLONEDX, "sbom"),
            (REPORT, "application/json", "report"),
            ("application/vnd.dev.sigstore.bundle.v0.3+json", "application/x", "signature"),
            ("application/x", "text/html", ""),
        ] {
            assert_eq!(kind(artifact_type, media_type), expected, "{artifact_type} {media_type}");
        }
    }
}
