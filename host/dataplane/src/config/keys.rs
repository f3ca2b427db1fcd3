//! The keys that secret values are encrypted with, and the settings that name them.
//!
//! Owns encryption (XChaCha20-Poly1305, whose nonces are long enough to be drawn); must not know documents. Invariant: a key
//! is neither logged nor shown, and a value opens only in the configuration and namespace that it was sealed for.

use std::{collections::BTreeMap, env, fmt, fs, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use platform_capability::Name;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a nonce.
const NONCE_BYTES: usize = 24;
/// Largest key file that is read: a key in hexadecimal, and room for blanks.
const FILE_BYTES_MAX: u64 = 4096;

/// The keys of secret values.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecretsConfig {
    /// Id of the key that new values are encrypted with; the others only decrypt.
    pub key: Option<Name>,
    /// Where the keys are.
    pub keys: Vec<SecretKey>,
}

/// Where a key is: 32 bytes in hexadecimal or base64, as `openssl rand -hex 32` makes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretKey {
    /// Its id, which is kept with each value.
    pub id: Name,
    /// File that holds it.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Environment variable that holds it.
    #[serde(default)]
    pub env: Option<String>,
}

/// Why a value can't be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// No key is named to encrypt with.
    #[error("no key encrypts secret values here; name one with `config.secrets.key` in the configuration file")]
    NoKey,
    /// The key is not among those that are named.
    #[error("the key `{0}` is not among `config.secrets.keys`")]
    Unknown(String),
    /// The key is named and can't be had.
    #[error("the key `{id}` can't be used: {why}")]
    Unusable {
        /// The key.
        id: String,
        /// Why not.
        why: String,
    },
    /// The value was not made with this key for this configuration, or it is damaged.
    #[error("the key `{0}` does not open the value: it was sealed elsewhere, or it is damaged")]
    Refused(String),
    /// Encryption failed.
    #[error("the value could not be encrypted")]
    Failed,
}

/// The keys of a daemon.
#[derive(Default)]
pub struct Keys {
    writes: Option<String>,
    by_id: BTreeMap<String, Result<XChaCha20Poly1305, String>>,
}

/// A value that was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Id of the key.
    pub key: String,
    /// Nonce and ciphertext.
    pub data: Vec<u8>,
}

impl SecretsConfig {
    /// Reads the keys. One that can't be had is logged and told whenever a value needs it; the others serve.
    #[must_use]
    pub fn build(&self) -> Keys {
        let mut by_id = BTreeMap::new();
        for key in &self.keys {
            let read = key.read();
            if let Err(why) = &read {
                tracing::error!(key = %key.id, why, "a key of secret values can't be used; values sealed with it can't be read");
            }
            by_id.insert(key.id.to_string(), read);
        }
        Keys { writes: self.key.as_ref().map(ToString::to_string), by_id }
    }
}

impl SecretKey {
    fn read(&self) -> Result<XChaCha20Poly1305, String> {
        let text = Zeroizing::new(match (&self.file, &self.env) {
            (Some(file), None) => {
                let unreadable =
                    |error: std::io::Error| format!("`{}` can't be read: {}", file.display(), error.kind());
                if fs::metadata(file).map_err(unreadable)?.len() > FILE_BYTES_MAX {
                    return Err(format!("`{}` is larger than a key", file.display()));
                }
                fs::read_to_string(file).map_err(unreadable)?
            }
            (None, Some(name)) => {
                env::var(name).map_err(|_unset| format!("the environment variable `{name}` is not set"))?
            }
            _ => return Err("it needs either `file` or `env`".to_owned()),
        });
        let bytes = Zeroizing::new(
            decode(text.trim())
                .ok_or("it is not 32 bytes in hexadecimal or base64; make one with `openssl rand -hex 32`")?,
        );
        XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_wrong_length| "it is not 32 bytes".to_owned())
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let bytes = if text.len() == KEY_BYTES * 2 {
        (0..KEY_BYTES).map(|place| u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()).collect()
    } else {
        STANDARD.decode(text).ok()
    };
    bytes.filter(|bytes: &Vec<u8>| bytes.len() == KEY_BYTES)
}

impl Keys {
    /// Encrypts a value that belongs to `place` and opens there only.
    ///
    /// # Errors
    /// No key is named to encrypt with, or it can't be had.
    pub fn seal(&self, place: &str, value: &[u8]) -> Result<Sealed, KeyError> {
        let id = self.writes.as_ref().ok_or(KeyError::NoKey)?;
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: value, aad: place.as_bytes() };
        let sealed = self.key(id)?.encrypt(&XNonce::from(nonce), payload).map_err(|_failed| KeyError::Failed)?;
        Ok(Sealed { key: id.clone(), data: [&nonce[..], &sealed].concat() })
    }

    /// Decrypts a value that belongs to `place`.
    ///
    /// # Errors
    /// The key can't be had, or does not open the value.
    pub fn open(&self, place: &str, sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let refused = || KeyError::Refused(sealed.key.clone());
        let (nonce, data) = sealed.data.split_first_chunk::<NONCE_BYTES>().ok_or_else(refused)?;
        let payload = Payload { msg: data, aad: place.as_bytes() };
        let opened = self.key(&sealed.key)?.decrypt(&XNonce::from(*nonce), payload);
        opened.map(Zeroizing::new).map_err(|_refused| refused())
    }

    /// Whether new values are encrypted with the key `id`.
    pub(super) fn writes(&self, id: &str) -> bool {
        self.writes.as_deref() == Some(id)
    }

    fn key(&self, id: &str) -> Result<&XChaCha20Poly1305, KeyError> {
        let key = self.by_id.get(id).ok_or_else(|| KeyError::Unknown(id.to_owned()))?;
        key.as_ref().map_err(|why| KeyError::Unusable { id: id.to_owned(), why: why.clone() })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("writes", &self.writes).field("ids", &self.by_id.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(writes: &str, ids: &[(&str, &str)]) -> Keys {
        let read = |text: &str| XChaCha20Poly1305::new_from_slice(&decode(text).unwrap()).unwrap();
        Keys {
            writes: Some(writes.into()),
            by_id: ids.iter().map(|(id, text)| ((*id).into(), Ok(read(text)))).collect(),
        }
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let keys = keys("a", &[("a", &"0a".repeat(32))]);
        let sealed = keys.seal("default/shop", b"hunter2").unwrap();
        assert_eq!(keys.open("default/shop", &sealed).unwrap().as_slice(), b"hunter2");
        assert_ne!(keys.seal("default/shop", b"hunter2").unwrap().data, sealed.data, "nonces differ");
        assert_eq!(keys.open("default/other", &sealed), Err(KeyError::Refused("a".into())));
        for damaged in [vec![], sealed.data[..20].to_vec(), sealed.data[..sealed.data.len() - 1].to_vec()] {
            assert!(keys.open("default/shop", &Sealed { data: damaged, ..sealed.clone() }).is_err());
        }
    }

    #[test]
    fn old_keys_read_and_the_new_one_writes() {
        let old = keys("a", &[("a", &"0a".repeat(32))]);
        let sealed = old.seal("p", b"x").unwrap();
        let both = keys("b", &[("a", &"0a".repeat(32)), ("b", &"0b".repeat(32))]);
        assert_eq!(both.open("p", &sealed).unwrap().as_slice(), b"x");
        assert_eq!(both.seal("p", b"x").unwrap().key, "b");
        let new = keys("b", &[("b", &"0b".repeat(32))]);
        assert_eq!(new.open("p", &sealed), Err(KeyError::Unknown("a".into())));
        assert_eq!(Keys::default().seal("p", b"x"), Err(KeyError::NoKey));
    }

    #[test]
    fn keys_are_32_bytes_and_never_shown() {
        assert!(decode(&"0a".repeat(32)).is_some() && decode(&STANDARD.encode([7; 32])).is_some());
        for wrong in ["", "0a", &"0g".repeat(32), &STANDARD.encode([7; 31]), &"é".repeat(32)] {
            assert!(decode(wrong).is_none(), "{wrong}");
        }
        let shown = format!("{:?}", keys("a", &[("a", &"0a".repeat(32))]));
        assert!(!shown.contains("0a0a") && !shown.contains("10, 10"), "{shown}");
    }

    #[test]
    fn a_key_that_is_not_there_is_told_and_the_others_serve() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("b.key");
        fs::write(&file, format!("{}\n", "0b".repeat(32))).unwrap();
        let key = |id: &str, file: Option<PathBuf>, env: Option<&str>| SecretKey {
            id: id.parse().unwrap(),
            file,
            env: env.map(Into::into),
        };
        let config = SecretsConfig {
            key: Some("b".parse().unwrap()),
            keys: vec![
                key("a", Some(folder.path().join("none")), None),
                key("b", Some(file), None),
                key("c", None, None),
            ],
        };
        let keys = config.build();
        let sealed = keys.seal("p", b"x").unwrap();
        assert!(keys.open("p", &sealed).is_ok());
        for id in ["a", "c"] {
            let error = keys.open("p", &Sealed { key: id.into(), ..sealed.clone() }).unwrap_err();
            assert!(matches!(error, KeyError::Unusable { .. }), "{error}");
        }
    }
}
