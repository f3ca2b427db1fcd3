//! Why something asked of webhooks was not done.

use platform_dataplane::{CallError, EventError, KeyError};

use crate::target::InvalidTarget;

/// Why something asked of webhooks was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// There is no such webhook.
    #[error("the subscription `{subscription}` of the topic `{topic}` has no webhook")]
    NotFound {
        /// The topic.
        topic: String,
        /// The subscription.
        subscription: String,
    },
    /// There is one already.
    #[error("the subscription `{subscription}` of the topic `{topic}` has a webhook already; delete it first")]
    Exists {
        /// The topic.
        topic: String,
        /// The subscription.
        subscription: String,
    },
    /// The URL is no target.
    #[error(transparent)]
    Target(#[from] InvalidTarget),
    /// Another argument that is not allowed.
    #[error("{0}")]
    Invalid(String),
    /// As many webhooks are there as may be.
    #[error("{0}")]
    TooMany(String),
    /// The secret can't be kept.
    #[error("{0}; or create the webhook unsigned")]
    Key(#[from] KeyError),
    /// The broker refused.
    #[error("the broker did not answer as hoped: {0}")]
    Event(#[from] CallError<EventError>),
    /// Somebody else changed the webhook at the same time, again and again.
    #[error("the webhook was changed by others at the same time; try again")]
    Contended,
    /// Storage can't answer now.
    #[error("{0}")]
    Unavailable(String),
    /// What is stored is no webhook.
    #[error("what is stored of a webhook can't be read: {0}")]
    Damaged(String),
}

impl From<platform_storage::Error> for WebhookError {
    fn from(error: platform_storage::Error) -> Self {
        use platform_storage::Error;
        match error {
            Error::Conflict(_) => Self::Contended,
            Error::TooLarge(what) | Error::Full(what) | Error::Invalid(what) => Self::Invalid(what),
            Error::Corrupt(what) => Self::Damaged(what),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
