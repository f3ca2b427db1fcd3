//! [`PublicKey`]: what verifies a signature.
//!
//! Owns which keys there are, ECDSA on P-256 with SHA-256 and Ed25519, and how they are written. Must not know what is signed. Invariant: a key
//! has one id, however it was written.

use p256::{
    ecdsa::signature::Verifier,
    pkcs8::{DecodePublicKey, EncodePublicKey},
};
use platform_runtime::Digest;
use sha2::{Digest as _, Sha512};

/// The label of a public key in PEM (RFC 7468).
const PUBLIC: &str = "PUBLIC KEY";

/// A key that verifies.
#[derive(Debug, Clone)]
pub struct PublicKey {
    kind: Kind,
    der: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Kind {
    P256(p256::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
}

/// The text holds no key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidKey {
    /// It is something else.
    #[error(
        "it is no PEM with one key; make a pair with `platform plugin keygen`, `cosign generate-key-pair` or openssl"
    )]
    NotPem,
    /// It holds something else.
    #[error("it holds `{found}` and not `{expected}`; give the other file of the pair")]
    Label {
        /// What it says it is.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
    /// It is a key of another kind.
    #[error("its kind of key is not known; there are ECDSA on P-256 and Ed25519")]
    Kind,
    /// It is protected in a way that is not read here.
    #[error(
        "it is protected by a password in the way of openssl; take that off with `openssl pkey -in KEY -out PLAIN`"
    )]
    Protected,
    /// The password does not open it.
    #[error("the password does not open it; give the right one with `--password-file` or `COSIGN_PASSWORD`")]
    Password,
    /// What should be inside it is not.
    #[error("what it holds is damaged: {0}")]
    Damaged(&'static str),
}

impl PublicKey {
    /// Reads PEM, as `openssl pkey -pubout` and cosign write it.
    ///
    /// # Errors
    /// It is no such key.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let block = pem::parse(text).map_err(|_why| InvalidKey::NotPem)?;
        if block.tag() != PUBLIC {
            return Err(InvalidKey::Label { found: shown(block.tag()), expected: PUBLIC });
        }
        if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(block.contents()) {
            return Self::p256(key);
        }
        let key =
            ed25519_dalek::VerifyingKey::from_public_key_der(block.contents()).map_err(|_why| InvalidKey::Kind)?;
        // Anybody can sign for a key of small order.
        if key.is_weak() { Err(InvalidKey::Damaged("the key is weak")) } else { Self::ed25519(key) }
    }

    pub(crate) fn p256(key: p256::ecdsa::VerifyingKey) -> Result<Self, InvalidKey> {
        let der = key.to_public_key_der().map_err(|_why| InvalidKey::Kind)?.into_vec();
        Ok(Self { kind: Kind::P256(key), der })
    }

    pub(crate) fn ed25519(key: ed25519_dalek::VerifyingKey) -> Result<Self, InvalidKey> {
        let der = key.to_public_key_der().map_err(|_why| InvalidKey::Kind)?.into_vec();
        Ok(Self { kind: Kind::Ed25519(key), der })
    }

    /// What tells it from others: the digest of its DER, which cosign gives as a hint in base64.
    #[must_use]
    pub fn id(&self) -> Digest {
        Digest::of(&self.der)
    }

    /// The key as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        encoded(PUBLIC, self.der.clone())
    }

    /// Whether a signature over a message is this key's. Signatures of ECDSA are DER (RFC 3279); of Ed25519 both the plain form and the one
    /// over the SHA-512 of the message count, since cosign makes either (RFC 8032, 5.1).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.kind {
            Kind::P256(key) => {
                let signature = p256::ecdsa::Signature::from_der(signature);
                signature.is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Kind::Ed25519(key) => {
                let Ok(signature) = ed25519_dalek::Signature::from_slice(signature) else { return false };
                let hashed = || Sha512::new().chain_update(message);
                key.verify_strict(message, &signature).is_ok()
                    || key.verify_prehashed_strict(hashed(), None, &signature).is_ok()
            }
        }
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for PublicKey {}

/// PEM with lines that end as those of other tools do.
pub(crate) fn encoded(label: &str, content: Vec<u8>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(label, content), config)
}

/// What a file says, fit to be shown.
pub(crate) fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Algorithm, SecretKey};

    #[test]
    fn keys_are_read_as_they_were_written() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let key = SecretKey::generate(algorithm).public().unwrap();
            let again = PublicKey::parse(&key.to_pem()).unwrap();
            assert_eq!((again.id(), &again), (key.id(), &key));
        }
    }

    #[test]
    fn what_is_no_public_key_is_told_apart() {
        let rsa = "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAMv7Reawnxr0DfYN3IZbb5ih/XJGeLWDv7WuhTlie//c2TDXw/mW\n914VFyoBfxQxAezSj8YpuADiTwqDZl13wKMCAwEAAQ==\n-----END PUBLIC KEY-----\n";
        assert_eq!(PublicKey::parse(rsa), Err(InvalidKey::Kind));
        assert_eq!(PublicKey::parse(""), Err(InvalidKey::NotPem));
        assert_eq!(
            PublicKey::parse("-----BEGIN PUBLIC KEY-----\n!\n-----END PUBLIC KEY-----"),
            Err(InvalidKey::NotPem)
        );
        let secret = SecretKey::generate(Algorithm::Ed25519).seal(b"").unwrap();
        let error = PublicKey::parse(&secret).unwrap_err().to_string();
        assert!(error.contains("ENCRYPTED SIGSTORE PRIVATE KEY") && error.contains("the other file"), "{error}");
        // The point of order 1, for which a signature of zeros would do.
        let weak = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0, 1][..], &[0; 31]].concat();
        assert_eq!(PublicKey::parse(&encoded(PUBLIC, weak)), Err(InvalidKey::Damaged("the key is weak")));
    }
}
