//! [`Repository`]: the artifacts under one name of one registry.
//!
//! Owns which artifact a reference leads to; must not know where the bytes go. Invariant: a manifest is read only after its digest is
//! known to be right, and a component only under the digest that its manifest has for it.

mod enclose;
mod pull;
mod push;
mod signatures;

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use platform_runtime::Digest;
use semver::{Version, VersionReq};
use serde::Deserialize;

use crate::{
    artifact::{self, Descriptor},
    connect::{Connector, Home},
    credentials::Credentials,
    error::{Error, Fault},
    reference::{Reference, Selector},
    requests::{Ask, Http, join},
};

pub use enclose::{CYCLONEDX, Enclosure, NotEnclosed, README, REPORT, SPDX};
pub use push::Pushed;
pub use signatures::{Attached, SignatureAt, signature_tag, signatures_in};

/// Largest manifest, and largest page of tags: what registries are to take at least (OCI distribution 1.1).
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
/// Pages of tags that are read, and tags that are asked for on each.
const PAGES_MAX: usize = 100;
const TAGS_PER_PAGE: usize = 1000;
/// Versions that an error names.
const NAMED_MAX: usize = 5;

/// How a registry may be spoken to.
#[derive(Debug, Default)]
pub struct Access {
    /// Plain HTTP is allowed, wherever the registry is.
    pub insecure: bool,
    /// Authorities to trust beside those of the machine, as PEM. With them a registry on this machine has TLS too.
    pub ca_file: Option<PathBuf>,
    /// Who asks.
    pub credentials: Option<Credentials>,
    /// Whether something is to be pushed.
    pub push: bool,
}

/// The artifacts under one name of one registry.
pub struct Repository {
    http: Http,
    reference: Reference,
}

/// Where a reference leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The tag by which it was found; none for a digest.
    pub tag: Option<String>,
    /// Digest of the manifest.
    pub digest: Digest,
    /// The manifest, as the registry keeps it.
    pub manifest: Bytes,
    /// Digest of the component.
    pub component: Digest,
    /// Size of the component in bytes.
    pub size: u64,
}

/// A page of tags (OCI distribution 1.1, "Listing Tags").
#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

impl Repository {
    /// Prepares to speak to the registry of a reference; nothing is sent yet.
    ///
    /// # Errors
    /// The authorities to trust can't be read.
    pub fn open(reference: Reference, access: Access) -> Result<Self, Error> {
        // A registry on this machine is one that was started by hand, most of the time without a certificate.
        let is_tls = access.ca_file.is_some() || !(access.insecure || reference.is_loopback());
        let home = Arc::new(Home { host: reference.host().to_owned(), is_tls, insecure: access.insecure });
        let connector = Connector::new(Arc::clone(&home), access.ca_file.as_deref());
        let connector = connector.map_err(|fault| Error { reference: reference.to_string(), fault })?;
        let rights = if access.push { "pull,push" } else { "pull" };
        let scope = format!("repository:{}:{rights}", reference.repository());
        Ok(Self { http: Http::new(connector, home, access.credentials, scope), reference })
    }

    /// Finds out which artifact the reference leads to, and that it is a component.
    ///
    /// # Errors
    /// There is none, it is something else, or the registry does not say.
    pub async fn resolve(&self) -> Result<Resolved, Error> {
        self.told(self.select(self.reference.selector()).await)
    }

    /// The same as it was locked: by the digest of then, if the tag still leads there.
    ///
    /// # Errors
    /// The tag has moved; and as for [`resolve`](Self::resolve).
    pub async fn resolve_locked(&self, tag: Option<&str>, digest: Digest) -> Result<Resolved, Error> {
        let resolve = async {
            let Some(tag) = tag else { return self.manifest(&digest.to_string(), None).await };
            let now = self.manifest(tag, Some(tag)).await?;
            if now.digest == digest {
                return Ok(now);
            }
            Err(Fault::Moved { tag: tag.to_owned(), locked: digest, now: now.digest })
        };
        self.told(resolve.await)
    }

    fn told<T>(&self, result: Result<T, Fault>) -> Result<T, Error> {
        result.map_err(|fault| Error { reference: self.reference.to_string(), fault })
    }

    async fn select(&self, selector: &Selector) -> Result<Resolved, Fault> {
        match selector {
            Selector::Digest(digest) => self.manifest(&digest.to_string(), None).await,
            Selector::Tag(tag) => self.manifest(tag, Some(tag)).await,
            Selector::Range(range) => {
                let tag = highest(self.tags().await?, range)?;
                self.manifest(&tag, Some(&tag)).await
            }
        }
    }

    /// The component under a tag or a digest.
    async fn manifest(&self, name: &str, tag: Option<&str>) -> Result<Resolved, Fault> {
        let by_digest = if tag.is_none() { name.parse().ok() } else { None };
        let (manifest, content_type) = self.fetch_manifest(name, by_digest).await?;
        let Descriptor { digest: component, size, .. } = artifact::component(&manifest, content_type.as_deref())?;
        let digest = Digest::of(&manifest);
        Ok(Resolved { tag: tag.map(str::to_owned), digest, manifest, component, size })
    }

    /// The manifest under a tag or a digest, and what the registry says it is.
    async fn fetch_manifest(&self, name: &str, by_digest: Option<Digest>) -> Result<(Bytes, Option<String>), Fault> {
        let mut ask = self.ask(Method::GET, &format!("manifests/{name}"), "tag or digest")?;
        let accepted = format!("{}, {}, {}", artifact::MANIFEST, artifact::INDEX, artifact::LIST);
        ask.headers.extend(HeaderValue::from_str(&accepted).ok().map(|value| (header::ACCEPT, value)));
        let response = self.http.send(&ask).await?;
        let content_type = text(response.headers(), "content-type");
        let said = text(response.headers(), "docker-content-digest");
        let body = self.http.read(response, MANIFEST_BYTES_MAX, "manifest", &mut |_| {}).await?;
        let got = Digest::of(&body);
        // By digest the bytes must be those; by tag they must be those that the registry itself speaks of.
        let expected = by_digest.or_else(|| said.and_then(|said| said.parse().ok()));
        if let Some(expected) = expected.filter(|expected| *expected != got) {
            return Err(Fault::WrongDigest { what: "manifest", expected, got });
        }
        Ok((body.into(), content_type))
    }

    /// All tags.
    async fn tags(&self) -> Result<Vec<String>, Fault> {
        let mut ask = self.ask(Method::GET, &format!("tags/list?n={TAGS_PER_PAGE}"), "name")?;
        let mut tags = Vec::new();
        for _ in 0..PAGES_MAX {
            let response = self.http.send(&ask).await?;
            let next = text(response.headers(), "link").and_then(|link| next_page(&link));
            let body = self.http.read(response, MANIFEST_BYTES_MAX, "list of tags", &mut |_| {}).await?;
            let page: Result<Tags, _> = serde_json::from_slice(&body);
            let page = page.map_err(|error| Fault::Malformed { what: "list of tags", why: error.to_string() })?;
            tags.extend(page.tags.unwrap_or_default());
            let Some(next) = next else { return Ok(tags) };
            ask.uri = join(&ask.uri, &next)?;
        }
        Err(Fault::Malformed { what: "list of tags", why: format!("it has no end after {PAGES_MAX} pages") })
    }

    /// A request about this name.
    fn ask(&self, method: Method, path: &str, what: &'static str) -> Result<Ask, Fault> {
        let uri = self.http.at(&format!("/v2/{}/{path}", self.reference.repository()))?;
        Ok(Ask { method, uri, headers: HeaderMap::new(), body: Bytes::new(), what })
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("reference", &self.reference).finish_non_exhaustive()
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Where the next page is (RFC 8288).
fn next_page(link: &str) -> Option<String> {
    let (target, parameters) = link.split_once('<')?.1.split_once('>')?;
    let is_next = parameters.split(';').any(|parameter| matches!(parameter.trim(), "rel=next" | "rel=\"next\""));
    is_next.then(|| target.to_owned())
}

/// The version that a tag stands for: with or without a `v`, and with `_` where a tag can't have `+`.
#[must_use]
pub fn version(tag: &str) -> Option<Version> {
    Version::parse(&tag.strip_prefix('v').unwrap_or(tag).replacen('_', "+", 1)).ok()
}

/// The tag of the highest version in a range.
fn highest(tags: Vec<String>, range: &VersionReq) -> Result<String, Fault> {
    let mut versions: Vec<_> = tags.into_iter().filter_map(|tag| Some((version(&tag)?, tag))).collect();
    versions.sort_unstable();
    let found = versions.iter().rev().find(|(version, _)| range.matches(version)).map(|(_, tag)| tag.clone());
    found.ok_or_else(|| {
        let found = versions.iter().rev().take(NAMED_MAX).map(|(_, tag)| format!("`{tag:.128}`")).collect();
        Fault::NoVersion { range: range.to_string(), found }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_takes_its_highest_version() {
        let tags = ["latest", "1.2.0", "v1.10.0", "1.9.9", "2.0.0", "1.11.0-rc.1", "1.10.0_build", "01.99.0", "x"];
        let of =
            |range: &str| highest(tags.iter().map(ToString::to_string).collect(), &VersionReq::parse(range).unwrap());
        assert_eq!(of("^1.2").unwrap(), "1.10.0_build");
        assert_eq!(of(">=1.2, <1.10").unwrap(), "1.9.9");
        assert_eq!(of("*").unwrap(), "2.0.0");
        assert_eq!(of("=1.11.0-rc.1").unwrap(), "1.11.0-rc.1");
        let error = of("^3").unwrap_err().to_string();
        assert!(
            error.contains("`^3`") && error.contains("`2.0.0`, `1.11.0-rc.1`") && !error.contains("latest"),
            "{error}"
        );
        assert!(highest(Vec::new(), &VersionReq::STAR).unwrap_err().to_string().contains("no versions at all"));
    }

    #[test]
    fn pages_follow_each_other() {
        assert_eq!(
            next_page("</v2/a/tags/list?n=1&last=b>; rel=\"next\"").as_deref(),
            Some("/v2/a/tags/list?n=1&last=b")
        );
        assert_eq!(next_page("</x>; rel=\"previous\""), None);
        assert_eq!(next_page("<"), None);
    }
}
