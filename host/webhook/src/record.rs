//! A webhook as it is kept.
//!
//! Invariant: the secret is kept sealed, and nothing here shows it.

use std::{fmt, sync::Arc};

use platform_dataplane::Sealed;
use serde::{Deserialize, Serialize};

/// Which webhook: that of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) namespace: Arc<str>,
    pub(crate) topic: String,
    pub(crate) subscription: String,
}

impl Key {
    pub(crate) fn new(namespace: &Arc<str>, topic: &str, subscription: &str) -> Self {
        Self { namespace: Arc::clone(namespace), topic: topic.to_owned(), subscription: subscription.to_owned() }
    }

    /// What keys of a topic's webhooks start with.
    pub(crate) fn prefix(namespace: &str, topic: &str) -> String {
        format!("{namespace}/{topic}/")
    }

    /// The key of a stored webhook. Names hold no slash.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (namespace, rest) = text.split_once('/')?;
        let (topic, subscription) = rest.split_once('/')?;
        Some(Self::new(&Arc::from(namespace), topic, subscription))
    }

    /// What the secret is bound to: one that is copied elsewhere does not open there.
    pub(crate) fn place(&self) -> String {
        format!("platform.webhook\n{}\n{}\n{}", self.namespace, self.topic, self.subscription)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.topic, self.subscription)
    }
}

/// How an event stands in a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Attributes are headers, the data is the body.
    #[default]
    Binary,
    /// All of it is JSON in the body.
    Structured,
}

/// Whether events are delivered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// They are.
    #[default]
    Active,
    /// Somebody paused it.
    Paused,
    /// The target said that it is gone, with status 410.
    Gone,
}

/// A webhook as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Webhook {
    /// Where events are posted to.
    pub url: String,
    /// How they stand in the request.
    pub mode: Mode,
    /// What requests are signed with.
    pub(crate) secret: Option<Sealed>,
    /// Longest attempt, in milliseconds.
    pub timeout_ms: u64,
    /// Attempts at the same time.
    pub concurrency: u32,
    /// Wait after the first failed attempt, in milliseconds; it doubles with each.
    pub retry_ms_min: u64,
    /// Longest wait after a failed attempt, in milliseconds.
    pub retry_ms_max: u64,
    /// Whether events are delivered.
    pub state: State,
    /// When it was made, unix time in milliseconds.
    pub created_ms: u64,
}

impl Webhook {
    /// Whether requests are signed.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.secret.is_some()
    }
}
