//! A rollout: a candidate generation beside the one that serves, and who is asked.
//!
//! Owns which calls the candidate answers, what its answers come to, and when it has failed. Must not know what is decided,
//! or who wants the rollout. Invariant: a call is answered by one generation; where the candidate can't answer, it is the one
//! that serves, so no call fails that would not have failed without the rollout, save those whose time the candidate used up.
//!
//! In reading order: [`Plan`] (how a candidate is tried), [`Rollout`], `tally` (what came of it, and the limits), `course` (how
//! a rollout begins and ends), `reads` (what is asked of a candidate that is to keep something).

mod course;
mod reads;
mod tally;

use std::{fmt, sync::Arc};

use platform_capability::Call;
use serde::{Deserialize, Serialize};

use crate::{binding::Binding, share::share, slot_name::SlotName};

pub(crate) use reads::{Read, read};
pub(crate) use tally::{Asked, Tally};
pub use tally::{Compared, Divergence, StopLimits, Stopped};

/// Longest name of a claim, in bytes.
const CLAIM_BYTES_MAX: usize = 200;

/// How a candidate is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What the candidate is asked.
    pub trial: Trial,
    /// When the rollout ends by itself.
    pub stop: StopLimits,
}

/// What the candidate of a rollout is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trial {
    /// It answers a share of the calls.
    Canary {
        /// The share, 0 to 100.
        percent: u32,
        /// Whose calls go together.
        by: By,
    },
    /// It is asked what the generation that serves was asked, and its answers are compared and not used.
    Shadow,
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Canary { percent, by } => write!(f, "canary of {percent} % by {}", String::from(by.clone())),
            Self::Shadow => f.write_str("shadow"),
        }
    }
}

/// What tells whose calls go together, so that they all go to the candidate or none does. A call without it is drawn by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum By {
    /// The subject of the caller.
    #[default]
    Caller,
    /// A claim of the caller's token.
    Claim(String),
}

impl From<String> for By {
    fn from(text: String) -> Self {
        if text.is_empty() || text == "caller" { Self::Caller } else { Self::Claim(text) }
    }
}

impl From<By> for String {
    fn from(by: By) -> Self {
        match by {
            By::Caller => "caller".to_owned(),
            By::Claim(name) => name,
        }
    }
}

/// Why a plan is none.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidPlan {
    /// More than all calls.
    #[error("a canary takes 0 to 100 percent of the calls, not {0}")]
    Percent(u32),
    /// No name of a claim.
    #[error("`{0}` can't tell whose calls go together; write `caller` or the name of a claim of their tokens")]
    By(String),
    /// A limit that no rollout could keep or break.
    #[error("`{name}` can't be {given}; write {allowed}")]
    Limit {
        /// The limit.
        name: &'static str,
        /// What was given.
        given: f64,
        /// What may be given.
        allowed: &'static str,
    },
    /// A limit on what is not measured.
    #[error("a canary's answers are used and compared with none; give `divergence_percent_max` to a shadow")]
    Divergence,
}

impl Plan {
    /// Checks that it can be followed.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), InvalidPlan> {
        if let Trial::Canary { percent, by } = &self.trial {
            if *percent > 100 {
                return Err(InvalidPlan::Percent(*percent));
            }
            if let By::Claim(name) = by
                && (name.len() > CLAIM_BYTES_MAX || name.chars().any(char::is_control))
            {
                return Err(InvalidPlan::By(name.chars().take(80).collect()));
            }
            if self.stop.divergence_percent_max.is_some() {
                return Err(InvalidPlan::Divergence);
            }
        }
        self.stop.check()
    }
}

/// A candidate that is being tried beside the generation that serves.
#[derive(Debug)]
pub struct Rollout {
    slot: SlotName,
    plan: Plan,
    /// What serves, as it is without the rollout.
    pub(crate) base: Arc<Binding>,
    pub(crate) candidate: Arc<Binding>,
    pub(crate) tally: Arc<Tally>,
}

impl Rollout {
    /// Generation of the candidate.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.candidate.generation
    }

    /// How the candidate is tried.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Resolves with its end when the rollout breaks one of its limits; with none when it ends otherwise. The calls go to
    /// the generation that serves by then.
    pub fn stopped(&self) -> impl Future<Output = Option<Arc<Stopped>>> + Send + 'static + use<> {
        let mut outcome = self.tally.outcome();
        async move { outcome.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone()) }
    }

    /// Whether the candidate is asked first.
    pub(crate) fn takes(&self, call: &Call) -> bool {
        match &self.plan.trial {
            Trial::Canary { percent, by } => self.place(call, by) < *percent,
            Trial::Shadow => false,
        }
    }

    /// Whether the candidate is asked what was answered.
    pub(crate) fn is_shadow(&self) -> bool {
        self.plan.trial == Trial::Shadow
    }

    /// The share of all, in percent, that goes to the candidate before this call does.
    fn place(&self, call: &Call, by: &By) -> u32 {
        let caller = call.caller.as_deref();
        let share = match by {
            By::Caller => {
                let subject = caller.map(|caller| caller.subject.as_str()).filter(|subject| !subject.is_empty());
                subject.map(|subject| share(&self.slot.to_string(), subject))
            }
            By::Claim(name) => {
                let claim = caller.and_then(|caller| caller.claims.get(name));
                claim.map(|claim| share(&self.slot.to_string(), &claim.to_string()))
            }
        };
        share.unwrap_or_else(|| self.tally.draw())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use platform_capability::{CallContext, Caller};

    use super::*;
    use crate::binding::{BindingSpec, FailureMode};

    fn rollout(percent: u32, by: By) -> Rollout {
        let binding = |generation| {
            let spec = BindingSpec { plugins: Vec::new(), failure: FailureMode::Closed, fallback: None };
            Arc::new(Binding { generation, spec, entries: Vec::new(), fallback: None, rollout: None })
        };
        Rollout {
            slot: "auth.policy".parse().unwrap(),
            plan: Plan { trial: Trial::Canary { percent, by }, stop: StopLimits::default() },
            base: binding(1),
            candidate: binding(2),
            tally: Arc::new(Tally::new().0),
        }
    }

    fn call(subject: &str, team: Option<&str>) -> Call {
        let claims = team.map(|team| ("team".to_owned(), team.into())).into_iter().collect();
        let caller = Caller { subject: subject.to_owned(), claims, ..Caller::default() };
        let namespace = "default".parse().unwrap();
        Arc::new(CallContext::new(Some(Arc::new(caller)), &namespace, Duration::from_secs(1)))
    }

    #[test]
    fn callers_stay_where_they_are_and_more_follow() {
        for percent in [0, 1, 10, 50, 100] {
            let (one, other) = (rollout(percent, By::Caller), rollout(percent, By::Caller));
            let more = rollout((percent + 5).min(100), By::Caller);
            let mut taken = 0_usize;
            for user in 0..5_000 {
                let call = call(&format!("user-{user}"), None);
                let takes = one.takes(&call);
                assert!((0..3).all(|_| one.takes(&call) == takes) && other.takes(&call) == takes);
                assert!(!takes || more.takes(&call), "who is among the first {percent} % is among more");
                taken += usize::from(takes);
            }
            assert!(taken.abs_diff(percent as usize * 50) < 150, "{taken} of 5000 at {percent} %");
            assert!(percent != 0 || taken == 0);
            assert!(percent != 100 || taken == 5_000);
        }
    }

    #[test]
    fn a_claim_keeps_calls_together() {
        let rollout = rollout(50, By::from("team".to_owned()));
        let teams: Vec<bool> = (0..40)
            .map(|team| {
                let team = format!("team-{team}");
                let takes = rollout.takes(&call("ada", Some(&team)));
                assert!((0..20).all(|user| rollout.takes(&call(&user.to_string(), Some(&team))) == takes));
                takes
            })
            .collect();
        assert!(teams.contains(&true) && teams.contains(&false));
        let drawn = (0..1000).filter(|_| rollout.takes(&call("ada", None))).count();
        assert!(drawn.abs_diff(500) < 30, "{drawn}: calls without the claim are drawn one by one");
    }

    #[test]
    fn calls_without_a_caller_are_drawn_evenly() {
        for percent in [0, 1, 5, 33, 100] {
            let rollout = rollout(percent, By::Caller);
            let namespace = "default".parse().unwrap();
            let nobody: Call = Arc::new(CallContext::new(None, &namespace, Duration::from_secs(1)));
            let taken = (0..10_000).filter(|_| rollout.takes(&nobody)).count();
            assert!(taken.abs_diff(percent as usize * 100) < 100, "{taken} at {percent} %");
        }
    }

    #[test]
    fn plans_that_make_no_sense_are_refused() {
        let plan = |trial, stop| Plan { trial, stop }.check();
        let canary = |percent, by: &str| Trial::Canary { percent, by: By::from(by.to_owned()) };
        assert_eq!(plan(canary(0, ""), StopLimits::default()), Ok(()));
        assert_eq!(plan(canary(100, "caller"), StopLimits::default()), Ok(()));
        assert_eq!(plan(canary(101, "caller"), StopLimits::default()), Err(InvalidPlan::Percent(101)));
        assert!(matches!(plan(canary(1, "a\nb"), StopLimits::default()), Err(InvalidPlan::By(_))));
        assert!(plan(canary(1, &"x".repeat(201)), StopLimits::default()).is_err());
        let divergence = StopLimits { divergence_percent_max: Some(5.0), ..StopLimits::default() };
        assert_eq!(plan(canary(1, ""), divergence.clone()), Err(InvalidPlan::Divergence));
        assert_eq!(plan(Trial::Shadow, divergence), Ok(()));
        for bad in [-1.0, 100.1, f64::NAN, f64::INFINITY] {
            let limits = StopLimits { failure_percent_max: bad, ..StopLimits::default() };
            assert!(plan(Trial::Shadow, limits).is_err(), "{bad}");
            let limits = StopLimits { latency_ratio_max: Some(-bad.abs()), ..StopLimits::default() };
            assert!(plan(Trial::Shadow, limits).is_err(), "{bad}");
        }
        let none = StopLimits { calls_min: 0, ..StopLimits::default() };
        assert!(plan(Trial::Shadow, none).is_err());
    }
}
