//! Files beside an artifact: a README, a list of parts, a report of tests, as manifests that refer to it (OCI image 1.1, "Guidelines for Artifact
//! Usage"; OCI distribution 1.1, "Pushing Manifests with Subject").
//!
//! Owns their types and the tag that is kept where a registry does not know what refers to what. Must not know where files come from. Invariant: enclosing the
//! same file again changes nothing, and whoever keeps the tag keeps what others noted there.

use bytes::Bytes;
use platform_runtime::Digest;
use serde_json::{Value, json};

use super::{Repository, Resolved};
use crate::{
    artifact::{Descriptor, INDEX, MANIFEST},
    error::{Error, Fault, shown},
};

/// Type of a README.
pub const README: &str = "text/markdown";
/// Type of a list of parts as SPDX has it.
pub const SPDX: &str = "application/spdx+json";
/// Type of a list of parts as CycloneDX has it.
pub const CYCLONEDX: &str = "application/vnd.cyclonedx+json";
/// Type of a report of tests.
pub const REPORT: &str = "application/vnd.platform.report.v1+json";
/// Type of a configuration that there is none of.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// What refers to one artifact at most, where a tag lists it.
const REFERRERS_MAX: usize = 500;
/// Largest README, in bytes.
const README_BYTES_MAX: usize = 256 << 10;
/// Largest other file, in bytes.
const FILE_BYTES_MAX: usize = 16 << 20;

/// A file that is enclosed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enclosure {
    kind: &'static str,
    title: &'static str,
    bytes: Bytes,
}

/// Why a file can't be enclosed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEnclosed {
    /// It is no text.
    #[error("a README is text in UTF-8, and this is none")]
    NoText,
    /// It is no JSON.
    #[error("it has to be a JSON object: {0}")]
    NoJson(String),
    /// It is no list of parts.
    #[error(
        "it is neither SPDX (`spdxVersion`, or the `@context` of SPDX 3) nor CycloneDX (`bomFormat`); make it one of them, as JSON"
    )]
    NoSbom,
    /// It is too large.
    #[error("it is {size} bytes long; {max} are allowed")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The most.
        max: usize,
    },
}

impl Enclosure {
    /// A README, as Markdown.
    ///
    /// # Errors
    /// It is no text, or too long.
    pub fn readme(bytes: Bytes) -> Result<Self, NotEnclosed> {
        let text = std::str::from_utf8(&bytes).map(|text| text.contains('\0'));
        match text {
            Ok(false) => Self { kind: README, title: "README.md", bytes }.within(README_BYTES_MAX),
            Ok(true) | Err(_) => Err(NotEnclosed::NoText),
        }
    }

    /// A list of parts, as SPDX or CycloneDX in JSON, which its content tells.
    ///
    /// # Errors
    /// It is none, or too long.
    pub fn sbom(bytes: Bytes) -> Result<Self, NotEnclosed> {
        let value = object(&bytes)?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let (kind, title) =
            if text("spdxVersion").starts_with("SPDX-") || text("@context").contains("://spdx.org/rdf/3") {
                (SPDX, "sbom.spdx.json")
            } else if text("bomFormat") == "CycloneDX" {
                (CYCLONEDX, "sbom.cdx.json")
            } else {
                return Err(NotEnclosed::NoSbom);
            };
        Self { kind, title, bytes }.within(FILE_BYTES_MAX)
    }

    /// A report of tests, as JSON.
    ///
    /// # Errors
    /// It is no JSON, or too long.
    pub fn report(bytes: Bytes) -> Result<Self, NotEnclosed> {
        object(&bytes)?;
        Self { kind: REPORT, title: "report.json", bytes }.within(FILE_BYTES_MAX)
    }

    /// Its type.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        self.kind
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn within(self, max: usize) -> Result<Self, NotEnclosed> {
        let size = self.bytes.len();
        if size > max { Err(NotEnclosed::TooLarge { size, max }) } else { Ok(self) }
    }

    /// What refers to an artifact: its manifest, always the same for the same file.
    fn manifest(&self, subject: &Resolved, config: &Descriptor) -> Bytes {
        let mut layer = json!(Descriptor::of(self.kind, &self.bytes));
        if let Some(layer) = layer.as_object_mut() {
            layer.insert("annotations".to_owned(), json!({"org.opencontainers.image.title": self.title}));
        }
        let subject = Descriptor::of(MANIFEST, &subject.manifest);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": self.kind,
            "config": config,
            "layers": [layer],
            "subject": subject,
        });
        manifest.to_string().into()
    }
}

fn object(bytes: &Bytes) -> Result<Value, NotEnclosed> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| NotEnclosed::NoJson(error.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(NotEnclosed::NoJson("it is something else".to_owned())) }
}

impl Repository {
    /// Puts a file beside an artifact; the digest of what refers to it.
    ///
    /// # Errors
    /// The registry does not take it.
    pub async fn enclose(&self, subject: &Resolved, enclosure: &Enclosure) -> Result<Digest, Error> {
        self.told(self.put_beside(subject, enclosure).await)
    }

    async fn put_beside(&self, subject: &Resolved, enclosure: &Enclosure) -> Result<Digest, Fault> {
        let nothing = Bytes::from_static(b"{}");
        let config = Descriptor::of(EMPTY, &nothing);
        let manifest = enclosure.manifest(subject, &config);
        self.upload(&(config, nothing)).await?;
        self.upload(&(Descriptor::of(enclosure.kind, &enclosure.bytes), enclosure.bytes.clone())).await?;
        let digest = Digest::of(&manifest);
        let size = manifest.len();
        let (_, is_noted) = self.put_as(&digest.to_string(), MANIFEST, manifest).await?;
        if !is_noted {
            let descriptor =
                json!({"mediaType": MANIFEST, "digest": digest, "size": size, "artifactType": enclosure.kind});
            self.note(subject.digest, digest, descriptor).await?;
        }
        Ok(digest)
    }

    /// Lists what refers to an artifact under the tag that clients look at where the registry has no such list.
    async fn note(&self, subject: Digest, digest: Digest, descriptor: Value) -> Result<(), Fault> {
        let tag = format!("sha256-{}", subject.hex());
        let mut index = match self.fetch_manifest(&tag, None).await {
            Ok((index, _)) => serde_json::from_slice(&index).map_err(|error| malformed(&shown(&error.to_string())))?,
            Err(Fault::NotFound { .. }) => json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}),
            Err(fault) => return Err(fault),
        };
        let manifests = index.get_mut("manifests").and_then(Value::as_array_mut);
        let manifests = manifests.ok_or_else(|| malformed("it has no manifests"))?;
        let own = digest.to_string();
        if manifests.iter().any(|one| one.get("digest").and_then(Value::as_str) == Some(own.as_str())) {
            return Ok(());
        }
        if manifests.len() >= REFERRERS_MAX {
            return Err(malformed(&format!("{REFERRERS_MAX} or more refer to it already")));
        }
        manifests.push(descriptor);
        self.put_as(&tag, INDEX, index.to_string().into()).await.map(drop)
    }

    /// The artifact that was just pushed.
    ///
    /// # Errors
    /// It is not there any more, or the registry does not say.
    pub async fn pushed(&self, digest: Digest) -> Result<Resolved, Error> {
        self.told(self.manifest(&digest.to_string(), None).await)
    }
}

fn malformed(why: &str) -> Fault {
    Fault::Malformed { what: "list of referrers", why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::from(text.to_owned())
    }

    #[test]
    fn lists_of_parts_are_told_apart() {
        let of = |text: &str| Enclosure::sbom(bytes(text)).map(|found| found.media_type());
        assert_eq!(of(r#"{"spdxVersion": "SPDX-2.3"}"#), Ok(SPDX));
        assert_eq!(of(r#"{"@context": "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"}"#), Ok(SPDX));
        assert_eq!(of(r#"{"bomFormat": "CycloneDX", "specVersion": "1.6"}"#), Ok(CYCLONEDX));
        for other in ["{}", r#"{"bomFormat": "x"}"#, r#"{"spdxVersion": 2}"#] {
            assert_eq!(of(other), Err(NotEnclosed::NoSbom), "{other}");
        }
        for broken in ["", "[]", "<bom/>", &"[".repeat(100_000)] {
            assert!(matches!(of(broken), Err(NotEnclosed::NoJson(_))), "{broken:.20}");
        }
    }

    #[test]
    fn what_is_no_text_or_too_long_is_not_enclosed() {
        assert!(Enclosure::readme(bytes("# Übersicht\n")).is_ok());
        assert_eq!(Enclosure::readme(bytes("a\0b")), Err(NotEnclosed::NoText));
        assert_eq!(Enclosure::readme(Bytes::from_static(b"\xff\xfe")), Err(NotEnclosed::NoText));
        let long = Enclosure::readme(bytes(&"a".repeat(README_BYTES_MAX + 1)));
        assert!(matches!(long, Err(NotEnclosed::TooLarge { .. })));
        assert!(Enclosure::report(bytes("{}")).is_ok());
        assert!(matches!(Enclosure::report(bytes("passed")), Err(NotEnclosed::NoJson(_))));
    }
}
