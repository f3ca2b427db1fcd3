//! `platform plugin rollout`: how a candidate fares beside what serves.

use platform_proto::plugin::v1::{GetRolloutRequest, Rollout, RolloutCalls};

use super::show;
use crate::cli::{
    Context,
    bind::described,
    client::TIMEOUT,
    failure::{Exit, Failure},
    kv::time,
    output::{Output, show as shown},
};

/// Shows the rollout of a slot.
pub(super) async fn run(context: &Context, slot: String) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, GetRolloutRequest { slot });
    let rollout = client.call(client.plugins().get_rollout(request)).await?;
    context.output.answer("platform.plugin.v1.Rollout", &rollout, || words(context.output, &rollout))?;
    Ok(Exit::Done)
}

/// A rollout in one line.
pub(super) fn line(rollout: &Rollout) -> String {
    let generation = rollout.candidate.as_ref().map_or(0, |candidate| candidate.generation);
    let calls = rollout.candidate_calls.unwrap_or_default();
    let state = match rollout.running {
        true => format!("{} calls, {} failed", calls.calls, calls.failures),
        false => format!("stopped: {}", rollout.reason),
    };
    format!("generation {generation}, {}: {state}", described(rollout))
}

fn words(output: Output, rollout: &Rollout) -> String {
    let candidate = rollout.candidate.clone().unwrap_or_default();
    let limits = rollout.plan.as_ref().and_then(|plan| plan.limits).unwrap_or_default();
    let percent = |number: Option<f64>| number.map(|number| format!("{number} %")).unwrap_or_default();
    let shadow = rollout.compared + rollout.dropped > 0;
    let stopped = rollout.stop_time.map(|stopped| time(Some(stopped))).unwrap_or_default();
    let mut text = output.fields(&[
        ("slot", rollout.slot.clone()),
        ("candidate", show::chain(&candidate.chain)),
        ("generation", candidate.generation.to_string()),
        ("kind", described(rollout)),
        ("running", if rollout.running { "yes".to_owned() } else { "no".to_owned() }),
        ("stopped", stopped),
        ("reason", rollout.reason.clone()),
        ("begun", time(candidate.bind_time)),
        ("by", candidate.bound_by.clone()),
        ("comment", candidate.comment.clone()),
        ("judged after", limits.calls_min.map(|calls| format!("{calls} calls")).unwrap_or_default()),
        ("more failures", percent(limits.failure_percent_max)),
        (
            "latency ratio",
            limits.latency_ratio_max.filter(|ratio| *ratio > 0.0).map(|r| r.to_string()).unwrap_or_default(),
        ),
        ("divergence", percent(limits.divergence_percent_max)),
        ("compared", if shadow { rollout.compared.to_string() } else { String::new() }),
        ("differed", if shadow { rollout.diverged.to_string() } else { String::new() }),
        ("dropped", if shadow { rollout.dropped.to_string() } else { String::new() }),
    ]);
    let mut table = output.table(&["CALLS OF", "CALLS", "FAILURES", "MEAN", "P99"]);
    for (whose, calls) in [("candidate", &rollout.candidate_calls), ("current", &rollout.current_calls)] {
        let RolloutCalls { calls, failures, mean_ns, p99_ns } = calls.unwrap_or_default();
        let [mean, p99] = [mean_ns, p99_ns].map(show::nanoseconds);
        table.add_row([whose.to_owned(), calls.to_string(), failures.to_string(), mean, p99]);
    }
    text.push_str(&format!("\n\n{}", shown(&table)));
    let figures = rollout.figures.iter().map(|figures| (figures.plugin.clone(), figures));
    text.push_str(&show::figures(output, "PLUGIN", figures));
    let mut table = output.table(&["TIME", "SUBJECT", "ACTION", "RESOURCE", "USED", "CANDIDATE"]);
    for one in &rollout.divergences {
        let [subject, action, resource] = [&one.subject, &one.action, &one.resource].map(Clone::clone);
        table.add_row([time(one.time), subject, action, resource, one.used.clone(), one.candidate.clone()]);
    }
    if !rollout.divergences.is_empty() {
        text.push_str(&format!("\n\n{}", shown(&table)));
    }
    text
}

#[cfg(test)]
mod tests {
    use platform_proto::plugin::v1::{Divergence, RolloutPlan};

    use super::*;
    use crate::cli::output::Format;

    #[test]
    fn a_rollout_tells_why_it_stopped_and_what_differed() {
        let plan = RolloutPlan { kind: "shadow".into(), ..RolloutPlan::default() };
        let divergence = Divergence { subject: "ada".into(), used: "allow".into(), ..Divergence::default() };
        let rollout = Rollout {
            reason: "51 of 1000 answers differed".into(),
            plan: Some(plan),
            compared: 1000,
            diverged: 51,
            divergences: vec![divergence],
            ..Rollout::default()
        };
        assert_eq!(line(&rollout), "generation 0, shadow: stopped: 51 of 1000 answers differed");
        let text = words(Output::new(Format::Table), &rollout);
        assert!(text.contains("51 of 1000") && text.contains("ada") && text.contains("SUBJECT"), "{text}");
        let running = Rollout { running: true, ..Rollout::default() };
        let text = words(Output::new(Format::Table), &running);
        assert!(!text.contains("SUBJECT") && !text.contains("differed"), "{text}");
    }
}
