//! [`Redaction`]: what of a decision is not written.
//!
//! Invariant: a value that is named is gone from everything that is kept, also from what a policy had set.

use std::collections::BTreeSet;

use super::decision::{Decision, Outcome, REDACTED};

/// Names whose values are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Redaction {
    headers: BTreeSet<String>,
    attributes: BTreeSet<String>,
    claims: BTreeSet<String>,
}

/// The text names nothing that can be left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names nothing; write `header:NAME`, `attribute:NAME` or `claim:NAME`")]
pub struct InvalidRedaction(String);

impl Redaction {
    /// Reads names as they are written. An error names one that is none.
    pub(super) fn parse<T: AsRef<str>>(names: impl IntoIterator<Item = T>) -> Result<Self, InvalidRedaction> {
        let mut redaction = Self::default();
        for text in names {
            let text = text.as_ref();
            let (kind, name) = text.split_once(':').unwrap_or_default();
            let (names, name) = match kind {
                "header" => (&mut redaction.headers, name.to_ascii_lowercase()),
                "attribute" => (&mut redaction.attributes, name.to_owned()),
                "claim" => (&mut redaction.claims, name.to_owned()),
                _ => return Err(InvalidRedaction(text.to_owned())),
            };
            if name.is_empty() {
                return Err(InvalidRedaction(text.to_owned()));
            }
            names.insert(name);
        }
        Ok(redaction)
    }

    /// Leaves values out of a decision, and says there which.
    pub(super) fn apply(&self, decision: &mut Decision<'_>) {
        let mut redacted = BTreeSet::new();
        let Decision { headers, attributes, .. } = decision;
        for (kind, facts, names) in [("header", headers, &self.headers), ("attribute", attributes, &self.attributes)] {
            if facts.iter().any(|(name, _)| names.contains(name)) {
                let left = facts.iter().map(|(name, value)| match names.contains(name) {
                    true => {
                        redacted.insert(format!("{kind}:{name}"));
                        (name, REDACTED)
                    }
                    false => (name, value),
                });
                *facts = left.collect();
            }
        }
        let claims = decision.caller.iter_mut().flat_map(|caller| caller.claims.iter_mut());
        for (name, value) in claims.filter(|(name, _)| self.claims.contains(*name)) {
            redacted.insert(format!("claim:{name}"));
            *value = REDACTED.into();
        }
        self.outcome(&mut decision.outcome);
        decision.redacted = redacted;
    }

    fn outcome(&self, outcome: &mut Outcome<'_>) {
        for (name, value) in outcome.set_headers.iter_mut().chain(&mut outcome.response_headers) {
            if self.headers.contains(&name.to_ascii_lowercase()) {
                REDACTED.clone_into(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorder::{Asker, DecisionsConfig};

    #[test]
    fn named_values_are_gone() {
        let redaction = Redaction::parse(["header:X-Key", "attribute:query", "claim:email"]).unwrap();
        let mut decision = Decision {
            headers: [("x-key", "secret"), ("x-team", "red")].into_iter().collect(),
            attributes: [("query", "token=secret")].into_iter().collect(),
            caller: Some(Asker {
                claims: serde_json::from_str(r#"{"email":"secret@example.org","team":"red"}"#).unwrap(),
                ..Asker::default()
            }),
            outcome: Outcome {
                set_headers: vec![("X-Key".to_owned(), "secret".to_owned()), ("x-a".to_owned(), "1".to_owned())],
                response_headers: vec![("x-key".to_owned(), "secret".to_owned())],
                ..Outcome::default()
            },
            ..Decision::default()
        };
        redaction.apply(&mut decision);
        let text = serde_json::to_string(&decision).unwrap();
        assert!(!text.contains("secret") && text.contains("red"), "{text}");
        let redacted: Vec<_> = decision.redacted.iter().map(String::as_str).collect();
        assert_eq!(redacted, ["attribute:query", "claim:email", "header:x-key"]);
    }

    #[test]
    fn what_is_left_out_is_written_with_its_kind() {
        for bad in ["", "cookie", "header:", "body:x", ":x"] {
            let error = Redaction::parse([bad]).unwrap_err();
            assert!(error.to_string().contains("header:NAME"), "{error}");
        }
        assert!(Redaction::parse(&DecisionsConfig::default().redact).is_ok());
    }
}
