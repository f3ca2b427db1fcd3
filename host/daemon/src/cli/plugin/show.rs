//! How components, slots, generations and audit records look to a person.
//!
//! Owns columns and wording; must not know how the answers came. Invariant: what stands here is in the answer, nothing is
//! made up for empty fields.

use std::collections::BTreeSet;

use platform_proto::plugin::v1::{
    AuditRecord, Binding, DaemonSlot, InstallResponse, Link, Plugin, PluginFigures, Slot,
};

use super::rollout;
use crate::cli::{
    document,
    kv::time,
    output::{Output, show},
    quantity::human_bytes,
};

/// Hexadecimal digits of a digest that tell it apart from others in a table.
const SHORT_DIGEST: usize = "sha256:".len() + 12;

/// What an installation did.
pub(super) fn installed(answer: &InstallResponse, dry_run: bool) -> String {
    let plugin = answer.plugin.clone().unwrap_or_default();
    let name = format!("`{}@{}`", plugin.name, plugin.version);
    let size = human_bytes(plugin.size);
    let mut text = match (dry_run, answer.existed) {
        (true, _) => format!("{name} would be installed ({size}, {}); nothing was kept", plugin.digest),
        (_, true) => format!("{name} was installed before ({})", plugin.digest),
        _ => format!("installed {name} ({size}, {})", plugin.digest),
    };
    let version = &answer.previous_version;
    if !answer.added_grants.is_empty() && !version.is_empty() {
        text.push_str(&format!("\n{version} has no {}, which this version asks for", answer.added_grants.join(", ")));
    }
    if !answer.dropped_grants.is_empty() {
        text.push_str(&format!(
            "\n{version} has {}, which this version does without",
            answer.dropped_grants.join(", ")
        ));
    }
    let missing: Vec<&str> =
        plugin.requested_grants.iter().filter(|grant| !plugin.grants.contains(grant)).map(String::as_str).collect();
    if !missing.is_empty() {
        let how = format!("platform plugin grant {}@{} requested", plugin.name, plugin.version);
        text.push_str(&format!("\nit asks for {}; give it with `{how}`", missing.join(", ")));
    }
    text
}

/// What a component may reach now.
pub(super) fn granted(plugin: &Plugin) -> String {
    let grants = if plugin.grants.is_empty() { "nothing".to_owned() } else { plugin.grants.join(", ") };
    format!("`{}@{}` may reach: {grants}", plugin.name, plugin.version)
}

/// Components as rows.
pub(super) fn plugins(output: Output, plugins: &[Plugin]) -> String {
    // Where a daemon has its storage for itself there is nothing to say of daemons.
    let shared = plugins.iter().any(|plugin| !plugin.daemons.is_empty());
    let mut headings = vec!["NAME", "VERSION", "SLOT", "DIGEST", "SIZE", "BOUND"];
    headings.extend(shared.then_some("DAEMONS"));
    let mut table = output.table(&headings);
    for plugin in plugins {
        let digest: String = plugin.digest.chars().take(SHORT_DIGEST).collect();
        let size = human_bytes(plugin.size);
        let mut row = vec![
            plugin.name.clone(),
            plugin.version.clone(),
            plugin.slot.clone(),
            digest,
            size,
            plugin.bound.join(", "),
        ];
        row.extend(shared.then(|| share(&plugin.daemons)));
        table.add_row(row);
    }
    if plugins.is_empty() { String::new() } else { show(&table) }
}

/// Everything that is known of a component.
pub(super) fn plugin(output: Output, plugin: &Plugin) -> String {
    let schema = plugin
        .settings_schema
        .clone()
        .map(|schema| serde_json::to_string_pretty(&document::to_json(schema)).unwrap_or_default());
    let mut text = output.fields(&[
        ("name", plugin.name.clone()),
        ("version", plugin.version.clone()),
        ("digest", plugin.digest.clone()),
        ("size", human_bytes(plugin.size)),
        ("installed", time(plugin.install_time)),
        ("description", plugin.description.clone()),
        ("license", plugin.license.clone()),
        ("source", plugin.source.clone()),
        ("slot", plugin.slot.clone()),
        ("mode", plugin.mode.clone()),
        ("signed by", plugin.signer.clone()),
        ("signatures", if plugin.signatures == 0 { String::new() } else { plugin.signatures.to_string() }),
        ("revoked", plugin.revoked.clone()),
        ("bound", plugin.bound.join("\n")),
        ("grants", plugin.grants.join("\n")),
        ("asks for", plugin.requested_grants.join("\n")),
        ("imports", plugin.imports.join("\n")),
        ("exports", plugin.exports.join("\n")),
        ("settings", schema.unwrap_or_default()),
    ]);
    let serving = plugin.serving.iter().filter_map(|serving| {
        let place = format!("{} at generation {}", serving.slot, serving.generation);
        Some((place, serving.figures.as_ref()?))
    });
    text.push_str(&figures(output, "SLOT", serving));
    text.push_str(&daemons(output, &plugin.daemons));
    text
}

/// How many daemons serve what they should, for each slot.
fn share(daemons: &[DaemonSlot]) -> String {
    let slots: BTreeSet<&str> = daemons.iter().map(|daemon| daemon.slot.as_str()).collect();
    let share = |slot: &str| {
        let of_slot = || daemons.iter().filter(|daemon| daemon.slot == slot);
        format!("{} of {}", of_slot().filter(|daemon| daemon.current).count(), of_slot().count())
    };
    slots.into_iter().map(share).collect::<Vec<_>>().join(", ")
}

/// Daemons as rows; nothing without any.
fn daemons(output: Output, daemons: &[DaemonSlot]) -> String {
    let mut table = output.table(&["DAEMON", "ADDRESS", "SLOT", "GENERATION", "CURRENT", "PROBLEM"]);
    for daemon in daemons {
        table.add_row([
            daemon.daemon.as_str().into(),
            daemon.address.as_str().into(),
            daemon.slot.as_str().into(),
            daemon.generation.to_string().into(),
            output.verdict(daemon.current, if daemon.current { "yes" } else { "no" }),
            daemon.problem.as_str().into(),
        ]);
    }
    if daemons.is_empty() { String::new() } else { format!("\n\n{}", show(&table)) }
}

/// Slots as rows.
pub(super) fn slots(output: Output, slots: &[Slot]) -> String {
    let mut headings = vec!["SLOT", "GENERATION", "READY", "PLUGINS", "INSTANCES", "LOG DROPPED", "FAILURE", "BOUND"];
    let tried = slots.iter().any(|slot| slot.rollout.is_some());
    headings.extend(tried.then_some("ROLLOUT"));
    let mut table = output.table(&headings);
    for slot in slots {
        let binding = slot.binding.clone().unwrap_or_default();
        let instances: Vec<&str> = slot.figures.iter().map(|figures| figures.snapshot.as_str()).collect();
        let dropped: u64 = slot.figures.iter().map(|figures| figures.log_lines_dropped).sum();
        let mut row = vec![
            slot.name.as_str().into(),
            binding.generation.to_string().into(),
            output.verdict(slot.ready, if slot.ready { "yes" } else { "no" }),
            chain(&binding.chain).into(),
            instances.join(", ").into(),
            dropped.to_string().into(),
            binding.failure_mode.as_str().into(),
            time(binding.bind_time).into(),
        ];
        if tried {
            row.push(slot.rollout.as_ref().map(rollout::line).unwrap_or_default().into());
        }
        table.add_row(row);
    }
    if slots.is_empty() { String::new() } else { show(&table) }
}

/// One slot with its figures.
pub(super) fn slot(output: Output, slot: &Slot) -> String {
    let binding = slot.binding.clone().unwrap_or_default();
    let draining: Vec<String> = slot.draining.iter().map(ToString::to_string).collect();
    let mut text = output.fields(&[
        ("slot", slot.name.clone()),
        ("ready", if slot.ready { "yes".to_owned() } else { "no".to_owned() }),
        ("problem", slot.problem.clone()),
        ("generation", binding.generation.to_string()),
        ("failure", binding.failure_mode.clone()),
        ("bound", time(binding.bind_time)),
        ("by", binding.bound_by.clone()),
        ("comment", binding.comment.clone()),
        ("draining", draining.join(", ")),
        ("rollout", slot.rollout.as_ref().map(rollout::line).unwrap_or_default()),
    ]);
    for link in &binding.chain {
        text.push_str("\n\n");
        text.push_str(&output.fields(&link_fields(link)));
    }
    let figures_of = slot.figures.iter().map(|figures| (figures.plugin.clone(), figures));
    text.push_str(&figures(output, "PLUGIN", figures_of));
    text.push_str(&daemons(output, &slot.daemons));
    text
}

fn link_fields(link: &Link) -> [(&'static str, String); 6] {
    let settings = link.settings.clone().map(|settings| document::to_json(settings).to_string());
    let limits = link.limits.unwrap_or_default();
    let limits = [
        ("memory", limits.memory_bytes.map(human_bytes)),
        ("deadline", limits.deadline_ms.map(|ms| format!("{ms} ms"))),
        ("concurrency", limits.concurrency.map(|calls| calls.to_string())),
        ("queue", limits.queue.map(|calls| calls.to_string())),
        ("calls per instance", limits.calls_per_instance.map(|calls| calls.to_string())),
    ];
    let limits: Vec<String> =
        limits.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?))).collect();
    [
        ("plugin", link.plugin.clone()),
        ("digest", link.digest.clone()),
        ("mode", link.mode.clone()),
        ("grants", link.grants.join(", ")),
        ("limits", limits.join(", ")),
        ("settings", settings.unwrap_or_default()),
    ]
}

/// Figures as rows under what `place` heads, and below them what hinders a snapshot; nothing without rows.
pub(super) fn figures<'a>(
    output: Output, place: &str, rows: impl Iterator<Item = (String, &'a PluginFigures)>,
) -> String {
    let headings =
        [place, "CALLS", "TRAPS", "TIMEOUTS", "REJECTIONS", "P50", "P99", "MEMORY", "LOG DROPPED", "INSTANCES"];
    let mut table = output.table(&headings);
    let mut problems = String::new();
    for (place, plugin) in rows {
        if !plugin.snapshot_problem.is_empty() {
            problems.push_str(&format!("\n\n`{}` could not be cloned: {}", plugin.plugin, plugin.snapshot_problem));
        }
        table.add_row([
            place,
            plugin.calls.to_string(),
            plugin.traps.to_string(),
            plugin.timeouts.to_string(),
            plugin.rejections.to_string(),
            nanoseconds(plugin.p50_ns),
            nanoseconds(plugin.p99_ns),
            human_bytes(plugin.memory_bytes),
            plugin.log_lines_dropped.to_string(),
            plugin.snapshot.clone(),
        ]);
    }
    if table.is_empty() { String::new() } else { format!("\n\n{}{problems}", show(&table)) }
}

/// Generations as rows.
pub(super) fn history(output: Output, bindings: &[Binding]) -> String {
    let mut table = output.table(&["GENERATION", "BOUND", "BY", "PLUGINS", "FAILURE", "COMMENT"]);
    for binding in bindings {
        table.add_row([
            binding.generation.to_string(),
            time(binding.bind_time),
            binding.bound_by.clone(),
            chain(&binding.chain),
            binding.failure_mode.clone(),
            binding.comment.clone(),
        ]);
    }
    if bindings.is_empty() { String::new() } else { show(&table) }
}

/// Audit records as rows.
pub(super) fn audit(output: Output, records: &[AuditRecord]) -> String {
    let mut table = output.table(&["TIME", "CALLER", "ACTION", "ABOUT", "DONE", "DETAIL"]);
    for record in records {
        table.add_row([
            time(record.time).into(),
            record.caller.as_str().into(),
            record.action.as_str().into(),
            record.subject.as_str().into(),
            output.verdict(record.done, if record.done { "yes" } else { "no" }),
            record.detail.as_str().into(),
        ]);
    }
    if records.is_empty() { String::new() } else { show(&table) }
}

/// Whether older generations still run.
pub(super) fn drained(slot: &Slot) -> String {
    if slot.draining.is_empty() {
        return format!("no call runs on an older generation of `{}`", slot.name);
    }
    let busy: Vec<String> = slot.draining.iter().map(ToString::to_string).collect();
    format!("calls still run on generations {} of `{}`", busy.join(", "), slot.name)
}

pub(super) fn chain(links: &[Link]) -> String {
    let names: Vec<&str> = links.iter().map(|link| link.plugin.as_str()).collect();
    names.join(", ")
}

pub(super) fn nanoseconds(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => format!("{}.{} us", ns / 1_000, ns % 1_000 / 100),
        _ => format!("{}.{} ms", ns / 1_000_000, ns % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use platform_proto::plugin::v1::Serving;

    use super::*;

    #[test]
    fn an_installation_tells_how_to_give_what_is_asked_for() {
        let plugin = Plugin {
            name: "kv".into(),
            version: "1.0.0".into(),
            requested_grants: vec!["storage".into(), "wasi".into()],
            grants: vec!["wasi".into()],
            ..Plugin::default()
        };
        let answer = InstallResponse { plugin: Some(plugin), ..InstallResponse::default() };
        assert!(
            installed(&answer, false)
                .contains("it asks for storage; give it with `platform plugin grant kv@1.0.0 requested`")
        );
        assert!(installed(&answer, true).contains("nothing was kept"));
    }

    #[test]
    fn figures_tell_how_instances_come_to_be() {
        let output = Output::new(crate::cli::output::Format::Table);
        assert_eq!(figures(output, "PLUGIN", std::iter::empty()), "");
        let plugin = PluginFigures {
            plugin: "js@1.0.0".into(),
            log_lines_dropped: 7,
            snapshot: "unsupported".into(),
            snapshot_problem: "it has two memories".into(),
            ..PluginFigures::default()
        };
        let slot = Slot { name: "auth.policy".into(), figures: vec![plugin.clone()], ..Slot::default() };
        let text = super::slot(output, &slot);
        assert!(text.ends_with("\n\n`js@1.0.0` could not be cloned: it has two memories"), "{text}");
        let serving = Serving { slot: "auth.policy".into(), generation: 3, figures: Some(plugin) };
        let inspected = super::plugin(output, &Plugin { serving: vec![serving], ..Plugin::default() });
        assert!(inspected.contains("auth.policy at generation 3"), "{inspected}");
        let listed = slots(output, &[slot]);
        let cells: Vec<&str> = listed.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(cells, ["auth.policy", "0", "no", "unsupported", "7"]);
    }

    #[test]
    fn daemons_are_listed_where_there_are_some() {
        let output = Output::new(crate::cli::output::Format::Table);
        let daemon = |daemon: &str, current, problem: &str| DaemonSlot {
            daemon: daemon.into(),
            address: "10.0.0.1:8080".into(),
            slot: "kv.store".into(),
            generation: 3,
            current,
            problem: problem.into(),
        };
        let daemons = vec![daemon("a", true, ""), daemon("b", false, "its self-test failed")];
        let plugin = Plugin { name: "kv".into(), bound: vec!["kv.store".into()], daemons, ..Plugin::default() };
        let listed = plugins(output, std::slice::from_ref(&plugin));
        assert!(listed.contains("DAEMONS") && listed.ends_with("1 of 2"), "{listed}");
        assert!(super::plugin(output, &plugin).ends_with("its self-test failed"));
        let alone = plugins(output, &[Plugin { name: "kv".into(), ..Plugin::default() }]);
        assert!(!alone.contains("DAEMONS"), "{alone}");
    }

    #[test]
    fn latencies_have_units() {
        assert_eq!(nanoseconds(999), "999 ns");
        assert_eq!(nanoseconds(1_250), "1.2 us");
        assert_eq!(nanoseconds(3_070_000), "3.0 ms");
    }
}
