//! A rule, compiled from its settings: conditions in the order of their cost, and the decision ready made.

use platform_sdk::{
    Problem,
    auth::{Decision, Request},
};

pub(crate) use crate::settings::Effect;
use crate::{glob::Glob, pattern::Pattern, settings::RuleSettings, target::Target};

/// A condition for each thing that a rule may ask; none matches everything.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) effect: Effect,
    pub(crate) decision: Decision,
    actions: Option<Vec<Glob>>,
    resources: Option<Vec<Pattern>>,
    subjects: Option<Vec<Glob>>,
    roles: Option<Vec<String>>,
}

impl Rule {
    /// Compiles the rule at `index`; problems point into it.
    pub(crate) fn compile(index: usize, settings: RuleSettings) -> Result<Self, Problem> {
        let at = |field: &str| format!("/rules/{index}/{field}");
        for (name, value) in &settings.set_headers {
            check_header(name, value).map_err(|problem| {
                problem.at(format!("{}/{}", at("set_headers"), name.replace('~', "~0").replace('/', "~1")))
            })?;
        }
        Ok(Self {
            effect: settings.effect,
            actions: list(settings.actions, &at("actions"), |text| Ok(Glob::ignoring_case(&text)))?,
            resources: list(settings.resources, &at("resources"), |text| Pattern::compile(&text))?,
            subjects: list(settings.subjects, &at("subjects"), |text| Ok(Glob::new(&text)))?,
            roles: list(settings.roles, &at("roles"), Ok)?,
            decision: decision(settings.effect, settings.reason, &settings.name, settings.set_headers),
        })
    }

    /// Whether every condition holds. What tells most rules apart comes first, roles last: each is asked of the host.
    pub(crate) fn matches(&self, request: &Request<'_>, target: &Target<'_>) -> bool {
        let patterns_fit = |pattern: &Pattern| pattern.matches(target, request.subject);
        any(self.resources.as_deref(), patterns_fit)
            && any(self.actions.as_deref(), |glob| glob.matches(request.action))
            && any(self.subjects.as_deref(), |glob| glob.matches(request.subject))
            && any(self.roles.as_deref(), |role| request.has_role(role))
    }
}

/// Whether one of the alternatives holds; a condition that is absent does.
fn any<T>(alternatives: Option<&[T]>, holds: impl Fn(&T) -> bool) -> bool {
    alternatives.is_none_or(|alternatives| alternatives.iter().any(holds))
}

/// Compiles each text of a condition.
fn list<T>(
    texts: Option<Vec<String>>, at: &str, compile: impl Fn(String) -> Result<T, Problem>,
) -> Result<Option<Vec<T>>, Problem> {
    let Some(texts) = texts else { return Ok(None) };
    if texts.is_empty() {
        return Err(Problem::new("an empty list matches nothing; leave it out to match everything").at(at));
    }
    texts
        .into_iter()
        .enumerate()
        .map(|(index, text)| compile(text).map_err(|problem| problem.at(format!("{at}/{index}"))))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn decision(
    effect: Effect, reason: String, name: &str, headers: impl IntoIterator<Item = (String, String)>,
) -> Decision {
    let reason = match (reason.is_empty(), name.is_empty(), effect) {
        (false, ..) => reason,
        (true, true, Effect::Allow) => "allowed by a rule".to_owned(),
        (true, true, Effect::Deny) => "denied by a rule".to_owned(),
        (true, false, Effect::Allow) => format!("allowed by the rule `{name}`"),
        (true, false, Effect::Deny) => format!("denied by the rule `{name}`"),
    };
    let decision = match effect {
        Effect::Allow => Decision::allow(reason),
        Effect::Deny => Decision::deny(reason),
    };
    headers.into_iter().fold(decision, |decision, (name, value)| decision.with_header(name, value))
}

/// A header that can't smuggle another one: a token (RFC 9110) and a value without control characters.
fn check_header(name: &str, value: &str) -> Result<(), Problem> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(token) {
        return Err(Problem::new(format!("`{}` is no header name", name.escape_debug())));
    }
    if value.chars().any(|char| char.is_control() && char != '\t') {
        return Err(Problem::new("a header value has no control characters"));
    }
    Ok(())
}
