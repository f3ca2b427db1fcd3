//! Who calls: bearer tokens and what they prove.
//!
//! Owns the verification of tokens; must not know what a caller asks for. Invariant: an [`Identity`] exists only for a
//! token that was verified against what the operator configured, and a secret is neither logged nor shown.

mod cache;
mod jwt;
mod secret;
mod static_token;

use std::{collections::BTreeSet, sync::Arc};

use http::{HeaderMap, header};
use platform_base::clock;
use platform_capability::{Caller, InvalidName, Name};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use cache::Cache;
pub use jwt::{Algorithm, Issuer, IssuerError, Key};
pub use secret::Secret;
pub use static_token::{StaticToken, StaticTokenError};

/// Role that the methods of control ask for.
pub const ADMIN_ROLE: &str = "admin";
/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Which tokens are good.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentityConfig {
    /// Tokens that stand in the configuration.
    pub tokens: Vec<StaticToken>,
    /// Whose signed tokens (JWT) are good.
    pub jwt: Vec<Issuer>,
}

/// What the bearer of a token may do on the platform itself, besides being judged by policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Nothing: the token is of an end user whose requests a gateway asks about.
    Check,
    /// Call the capabilities.
    Data,
    /// Call the capabilities and, with the role `admin`, control the platform.
    Control,
}

/// The bearer of a verified token.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What policies and plugins see.
    pub caller: Arc<Caller>,
    /// What the bearer may do on the platform itself.
    pub access: Access,
    /// Where the bearer may do it.
    pub namespaces: Namespaces,
    /// When the token ends, unix time in seconds; none when it does not.
    pub expires_s: Option<u64>,
}

impl Identity {
    /// Whether its token has ended.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expires_s.is_some_and(|expires_s| expires_s <= clock::unix_ms() / 1000)
    }
}

/// Namespaces that a token is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// All of them.
    All,
    /// These.
    Only(BTreeSet<String>),
}

impl Namespaces {
    /// From a list of names, where `*` stands for all.
    ///
    /// # Errors
    /// A name that is none.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidName> {
        let mut only = BTreeSet::new();
        for name in names {
            if name == "*" {
                return Ok(Self::All);
            }
            only.insert(name.parse::<Name>()?.as_str().to_owned());
        }
        Ok(Self::Only(only))
    }

    /// Whether a namespace is among them.
    #[must_use]
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.contains(namespace),
        }
    }
}

/// Why a token proves nothing. The text is safe to show to whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Neither a configured token nor a signed one.
    #[error("the token is unknown")]
    Unknown,
    /// Longer than any good token.
    #[error("the token is longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    /// The `Authorization` header is no `Bearer TOKEN`, or there are several.
    #[error("the `authorization` header has to be one `Bearer TOKEN`")]
    Malformed,
    /// Its header can't be read or asks for what is not supported.
    #[error("the token's header is not one that is taken")]
    Header,
    /// No configured key verifies it.
    #[error("the token's signature is not of a key that is configured for its algorithm")]
    Signature,
    /// It has expired, or says not when.
    #[error("the token has expired")]
    Expired,
    /// It is not good yet.
    #[error("the token is not good yet")]
    NotYet,
    /// Its `iss` is not the configured one.
    #[error("the token's issuer is not the one that its key belongs to")]
    Issuer,
    /// Its `aud` is not a configured one.
    #[error("the token is for another audience")]
    Audience,
    /// It lacks `sub`, or a claim has the wrong shape.
    #[error("the token's claims lack `sub` or have the wrong shape")]
    Claims,
}

/// Verifies tokens.
#[derive(Debug)]
pub struct Authenticator {
    statics: static_token::Table,
    issuers: jwt::Verifier,
    verified: Cache,
}

/// Why tokens can't be verified as configured.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A token of the configuration.
    #[error(transparent)]
    StaticToken(#[from] StaticTokenError),
    /// An issuer of the configuration.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
}

impl IdentityConfig {
    /// Reads the secrets and keys that the configuration names.
    ///
    /// # Errors
    /// The first token or issuer that is not usable.
    pub fn build(&self) -> Result<Authenticator, IdentityError> {
        Ok(Authenticator {
            statics: static_token::Table::new(&self.tokens)?,
            issuers: jwt::Verifier::new(&self.jwt)?,
            verified: Cache::new(),
        })
    }
}

impl Authenticator {
    /// The bearer of `token`.
    ///
    /// # Errors
    /// Why the token proves nothing.
    pub fn verify(&self, token: &str) -> Result<Arc<Identity>, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(identity) = self.statics.get(&digest) {
            return Ok(identity);
        }
        let now_s = clock::unix_ms() / 1000;
        if let Some(identity) = self.verified.get(&digest, now_s) {
            return Ok(identity);
        }
        let identity = Arc::new(self.issuers.verify(token, now_s)?);
        self.verified.put(digest, &identity, now_s);
        Ok(identity)
    }

    /// The bearer of the configured token with this subject; none when there is no such token.
    pub fn static_bearer(&self, subject: &str) -> Option<Arc<Identity>> {
        self.statics.bearer(subject)
    }

    /// The bearer of the token in the `Authorization` header; none without one.
    ///
    /// # Errors
    /// Why the token proves nothing.
    pub fn identify(&self, headers: &HeaderMap) -> Result<Option<Arc<Identity>>, TokenError> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Ok(None) };
        if values.next().is_some() {
            return Err(TokenError::Malformed);
        }
        let token = value.to_str().ok().and_then(bearer).ok_or(TokenError::Malformed)?;
        self.verify(token).map(Some)
    }
}

/// The token of a `Bearer` credential (RFC 6750).
#[must_use]
pub(crate) fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains([' ', ','])).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authenticator() -> Authenticator {
        let config = IdentityConfig { tokens: vec![StaticToken::new("svc/a", "0123456789abcdef")], jwt: Vec::new() };
        config.build().unwrap()
    }

    fn headers(values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (header::AUTHORIZATION, value.parse().unwrap())).collect()
    }

    #[test]
    fn a_configured_token_names_its_subject() {
        let authenticator = authenticator();
        for value in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef "] {
            let identity = authenticator.identify(&headers(&[value])).unwrap().unwrap();
            assert_eq!(identity.caller.subject, "svc/a");
        }
        assert!(authenticator.identify(&headers(&[])).unwrap().is_none());
    }

    #[test]
    fn other_tokens_prove_nothing() {
        let authenticator = authenticator();
        for (values, error) in [
            (&["Bearer 0123456789abcdeg"][..], TokenError::Unknown),
            (&["Bearer 0123456789abcde"], TokenError::Unknown),
            (&["Basic 0123456789abcdef"], TokenError::Malformed),
            (&["Bearer"], TokenError::Malformed),
            (&["Bearer "], TokenError::Malformed),
            (&[""], TokenError::Malformed),
            (&["Bearer 0123456789abcdef, Bearer x"], TokenError::Malformed),
            (&["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"], TokenError::Malformed),
            (&[&format!("Bearer {}", "a".repeat(9000))], TokenError::TooLong),
        ] {
            assert_eq!(authenticator.identify(&headers(values)).unwrap_err(), error, "{values:?}");
        }
    }

    #[test]
    fn namespaces_are_names_or_all() {
        assert_eq!(Namespaces::parse(["a", "*"]).unwrap(), Namespaces::All);
        let two = Namespaces::parse(["a", "b"]).unwrap();
        assert!(two.contains("a") && !two.contains("c"));
        assert!(!Namespaces::parse([]).unwrap().contains("default"));
        assert!(Namespaces::parse(["../a"]).is_err());
    }
}
