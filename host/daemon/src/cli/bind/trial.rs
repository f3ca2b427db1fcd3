//! How a rollout is written on the command line: what is tried, and when it stops by itself.
//!
//! An argument of one kind names the other as its conflict too: what is required is not asked for where it can not be given.

use clap::{ArgGroup, Args};
use platform_proto::plugin::v1::{Rollout, RolloutLimits, RolloutPlan};

/// Arguments that have a candidate tried beside what serves.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("trial").args(["canary", "shadow"]).conflicts_with("carry"))]
pub(crate) struct Trial {
    /// Has the components answer a share of the calls, such as `5`, beside what serves; `promote` and `abort` decide. Again with
    /// another share it goes on by that.
    #[arg(long, value_name = "PERCENT", value_parser = percent, conflicts_with = "shadow")]
    canary: Option<u32>,
    /// Whose calls all go to the canary or none does: `caller`, or the name of a claim of their tokens.
    #[arg(long, value_name = "caller|CLAIM", requires = "canary", conflicts_with = "shadow")]
    by: Option<String>,
    /// Has the components asked what was answered; what they say is compared and not used.
    #[arg(long)]
    shadow: bool,
    /// Calls that the candidate must have had before it is judged; 100 when not given.
    #[arg(long, value_name = "CALLS", requires = "trial")]
    min_calls: Option<u64>,
    /// Stops it when more calls fail than this, in percent above what fails anyway; 0.5 when not given.
    #[arg(long, value_name = "PERCENT", requires = "trial")]
    max_failures: Option<f64>,
    /// Stops it when calls take this many times as long on average; 5 when not given, 0 for as long as they like.
    #[arg(long, value_name = "RATIO", requires = "trial")]
    max_latency: Option<f64>,
    /// Stops a shadow when more of its answers differ than this, in percent.
    #[arg(long, value_name = "PERCENT", requires = "shadow", conflicts_with = "canary")]
    max_divergence: Option<f64>,
}

impl Trial {
    /// The plan; none without a rollout.
    pub(super) fn into_plan(self) -> Option<RolloutPlan> {
        let limits = RolloutLimits {
            calls_min: self.min_calls,
            failure_percent_max: self.max_failures,
            latency_ratio_max: self.max_latency,
            divergence_percent_max: self.max_divergence,
        };
        let limits = (limits != RolloutLimits::default()).then_some(limits);
        let (kind, percent) = match self.canary {
            Some(percent) => ("canary", percent),
            None if self.shadow => ("shadow", 0),
            None => return None,
        };
        Some(RolloutPlan { kind: kind.to_owned(), percent, by: self.by.unwrap_or_default(), limits })
    }
}

/// How a candidate is tried, in words.
pub(crate) fn described(rollout: &Rollout) -> String {
    let plan = rollout.plan.clone().unwrap_or_default();
    match plan.kind.as_str() {
        "canary" => format!("canary of {} % by {}", plan.percent, plan.by),
        kind => kind.to_owned(),
    }
}

fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<u32>().ok().filter(|percent| *percent <= 100);
    number.ok_or_else(|| "write a whole percentage from 0 to 100".to_owned())
}
