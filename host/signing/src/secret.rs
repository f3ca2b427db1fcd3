//! [`SecretKey`]: what makes a signature.
//!
//! Owns the forms that are read: those of `platform plugin keygen` and cosign, which a password protects, and the plain ones of openssl. Must not
//! know where they lie. Invariant: a secret is in no message and no `Debug`, and is overwritten when it is dropped.

use std::fmt;

use p256::{
    ecdsa::signature::Signer,
    pkcs8::{DecodePrivateKey, EncodePrivateKey},
};
use zeroize::Zeroizing;

use crate::{
    key::{InvalidKey, PublicKey, encoded, shown},
    sealed,
};

/// The label of a key that a password protects, as cosign writes it today and wrote it once.
const SEALED: &str = "ENCRYPTED SIGSTORE PRIVATE KEY";
const SEALED_ONCE: &str = "ENCRYPTED COSIGN PRIVATE KEY";
/// Labels of plain keys (RFC 5958, RFC 5915), and of what openssl puts before the latter.
const PLAIN: &str = "PRIVATE KEY";
const PLAIN_EC: &str = "EC PRIVATE KEY";
const PARAMETERS: &str = "EC PARAMETERS";
/// The label of a key that openssl protects.
const PROTECTED: &str = "ENCRYPTED PRIVATE KEY";

/// Kinds of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256, which every tool verifies.
    EcdsaP256,
    /// Ed25519.
    Ed25519,
}

/// A key that signs.
pub struct SecretKey(Kind);

enum Kind {
    P256(p256::ecdsa::SigningKey),
    Ed25519(ed25519_dalek::SigningKey),
}

impl SecretKey {
    /// A new key.
    #[must_use]
    pub fn generate(algorithm: Algorithm) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        loop {
            rand::fill(&mut bytes[..]);
            let kind = match algorithm {
                Algorithm::Ed25519 => Some(Kind::Ed25519(ed25519_dalek::SigningKey::from_bytes(&bytes))),
                // One number in 2^32 is no key.
                Algorithm::EcdsaP256 => p256::ecdsa::SigningKey::from_slice(&bytes[..]).ok().map(Kind::P256),
            };
            if let Some(kind) = kind {
                return Self(kind);
            }
        }
    }

    /// Reads PEM; the password is for keys that have one.
    ///
    /// # Errors
    /// It is no such key, or the password is another.
    pub fn parse(text: &str, password: &[u8]) -> Result<Self, InvalidKey> {
        let blocks = pem::parse_many(text).map_err(|_why| InvalidKey::NotPem)?;
        let mut blocks = blocks.into_iter().filter(|block| block.tag() != PARAMETERS);
        let (Some(block), None) = (blocks.next(), blocks.next()) else { return Err(InvalidKey::NotPem) };
        let label = block.tag().to_owned();
        let content = Zeroizing::new(block.into_contents());
        match label.as_str() {
            SEALED | SEALED_ONCE => Self::from_der(&sealed::open(&content, password)?),
            PLAIN => Self::from_der(&content),
            PLAIN_EC => {
                let key = p256::SecretKey::from_sec1_der(&content).map_err(|_why| InvalidKey::Kind)?;
                Ok(Self(Kind::P256(key.into())))
            }
            PROTECTED => Err(InvalidKey::Protected),
            label => Err(InvalidKey::Label { found: shown(label), expected: PLAIN }),
        }
    }

    /// Reads DER (RFC 5958).
    fn from_der(der: &[u8]) -> Result<Self, InvalidKey> {
        if let Ok(key) = p256::ecdsa::SigningKey::from_pkcs8_der(der) {
            return Ok(Self(Kind::P256(key)));
        }
        let key = ed25519_dalek::SigningKey::from_pkcs8_der(der).map_err(|_why| InvalidKey::Kind)?;
        Ok(Self(Kind::Ed25519(key)))
    }

    /// The key as PEM, protected by a password, as cosign reads it too.
    ///
    /// # Errors
    /// It can't be written.
    pub fn seal(&self, password: &[u8]) -> Result<String, InvalidKey> {
        let der = match &self.0 {
            Kind::P256(key) => key.to_pkcs8_der(),
            Kind::Ed25519(key) => key.to_pkcs8_der(),
        };
        let der = der.map_err(|_why| InvalidKey::Kind)?;
        Ok(encoded(SEALED, sealed::seal(der.as_bytes(), password)?))
    }

    /// What verifies its signatures.
    ///
    /// # Errors
    /// It can't be written.
    pub fn public(&self) -> Result<PublicKey, InvalidKey> {
        match &self.0 {
            Kind::P256(key) => PublicKey::p256(*key.verifying_key()),
            Kind::Ed25519(key) => PublicKey::ed25519(key.verifying_key()),
        }
    }

    /// A signature over a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.0 {
            Kind::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_der().as_bytes().to_vec()
            }
            Kind::Ed25519(key) => key.sign(message).to_vec(),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKey").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_signs_only_its_other_half_verifies() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let (key, other) = (SecretKey::generate(algorithm), SecretKey::generate(algorithm));
            let signature = key.sign(b"component");
            assert!(key.public().unwrap().verifies(b"component", &signature));
            assert!(!key.public().unwrap().verifies(b"componenT", &signature));
            assert!(!other.public().unwrap().verifies(b"component", &signature));
            for at in 0..signature.len() {
                let mut flipped = signature.clone();
                flipped[at] ^= 1;
                assert!(!key.public().unwrap().verifies(b"component", &flipped), "{algorithm:?} {at}");
            }
            assert!(!key.public().unwrap().verifies(b"component", &[]));
        }
    }

    #[test]
    fn keys_come_back_with_their_password_only() {
        for algorithm in [Algorithm::EcdsaP256, Algorithm::Ed25519] {
            let key = SecretKey::generate(algorithm);
            let text = key.seal(b"open sesame").unwrap();
            let again = SecretKey::parse(&text, b"open sesame").unwrap();
            assert_eq!(again.public(), key.public());
            assert_eq!(SecretKey::parse(&text, b"open barley").unwrap_err(), InvalidKey::Password);
            assert_eq!(SecretKey::parse(&text, b"").unwrap_err(), InvalidKey::Password);
        }
    }

    #[test]
    fn what_is_no_secret_key_is_told_apart() {
        let key = SecretKey::generate(Algorithm::EcdsaP256);
        let error = SecretKey::parse(&key.public().unwrap().to_pem(), b"").unwrap_err();
        assert!(matches!(error, InvalidKey::Label { .. }), "{error:?}");
        assert_eq!(SecretKey::parse("", b"").unwrap_err(), InvalidKey::NotPem);
        let two = key.seal(b"").unwrap().repeat(2);
        assert_eq!(SecretKey::parse(&two, b"").unwrap_err(), InvalidKey::NotPem);
        let protected = encoded(PROTECTED, vec![1, 2, 3]);
        assert_eq!(SecretKey::parse(&protected, b"").unwrap_err(), InvalidKey::Protected);
        for label in [SEALED, PLAIN, PLAIN_EC] {
            assert!(SecretKey::parse(&encoded(label, b"{}".to_vec()), b"").is_err(), "{label}");
        }
    }
}
