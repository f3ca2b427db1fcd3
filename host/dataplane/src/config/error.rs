//! Why a call to the config capability failed.

use std::sync::Arc;

use platform_capability::config::Error;

use super::keys::KeyError;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// There is no such configuration, version or value.
    #[error("{0}")]
    NotFound(String),
    /// The configuration is not at the version that was named; the one it is at, 0 when there never was one.
    #[error("{}", conflict(*.0))]
    Conflict(u64),
    /// The change is fenced with a token, and one with a greater token was made before; that one.
    #[error("a later holder of the lock, with token {0}, has changed it already: the lock is lost")]
    Stale(u64),
    /// Others changed the configuration each time that the change was tried.
    #[error("`{0}` was changed by others again and again; try again")]
    Contended(String),
    /// A version or revision that is no longer kept; the oldest that is.
    #[error("what was before {0} is no longer kept")]
    Compacted(u64),
    /// An argument beyond the limits.
    #[error("{0}")]
    TooLarge(String),
    /// An argument that is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// The document does not match its schema.
    #[error("the document does not match its schema: {0}")]
    Mismatch(String),
    /// A secret value can't be encrypted or decrypted here.
    #[error(transparent)]
    Key(KeyError),
    /// A candidate is being rolled out, and the document stays until that is decided.
    #[error("a candidate for `{0}` is being rolled out; `promote` it, or `abort` it, and change the document then")]
    Staged(String),
    /// There is no candidate to decide on.
    #[error("there is no candidate for `{0}`")]
    NotStaged(String),
    /// A validator refuses the change.
    #[error("`{by}` refuses the change: {reason}")]
    Refused {
        /// Name and version of the validator.
        by: Arc<str>,
        /// Why.
        reason: String,
        /// JSON Pointer to the value at fault.
        at: Option<String>,
    },
    /// A validator failed, so that nobody knows whether the change may be made.
    #[error("the validator `{by}` failed, and the change was not made: {why}")]
    Unjudged {
        /// Name and version of the validator.
        by: Arc<str>,
        /// What went wrong.
        why: String,
    },
    /// The store can't answer now.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

fn conflict(at: u64) -> String {
    match at {
        0 => "the condition does not hold: there is no such configuration".to_owned(),
        at => format!("the condition does not hold: the configuration is at version {at}"),
    }
}

impl From<Error> for ConfigError {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict(at) => Self::Conflict(at),
            Error::Compacted(oldest) => Self::Compacted(oldest),
            Error::Stale(seen) => Self::Stale(seen),
            Error::TooLarge(what) => Self::TooLarge(what),
            Error::Invalid(what) => Self::Invalid(what),
            Error::Unavailable(why) => Self::Unavailable(why),
            Error::Other(why) => Self::Other(why),
        }
    }
}
