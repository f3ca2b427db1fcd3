//! Signatures of an artifact, where cosign keeps them: layers of a manifest under the tag `sha256-DIGEST.sig` (cosign, "Signature
//! Specifications"), and since its version 3 also Sigstore bundles that refer to the artifact (OCI distribution 1.1, "Listing Referrers").
//!
//! Must not know keys, nor what a signature proves. Invariant: who adds a signature keeps those that are there, and what lies there is
//! bounded while it is read.

use bytes::Bytes;
use http::Method;
use platform_runtime::Digest;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{MANIFEST_BYTES_MAX, Repository, Resolved};
use crate::{
    artifact::{Descriptor, MANIFEST},
    error::{Error, Fault},
};

/// Signatures of one artifact that are read, and that are added to.
const SIGNATURES_MAX: usize = 16;
/// Referrers of one artifact that are looked at.
const REFERRERS_MAX: usize = 64;
/// What is read, in words.
const WHAT: &str = "signature";
/// Types of a Sigstore bundle begin so.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// Largest payload and largest bundle, in bytes.
const PAYLOAD_BYTES_MAX: u64 = 64 << 10;
/// Type of a payload.
const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Type of the configuration that such a manifest has.
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// The annotation that holds the signature over the payload, in base64.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
/// When signatures are made, for those who compare them.
const EPOCH: &str = "0001-01-01T00:00:00Z";

/// A signature that lies beside an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attached {
    /// By itself.
    Plain {
        /// What was signed.
        payload: Bytes,
        /// The signature, in base64.
        signature: String,
    },
    /// In a Sigstore bundle.
    Bundle(Bytes),
}

/// Where a manifest says that a signature is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureAt {
    /// By itself.
    Payload {
        /// What was signed.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The signature, in base64.
        signature: String,
    },
    /// In a Sigstore bundle.
    Bundle {
        /// The bundle.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
    },
}

/// The signatures that a manifest holds; none when it holds something else.
#[must_use]
pub fn signatures_in(manifest: &[u8]) -> Vec<SignatureAt> {
    #[derive(Deserialize)]
    struct Layers {
        layers: Vec<Layer>,
    }
    let Ok(Layers { layers }) = serde_json::from_slice(manifest) else { return Vec::new() };
    let at = |layer: Layer| {
        let Layer { descriptor: Descriptor { media_type, digest, size }, mut annotations } = layer;
        if media_type == PAYLOAD {
            annotations.remove(SIGNATURE).map(|signature| SignatureAt::Payload { digest, size, signature })
        } else {
            media_type.starts_with(BUNDLE).then_some(SignatureAt::Bundle { digest, size })
        }
    };
    layers.into_iter().filter_map(at).collect()
}

/// What refers to an artifact.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Layer {
    #[serde(flatten)]
    descriptor: Descriptor,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

impl Repository {
    /// The signatures that lie beside an artifact; none when there are none.
    ///
    /// # Errors
    /// The registry does not say, or what lies there is something else.
    pub async fn signatures(&self, resolved: &Resolved) -> Result<Vec<Attached>, Error> {
        let signatures = async {
            let mut attached = self.plain(resolved.digest).await?;
            attached.extend(self.bundles(resolved.digest).await?);
            Ok(attached)
        };
        self.told(signatures.await)
    }

    async fn plain(&self, digest: Digest) -> Result<Vec<Attached>, Fault> {
        let Some(manifest) = self.beside(digest).await? else { return Ok(Vec::new()) };
        let mut attached = Vec::new();
        for layer in layers(&manifest)? {
            let layer: Layer = serde_json::from_value(layer.clone()).map_err(|error| malformed(&error))?;
            let signature = layer.annotations.get(SIGNATURE);
            // Other tools keep other things there.
            let Some(signature) = signature.filter(|_| layer.descriptor.media_type == PAYLOAD) else { continue };
            let payload = self.verified(&layer.descriptor, PAYLOAD_BYTES_MAX, WHAT, &mut |_| {}).await?.into();
            attached.push(Attached::Plain { payload, signature: signature.clone() });
        }
        Ok(attached)
    }

    async fn bundles(&self, digest: Digest) -> Result<Vec<Attached>, Fault> {
        let mut attached = Vec::new();
        // Tests, lists of parts and the like refer to an artifact too, and some registries don't say which is which.
        for referrer in self.referrers(digest).await?.into_iter().take(REFERRERS_MAX) {
            let (manifest, _) = self.fetch_manifest(&referrer.digest.to_string(), Some(referrer.digest)).await?;
            let manifest: Value = serde_json::from_slice(&manifest).map_err(|error| malformed(&error))?;
            let Some([layer]) = manifest.get("layers").and_then(Value::as_array).map(Vec::as_slice) else { continue };
            let layer: Descriptor = serde_json::from_value(layer.clone()).map_err(|error| malformed(&error))?;
            if layer.media_type.starts_with(BUNDLE) && layer.size <= PAYLOAD_BYTES_MAX {
                let bundle = self.verified(&layer, PAYLOAD_BYTES_MAX, WHAT, &mut |_| {}).await?;
                attached.push(Attached::Bundle(bundle.into()));
            }
            if attached.len() == SIGNATURES_MAX {
                break;
            }
        }
        Ok(attached)
    }

    /// What refers to an artifact, by what the registry knows or by the tag that clients keep where it does not.
    async fn referrers(&self, digest: Digest) -> Result<Vec<Descriptor>, Fault> {
        let ask = self.ask(Method::GET, &format!("referrers/{digest}"), "list of referrers")?;
        let answer = match self.http.send(&ask).await {
            Ok(answer) => self.http.read(answer, MANIFEST_BYTES_MAX, WHAT, &mut |_| {}).await?.into(),
            // Registries of before 1.1 know no such thing.
            Err(Fault::NotFound { .. } | Fault::Answer { status: 400 | 405 | 501, .. }) => {
                match self.fetch_manifest(&format!("sha256-{}", digest.hex()), None).await {
                    Ok((index, _)) => index,
                    Err(Fault::NotFound { .. }) => return Ok(Vec::new()),
                    Err(fault) => return Err(fault),
                }
            }
            Err(fault) => return Err(fault),
        };
        let index: Index = serde_json::from_slice(&answer).map_err(|error| malformed(&error))?;
        Ok(index.manifests)
    }

    /// Puts a signature, in base64, over a payload beside an artifact.
    ///
    /// # Errors
    /// The registry does not take it, or there are too many already.
    pub async fn attach(&self, resolved: &Resolved, payload: Bytes, signature: &str) -> Result<(), Error> {
        self.told(self.add(resolved.digest, payload, signature).await)
    }

    async fn add(&self, digest: Digest, signed: Bytes, signature: &str) -> Result<(), Fault> {
        let before = self.beside(digest).await?;
        let mut layers = before.as_ref().map_or(Ok(&[][..]), layers)?.to_vec();
        if layers.len() >= SIGNATURES_MAX {
            return Err(too_many());
        }
        let payload = Descriptor::of(PAYLOAD, &signed);
        layers.push(json!({
            "mediaType": payload.media_type,
            "size": payload.size,
            "digest": payload.digest,
            "annotations": {SIGNATURE: signature},
        }));
        let digests: Vec<_> = layers.iter().filter_map(|layer| layer.get("digest")).collect();
        let steps: Vec<_> = layers.iter().map(|_| json!({"created": EPOCH})).collect();
        let config = json!({
            "architecture": "", "created": EPOCH, "history": steps, "os": "", "config": {},
            "rootfs": {"type": "layers", "diff_ids": digests},
        });
        let config = Bytes::from(config.to_string());
        let described = Descriptor::of(CONFIG, &config);
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}).to_string();
        self.upload(&(payload, signed)).await?;
        self.upload(&(described, config)).await?;
        self.put_manifest(&signature_tag(digest), manifest.into()).await.map(drop)
    }

    /// The manifest that lists the signatures.
    async fn beside(&self, digest: Digest) -> Result<Option<Value>, Fault> {
        match self.fetch_manifest(&signature_tag(digest), None).await {
            Ok((manifest, _)) => serde_json::from_slice(&manifest).map(Some).map_err(|error| malformed(&error)),
            Err(Fault::NotFound { .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }
}

/// The tag under which the signatures of an artifact lie.
#[must_use]
pub fn signature_tag(digest: Digest) -> String {
    format!("sha256-{}.sig", digest.hex())
}

fn layers(manifest: &Value) -> Result<&[Value], Fault> {
    let layers = manifest.get("layers").and_then(Value::as_array);
    let layers = layers.ok_or_else(|| Fault::Malformed { what: "list of signatures", why: "no layers".to_owned() })?;
    if layers.len() > SIGNATURES_MAX {
        return Err(too_many());
    }
    Ok(layers)
}

fn too_many() -> Fault {
    Fault::Malformed { what: "list of signatures", why: format!("there are {SIGNATURES_MAX} already, or more") }
}

fn malformed(error: &serde_json::Error) -> Fault {
    Fault::Malformed { what: "list of signatures", why: crate::error::shown(&error.to_string()) }
}
