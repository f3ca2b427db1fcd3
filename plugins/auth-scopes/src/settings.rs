//! The settings as an operator writes them. They say nothing about how rules are asked.

use std::collections::BTreeMap;

use serde::Deserialize;

/// All of the settings.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which rule decides when several match.
    #[serde(default)]
    pub(crate) strategy: Strategy,
    /// The answer when no rule matches.
    #[serde(default)]
    pub(crate) default: Fallback,
    /// The rules, in order.
    #[serde(default)]
    pub(crate) rules: Vec<RuleSettings>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Strategy {
    #[default]
    FirstMatch,
    DenyOverrides,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fallback {
    #[default]
    Abstain,
    Deny,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Effect {
    Allow,
    Deny,
}

/// One rule. An absent condition matches everything; an empty list is refused, since it would match nothing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleSettings {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) effect: Effect,
    pub(crate) subjects: Option<Vec<String>>,
    pub(crate) roles: Option<Vec<String>>,
    #[serde(alias = "methods")]
    pub(crate) actions: Option<Vec<String>>,
    #[serde(alias = "paths")]
    pub(crate) resources: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) reason: String,
    /// Headers of the request that is passed on, for a rule that allows; of the answer, for one that denies.
    #[serde(default)]
    pub(crate) set_headers: BTreeMap<String, String>,
}
