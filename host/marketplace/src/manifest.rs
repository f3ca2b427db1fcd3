//! [`Manifest`]: what a manifest names.
//!
//! Owns their forms (OCI image 1.1: manifest and index; those of Docker, which clients still push); must not know what of it is here. Invariant: what passes
//! names few things, each under a digest that is one.

use std::collections::BTreeMap;

use platform_runtime::Digest;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// Type of a manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Type of an index.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Most things that a manifest may name: they are checked in one commit.
const NAMED_MAX: usize = 500;
/// Most bytes of annotations that are shown with what refers to something.
const ANNOTATIONS_BYTES_MAX: usize = 64 << 10;

/// What a manifest names.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) media_type: String,
    /// Blobs, and their sizes.
    pub(crate) blobs: BTreeMap<Digest, u64>,
    /// Manifests, and their sizes.
    pub(crate) manifests: BTreeMap<Digest, u64>,
    /// What it refers to, which need not be here.
    pub(crate) subject: Option<Digest>,
    /// What it is, for whoever looks for what refers to something.
    pub(crate) artifact_type: Option<String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Its configuration.
    pub(crate) config: Option<Digest>,
    /// Whether it says that it is a component's.
    pub(crate) is_component: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
}

impl Manifest {
    /// Reads a manifest that was sent as `content_type`.
    pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Self> {
        let wrong = |why: &str| Error::Manifest(format!("the manifest can't be taken: {why}"));
        let value: Value = serde_json::from_slice(bytes).map_err(|error| wrong(&error.to_string()))?;
        let written: Written = serde_json::from_value(value).map_err(|error| wrong(&error.to_string()))?;
        if written.schema_version != 2 {
            return Err(wrong("its `schemaVersion` is not 2"));
        }
        let sent =
            content_type.map(|kind| kind.split(';').next().unwrap_or_default().trim()).filter(|kind| !kind.is_empty());
        let media_type = match (written.media_type.as_deref(), sent) {
            (Some(own), Some(sent)) if own != sent => {
                return Err(wrong("its `mediaType` is not the `content-type` that it came with"));
            }
            (Some(kind), _) | (None, Some(kind)) => kind.to_owned(),
            (None, None) => return Err(wrong("it has no `mediaType`, and came without a `content-type`")),
        };
        let config_type = written.config.as_ref().and_then(|config| config.media_type.clone());
        let config = written.config.as_ref().map(|config| crate::name::digest(&config.digest)).transpose()?;
        let (blobs, manifests) = match media_type.as_str() {
            MANIFEST | DOCKER_MANIFEST => {
                let (Some(config), Some(layers), None) = (written.config, written.layers, written.manifests) else {
                    return Err(wrong("it needs a `config` and `layers`, and nothing else that it is made of"));
                };
                (layers.into_iter().chain([config]).collect(), Vec::new())
            }
            INDEX | DOCKER_LIST => {
                let (None, None, Some(manifests)) = (written.config, written.layers, written.manifests) else {
                    return Err(wrong("it needs `manifests`, and nothing else that it is made of"));
                };
                (Vec::new(), manifests)
            }
            _ => return Err(wrong("its type is none that is taken here: an OCI manifest or index, or one of Docker")),
        };
        if blobs.len().saturating_add(manifests.len()) > NAMED_MAX {
            return Err(wrong(&format!("it names more than {NAMED_MAX} things")));
        }
        let annotations = written.annotations.unwrap_or_default();
        let length: usize = annotations.iter().map(|(key, value)| key.len().saturating_add(value.len())).sum();
        if written.subject.is_some() && length > ANNOTATIONS_BYTES_MAX {
            return Err(wrong(&format!(
                "it refers to something and has more than {ANNOTATIONS_BYTES_MAX} bytes of annotations"
            )));
        }
        let is_component = config_type.as_deref() == Some(platform_registry::WASM_CONFIG);
        Ok(Self {
            media_type,
            config,
            is_component,
            blobs: sizes(blobs)?,
            manifests: sizes(manifests)?,
            subject: written.subject.map(|subject| crate::name::digest(&subject.digest)).transpose()?,
            artifact_type: written.artifact_type.filter(|kind| !kind.is_empty()).or(config_type),
            annotations,
        })
    }
}

fn sizes(named: Vec<Descriptor>) -> Result<BTreeMap<Digest, u64>> {
    let mut sizes = BTreeMap::new();
    for Descriptor { digest, size, .. } in named {
        let digest = crate::name::digest(&digest)?;
        if sizes.insert(digest, size).is_some_and(|before| before != size) {
            return Err(Error::Size(format!("the manifest gives `{digest}` two sizes")));
        }
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn part(bytes: &[u8]) -> Value {
        json!({"mediaType": "application/x", "digest": Digest::of(bytes), "size": bytes.len()})
    }

    #[test]
    fn what_is_named_is_found() {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": part(b"{}"), "layers": [part(b"{}"), part(b"abc")],
            "subject": part(b"subject"), "annotations": {"a": "b"},
        });
        let manifest = Manifest::parse(manifest.to_string().as_bytes(), Some(MANIFEST)).unwrap();
        assert_eq!(manifest.blobs, BTreeMap::from([(Digest::of(b"{}"), 2), (Digest::of(b"abc"), 3)]));
        assert_eq!(manifest.subject, Some(Digest::of(b"subject")));
        assert_eq!(manifest.artifact_type.as_deref(), Some("application/x"));
        let index = json!({"schemaVersion": 2, "artifactType": "t", "manifests": [part(b"abc")]}).to_string();
        let index = Manifest::parse(index.as_bytes(), Some(INDEX)).unwrap();
        assert_eq!((index.manifests.len(), index.artifact_type.as_deref()), (1, Some("t")));
    }

    #[test]
    fn what_is_wrong_is_told() {
        let many: Vec<Value> = (0..NAMED_MAX).map(|n| part(n.to_string().as_bytes())).collect();
        let mut twice = part(b"{}");
        twice["size"] = json!(3);
        for (value, kind, words) in [
            (json!({"schemaVersion": 1}), MANIFEST, "schemaVersion"),
            (json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []}), MANIFEST, "content-type"),
            (json!({"schemaVersion": 2}), "", "no `mediaType`"),
            (json!({"schemaVersion": 2}), "text/html", "none that is taken"),
            (json!({"schemaVersion": 2, "config": part(b""), "layers": many}), MANIFEST, "more than 500"),
            (json!({"schemaVersion": 2, "config": part(b"")}), MANIFEST, "`layers`"),
            (json!({"schemaVersion": 2, "config": part(b"{}"), "layers": [twice]}), MANIFEST, "two sizes"),
            (
                json!({"schemaVersion": 2, "config": part(b""), "layers": [], "manifests": []}),
                INDEX,
                "needs `manifests`",
            ),
            (
                json!({"schemaVersion": 2, "config": {"digest": "sha256:../../x", "size": 0}, "layers": []}),
                MANIFEST,
                "is no digest",
            ),
            (json!([]), MANIFEST, "can't be taken"),
        ] {
            let error = Manifest::parse(value.to_string().as_bytes(), Some(kind)).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        for broken in ["", "{", &"[".repeat(100_000)] {
            assert_eq!(Manifest::parse(broken.as_bytes(), Some(MANIFEST)).unwrap_err().code(), "MANIFEST_INVALID");
        }
    }
}
