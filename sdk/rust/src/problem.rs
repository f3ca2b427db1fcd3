//! Why a plugin refuses its settings or fails its own test.

/// A refusal in words that an operator can act on: one sentence, lowercase, without a full stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    message: String,
    at: Option<String>,
}

impl Problem {
    /// A problem that no single setting causes.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), at: None }
    }

    /// Names the setting at fault by its JSON pointer (RFC 6901), such as `/rules/3/effect`.
    #[must_use]
    pub fn at(self, pointer: impl Into<String>) -> Self {
        Self { at: Some(pointer.into()), ..self }
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// JSON pointer to the setting at fault.
    #[must_use]
    pub fn pointer(&self) -> Option<&str> {
        self.at.as_deref()
    }

    pub(crate) fn into_parts(self) -> (String, Option<String>) {
        (self.message, self.at)
    }
}

impl From<&str> for Problem {
    fn from(message: &str) -> Self {
        Self::new(message)
    }
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self::new(message)
    }
}
