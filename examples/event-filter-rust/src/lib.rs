//! Drops events of types that a topic is not for, and masks members of JSON data that are nobody's business. The settings
//! are `{"types": ["order.*"], "mask": ["email"]}`; events whose publisher carries the role `unfiltered` pass.

use platform_sdk::{Problem, event};
use serde::Deserialize;
use serde_json::Value;

/// What stands in place of a masked value.
const MASK: &str = "***";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Discreet {
    /// Types that may be published: names, or what they start with before a `*`; all when there are none.
    types: Vec<String>,
    /// Members that are masked, wherever they are.
    mask: Vec<String>,
}

impl Default for Discreet {
    fn default() -> Self {
        Self { types: Vec::new(), mask: vec!["email".to_owned()] }
    }
}

platform_sdk::export!(event::Filter for Discreet, settings_schema = include_str!("../settings.schema.json"));

impl event::Filter for Discreet {
    type Settings = Self;

    fn configure(settings: Self) -> Result<Self, Problem> {
        Ok(settings)
    }

    fn filter(&self, candidate: &event::Candidate<'_>) -> event::Outcome {
        if candidate.has_role("unfiltered") {
            return event::Outcome::Pass;
        }
        if !event::selects(&self.types, candidate.kind) {
            return event::Outcome::Drop(format!("`{}` is no type of `{}`", candidate.kind, candidate.topic));
        }
        // Only data that may hold such members is fetched from the host.
        if self.mask.is_empty() || candidate.content_type() != "application/json" {
            return event::Outcome::Pass;
        }
        let Ok(mut data) = serde_json::from_slice::<Value>(&candidate.data()) else {
            return event::Outcome::Drop("the data is no JSON, though it is said to be".to_owned());
        };
        if !self.cover(&mut data) {
            return event::Outcome::Pass;
        }
        let changed = event::Transformation::new().data("application/json", data.to_string());
        event::Outcome::Transform(changed.set("masked", "true"))
    }
}

impl Discreet {
    /// Masks members; whether there were any.
    fn cover(&self, value: &mut Value) -> bool {
        match value {
            Value::Array(items) => items.iter_mut().fold(false, |found, item| self.cover(item) | found),
            Value::Object(members) => members.iter_mut().fold(false, |found, (name, member)| {
                if self.mask.contains(name) {
                    *member = Value::from(MASK);
                    return true;
                }
                self.cover(member) | found
            }),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
