//! What a password protects, in the form of the keys of cosign: JSON with a secret box of NaCl under a key of scrypt (RFC 7914).
//!
//! Must not know what is inside. Invariant: what a file asks for costs no more memory and time than any key that cosign wrote does.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use crypto_secretbox::{KeyInit, XSalsa20Poly1305, aead::Aead};
use scrypt::Params;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::key::InvalidKey;

/// Cost of what is sealed here, as cosign has it: 2^16 turns, 64 MiB.
const COST_LOG2: u8 = 16;
/// Costs that are paid for what comes from elsewhere: what cosign wrote once and writes today.
const COSTS_LOG2: [u8; 2] = [15, 16];
const BLOCK: u32 = 8;
const LANES: u32 = 1;
const SALT_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

#[derive(Serialize, Deserialize)]
struct Sealed {
    kdf: Kdf,
    cipher: Cipher,
    ciphertext: String,
}

#[derive(Serialize, Deserialize)]
struct Kdf {
    name: String,
    params: Cost,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct Cost {
    #[serde(rename = "N")]
    turns: u32,
    r: u32,
    p: u32,
}

#[derive(Serialize, Deserialize)]
struct Cipher {
    name: String,
    nonce: String,
}

const SCRYPT: &str = "scrypt";
const BOX: &str = "nacl/secretbox";

/// Protects bytes.
pub(crate) fn seal(plain: &[u8], password: &[u8]) -> Result<Vec<u8>, InvalidKey> {
    let (salt, nonce): ([u8; SALT_BYTES], [u8; NONCE_BYTES]) = (rand::random(), rand::random());
    let failed = |_| InvalidKey::Damaged("it can't be protected");
    let ciphertext = unlocked(password, &salt, COST_LOG2)?.encrypt(&nonce.into(), plain).map_err(failed)?;
    let sealed = Sealed {
        kdf: Kdf {
            name: SCRYPT.to_owned(),
            params: Cost { turns: 1 << COST_LOG2, r: BLOCK, p: LANES },
            salt: STANDARD.encode(salt),
        },
        cipher: Cipher { name: BOX.to_owned(), nonce: STANDARD.encode(nonce) },
        ciphertext: STANDARD.encode(ciphertext),
    };
    serde_json::to_vec(&sealed).map_err(|_why| InvalidKey::Damaged("it can't be written"))
}

/// The bytes that a password protects.
pub(crate) fn open(text: &[u8], password: &[u8]) -> Result<Zeroizing<Vec<u8>>, InvalidKey> {
    let Sealed { kdf, cipher, ciphertext } =
        serde_json::from_slice(text).map_err(|_why| InvalidKey::Damaged("it is not the JSON that it should be"))?;
    let Cost { turns, r, p } = kdf.params;
    let known = kdf.name == SCRYPT && cipher.name == BOX && r == BLOCK && p == LANES;
    let cost_log2 = COSTS_LOG2.into_iter().find(|cost_log2| known && turns == 1 << cost_log2);
    let cost_log2 = cost_log2.ok_or(InvalidKey::Damaged("it is protected in a way that is not known"))?;
    let decoded = |text: &str| STANDARD.decode(text).map_err(|_why| InvalidKey::Damaged("base64"));
    let nonce: [u8; NONCE_BYTES] =
        decoded(&cipher.nonce)?.try_into().map_err(|_why| InvalidKey::Damaged("the nonce has another length"))?;
    let secret = unlocked(password, &decoded(&kdf.salt)?, cost_log2)?;
    let plain = secret.decrypt(&nonce.into(), decoded(&ciphertext)?.as_slice());
    plain.map(Zeroizing::new).map_err(|_why| InvalidKey::Password)
}

fn unlocked(password: &[u8], salt: &[u8], cost_log2: u8) -> Result<XSalsa20Poly1305, InvalidKey> {
    let failed = InvalidKey::Damaged("its cost is not allowed");
    let parameters = Params::new(cost_log2, BLOCK, LANES, KEY_BYTES).map_err(|_why| failed.clone())?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    scrypt::scrypt(password, salt, &parameters, &mut key[..]).map_err(|_why| failed)?;
    Ok(XSalsa20Poly1305::new((&*key).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_more_than_it_should_is_refused_before_it_is_paid_for() {
        let sealed = seal(b"secret", b"").unwrap();
        assert_eq!(open(&sealed, b"").unwrap().as_slice(), b"secret");
        let text = String::from_utf8(sealed).unwrap();
        for (from, to) in [
            ("\"N\":65536", "\"N\":1073741824"),
            ("\"N\":65536", "\"N\":0"),
            ("\"r\":8", "\"r\":1000000"),
            ("\"p\":1", "\"p\":1000000"),
            ("scrypt", "pbkdf2"),
            ("nacl/secretbox", "none"),
            ("\"nonce\":\"", "\"nonce\":\"AAAA"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(matches!(open(changed.as_bytes(), b""), Err(InvalidKey::Damaged(_))), "{to}");
        }
        assert!(open(b"", b"").is_err());
    }
}
