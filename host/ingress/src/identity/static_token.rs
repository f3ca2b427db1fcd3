//! Tokens that stand in the configuration.
//!
//! Owns their table; must not know where a token was presented. Invariant: the table holds digests only, so neither a
//! memory dump nor the time of a look-up tells anything about a token.

use std::{collections::HashMap, fs, path::PathBuf, sync::Arc};

use platform_capability::{Caller, InvalidName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Access, Identity, Namespaces, Secret};

/// Shortest token, in bytes.
const TOKEN_BYTES_MIN: usize = 16;

/// A token that stands in the configuration, or in a file that the configuration names.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticToken {
    /// Who bears it.
    pub subject: String,
    /// The token, at least 16 bytes.
    #[serde(default)]
    pub token: Option<Secret>,
    /// File whose first line is the token; instead of `token`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Roles of the bearer.
    #[serde(default)]
    pub roles: Vec<String>,
    /// Claims that policies see.
    #[serde(default)]
    pub claims: serde_json::Map<String, serde_json::Value>,
    /// Namespaces that the bearer may work in; `*` for all.
    #[serde(default = "default_namespaces")]
    pub namespaces: Vec<String>,
    /// What the bearer may do on the platform itself.
    #[serde(default = "control")]
    pub access: Access,
}

pub(super) fn default_namespaces() -> Vec<String> {
    vec![platform_capability::NAMESPACE_DEFAULT.to_owned()]
}

fn control() -> Access {
    Access::Control
}

/// Why a configured token is not usable.
#[derive(Debug, thiserror::Error)]
pub enum StaticTokenError {
    /// Neither or both of the two places.
    #[error("the token of `{subject}` needs either `token` or `token_file`")]
    Place {
        /// Whose.
        subject: String,
    },
    /// Too short to be hard to guess.
    #[error("the token of `{subject}` is shorter than {TOKEN_BYTES_MIN} bytes: make a longer one")]
    Short {
        /// Whose.
        subject: String,
    },
    /// Two bearers can't be told apart.
    #[error("the token of `{subject}` is that of another subject too: give each its own")]
    Shared {
        /// Whose.
        subject: String,
    },
    /// The file can't be read.
    #[error("the token file `{}` of `{subject}` can't be read: {source}", path.display())]
    File {
        /// Whose.
        subject: String,
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A namespace is no name.
    #[error("the token of `{subject}`: namespace {source}")]
    Namespace {
        /// Whose.
        subject: String,
        /// Why.
        source: InvalidName,
    },
}

impl StaticToken {
    /// A token of `subject` without roles, good in the namespace `default`.
    #[must_use]
    pub fn new(subject: impl Into<String>, token: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            token: Some(Secret::new(token)),
            token_file: None,
            roles: Vec::new(),
            claims: serde_json::Map::new(),
            namespaces: default_namespaces(),
            access: Access::Control,
        }
    }

    /// A token with the role `admin`, good in every namespace.
    #[must_use]
    pub fn admin(token: impl Into<String>) -> Self {
        Self {
            roles: vec![super::ADMIN_ROLE.to_owned()],
            namespaces: vec!["*".to_owned()],
            ..Self::new("admin", token)
        }
    }

    fn text(&self) -> Result<String, StaticTokenError> {
        let subject = || self.subject.clone();
        let text = match (&self.token, &self.token_file) {
            (Some(token), None) => token.reveal().to_owned(),
            (None, Some(path)) => {
                let text = fs::read_to_string(path);
                let text =
                    text.map_err(|source| StaticTokenError::File { subject: subject(), path: path.clone(), source })?;
                text.lines().next().unwrap_or_default().trim().to_owned()
            }
            _ => return Err(StaticTokenError::Place { subject: subject() }),
        };
        if text.len() < TOKEN_BYTES_MIN {
            return Err(StaticTokenError::Short { subject: subject() });
        }
        Ok(text)
    }

    fn identity(&self) -> Result<Identity, StaticTokenError> {
        let namespaces = Namespaces::parse(self.namespaces.iter().map(String::as_str))
            .map_err(|source| StaticTokenError::Namespace { subject: self.subject.clone(), source })?;
        let caller = Caller {
            subject: self.subject.clone(),
            roles: self.roles.iter().cloned().collect(),
            claims: self.claims.clone(),
        };
        Ok(Identity { caller: Arc::new(caller), access: self.access, namespaces, expires_s: None })
    }
}

/// Identities by the SHA-256 of their token.
#[derive(Debug, Default)]
pub(super) struct Table(HashMap<[u8; 32], Arc<Identity>>);

impl Table {
    pub(super) fn new(tokens: &[StaticToken]) -> Result<Self, StaticTokenError> {
        let mut table = HashMap::new();
        for token in tokens {
            let digest: [u8; 32] = Sha256::digest(token.text()?).into();
            if table.insert(digest, Arc::new(token.identity()?)).is_some() {
                return Err(StaticTokenError::Shared { subject: token.subject.clone() });
            }
        }
        Ok(Self(table))
    }

    /// The bearer of the token with this digest. Whoever times this learns about digests, from which no token follows.
    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Arc<Identity>> {
        self.0.get(digest).cloned()
    }

    /// A bearer of this subject.
    pub(super) fn bearer(&self, subject: &str) -> Option<Arc<Identity>> {
        self.0.values().find(|identity| identity.caller.subject == subject).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(tokens: &[StaticToken]) -> String {
        Table::new(tokens).unwrap_err().to_string()
    }

    #[test]
    fn unusable_tokens_say_what_to_do() {
        let good = StaticToken::new("a", "0123456789abcdef");
        assert!(error(&[StaticToken::new("a", "short")]).contains("make a longer one"));
        assert!(error(&[StaticToken { token: None, ..good.clone() }]).contains("either `token` or `token_file`"));
        assert!(error(&[StaticToken { token_file: Some("x".into()), ..good.clone() }]).contains("either"));
        assert!(error(&[StaticToken { namespaces: vec!["a/b".into()], ..good.clone() }]).contains("`a/b`"));
        let missing = StaticToken { token: None, token_file: Some("/nowhere/token".into()), ..good.clone() };
        assert!(error(&[missing]).contains("`/nowhere/token`"));
        assert!(error(&[good.clone(), StaticToken { subject: "b".into(), ..good }]).contains("give each its own"));
    }

    #[test]
    fn a_file_holds_the_token_on_its_first_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "0123456789abcdef\n").unwrap();
        let token = StaticToken { token: None, token_file: Some(file.path().into()), ..StaticToken::admin("") };
        let table = Table::new(&[token]).unwrap();
        let identity = table.get(&Sha256::digest("0123456789abcdef").into()).unwrap();
        assert!(identity.caller.roles.contains("admin"));
        assert_eq!(identity.namespaces, Namespaces::All);
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = serde_json::from_str::<StaticToken>(r#"{"subject":"a","tokn":"x"}"#).unwrap_err();
        assert!(error.to_string().contains("`tokn`"), "{error}");
    }
}
