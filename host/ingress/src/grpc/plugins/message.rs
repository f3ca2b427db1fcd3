//! What control knows, as messages.

use std::sync::Arc;

use platform_capability::Grants;
use platform_control::{
    AuditRecord, BindingRecord, DaemonView, Following, Link, PluginRecord, PluginView, Revocation, RolloutView,
    SlotView, Upgrade,
};
use platform_dataplane::{BUCKETS_US, Counts, Divergence, EntryStatus, SlotName, SlotStatus, Snapshot};
use platform_proto::plugin::v1 as proto;
use platform_runtime::Mode;
use prost_types::{Struct, Value, value::Kind};
use serde_json::Map;

use super::plan;
use crate::grpc::{object, timestamp};

/// An installed component and where it is bound.
pub(super) fn view(view: &PluginView) -> proto::Plugin {
    let bound = view.bound.iter().map(ToString::to_string).collect();
    let revoked = view.revoked.clone().unwrap_or_default();
    proto::Plugin { revoked, daemons: view.daemons.iter().map(daemon).collect(), ..plugin(&view.plugin, bound) }
}

/// How a daemon does in a slot.
pub(super) fn daemon(view: &DaemonView) -> proto::DaemonSlot {
    proto::DaemonSlot {
        daemon: view.id.clone(),
        address: view.address.clone(),
        slot: view.slot.to_string(),
        generation: view.generation,
        current: view.following == Following::There,
        problem: view.problem.clone(),
    }
}

/// An installed component.
pub(super) fn plugin(record: &Arc<PluginRecord>, bound: Vec<String>) -> proto::Plugin {
    proto::Plugin {
        name: record.name.to_string(),
        version: record.version.clone(),
        digest: record.digest.to_string(),
        description: record.description.clone(),
        license: record.license.clone(),
        source: record.source.clone(),
        slot: record.slot.to_string(),
        mode: record.mode.map(mode).unwrap_or_default(),
        imports: record.imports.clone(),
        exports: record.exports.clone(),
        requested_grants: record.requested.iter().map(ToString::to_string).collect(),
        grants: record.grants.iter().map(ToString::to_string).collect(),
        settings_schema: record.settings_schema.as_ref().and_then(serde_json::Value::as_object).map(object),
        size: record.size,
        install_time: Some(timestamp(record.installed_ms)),
        bound,
        serving: Vec::new(),
        daemons: Vec::new(),
        signer: record.signer.map(|key| key.to_string()).unwrap_or_default(),
        signatures: u32::try_from(record.signatures.len()).unwrap_or(u32::MAX),
        revoked: String::new(),
    }
}

/// How a version differs from another.
pub(super) fn upgrade(upgrade: Upgrade) -> proto::InstallResponse {
    let texts = |grants: &Grants| grants.iter().map(ToString::to_string).collect();
    proto::InstallResponse {
        added_grants: texts(&upgrade.added),
        dropped_grants: texts(&upgrade.dropped),
        previous_version: upgrade.from,
        ..proto::InstallResponse::default()
    }
}

/// An advisory.
pub(super) fn revocation(revocation: &Revocation) -> proto::Revocation {
    proto::Revocation {
        digest: revocation.digest.to_string(),
        reason: revocation.reason.clone(),
        revoke_time: Some(timestamp(revocation.revoked_ms)),
        revoked_by: revocation.revoked_by.clone(),
    }
}

/// How a component does in a slot: once for each place that it has there.
pub(super) fn serving(record: &PluginRecord, slot: &SlotStatus) -> Vec<proto::Serving> {
    let is_it = |entry: &&EntryStatus| {
        entry.digest == record.digest && entry.name == record.name && entry.version == record.version
    };
    let serving = |entry| proto::Serving {
        slot: slot.name.to_string(),
        generation: slot.generation,
        figures: Some(figures(entry)),
    };
    slot.entries.iter().filter(is_it).map(serving).collect()
}

/// A slot, what it holds and how it does.
pub(super) fn slot(view: SlotView) -> proto::Slot {
    let status = view.status.as_ref();
    let entries = status.map(|status| status.entries.as_slice()).unwrap_or_default();
    let draining = status.map(|status| status.draining.clone()).unwrap_or_default();
    proto::Slot {
        name: view.name.to_string(),
        binding: Some(binding(&view.binding)),
        ready: view.ready,
        problem: view.problem,
        figures: entries.iter().map(figures).collect(),
        draining,
        daemons: view.daemons.iter().map(daemon).collect(),
        rollout: view.rollout.as_ref().map(|tried| rollout(&view.name, tried)),
    }
}

/// What is tried beside what a slot holds, without the answers that differed.
pub(super) fn rollout(slot: &SlotName, view: &RolloutView) -> proto::Rollout {
    let record = &view.record;
    let status = view.status.as_ref();
    let compared = status.map(|status| status.compared).unwrap_or_default();
    proto::Rollout {
        slot: slot.to_string(),
        candidate: Some(binding(&record.candidate)),
        plan: Some(plan::write(&record.plan)),
        running: record.stopped.is_none(),
        reason: record.stopped.as_ref().map(|stopped| stopped.why.clone()).unwrap_or_default(),
        stop_time: record.stopped.as_ref().map(|stopped| timestamp(stopped.time_ms)),
        candidate_calls: status.map(|status| calls(&status.candidate)),
        current_calls: status.map(|status| calls(&status.current)),
        figures: status.map(|status| status.entries.iter().map(figures).collect()).unwrap_or_default(),
        compared: compared.answers,
        diverged: compared.diverged,
        dropped: compared.dropped,
        divergences: Vec::new(),
    }
}

/// The last answers that differed.
pub(super) fn divergences(view: &RolloutView) -> Vec<proto::Divergence> {
    let divergence = |one: &Arc<Divergence>| proto::Divergence {
        time: Some(timestamp(one.time_ms)),
        subject: one.subject.clone(),
        action: one.action.clone(),
        resource: one.resource.clone(),
        used: one.used.clone(),
        candidate: one.candidate.clone(),
    };
    view.status.iter().flat_map(|status| &status.divergences).map(divergence).collect()
}

fn calls(counts: &Counts) -> proto::RolloutCalls {
    let mean = counts.total / u32::try_from(counts.calls).unwrap_or(u32::MAX).max(1);
    proto::RolloutCalls {
        calls: counts.calls,
        failures: counts.faults.values().sum(),
        mean_ns: u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX),
        p99_ns: quantile_ns(counts, 99),
    }
}

/// What a slot holds or held.
pub(super) fn binding(record: &BindingRecord) -> proto::Binding {
    proto::Binding {
        generation: record.generation,
        chain: record.chain.iter().map(link).collect(),
        failure_mode: record.failure.to_string(),
        bind_time: Some(timestamp(record.bound_ms)),
        bound_by: record.bound_by.clone(),
        comment: record.comment.clone(),
    }
}

/// A record of the audit trail.
pub(super) fn audit(record: AuditRecord) -> proto::AuditRecord {
    let event = record.event;
    proto::AuditRecord {
        sequence: record.sequence,
        time: Some(timestamp(record.time_ns / 1_000_000)),
        caller: event.caller,
        action: event.action,
        subject: event.subject,
        done: event.done,
        detail: event.detail,
    }
}

/// A message as a JSON object.
pub(super) fn json_object(message: Struct) -> Map<String, serde_json::Value> {
    message.fields.into_iter().map(|(name, value)| (name, json(value))).collect()
}

fn json(value: Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(bool)) => bool.into(),
        Some(Kind::NumberValue(number)) => number_json(number),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(object)) => json_object(object).into(),
    }
}

/// A number that is whole stays whole: a schema that asks for an integer has to find one.
fn number_json(number: f64) -> serde_json::Value {
    /// Beyond it a double does not tell neighbouring integers apart.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= WHOLE_MAX {
        #[expect(clippy::cast_possible_truncation, reason = "it is whole and in range")]
        return (number as i64).into();
    }
    number.into()
}

fn link(link: &Link) -> proto::Link {
    let limits = &link.limits;
    proto::Link {
        plugin: link.label(),
        digest: link.digest.to_string(),
        settings: Some(object(&link.settings)),
        mode: mode(link.mode),
        limits: Some(proto::Limits {
            memory_bytes: Some(u64::from(limits.memory_kib) << 10),
            deadline_ms: Some(limits.deadline_ms.into()),
            concurrency: Some(limits.concurrency),
            queue: Some(limits.queue),
            calls_per_instance: Some(limits.calls_per_instance.into()),
        }),
        grants: link.grants.iter().map(ToString::to_string).collect(),
    }
}

fn mode(mode: Mode) -> String {
    match mode {
        Mode::Fresh => "fresh",
        Mode::Reused => "reused",
        Mode::Single => "single",
    }
    .to_owned()
}

fn figures(entry: &EntryStatus) -> proto::PluginFigures {
    let counts = &entry.counts;
    let (snapshot, snapshot_problem) = match &entry.snapshot {
        Snapshot::Cloned => ("cloned", ""),
        Snapshot::Configured => ("configured", ""),
        Snapshot::Unsupported(why) => ("unsupported", why.as_str()),
    };
    let faults = |kinds: &[&str]| kinds.iter().filter_map(|kind| counts.faults.get(kind)).sum();
    proto::PluginFigures {
        plugin: format!("{}@{}", entry.name, entry.version),
        calls: counts.calls,
        traps: faults(&["trap", "limit", "stack", "instantiate"]),
        timeouts: faults(&["deadline", "waited"]),
        rejections: faults(&["busy", "resting", "moved"]),
        p50_ns: quantile_ns(counts, 50),
        p99_ns: quantile_ns(counts, 99),
        memory_bytes: entry.memory_bytes as u64,
        log_lines_dropped: entry.log_lines_dropped,
        snapshot: snapshot.to_owned(),
        snapshot_problem: snapshot_problem.to_owned(),
    }
}

/// Upper bound of the bucket in which a percentile falls, in nanoseconds; 0 without calls.
fn quantile_ns(counts: &Counts, percent: u64) -> u64 {
    let rank = (counts.calls * percent).div_ceil(100);
    let mut seen = 0;
    for (count, bound_us) in counts.buckets.iter().zip(BUCKETS_US.iter().copied().chain([u64::MAX / 1000])) {
        seen += count;
        if seen >= rank && rank > 0 {
            return bound_us * 1000;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_whole() {
        let json = serde_json::json!({"a": 1, "b": 1.5, "c": [null, true, "x"], "d": {"e": -7}, "f": 1e300});
        let object_in = json.as_object().unwrap();
        let out = json_object(object(object_in));
        assert_eq!(&out, object_in);
        assert!(out["a"].is_i64() && out["d"]["e"].is_i64());
    }

    #[test]
    fn percentiles_are_bounds_of_their_bucket() {
        let mut counts = Counts { calls: 100, buckets: vec![0; BUCKETS_US.len() + 1], ..Counts::default() };
        counts.buckets[2] = 98;
        counts.buckets[6] = 2;
        assert_eq!((quantile_ns(&counts, 50), quantile_ns(&counts, 99)), (5_000, 100_000));
        assert_eq!(quantile_ns(&Counts::default(), 99), 0);
    }
}
