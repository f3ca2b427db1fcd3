//! Refuses changes of limits that are too large to be meant: a number below `/limits` may grow or shrink by a factor only,
//! unless the author carries a role. The settings are `{"factor": 10, "role": "on-call"}`.

use std::collections::BTreeMap;

use platform_sdk::{Problem, config};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SmallSteps {
    factor: f64,
    role: String,
}

platform_sdk::export!(config::Validator for SmallSteps, settings_schema = include_str!("../settings.schema.json"));

impl config::Validator for SmallSteps {
    type Settings = Self;

    fn configure(steps: Self) -> Result<Self, Problem> {
        if steps.factor >= 1.0 { Ok(steps) } else { Err(Problem::new("a factor is at least 1").at("/factor")) }
    }

    fn validate(&self, proposal: &config::Proposal<'_>) -> Result<(), config::Refusal> {
        // Only what is looked at is fetched from the host, however large the document is.
        let (Some(before), Some(after)) = (limits(proposal.before("/limits")), limits(proposal.after("/limits")))
        else {
            return Ok(());
        };
        for (name, new) in after {
            let Some(old) = before.get(&name).filter(|old| **old > 0.0) else { continue };
            let step = new / old;
            if (step > self.factor || step * self.factor < 1.0) && !proposal.has_role(&self.role) {
                let reason =
                    format!("`{name}` would go from {old} to {new}, which is more than a factor of {}", self.factor);
                return Err(
                    config::Refusal::new(reason).at(format!("/limits/{}", name.replace('~', "~0").replace('/', "~1")))
                );
            }
        }
        Ok(())
    }
}

/// The members that are numbers.
fn limits(members: Option<BTreeMap<String, serde_json::Value>>) -> Option<BTreeMap<String, f64>> {
    Some(members?.into_iter().filter_map(|(name, value)| Some((name, value.as_f64()?))).collect())
}

#[cfg(test)]
mod tests;
