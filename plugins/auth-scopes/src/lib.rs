//! `auth.policy` by rules from the settings: who (subjects, roles) may or may not do what (actions) to what (resources).
//!
//! A rule matches when each condition that it has matches; a condition that is left out matches everything. Under the
//! strategy `first-match`, the default, the first rule that matches decides. Under `deny-overrides` rules that deny are
//! asked before rules that allow. Without a match the answer is `default`: `abstain`, or `deny`.
//!
//! | condition | matches |
//! |---|---|
//! | `subjects` | globs; `*` stands for any text, `""` for nobody (no verified caller), which no other glob matches |
//! | `roles` | the caller has any of these |
//! | `actions` (or `methods`) | globs, upper and lower case alike |
//! | `resources` (or `paths`) | patterns of segments, see `target.rs` |
//!
//! It owns the meaning of rules. Its invariant: a path that could mean one thing here and another to the service behind
//! the gateway is denied before any rule is asked.

use platform_sdk::{
    Problem,
    auth::{Decision, Policy, Request},
    export,
};

mod glob;
mod pattern;
mod rule;
mod settings;
mod target;

use rule::{Effect, Rule};
use settings::{Fallback, Settings};
use target::Target;

/// The rules in the order in which they are asked.
#[derive(Debug)]
struct Scopes {
    rules: Vec<Rule>,
    fallback: Fallback,
}

export!(auth::Policy for Scopes, settings_schema = include_str!("../settings.schema.json"));

impl Policy for Scopes {
    type Settings = Settings;

    fn configure(settings: Settings) -> Result<Self, Problem> {
        let mut rules = settings
            .rules
            .into_iter()
            .enumerate()
            .map(|(index, rule)| Rule::compile(index, rule))
            .collect::<Result<Vec<_>, _>>()?;
        if settings.strategy == settings::Strategy::DenyOverrides {
            rules.sort_by_key(|rule| rule.effect == Effect::Allow);
        }
        Ok(Self { rules, fallback: settings.default })
    }

    fn authorize(&self, request: &Request<'_>) -> Decision {
        let mut decoded = String::new();
        let target = match Target::parse(request.target, &mut decoded) {
            Ok(target) => target,
            Err(suspicion) => return Decision::deny_with(400, suspicion.to_string()),
        };
        match self.rules.iter().find(|rule| rule.matches(request, &target)) {
            Some(rule) => rule.decision.clone(),
            None => match self.fallback {
                Fallback::Abstain => Decision::abstain(),
                Fallback::Deny => Decision::deny("no rule allows this"),
            },
        }
    }
}

#[cfg(test)]
mod tests;
