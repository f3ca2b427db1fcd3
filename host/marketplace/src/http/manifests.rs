//! Manifests over HTTP.
//!
//! Must not know what makes a manifest one. Invariant: what is given is what was taken, byte for byte.

use std::error::Error as StdError;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body::Body;

use super::{Access, Answer, DIGEST, Who, content, header_text, response};
use crate::{
    error::{Error, Result},
    manifest::Manifest,
    marketplace::Marketplace,
    name::{RepositoryName, Selector},
    uploads::whole,
};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

impl Marketplace {
    pub(super) async fn get_manifest(
        &self, who: &Who, repository: &RepositoryName, selector: &Selector, parts: &Parts,
    ) -> Result<Answer> {
        // What is not listed has no tag for others than publishers.
        if let Selector::Tag(tag) = selector
            && self.config.is_gated()
            && who.access() < Access::Push
            && self.store.is_unlisted(repository, tag).await?
        {
            return Err(Error::NoManifest(tag.to_string()));
        }
        let found = self.store.manifest(repository, selector).await?;
        let length = HeaderValue::from(found.bytes.len());
        let mut answer =
            response(StatusCode::OK, if parts.method == Method::HEAD { Bytes::new() } else { found.bytes });
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_LENGTH, length);
        content::insert(headers, header::CONTENT_TYPE, &found.media_type);
        content::insert(headers, DIGEST, &found.digest.to_string());
        content::insert(headers, header::ETAG, &format!("\"{}\"", found.digest));
        Ok(answer)
    }

    pub(super) async fn put_manifest<B>(
        &self, who: &Who, repository: &RepositoryName, selector: &Selector, parts: &Parts, body: B,
    ) -> Result<Answer>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let limits = &self.config.limits;
        let bytes = whole(body, "manifest", limits.manifest_bytes, limits).await?;
        let manifest = Manifest::parse(&bytes, header_text(parts, header::CONTENT_TYPE))?;
        let digest = self.publish(repository, selector, &manifest, &bytes, who.subject()).await?;
        let mut answer = response(StatusCode::CREATED, "");
        let headers = answer.headers_mut();
        content::insert(headers, header::LOCATION, &format!("/v2/{repository}/manifests/{digest}"));
        content::insert(headers, DIGEST, &digest.to_string());
        if let Some(subject) = manifest.subject {
            content::insert(headers, SUBJECT, &subject.to_string());
        }
        Ok(answer)
    }

    pub(super) async fn delete_manifest(&self, repository: &RepositoryName, selector: &Selector) -> Result<Answer> {
        match selector {
            Selector::Tag(tag) => self.store.untag(repository, tag).await?,
            Selector::Digest(digest) => self.store.remove(repository, *digest).await?,
        }
        Ok(response(StatusCode::ACCEPTED, ""))
    }
}
