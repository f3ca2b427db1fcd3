//! Manifests: what an artifact in a registry is made of.
//!
//! Owns their JSON (OCI image 1.1; the configuration of WebAssembly artifacts, version 0, as `wkg` writes it); must not know how they
//! travel. Invariant: what passes here is one component and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use platform_runtime::Digest;
use serde::{Deserialize, Serialize};

use crate::error::{Fault, shown};

/// Type of a manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Type of an index.
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The same of Docker, which some registries give.
pub(crate) const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Type of the configuration of a WebAssembly artifact.
pub const CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// Type of the layer that is the component.
pub(crate) const LAYER: &str = "application/wasm";

/// What a component says of itself, for those who list a registry.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// When this was made, as RFC 3339 has it.
    pub created: String,
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What it does.
    pub description: String,
    /// Its licence.
    pub license: String,
    /// Where its source is.
    pub source: String,
    /// What it imports and exports.
    pub interfaces: Interfaces,
}

/// The interfaces of a component.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Interfaces {
    /// Those that it exports.
    pub exports: BTreeSet<String>,
    /// Those that it imports.
    pub imports: BTreeSet<String>,
    /// The world that it was made for, if that is known.
    pub target: Option<String>,
}

/// A reference from a manifest to bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

impl Descriptor {
    pub(crate) fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self { media_type: media_type.to_owned(), digest: Digest::of(bytes), size: bytes.len() as u64 }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: &'a str,
    author: Option<&'a str>,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [Digest; 1],
    component: &'a Interfaces,
}

/// An artifact about to be pushed.
#[derive(Debug)]
pub(crate) struct Artifact {
    pub(crate) layer: (Descriptor, Bytes),
    pub(crate) config: (Descriptor, Bytes),
    pub(crate) manifest: Bytes,
}

impl Artifact {
    /// Wraps a component.
    pub(crate) fn new(component: Bytes, about: &About) -> Result<Self, Fault> {
        let unwritable = |error: serde_json::Error| Fault::Malformed { what: "manifest", why: error.to_string() };
        let layer = Descriptor::of(LAYER, &component);
        let config = Config {
            created: &about.created,
            author: None,
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [layer.digest],
            component: &about.interfaces,
        };
        let config: Bytes = serde_json::to_vec(&config).map_err(unwritable)?.into();
        let texts = [
            ("created", Some(&about.created)),
            ("title", about.name.as_ref()),
            ("version", about.version.as_ref()),
            ("description", Some(&about.description)),
            ("licenses", Some(&about.license)),
            ("source", Some(&about.source)),
        ];
        let texts = texts.into_iter().filter_map(|(key, text)| Some((key, text?))).filter(|(_, text)| !text.is_empty());
        let manifest = Manifest {
            schema_version: 2,
            media_type: Some(MANIFEST.to_owned()),
            config: Descriptor::of(CONFIG, &config),
            layers: vec![layer.clone()],
            annotations: texts.map(|(key, text)| (format!("org.opencontainers.image.{key}"), text.clone())).collect(),
        };
        let bytes: Bytes = serde_json::to_vec(&manifest).map_err(unwritable)?.into();
        Ok(Self { layer: (layer, component), config: (manifest.config, config), manifest: bytes })
    }
}

/// Digest and size of the component of a manifest.
///
/// # Errors
/// It is the manifest of something else, or none.
pub fn component_of(manifest: &[u8]) -> Result<(Digest, u64), Fault> {
    component(manifest, None).map(|layer| (layer.digest, layer.size))
}

/// What the configuration of an artifact says of its component; none when it says nothing.
#[must_use]
pub fn interfaces_of(config: &[u8]) -> Option<Interfaces> {
    #[derive(Deserialize)]
    struct Written {
        component: Option<Interfaces>,
    }
    serde_json::from_slice::<Written>(config).ok()?.component
}

/// The component of a manifest.
pub(crate) fn component(manifest: &[u8], content_type: Option<&str>) -> Result<Descriptor, Fault> {
    let malformed = |why: String| Fault::Malformed { what: "manifest", why };
    let value: serde_json::Value = serde_json::from_slice(manifest).map_err(|error| malformed(error.to_string()))?;
    let own = value.get("mediaType").and_then(serde_json::Value::as_str);
    // What the manifest says of itself is under its digest; what the registry says beside it is not.
    let media_type = own.or(content_type.map(|kind| kind.split(';').next().unwrap_or_default().trim()));
    if matches!(media_type, Some(INDEX | LIST)) || value.get("manifests").is_some() {
        return Err(Fault::Index);
    }
    let is = |part: &'static str, found: &str, expected: &'static str| {
        let media_type = shown(found);
        if found == expected { Ok(()) } else { Err(Fault::NotWasm { part, media_type, expected }) }
    };
    is("manifest", media_type.unwrap_or(MANIFEST), MANIFEST)?;
    let mut manifest: Manifest = serde_json::from_value(value).map_err(|error| malformed(shown(&error.to_string())))?;
    is("configuration", &manifest.config.media_type, CONFIG)?;
    let layers = manifest.layers.len();
    let layer = manifest.layers.pop().filter(|_| layers == 1).ok_or(Fault::Layers { layers })?;
    is("layer", &layer.media_type, LAYER)?;
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn what_is_wrapped_is_found_again() {
        let about =
            About { name: Some("policy".to_owned()), created: "2026-01-01T00:00:00Z".to_owned(), ..About::default() };
        let artifact = Artifact::new(Bytes::from_static(b"component"), &about).unwrap();
        let layer = component(&artifact.manifest, Some(MANIFEST)).unwrap();
        assert_eq!(layer, Descriptor::of(LAYER, b"component"));
        let config: Value = serde_json::from_slice(&artifact.config.1).unwrap();
        assert_eq!((&config["os"], &config["architecture"]), (&json!("wasip2"), &json!("wasm")));
        assert_eq!(config["layerDigests"], json!([layer.digest.to_string()]));
        assert_eq!(config["component"], json!({"exports": [], "imports": [], "target": null}));
        assert!(interfaces_of(&artifact.config.1).unwrap().imports.is_empty());
        assert!(interfaces_of(b"{}").is_none() && interfaces_of(b"").is_none());
        let manifest: Value = serde_json::from_slice(&artifact.manifest).unwrap();
        assert_eq!(manifest["annotations"]["org.opencontainers.image.title"], "policy");
    }

    #[test]
    fn everything_else_is_refused() {
        let digest = Digest::of(b"").to_string();
        let part = |kind: &str| json!({"mediaType": kind, "digest": digest, "size": 1});
        let manifest = |kind: &str, config: &str, layers: Value| {
            json!({"schemaVersion": 2, "mediaType": kind, "config": part(config), "layers": layers}).to_string()
        };
        let refused = |text: &str| component(text.as_bytes(), None).unwrap_err();
        assert!(component(manifest(MANIFEST, CONFIG, json!([part(LAYER)])).as_bytes(), None).is_ok());
        assert!(matches!(refused(&manifest(INDEX, CONFIG, json!([part(LAYER)]))), Fault::Index));
        assert!(matches!(refused(r#"{"schemaVersion": 2, "manifests": []}"#), Fault::Index));
        let layers = |layers: Value| refused(&manifest(MANIFEST, CONFIG, layers));
        assert!(matches!(layers(json!([])), Fault::Layers { layers: 0 }));
        assert!(matches!(layers(json!([part(LAYER), part(LAYER)])), Fault::Layers { layers: 2 }));
        assert!(matches!(layers(json!([part("application/gzip")])), Fault::NotWasm { part: "layer", .. }));
        let image = "application/vnd.oci.image.config.v1+json";
        let other = refused(&manifest(MANIFEST, image, json!([part(LAYER)])));
        assert!(matches!(other, Fault::NotWasm { part: "configuration", .. }));
        for broken in ["", "{}", "[]", "null", "{\"schemaVersion\": 2}", &"[".repeat(10_000)] {
            assert!(matches!(refused(broken), Fault::Malformed { .. }), "{broken:.20}");
        }
        let sizes = json!([{"mediaType": LAYER, "digest": "sha256:../../x", "size": 1}]);
        assert!(matches!(layers(sizes), Fault::Malformed { .. }));
        assert!(matches!(layers(json!([{"mediaType": LAYER, "digest": digest, "size": -1}])), Fault::Malformed { .. }));
    }
}
