//! Blobs over HTTP: given, as a whole and in ranges, and taken, in one piece, in two steps and in chunks.
//!
//! Must not know where they lie. Invariant: a blob is a repository's only after its digest was compared.

use std::error::Error as StdError;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body::Body;
use platform_runtime::Digest;

use super::{Answer, DIGEST, content, header_text, parameter, response};
use crate::{
    error::{Error, Result},
    marketplace::Marketplace,
    name::{self, RepositoryName},
    range::{self, Wanted},
    table::key,
    uploads::Upload,
};

const UPLOAD_ID: HeaderName = HeaderName::from_static("docker-upload-uuid");

impl Marketplace {
    pub(super) async fn get_blob(&self, repository: &RepositoryName, digest: Digest, parts: &Parts) -> Result<Answer> {
        let size = self.store.blob(repository, digest).await?;
        let is_head = parts.method == Method::HEAD;
        let (status, range) = match range::wanted(header_text(parts, header::RANGE).filter(|_| !is_head), size) {
            Wanted::All => (StatusCode::OK, 0..size),
            Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
            Wanted::Outside => return Err(Error::Range { size }),
        };
        let mut answer = response(status, "");
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        // What is under a digest never changes.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=31536000, immutable"));
        content::insert(headers, DIGEST, &digest.to_string());
        content::insert(headers, header::ETAG, &format!("\"{digest}\""));
        if status == StatusCode::PARTIAL_CONTENT {
            let (first, last) = (range.start, range.end - 1);
            content::insert(headers, header::CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
        }
        if !is_head {
            let file = self.store.blobs.file(digest).await?.ok_or_else(|| {
                tracing::error!(%digest, "the bytes of a blob are gone; push it again");
                Error::NoBlob(digest)
            })?;
            if status == StatusCode::OK && self.store.table.get(&key::component(repository, digest)).await?.is_some() {
                self.downloads.count(repository);
            }
            let body = content::body(file, range, size, digest).await;
            *answer.body_mut() = body.map_err(|error| Error::Unavailable(format!("a file: {}", error.kind())))?;
        }
        Ok(answer)
    }

    pub(super) async fn begin_upload<B>(
        &self, repository: &RepositoryName, query: Option<&str>, body: B,
    ) -> Result<Answer>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        if let Some(digest) = parameter(query, "mount") {
            let digest = name::digest(&digest)?;
            // Without `from` any repository will do, which is for the client to find out by pushing.
            let from = parameter(query, "from").map(|from| from.parse::<RepositoryName>()).transpose()?;
            if let Some(from) = from
                && self.store.mount(repository, &from, digest).await?
            {
                return Ok(created(repository, digest));
            }
        } else if let Some(digest) = parameter(query, "digest") {
            let digest = name::digest(&digest)?;
            let upload = self.uploads.begin(repository).await?;
            let kept = async {
                upload.append(body, None, &self.config.limits).await?;
                self.store.keep(repository, &upload, digest).await
            };
            let kept = kept.await;
            self.uploads.end(&upload);
            return kept.map(|()| created(repository, digest));
        }
        let upload = self.uploads.begin(repository).await?;
        Ok(going_on(StatusCode::ACCEPTED, repository, &upload, 0))
    }

    pub(super) async fn append_upload<B>(
        &self, repository: &RepositoryName, id: &str, parts: &Parts, body: B,
    ) -> Result<Answer>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let upload = self.uploads.find(repository, id)?;
        let offset = upload.append(body, chunk(parts)?, &self.config.limits).await?;
        Ok(going_on(StatusCode::ACCEPTED, repository, &upload, offset))
    }

    pub(super) async fn finish_upload<B>(
        &self, repository: &RepositoryName, id: &str, parts: &Parts, body: B,
    ) -> Result<Answer>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let upload = self.uploads.find(repository, id)?;
        let digest = parameter(parts.uri.query(), "digest");
        let digest = digest.ok_or_else(|| Error::Upload("say what was uploaded with `?digest=DIGEST`".to_owned()))?;
        let digest = name::digest(&digest)?;
        upload.append(body, chunk(parts)?, &self.config.limits).await?;
        let kept = self.store.keep(repository, &upload, digest).await;
        self.uploads.end(&upload);
        kept.map(|()| created(repository, digest))
    }

    pub(super) async fn show_upload(&self, repository: &RepositoryName, id: &str) -> Result<Answer> {
        let upload = self.uploads.find(repository, id)?;
        Ok(going_on(StatusCode::NO_CONTENT, repository, &upload, upload.offset().await))
    }

    pub(super) fn drop_upload(&self, repository: &RepositoryName, id: &str) -> Result<Answer> {
        self.uploads.end(&*self.uploads.find(repository, id)?);
        Ok(response(StatusCode::NO_CONTENT, ""))
    }
}

/// Where a chunk says it lies.
fn chunk(parts: &Parts) -> Result<Option<std::ops::Range<u64>>> {
    let Some(value) = parts.headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    let chunk = value.to_str().ok().and_then(range::chunk);
    chunk.map(Some).ok_or_else(|| Error::Upload("the `content-range` of a chunk is `FIRST-LAST`".to_owned()))
}

fn created(repository: &RepositoryName, digest: Digest) -> Answer {
    let mut answer = response(StatusCode::CREATED, "");
    content::insert(answer.headers_mut(), header::LOCATION, &format!("/v2/{repository}/blobs/{digest}"));
    content::insert(answer.headers_mut(), DIGEST, &digest.to_string());
    answer
}

fn going_on(status: StatusCode, repository: &RepositoryName, upload: &Upload, offset: u64) -> Answer {
    let mut answer = response(status, "");
    let headers = answer.headers_mut();
    content::insert(headers, header::LOCATION, &format!("/v2/{repository}/blobs/uploads/{}", upload.id));
    content::insert(headers, header::RANGE, &content::progress(offset));
    content::insert(headers, UPLOAD_ID, &upload.id);
    answer
}
