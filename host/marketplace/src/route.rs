//! [`Route`]: what a path of the registry asks for (OCI distribution 1.1, "Endpoints").
//!
//! Must not know methods. Invariant: a name is checked before anything else is done with it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use platform_runtime::Digest;

use crate::{
    error::{Error, Result},
    name::{self, RepositoryName, Selector},
};

/// Where the registry is.
pub(crate) const ROOT: &str = "/v2";

/// What a path asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Route {
    /// Whether there is a registry.
    Base,
    /// All repositories.
    Catalogue,
    /// Tags of a repository.
    Tags(RepositoryName),
    /// A manifest.
    Manifest(RepositoryName, Selector),
    /// A blob.
    Blob(RepositoryName, Digest),
    /// Uploads that are to begin.
    Uploads(RepositoryName),
    /// An upload that has begun.
    Upload(RepositoryName, String),
    /// What refers to a manifest.
    Referrers(RepositoryName, Digest),
}

impl Route {
    /// What a path below [`ROOT`] asks for; none for a path elsewhere.
    pub(crate) fn of(path: &str) -> Option<Result<Self>> {
        let rest = path.strip_prefix(ROOT)?;
        if rest.is_empty() || rest == "/" {
            return Some(Ok(Self::Base));
        }
        Some(Self::parse(rest.strip_prefix('/')?))
    }

    fn parse(rest: &str) -> Result<Self> {
        if rest == "_catalog" {
            return Ok(Self::Catalogue);
        }
        if let Some(name) = rest.strip_suffix("/tags/list") {
            return Ok(Self::Tags(name.parse()?));
        }
        if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
            return Ok(Self::Uploads(name.parse()?));
        }
        let unknown = || Error::Unsupported("there is nothing at this path of the registry".to_owned());
        let (head, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
        let last: Cow<'_, str> = percent_decode_str(last).decode_utf8_lossy();
        if let Some(name) = head.strip_suffix("/blobs/uploads") {
            return Ok(Self::Upload(name.parse()?, last.into_owned()));
        }
        let (name, kind) = head.rsplit_once('/').ok_or_else(unknown)?;
        match kind {
            "manifests" => Ok(Self::Manifest(name.parse()?, last.parse()?)),
            "blobs" => Ok(Self::Blob(name.parse()?, name::digest(&last)?)),
            "referrers" => Ok(Self::Referrers(name.parse()?, name::digest(&last)?)),
            _ => Err(unknown()),
        }
    }
}

/// The value of a parameter in a query. `+` stands for itself: it occurs in media types, and some clients leave it as it is.
pub(crate) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let pairs = query?.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let value = pairs.into_iter().find(|(key, _)| *key == name)?.1;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_the_protocol_has() {
        let name: RepositoryName = "team/store".parse().unwrap();
        let digest = Digest::of(b"");
        for (path, route) in [
            ("/v2", Route::Base),
            ("/v2/", Route::Base),
            ("/v2/_catalog", Route::Catalogue),
            ("/v2/team/store/tags/list", Route::Tags(name.clone())),
            ("/v2/team/store/manifests/1.0.0", Route::Manifest(name.clone(), "1.0.0".parse().unwrap())),
            (&format!("/v2/team/store/blobs/{digest}"), Route::Blob(name.clone(), digest)),
            (&format!("/v2/team/store/blobs/sha256%3A{}", digest.hex()), Route::Blob(name.clone(), digest)),
            ("/v2/team/store/blobs/uploads/", Route::Uploads(name.clone())),
            ("/v2/team/store/blobs/uploads/7f", Route::Upload(name.clone(), "7f".to_owned())),
            (&format!("/v2/team/store/referrers/{digest}"), Route::Referrers(name.clone(), digest)),
            ("/v2/manifests/manifests/blobs", Route::Manifest("manifests".parse().unwrap(), "blobs".parse().unwrap())),
        ] {
            assert_eq!(Route::of(path).unwrap().unwrap(), route, "{path}");
        }
        assert!(Route::of("/v1/kv").is_none() && Route::of("/v2x").is_none());
        for bad in [
            "/v2/x",
            "/v2/../../x/manifests/latest",
            "/v2/..%2f..%2fx/manifests/latest",
            "/v2/a/manifests/..%2f..%2fx",
            "/v2/a/blobs/sha512:00",
            "/v2//tags/list",
            "/v2/manifests/latest",
        ] {
            assert!(Route::of(bad).unwrap().is_err(), "{bad}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_plus_stays() {
        let query = Some("n=3&artifactType=application%2Fvnd.x+json&last=");
        assert_eq!(parameter(query, "artifactType").as_deref(), Some("application/vnd.x+json"));
        assert_eq!(parameter(query, "last").as_deref(), Some(""));
        assert_eq!((parameter(query, "N"), parameter(None, "n")), (None, None));
    }
}
