//! Signatures that lie beside an artifact, as evidence.
//!
//! Owns where they are looked for: the tag that cosign keeps, and what refers to the artifact. Must not know whose signature is needed. Invariant: what is
//! read for one artifact is bounded, however much lies there.

use bytes::Bytes;
use platform_registry::{SignatureAt, signature_tag, signatures_in};
use platform_runtime::Digest;
use platform_signing::Evidence;

use crate::{
    error::Result,
    name::{RepositoryName, Selector, Tag},
    store::Store,
};

/// Signatures of one artifact that are read.
const SIGNATURES_MAX: usize = 16;
/// Referrers of one artifact that are looked at.
const REFERRERS_MAX: usize = 64;
/// Largest payload, and largest bundle, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 64 << 10;

impl Store {
    /// Signatures over an artifact.
    pub(crate) async fn evidence(
        &self, repository: &RepositoryName, digest: Digest, artifact: &[u8],
    ) -> Result<Vec<Evidence>> {
        let mut evidence = Vec::new();
        let tag: Option<Tag> = signature_tag(digest).parse().ok();
        if let Some(tag) = tag
            && let Ok(beside) = self.manifest(repository, &Selector::Tag(tag)).await
        {
            evidence.extend(self.evidence_in(repository, artifact, &beside.bytes).await?);
        }
        for referrer in self.referring(repository, digest, REFERRERS_MAX).await? {
            if evidence.len() >= SIGNATURES_MAX {
                break;
            }
            if let Ok(beside) = self.manifest(repository, &Selector::Digest(referrer)).await {
                evidence.extend(self.evidence_in(repository, artifact, &beside.bytes).await?);
            }
        }
        evidence.truncate(SIGNATURES_MAX);
        Ok(evidence)
    }

    /// Signatures over an artifact that a manifest holds.
    pub(crate) async fn evidence_in(
        &self, repository: &RepositoryName, artifact: &[u8], manifest: &Bytes,
    ) -> Result<Vec<Evidence>> {
        let mut evidence = Vec::new();
        for at in signatures_in(manifest).into_iter().take(SIGNATURES_MAX) {
            let (digest, size) = match &at {
                SignatureAt::Payload { digest, size, .. } | SignatureAt::Bundle { digest, size } => (*digest, *size),
            };
            // Only what was pushed to this repository counts.
            if size > PAYLOAD_BYTES_MAX || self.blob(repository, digest).await.is_err() {
                continue;
            }
            let Some(bytes) = self.blobs.read(digest, PAYLOAD_BYTES_MAX).await? else { continue };
            let found = match at {
                SignatureAt::Payload { signature, .. } => Evidence::of_artifact(artifact, &bytes, &signature),
                SignatureAt::Bundle { .. } => Evidence::of_statement(artifact, &bytes),
            };
            // Other tools keep other things in such places.
            evidence.extend(found.ok());
        }
        Ok(evidence)
    }
}
