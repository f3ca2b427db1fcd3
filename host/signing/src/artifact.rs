//! [`Artifact`]: what leads from a component in a registry to the bytes that were signed.
//!
//! Owns the two forms of what is signed: a payload (cosign, "Simple Signing") and a statement (in-toto, "Statement") in an envelope of DSSE.
//! Must not know keys. Invariant: either names one manifest, and the manifest one component.

use platform_runtime::Digest;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What payloads of this form say they are.
pub(crate) const SIMPLE: &str = "cosign container image signature";
/// What statements are that say: this is mine. Others tell of tests or of parts.
pub(crate) const MINE: &str = "https://sigstore.dev/cosign/sign/v1";
/// The type of a statement in an envelope.
pub(crate) const STATEMENT: &str = "application/vnd.in-toto+json";
/// The type of a component in a manifest.
pub(crate) const LAYER: &str = "application/wasm";

/// An artifact of a registry: the manifest names the component, the payload names the manifest and is what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Artifact {
    pub(crate) manifest: String,
    pub(crate) payload: String,
    /// Whether the payload is a statement, which is signed in an envelope.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) statement: bool,
}

impl Artifact {
    /// The bytes that the signature is over (DSSE, "Pre-Authentication Encoding").
    pub(crate) fn signed(&self) -> Vec<u8> {
        let payload = self.payload.as_bytes();
        if self.statement {
            let head = format!("DSSEv1 {} {STATEMENT} {} ", STATEMENT.len(), payload.len());
            [head.as_bytes(), payload].concat()
        } else {
            payload.to_vec()
        }
    }

    /// Whether the payload names the manifest, and the manifest this component and nothing else.
    pub(crate) fn names(&self, component: Digest) -> bool {
        let manifest = Digest::of(self.manifest.as_bytes());
        let named = if self.statement { stated(&self.payload, manifest) } else { claimed(&self.payload, manifest) };
        let Ok(Manifest { layers }) = serde_json::from_str(&self.manifest) else { return false };
        named && matches!(layers.as_slice(), [layer] if layer.media_type == LAYER && layer.digest == component)
    }
}

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: Digest,
}

/// Whether a payload of simple signing is about this manifest.
fn claimed(payload: &str, manifest: Digest) -> bool {
    #[derive(Deserialize)]
    struct Payload {
        critical: Critical,
    }
    #[derive(Deserialize)]
    struct Critical {
        image: Image,
        #[serde(rename = "type")]
        kind: String,
    }
    #[derive(Deserialize)]
    struct Image {
        #[serde(rename = "docker-manifest-digest")]
        manifest: Digest,
    }
    let payload: Result<Payload, _> = serde_json::from_str(payload);
    payload.is_ok_and(|Payload { critical }| critical.kind == SIMPLE && critical.image.manifest == manifest)
}

/// Whether a statement says of this manifest, and of nothing else, that it is the signer's.
fn stated(statement: &str, manifest: Digest) -> bool {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Statement {
        subject: Vec<Subject>,
        predicate_type: String,
    }
    #[derive(Deserialize)]
    struct Subject {
        digest: Digests,
    }
    #[derive(Deserialize)]
    struct Digests {
        sha256: String,
    }
    let statement: Result<Statement, _> = serde_json::from_str(statement);
    statement.is_ok_and(|Statement { subject, predicate_type }| {
        let about = matches!(subject.as_slice(), [one] if one.digest.sha256 == manifest.hex());
        about && predicate_type == MINE
    })
}

/// What is signed for an artifact: `place` is its registry and name, which nobody verifies.
#[must_use]
pub fn payload(place: &str, manifest: Digest) -> String {
    let critical = json!({
        "identity": {"docker-reference": place},
        "image": {"docker-manifest-digest": manifest},
        "type": SIMPLE,
    });
    json!({"critical": critical, "optional": null}).to_string()
}
