//! Lists over HTTP: tags, referrers, repositories, in pages that lead to each other (RFC 8288).
//!
//! Must not know what is listed. Invariant: an answer is bounded, and the pages together are all there is.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue, StatusCode, header, request::Parts};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use platform_runtime::Digest;
use serde_json::json;

use super::{Access, Answer, Who, content, json_answer, parameter};
use crate::{
    error::Result,
    manifest::INDEX,
    marketplace::Marketplace,
    name::{self, RepositoryName},
};

/// Entries of a page, unless the client wants fewer.
const PAGE_MAX: usize = 1000;
const FILTERS: HeaderName = HeaderName::from_static("oci-filters-applied");

impl Marketplace {
    pub(super) async fn list_repositories(&self, query: Option<&str>, parts: &Parts) -> Result<Answer> {
        let (limit, last) = (limit(query)?, parameter(query, "last"));
        let listed = self.store.repositories(last.as_deref(), limit).await?;
        let mut answer = json_answer(StatusCode::OK, &json!({"repositories": listed.entries}), parts)?;
        link(&mut answer, "/v2/_catalog", &format!("n={limit}&"), listed.next);
        Ok(answer)
    }

    pub(super) async fn list_tags(
        &self, who: &Who, repository: &RepositoryName, query: Option<&str>, parts: &Parts,
    ) -> Result<Answer> {
        let (limit, last) = (limit(query)?, parameter(query, "last"));
        let listed = self.store.tags(repository, last.as_deref(), limit).await?;
        let hidden = if self.config.is_gated() && who.access() < Access::Push {
            let versions = self.store.versions(repository).await?;
            versions.into_iter().filter(|version| version.unlisted.is_some()).map(|version| version.version).collect()
        } else {
            BTreeSet::new()
        };
        let listed = listed.without(|tag| hidden.contains(tag));
        let body = json!({"name": repository.as_str(), "tags": listed.entries});
        let mut answer = json_answer(StatusCode::OK, &body, parts)?;
        link(&mut answer, &format!("/v2/{repository}/tags/list"), &format!("n={limit}&"), listed.next);
        Ok(answer)
    }

    pub(super) async fn list_referrers(
        &self, repository: &RepositoryName, subject: Digest, query: Option<&str>, parts: &Parts,
    ) -> Result<Answer> {
        let kind = parameter(query, "artifactType").filter(|kind| !kind.is_empty());
        let last = parameter(query, "last");
        let listed = self.store.referrers(repository, subject, kind.as_deref(), last.as_deref()).await?;
        let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": listed.entries});
        let mut answer = json_answer(StatusCode::OK, &body, parts)?;
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(INDEX));
        let mut same = String::new();
        if let Some(kind) = kind {
            answer.headers_mut().insert(FILTERS, HeaderValue::from_static("artifactType"));
            same = format!("artifactType={}&", utf8_percent_encode(&kind, NON_ALPHANUMERIC));
        }
        link(&mut answer, &format!("/v2/{repository}/referrers/{subject}"), &same, listed.next);
        Ok(answer)
    }
}

fn limit(query: Option<&str>) -> Result<usize> {
    let wanted = parameter(query, "n").map(|text| name::number(&text)).transpose()?;
    Ok(wanted.unwrap_or(PAGE_MAX).min(PAGE_MAX))
}

/// Says where the next page is.
fn link(answer: &mut Answer, path: &str, same: &str, next: Option<String>) {
    let Some(next) = next else { return };
    let last = utf8_percent_encode(&next, NON_ALPHANUMERIC);
    content::insert(answer.headers_mut(), header::LINK, &format!("<{path}?{same}last={last}>; rel=\"next\""));
}
