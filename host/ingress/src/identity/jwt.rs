//! Signed tokens (JWT, RFC 7519) against configured keys.
//!
//! Owns keys and the check of claims; must not fetch anything. Invariant: a key verifies the one algorithm it is
//! configured for, whatever the token's header says, so neither `none` nor a public key used as a shared secret passes.

use std::{fs, path::PathBuf, sync::Arc};

use jsonwebtoken::{
    DecodingKey, Header, Validation,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk},
};
use platform_capability::{Caller, InvalidName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Access, Identity, Namespaces, TokenError, static_token::default_namespaces};

/// Shortest RSA modulus, in bytes: 2048 bits.
const RSA_BYTES_MIN: usize = 256;

/// An issuer whose signed tokens are good.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What `iss` has to be.
    pub issuer: String,
    /// `aud` has to hold one of these. Empty: tokens for any audience are good.
    #[serde(default)]
    pub audiences: Vec<String>,
    /// Keys that sign.
    pub keys: Vec<Key>,
    /// Claim with the roles: a list, or words in one text. Dots lead into objects.
    #[serde(default = "roles")]
    pub roles_claim: String,
    /// Claim with the namespaces. Absent in a token: `namespaces`.
    #[serde(default)]
    pub namespaces_claim: Option<String>,
    /// Namespaces that the bearers may work in; `*` for all.
    #[serde(default = "default_namespaces")]
    pub namespaces: Vec<String>,
    /// What the bearers may do on the platform itself.
    #[serde(default = "check")]
    pub access: Access,
    /// How far clocks may differ, in seconds.
    #[serde(default = "leeway")]
    pub leeway_s: u64,
}

/// A key that signs: a public key as PEM, a file with one, or a JWK.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// `kid` of the tokens it signs. Absent: tokens without a `kid`, or with any.
    #[serde(default)]
    pub id: Option<String>,
    /// The one algorithm it is good for.
    pub algorithm: Algorithm,
    /// The public key, PEM.
    #[serde(default)]
    pub pem: Option<String>,
    /// File with the public key, PEM.
    #[serde(default)]
    pub pem_file: Option<PathBuf>,
    /// The public key, JWK (RFC 7517).
    #[serde(default)]
    pub jwk: Option<Map<String, Value>>,
}

/// Algorithms that sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ed25519.
    EdDSA,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
}

fn roles() -> String {
    "roles".to_owned()
}

fn check() -> Access {
    Access::Check
}

fn leeway() -> u64 {
    30
}

/// Why an issuer is not usable.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// There is no key.
    #[error("the issuer `{issuer}` has no keys")]
    NoKeys {
        /// Whose.
        issuer: String,
    },
    /// None or several of the three places.
    #[error("a key of `{issuer}` needs exactly one of `pem`, `pem_file` and `jwk`")]
    Place {
        /// Whose.
        issuer: String,
    },
    /// The file can't be read.
    #[error("the key file `{}` of `{issuer}` can't be read: {source}", path.display())]
    File {
        /// Whose.
        issuer: String,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no public key for the algorithm.
    #[error("a key of `{issuer}` is no public key for {algorithm:?}: {problem}")]
    Key {
        /// Whose.
        issuer: String,
        /// What for.
        algorithm: Algorithm,
        /// Why.
        problem: String,
    },
    /// A namespace is no name.
    #[error("the issuer `{issuer}`: namespace {source}")]
    Namespace {
        /// Whose.
        issuer: String,
        /// Why.
        source: InvalidName,
    },
}

/// Verifies signed tokens.
#[derive(Debug)]
pub(super) struct Verifier {
    keys: Vec<VerifyingKey>,
}

struct VerifyingKey {
    id: Option<String>,
    key: DecodingKey,
    validation: Validation,
    issuer: Arc<Issuer>,
    namespaces: Namespaces,
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey").field("id", &self.id).field("issuer", &self.issuer.issuer).finish()
    }
}

impl Verifier {
    pub(super) fn new(issuers: &[Issuer]) -> Result<Self, IssuerError> {
        let mut keys = Vec::new();
        for issuer in issuers {
            let name = || issuer.issuer.clone();
            if issuer.keys.is_empty() {
                return Err(IssuerError::NoKeys { issuer: name() });
            }
            let namespaces = Namespaces::parse(issuer.namespaces.iter().map(String::as_str))
                .map_err(|source| IssuerError::Namespace { issuer: name(), source })?;
            let shared = Arc::new(issuer.clone());
            for key in &issuer.keys {
                keys.push(VerifyingKey {
                    id: key.id.clone(),
                    key: key.load(&issuer.issuer)?,
                    validation: key.algorithm.validation(),
                    issuer: Arc::clone(&shared),
                    namespaces: namespaces.clone(),
                });
            }
        }
        Ok(Self { keys })
    }

    /// The bearer of a signed token.
    pub(super) fn verify(&self, token: &str, now_s: u64) -> Result<Identity, TokenError> {
        if self.keys.is_empty() || token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return Err(TokenError::Unknown);
        }
        let header = header(token)?;
        let mut issuer_known = true;
        for key in self.keys.iter().filter(|key| key.fits(&header)) {
            let Ok(verified) = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &key.validation) else {
                continue;
            };
            // Two issuers may share a key: the one that the token names decides.
            issuer_known = verified.claims.get("iss").and_then(Value::as_str) == Some(&key.issuer.issuer);
            if issuer_known {
                return key.identity(verified.claims, now_s);
            }
        }
        Err(if issuer_known { TokenError::Signature } else { TokenError::Issuer })
    }
}

/// The header of a token, when it asks for nothing that we would have to ignore.
fn header(token: &str) -> Result<Header, TokenError> {
    let Ok(header) = jsonwebtoken::decode_header(token) else { return Err(TokenError::Header) };
    let kind = header.typ.as_deref().unwrap_or("JWT");
    let kind_taken = ["JWT", "at+jwt", "application/at+jwt"].iter().any(|taken| kind.eq_ignore_ascii_case(taken));
    let asks_more = header.crit.is_some() || header.enc.is_some() || header.zip.is_some();
    if kind_taken && !asks_more { Ok(header) } else { Err(TokenError::Header) }
}

impl VerifyingKey {
    fn fits(&self, header: &Header) -> bool {
        let same_id = match (&self.id, &header.kid) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        };
        same_id && self.validation.algorithms.contains(&header.alg)
    }

    fn identity(&self, claims: Map<String, Value>, now_s: u64) -> Result<Identity, TokenError> {
        let issuer = &*self.issuer;
        let expires_s = seconds(&claims, "exp")?.ok_or(TokenError::Expired)?;
        if now_s >= expires_s.saturating_add(issuer.leeway_s) {
            return Err(TokenError::Expired);
        }
        if seconds(&claims, "nbf")?.is_some_and(|from| now_s.saturating_add(issuer.leeway_s) < from) {
            return Err(TokenError::NotYet);
        }
        if !issuer.audiences.is_empty() {
            let audiences = words(claims.get("aud"), false).ok_or(TokenError::Audience)?;
            if !audiences.iter().any(|audience| issuer.audiences.contains(audience)) {
                return Err(TokenError::Audience);
            }
        }
        let subject = claims.get("sub").and_then(Value::as_str).filter(|subject| !subject.is_empty());
        let subject = subject.ok_or(TokenError::Claims)?.to_owned();
        let roles = match claim(&claims, &issuer.roles_claim) {
            None => Vec::new(),
            roles => words(roles, true).ok_or(TokenError::Claims)?,
        };
        let namespaces = match issuer.namespaces_claim.as_deref().and_then(|name| claim(&claims, name)) {
            None => self.namespaces.clone(),
            names => {
                let names = words(names, true).ok_or(TokenError::Claims)?;
                let Ok(names) = Namespaces::parse(names.iter().map(String::as_str)) else {
                    return Err(TokenError::Claims);
                };
                names
            }
        };
        let caller = Caller { subject, roles: roles.into_iter().collect(), claims };
        let expires_s = Some(expires_s.saturating_add(issuer.leeway_s));
        Ok(Identity { caller: Arc::new(caller), access: issuer.access, namespaces, expires_s })
    }
}

impl Algorithm {
    fn validation(self) -> Validation {
        let mut validation = Validation::new(match self {
            Self::EdDSA => jsonwebtoken::Algorithm::EdDSA,
            Self::ES256 => jsonwebtoken::Algorithm::ES256,
            Self::RS256 => jsonwebtoken::Algorithm::RS256,
        });
        // Claims are checked here, against the platform's clock and with an error for each.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation
    }
}

impl Key {
    fn load(&self, issuer: &str) -> Result<DecodingKey, IssuerError> {
        let fail = |problem: String| IssuerError::Key { issuer: issuer.to_owned(), algorithm: self.algorithm, problem };
        let key = match (&self.pem, &self.pem_file, &self.jwk) {
            (Some(pem), None, None) => self.read_pem(pem),
            (None, Some(path), None) => {
                let pem = fs::read_to_string(path);
                let issuer = issuer.to_owned();
                self.read_pem(&pem.map_err(|source| IssuerError::File { issuer, path: path.clone(), source })?)
            }
            (None, None, Some(jwk)) => self.read_jwk(jwk),
            _ => return Err(IssuerError::Place { issuer: issuer.to_owned() }),
        };
        key.map_err(fail)
    }

    fn read_pem(&self, pem: &str) -> Result<DecodingKey, String> {
        if pem.contains("PRIVATE KEY") {
            return Err("it is a private key, which has no place here: give the public one".to_owned());
        }
        let bytes = pem.as_bytes();
        let key = match self.algorithm {
            Algorithm::EdDSA => DecodingKey::from_ed_pem(bytes),
            Algorithm::ES256 => DecodingKey::from_ec_pem(bytes),
            Algorithm::RS256 => DecodingKey::from_rsa_pem(bytes),
        };
        let key = key.map_err(|error| error.to_string())?;
        let length = key.try_get_as_bytes().map_or(0, <[u8]>::len);
        let fits = match self.algorithm {
            Algorithm::EdDSA => length == 32,
            Algorithm::ES256 => length == 65,
            Algorithm::RS256 => length >= RSA_BYTES_MIN,
        };
        if fits { Ok(key) } else { Err(self.algorithm.wants()) }
    }

    fn read_jwk(&self, jwk: &Map<String, Value>) -> Result<DecodingKey, String> {
        if jwk.contains_key("d") {
            return Err("it is a private key, which has no place here: give the public one".to_owned());
        }
        let jwk: Jwk = serde_json::from_value(Value::Object(jwk.clone())).map_err(|error| error.to_string())?;
        let fits = match (&jwk.algorithm, self.algorithm) {
            (AlgorithmParameters::OctetKeyPair(pair), Algorithm::EdDSA) => pair.curve == EllipticCurve::Ed25519,
            (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
            // Four characters of base64 for three bytes of modulus.
            (AlgorithmParameters::RSA(key), Algorithm::RS256) => key.n.len() * 3 / 4 >= RSA_BYTES_MIN,
            _ => false,
        };
        if !fits {
            return Err(self.algorithm.wants());
        }
        DecodingKey::from_jwk(&jwk).map_err(|error| error.to_string())
    }
}

impl Algorithm {
    fn wants(self) -> String {
        match self {
            Self::EdDSA => "an Ed25519 key is needed",
            Self::ES256 => "a P-256 key is needed",
            Self::RS256 => "an RSA key of at least 2048 bits is needed",
        }
        .to_owned()
    }
}

/// A claim by its name, where dots lead into objects unless the whole name is a claim.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    claim(claims.get(first)?.as_object()?, rest)
}

/// A list of texts, or one text: words when `split`, else itself. None when it is neither.
fn words(value: Option<&Value>, split: bool) -> Option<Vec<String>> {
    match value? {
        Value::String(text) if split => Some(text.split_whitespace().map(str::to_owned).collect()),
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => list.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// A `NumericDate` in whole seconds.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let whole = value.as_u64().or_else(|| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast of floats saturates")]
        value.as_f64().filter(|seconds| *seconds >= 0.0).map(|seconds| seconds as u64)
    });
    whole.map(Some).ok_or(TokenError::Claims)
}

#[cfg(test)]
mod tests;
