//! Pushing a component.
//!
//! Owns the order: bytes first, then the manifest that speaks of them, so an artifact is there as a whole or not at all. Invariant: pushing
//! the same component to the same tag again changes nothing, and a version becomes another component only on demand.

use bytes::Bytes;
use http::{HeaderValue, Method, Uri, header};
use platform_runtime::Digest;

use super::{Repository, text, version};
use crate::{
    artifact::{About, Artifact, Descriptor, MANIFEST},
    error::{Error, Fault},
    reference::Selector,
};

/// Header of registries that know what refers to what (OCI distribution 1.1, "Pushing Manifests with Subject").
const SUBJECT: &str = "oci-subject";

/// What pushing came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Digest of the manifest.
    pub digest: Digest,
    /// Digest of the component.
    pub component: Digest,
    /// Whether the tag held this component before, and nothing was done.
    pub existed: bool,
}

impl Repository {
    /// Puts a component under the tag of the reference. A tag that is a version and holds another component is replaced only with
    /// `replace`.
    ///
    /// # Errors
    /// The reference has no tag, the version is taken, or the registry does not take it.
    pub async fn push(&self, component: Bytes, about: &About, replace: bool) -> Result<Pushed, Error> {
        self.told(self.put(component, about, replace).await)
    }

    async fn put(&self, component: Bytes, about: &About, replace: bool) -> Result<Pushed, Fault> {
        let Selector::Tag(tag) = self.reference.selector() else { return Err(Fault::NoTag) };
        let own = Digest::of(&component);
        match self.manifest(tag, Some(tag)).await {
            Ok(held) if held.component == own => {
                return Ok(Pushed { digest: held.digest, component: own, existed: true });
            }
            Ok(held) if version(tag).is_some() && !replace => {
                return Err(Fault::Taken { tag: tag.clone(), digest: held.component });
            }
            // What is no component may not be replaced unseen either.
            Err(fault @ (Fault::Index | Fault::Layers { .. } | Fault::NotWasm { .. })) if !replace => {
                return Err(fault);
            }
            Ok(_) | Err(Fault::NotFound { .. } | Fault::Index | Fault::Layers { .. } | Fault::NotWasm { .. }) => {}
            Err(fault) => return Err(fault),
        }
        let artifact = Artifact::new(component, about)?;
        self.upload(&artifact.layer).await?;
        self.upload(&artifact.config).await?;
        let digest = self.put_manifest(tag, artifact.manifest).await?;
        Ok(Pushed { digest, component: own, existed: false })
    }

    /// Puts a manifest under a tag; its digest.
    pub(super) async fn put_manifest(&self, tag: &str, manifest: Bytes) -> Result<Digest, Fault> {
        Ok(self.put_as(tag, MANIFEST, manifest).await?.0)
    }

    /// Puts a manifest or an index under a tag or a digest; its digest, and whether the registry noted what it refers to.
    pub(super) async fn put_as(
        &self, reference: &str, media_type: &'static str, manifest: Bytes,
    ) -> Result<(Digest, bool), Fault> {
        let digest = Digest::of(&manifest);
        let mut ask = self.ask(Method::PUT, &format!("manifests/{reference}"), "manifest")?;
        ask.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        ask.body = manifest;
        let response = self.http.send(&ask).await?;
        let said: Option<Digest> = text(response.headers(), "docker-content-digest").and_then(|said| said.parse().ok());
        match said {
            Some(got) if got != digest => Err(Fault::WrongDigest { what: "manifest", expected: digest, got }),
            _ => Ok((digest, response.headers().contains_key(SUBJECT))),
        }
    }

    /// Uploads bytes in one piece (OCI distribution 1.1, "POST then PUT"), unless the registry has them.
    pub(super) async fn upload(&self, (descriptor, bytes): &(Descriptor, Bytes)) -> Result<(), Fault> {
        let digest = descriptor.digest;
        match self.http.send(&self.ask(Method::HEAD, &format!("blobs/{digest}"), "component")?).await {
            Ok(_) => return Ok(()),
            Err(Fault::NotFound { .. }) => {}
            Err(fault) => return Err(fault),
        }
        let begin = self.ask(Method::POST, "blobs/uploads/", "name")?;
        let response = self.http.send(&begin).await?;
        let uri = self.http.location(&begin.uri, response.headers())?;
        let mut ask = self.ask(Method::PUT, "", "upload")?;
        ask.uri = with_digest(&uri, digest)?;
        ask.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        ask.body = bytes.clone();
        self.http.send(&ask).await.map(drop)
    }
}

/// The URL of an upload, closed with the digest of what was uploaded.
fn with_digest(uri: &Uri, digest: Digest) -> Result<Uri, Fault> {
    let separator = if uri.query().is_some() { '&' } else { '?' };
    let text = format!("{uri}{separator}digest={digest}");
    text.parse().map_err(|error: http::uri::InvalidUri| Fault::Malformed { what: "URL", why: error.to_string() })
}
