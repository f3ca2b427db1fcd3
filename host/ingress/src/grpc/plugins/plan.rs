//! How a candidate is tried, as a message and as control has it.
//!
//! Invariant: what is left out of a message is the default of the data plane.

use platform_dataplane::{By, Plan, StopLimits, Trial};
use platform_proto::plugin::v1 as proto;
use tonic::Status;

use crate::fault::Fault;

/// Reads a plan.
pub(super) fn read(plan: proto::RolloutPlan) -> Result<Plan, Status> {
    let proto::RolloutPlan { kind, percent, by, limits } = plan;
    let invalid = |message: String| Status::from(Fault::invalid("ROLLOUT_INVALID", message));
    let trial = match kind.as_str() {
        "canary" => Trial::Canary { percent, by: By::from(by) },
        "shadow" if percent == 0 && by.is_empty() => Trial::Shadow,
        "shadow" => return Err(invalid("a shadow is asked everything; leave `percent` and `by` out".to_owned())),
        _ => {
            let kind: String = kind.chars().take(80).collect();
            return Err(invalid(format!("`{kind}` is no kind of rollout; there are `canary` and `shadow`")));
        }
    };
    let limits = limits.unwrap_or_default();
    let default = StopLimits::default();
    let stop = StopLimits {
        calls_min: limits.calls_min.unwrap_or(default.calls_min),
        failure_percent_max: limits.failure_percent_max.unwrap_or(default.failure_percent_max),
        latency_ratio_max: match limits.latency_ratio_max {
            Some(0.0) => None,
            given => given.or(default.latency_ratio_max),
        },
        divergence_percent_max: limits.divergence_percent_max,
    };
    Ok(Plan { trial, stop })
}

/// Writes a plan.
pub(super) fn write(plan: &Plan) -> proto::RolloutPlan {
    let (kind, percent, by) = match &plan.trial {
        Trial::Canary { percent, by } => ("canary", *percent, by.clone().into()),
        Trial::Shadow => ("shadow", 0, String::new()),
    };
    let limits = proto::RolloutLimits {
        calls_min: Some(plan.stop.calls_min),
        failure_percent_max: Some(plan.stop.failure_percent_max),
        latency_ratio_max: Some(plan.stop.latency_ratio_max.unwrap_or(0.0)),
        divergence_percent_max: plan.stop.divergence_percent_max,
    };
    proto::RolloutPlan { kind: kind.to_owned(), percent, by, limits: Some(limits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_come_back_as_they_went() {
        for (kind, percent, by) in [("canary", 5, "team"), ("canary", 0, "caller"), ("shadow", 0, "")] {
            let limits = proto::RolloutLimits { latency_ratio_max: Some(0.0), ..proto::RolloutLimits::default() };
            let plan = proto::RolloutPlan { kind: kind.into(), percent, by: by.into(), limits: Some(limits) };
            let read = read(plan).unwrap();
            assert_eq!(read.stop.latency_ratio_max, None);
            let written = write(&read);
            assert_eq!((written.kind.as_str(), written.percent, written.by.as_str()), (kind, percent, by));
            assert_eq!(super::read(written).unwrap(), read);
        }
        let plan = proto::RolloutPlan { kind: "canary".into(), ..proto::RolloutPlan::default() };
        assert_eq!(read(plan).unwrap().stop, StopLimits::default());
        for (kind, percent) in [("", 1), ("Canary", 1), ("shadow", 1)] {
            let plan = proto::RolloutPlan { kind: kind.into(), percent, ..proto::RolloutPlan::default() };
            assert!(read(plan).is_err(), "{kind}");
        }
    }
}
