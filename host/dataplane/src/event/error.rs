//! Why a call to the event capability failed.

use std::sync::Arc;

use platform_capability::event::Error;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// There is no such topic, event or subscription.
    #[error("{0}")]
    NotFound(String),
    /// There is one of that name already.
    #[error("{0}")]
    Exists(String),
    /// Events or changes that are no longer kept; the oldest that are.
    #[error("what was before {0} is no longer kept")]
    Compacted(u64),
    /// An argument beyond the limits.
    #[error("{0}")]
    TooLarge(String),
    /// An argument that is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// A filter failed, so that nobody knows whether the event may be kept.
    #[error("the filter `{by}` failed, and nothing was published: {why}")]
    Unfiltered {
        /// Name and version of the filter.
        by: Arc<str>,
        /// What went wrong.
        why: String,
    },
    /// The broker can't answer now.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl From<Error> for EventError {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(what) => Self::NotFound(what),
            Error::Exists(what) => Self::Exists(what),
            Error::Compacted(oldest) => Self::Compacted(oldest),
            Error::TooLarge(what) => Self::TooLarge(what),
            Error::Invalid(what) => Self::Invalid(what),
            Error::Unavailable(why) => Self::Unavailable(why),
            Error::Other(why) => Self::Other(why),
        }
    }
}
