//! [`Evidence`]: a signature, with what leads from the component to the bytes that it is over.
//!
//! Owns the forms: a file signed by itself (a Sigstore bundle, as `cosign sign-blob --bundle` writes it), and an artifact of a registry, where what is
//! signed is a payload or a statement that names the manifest that names the component (cosign, "Simple Signing"; in-toto, "Statement", in an
//! envelope of DSSE). Must not know whose signature is needed. Invariant: evidence is small, and is about one component or about none.

use std::{
    fs,
    io::{ErrorKind, Read as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use platform_runtime::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::json;

use crate::{
    artifact::{Artifact, STATEMENT},
    key::PublicKey,
};

/// Largest payload and largest manifest, in bytes each.
const PAYLOAD_BYTES_MAX: usize = 64 << 10;
/// Largest signature, in bytes.
const SIGNATURE_BYTES_MAX: usize = 1 << 10;
/// Largest text of evidence, in bytes: manifest and payload, escaped once more.
const TEXT_BYTES_MAX: usize = 6 * PAYLOAD_BYTES_MAX;
/// Types of a Sigstore bundle begin so.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The type that is written.
const BUNDLE_NOW: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What the name of a signature ends with, behind that of the file that it is of.
const ENDING: &str = ".sigstore.json";
/// A signature that comes with a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    #[serde(serialize_with = "to_base64", deserialize_with = "of_base64")]
    signature: Vec<u8>,
    /// What was signed in place of the component itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact: Option<Artifact>,
}

/// The text is no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvidence {
    /// A file that can't be read.
    #[error("`{file}` can't be read: {why}")]
    File {
        /// The file.
        file: String,
        /// What the system says.
        why: String,
    },
    /// It is too large.
    #[error("it is larger than a signature can be")]
    TooLarge,
    /// It is something else.
    #[error("it is no signature: {0}; give what `platform plugin sign` or `cosign sign-blob --bundle` wrote")]
    Malformed(String),
    /// It is a signature over a statement.
    #[error(
        "it is a bundle with a statement about an artifact of a registry; a file needs one over itself, as `platform plugin sign` makes it"
    )]
    Statement,
}

/// A Sigstore bundle, as far as keys that somebody keeps need it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bundle {
    media_type: String,
    message_signature: Option<MessageSignature>,
    dsse_envelope: Option<Envelope>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(deserialize_with = "of_base64")]
    payload: Vec<u8>,
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
struct EnvelopeSignature {
    #[serde(deserialize_with = "of_base64")]
    sig: Vec<u8>,
}

#[derive(Deserialize)]
struct MessageSignature {
    #[serde(deserialize_with = "of_base64")]
    signature: Vec<u8>,
}

impl Evidence {
    /// Reads a Sigstore bundle, a bare signature in base64, or what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, InvalidEvidence> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(InvalidEvidence::TooLarge);
        }
        let malformed = |error: serde_json::Error| InvalidEvidence::Malformed(error.to_string());
        let evidence = if !text.trim_start().starts_with('{') {
            let signature = STANDARD.decode(text.trim());
            let why = |_| InvalidEvidence::Malformed("it is neither JSON nor base64".to_owned());
            Self { signature: signature.map_err(why)?, artifact: None }
        } else if let Ok(bundle) = serde_json::from_str::<Bundle>(text) {
            if !bundle.media_type.starts_with(BUNDLE) {
                return Err(InvalidEvidence::Malformed("its `mediaType` is not that of a Sigstore bundle".to_owned()));
            }
            match (bundle.message_signature, bundle.dsse_envelope) {
                (Some(message), None) => Self { signature: message.signature, artifact: None },
                (_, Some(_)) => return Err(InvalidEvidence::Statement),
                (None, None) => return Err(InvalidEvidence::Malformed("it has no `messageSignature`".to_owned())),
            }
        } else {
            serde_json::from_str(text).map_err(malformed)?
        };
        evidence.bounded()
    }

    /// Where the signature of a file lies: beside it.
    #[must_use]
    pub fn place(component: &Path) -> PathBuf {
        let mut name = component.as_os_str().to_owned();
        name.push(ENDING);
        PathBuf::from(name)
    }

    /// The signature beside a file; none when there is none.
    ///
    /// # Errors
    /// What lies there can't be read, or is something else.
    pub fn beside(component: &Path) -> Result<Option<Self>, InvalidEvidence> {
        let file = Self::place(component);
        if file.exists() { Self::read(&file).map(Some) } else { Ok(None) }
    }

    /// Reads a file as [`parse`](Self::parse) reads a text.
    ///
    /// # Errors
    /// It can't be read, or is something else.
    pub fn read(file: &Path) -> Result<Self, InvalidEvidence> {
        let failed =
            |kind: ErrorKind| InvalidEvidence::File { file: file.display().to_string(), why: kind.to_string() };
        let mut text = String::new();
        let opened = fs::File::open(file).map_err(|error| failed(error.kind()))?;
        let read = opened.take(TEXT_BYTES_MAX as u64 + 1).read_to_string(&mut text);
        read.map_err(|error| failed(error.kind()))?;
        Self::parse(&text)
    }

    /// The signature over a payload that names the manifest of an artifact.
    ///
    /// # Errors
    /// They are too large, or no text.
    pub fn of_artifact(manifest: &[u8], payload: &[u8], signature: &str) -> Result<Self, InvalidEvidence> {
        if manifest.len() > PAYLOAD_BYTES_MAX || payload.len() > PAYLOAD_BYTES_MAX {
            return Err(InvalidEvidence::TooLarge);
        }
        let malformed = |why: &str| InvalidEvidence::Malformed(why.to_owned());
        let text =
            |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_why| malformed("what is signed is no text"));
        let signature = STANDARD.decode(signature).map_err(|_why| malformed("it is not base64"))?;
        let artifact = Artifact { manifest: text(manifest)?, payload: text(payload)?, statement: false };
        Self { signature, artifact: Some(artifact) }.bounded()
    }

    /// The signature in a Sigstore bundle with a statement that names the manifest of an artifact.
    ///
    /// # Errors
    /// It is something else, or too large.
    pub fn of_statement(manifest: &[u8], bundle: &[u8]) -> Result<Self, InvalidEvidence> {
        if manifest.len() > PAYLOAD_BYTES_MAX || bundle.len() > TEXT_BYTES_MAX {
            return Err(InvalidEvidence::TooLarge);
        }
        let malformed = |why: &str| InvalidEvidence::Malformed(why.to_owned());
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_why| malformed("what is signed is no text"));
        let bundle: Bundle =
            serde_json::from_slice(bundle).map_err(|error| InvalidEvidence::Malformed(error.to_string()))?;
        let envelope = bundle.dsse_envelope.filter(|envelope| envelope.payload_type == STATEMENT);
        let Envelope { payload, mut signatures, .. } =
            envelope.ok_or_else(|| malformed("it is no bundle with a statement"))?;
        let signature = signatures.pop().ok_or_else(|| malformed("its envelope has no signature"))?.sig;
        let artifact = Artifact { manifest: text(manifest.to_vec())?, payload: text(payload)?, statement: true };
        Self { signature, artifact: Some(artifact) }.bounded()
    }

    fn bounded(self) -> Result<Self, InvalidEvidence> {
        let artifact = self.artifact.as_ref().map_or(0, |artifact| artifact.manifest.len().max(artifact.payload.len()));
        if self.signature.len() > SIGNATURE_BYTES_MAX || artifact > PAYLOAD_BYTES_MAX {
            return Err(InvalidEvidence::TooLarge);
        }
        Ok(self)
    }

    /// The evidence as a line of text.
    ///
    /// # Errors
    /// Never, by the kinds of its members.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Whether a key made the signature, and over this component.
    #[must_use]
    pub fn shows(&self, key: &PublicKey, component: &[u8], digest: Digest) -> bool {
        match &self.artifact {
            None => key.verifies(component, &self.signature),
            Some(artifact) => artifact.names(digest) && key.verifies(&artifact.signed(), &self.signature),
        }
    }
}

/// A signature over a component, as a Sigstore bundle.
#[must_use]
pub fn bundle(key: &PublicKey, component: Digest, signature: &[u8]) -> String {
    let base64 = |hex: &str| {
        let pairs = (0..hex.len() / 2).filter_map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok());
        STANDARD.encode(pairs.collect::<Vec<u8>>())
    };
    let bundle = json!({
        "mediaType": BUNDLE_NOW,
        "verificationMaterial": {"publicKey": {"hint": base64(&key.id().hex())}},
        "messageSignature": {
            "messageDigest": {"algorithm": "SHA2_256", "digest": base64(&component.hex())},
            "signature": STANDARD.encode(signature),
        },
    });
    bundle.to_string()
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn of_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map_err(|_why| de::Error::custom("a signature is base64"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        Algorithm, SecretKey,
        artifact::{LAYER, MINE, SIMPLE, payload},
    };

    const COMPONENT: &[u8] = b"component";

    fn manifest(layers: &serde_json::Value) -> String {
        json!({"schemaVersion": 2, "config": {}, "layers": layers}).to_string()
    }

    fn layer(kind: &str, digest: Digest) -> serde_json::Value {
        json!({"mediaType": kind, "digest": digest, "size": 9})
    }

    fn signed(key: &SecretKey, manifest: &str, payload: &str) -> Evidence {
        let signature = STANDARD.encode(key.sign(payload.as_bytes()));
        Evidence::of_artifact(manifest.as_bytes(), payload.as_bytes(), &signature).unwrap()
    }

    #[test]
    fn a_file_is_shown_by_its_bundle() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let key = SecretKey::generate(algorithm);
            let public = key.public().unwrap();
            let (digest, signature) = (Digest::of(COMPONENT), key.sign(COMPONENT));
            for text in [bundle(&public, digest, &signature), STANDARD.encode(&signature) + "\n"] {
                let evidence = Evidence::parse(&text).unwrap();
                assert!(evidence.shows(&public, COMPONENT, digest));
                assert!(!evidence.shows(&public, b"componenT", Digest::of(b"componenT")));
                assert_eq!(Evidence::parse(&evidence.to_text().unwrap()).unwrap(), evidence);
            }
        }
    }

    #[test]
    fn an_artifact_is_shown_by_what_names_its_manifest() {
        let key = SecretKey::generate(Algorithm::EcdsaP256);
        let public = key.public().unwrap();
        let digest = Digest::of(COMPONENT);
        let good = manifest(&json!([layer(LAYER, digest)]));
        let names = |manifest: &str| payload("x.io/a", Digest::of(manifest.as_bytes()));
        let evidence = signed(&key, &good, &names(&good));
        assert!(evidence.shows(&public, COMPONENT, digest));
        assert!(!evidence.shows(&public, b"other", Digest::of(b"other")));
        assert_eq!(Evidence::parse(&evidence.to_text().unwrap()).unwrap(), evidence);
        let other = Digest::of(b"other");
        for bad in [
            manifest(&json!([])),
            manifest(&json!([layer(LAYER, other)])),
            manifest(&json!([layer("application/gzip", digest)])),
            manifest(&json!([layer(LAYER, digest), layer(LAYER, other)])),
            "{}".to_owned(),
            String::new(),
        ] {
            assert!(!signed(&key, &bad, &names(&bad)).shows(&public, COMPONENT, digest), "{bad}");
        }
        let foreign = names(&good).replace(SIMPLE, "something else");
        for payload in [names("{}"), foreign, String::new(), "[]".to_owned()] {
            assert!(!signed(&key, &good, &payload).shows(&public, COMPONENT, digest), "{payload}");
        }
        // A byte more in the manifest, and the payload names another.
        assert!(!signed(&key, &format!("{good} "), &names(&good)).shows(&public, COMPONENT, digest));
    }

    #[test]
    fn a_statement_shows_its_one_subject() {
        let key = SecretKey::generate(Algorithm::EcdsaP256);
        let public = key.public().unwrap();
        let digest = Digest::of(COMPONENT);
        let manifest = manifest(&json!([layer(LAYER, digest)]));
        let subject = |of: &str| json!({"digest": {"sha256": Digest::of(of.as_bytes()).hex()}});
        let signed = |subjects: serde_json::Value, kind: &str, head: &str| {
            let statement = json!({"subject": subjects, "predicateType": kind, "predicate": {}}).to_string();
            let message = format!("{head} 28 {STATEMENT} {} {statement}", statement.len());
            let signature = STANDARD.encode(key.sign(message.as_bytes()));
            let envelope = json!({
                "payload": STANDARD.encode(statement), "payloadType": STATEMENT, "signatures": [{"sig": signature}],
            });
            let bundle = json!({"mediaType": BUNDLE_NOW, "dsseEnvelope": envelope}).to_string();
            Evidence::of_statement(manifest.as_bytes(), bundle.as_bytes()).unwrap()
        };
        let good = signed(json!([subject(&manifest)]), MINE, "DSSEv1");
        assert!(good.shows(&public, &[], digest));
        assert!(!good.shows(&public, &[], Digest::of(b"other")));
        assert_eq!(Evidence::parse(&good.to_text().unwrap()).unwrap(), good);
        for bad in [
            signed(json!([subject(&manifest)]), MINE, ""),
            signed(json!([subject("{}")]), MINE, "DSSEv1"),
            signed(json!([]), MINE, "DSSEv1"),
            signed(json!([subject(&manifest), subject("{}")]), MINE, "DSSEv1"),
            signed(json!([subject(&manifest)]), "https://spdx.dev/Document", "DSSEv1"),
        ] {
            assert!(!bad.shows(&public, &[], digest));
        }
        let bare = bundle(&public, digest, &key.sign(COMPONENT));
        assert!(Evidence::of_statement(manifest.as_bytes(), bare.as_bytes()).is_err());
    }

    #[test]
    fn what_is_no_evidence_is_told() {
        let envelope = json!({"payload": "", "payloadType": STATEMENT, "signatures": []});
        let statement = json!({"mediaType": BUNDLE_NOW, "dsseEnvelope": envelope}).to_string();
        assert_eq!(Evidence::parse(&statement), Err(InvalidEvidence::Statement));
        assert_eq!(Evidence::parse(&"A".repeat(TEXT_BYTES_MAX + 1)), Err(InvalidEvidence::TooLarge));
        assert_eq!(Evidence::parse(&"A".repeat(4 * SIGNATURE_BYTES_MAX)), Err(InvalidEvidence::TooLarge));
        for text in ["{", "{}", "ä", "{\"mediaType\": \"text/plain\"}", &"{\"a\":".repeat(10_000)] {
            assert!(matches!(Evidence::parse(text), Err(InvalidEvidence::Malformed(_))), "{text:.20}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text: String) {
            let _ = Evidence::parse(&text);
        }
    }
}
