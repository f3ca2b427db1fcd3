//! `/metrics`: what the front doors and the slots did.
//!
//! Owns the counters of requests and the names of all families; must not know how an answer came about. Invariant: a
//! method's counters exist from the start, so that no request ever takes a lock or grows a map.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use platform_dataplane::{BUCKETS_US, EntryStatus, Recorder, RolloutStatus, SlotStatus, Trial};
use platform_marketplace::Marketplace;
use platform_proto::code;
use platform_webhook::{Progress, State};
use prost_reflect::DescriptorPool;
use tonic::Code;

use crate::{
    check::Counts,
    exposition::{Exposition, Format},
};

/// gRPC codes are 0 to 16.
const CODES: usize = 17;
/// Upper bounds of the latency histogram, in microseconds.
const BOUNDS_US: [u64; 12] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];
/// Where methods are counted that have no counters of their own.
const OTHER: &str = "other";

/// Counters of requests.
#[derive(Debug)]
pub(crate) struct Requests {
    methods: BTreeMap<String, Method>,
    /// Connections open now.
    pub(crate) connections: AtomicU64,
}

#[derive(Debug, Default)]
struct Method {
    codes: [AtomicU64; CODES],
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    total_us: AtomicU64,
}

impl Requests {
    /// Counters for every method in `pool`, and for `more`.
    pub(crate) fn new(pool: &DescriptorPool, more: &[&str]) -> Self {
        let services = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let paths = services.map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()));
        let paths = paths.chain(more.iter().map(|path| (*path).to_owned())).chain([OTHER.to_owned()]);
        Self { methods: paths.map(|path| (path, Method::default())).collect(), connections: AtomicU64::new(0) }
    }

    /// Counts a request to a method. A stream counts when it begins.
    pub(crate) fn record(&self, path: &str, code: Code, took: Duration) {
        let Some(method) = self.methods.get(path).or_else(|| self.methods.get(OTHER)) else { return };
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let code = usize::try_from(i32::from(code)).unwrap_or_default();
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        for counter in [method.codes.get(code), method.buckets.get(bucket)].into_iter().flatten() {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        method.total_us.fetch_add(us, Ordering::Relaxed);
    }
}

/// What is told.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) requests: &'a Requests,
    pub(crate) checks: &'a Counts,
    pub(crate) slots: &'a [SlotStatus],
    pub(crate) webhooks: &'a [platform_webhook::Status],
    pub(crate) recorder: Option<&'a Recorder>,
    pub(crate) marketplace: Option<&'a Marketplace>,
    pub(crate) ready: bool,
}

/// Everything as text.
pub(crate) fn text(format: Format, told: &Told<'_>) -> String {
    let Told { requests, checks, slots, webhooks, recorder, marketplace, ready } = *told;
    let mut exposition = Exposition::new(format);
    let out = &mut exposition;
    out.gauge("platform_ready", "Whether every bound slot serves.").sample(&[], ready.into());
    write_requests(out, requests);
    out.counter("platform_check_decisions", "Decisions for gateways.")
        .sample(&[("decision", "allow")], checks.allowed.load(Ordering::Relaxed))
        .sample(&[("decision", "deny")], checks.denied.load(Ordering::Relaxed));
    if let Some(counts) = recorder.map(Recorder::counts) {
        out.counter("platform_decisions_kept", "Decisions that were written, to be replayed.")
            .sample(&[], counts.kept.load(Ordering::Relaxed));
        out.counter("platform_decisions_lost", "Decisions that should have been written and were not.")
            .sample(&[], counts.lost.load(Ordering::Relaxed));
    }
    write_slots(out, slots);
    write_webhooks(out, webhooks);
    if let Some(marketplace) = marketplace {
        write_marketplace(out, marketplace);
    }
    write_process(out);
    exposition.finish()
}

fn write_requests(out: &mut Exposition, requests: &Requests) {
    let connections = requests.connections.load(Ordering::Relaxed);
    out.gauge("platform_connections", "Connections open now.").sample(&[], connections);
    let used = |method: &Method| method.buckets.iter().any(|count| count.load(Ordering::Relaxed) > 0);
    let mut family = out.counter("platform_requests", "Requests by method and gRPC code.");
    for (path, method) in requests.methods.iter().filter(|(_, method)| used(method)) {
        for (number, count) in (0..).zip(&method.codes) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                family.sample(&[("method", path), ("code", code::name(Code::from_i32(number)))], count);
            }
        }
    }
    let mut family =
        out.histogram("platform_request_seconds", "Time to the answer, or to the first message of a stream.");
    for (path, method) in requests.methods.iter().filter(|(_, method)| used(method)) {
        let counts: Vec<_> = method.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let total = Duration::from_micros(method.total_us.load(Ordering::Relaxed));
        write_buckets(&mut family, &[("method", path)], &BOUNDS_US, &counts, total);
    }
}

fn write_buckets(
    family: &mut crate::exposition::Family<'_>, labels: &[(&str, &str)], bounds_us: &[u64], counts: &[u64],
    total: Duration,
) {
    let bound = |us: &u64| Duration::from_micros(*us).as_secs_f64();
    let pairs: Vec<_> = bounds_us.iter().map(bound).zip(counts.iter().copied()).collect();
    let above = counts.get(bounds_us.len()).copied().unwrap_or_default();
    family.buckets(labels, &pairs, above, total.as_secs_f64());
}

fn write_slots(out: &mut Exposition, slots: &[SlotStatus]) {
    let names: Vec<_> = slots.iter().map(|slot| (slot.name.to_string(), slot)).collect();
    let mut family = out.gauge("platform_slot_generation", "Generation that new calls see.");
    for (name, slot) in &names {
        family.sample(&[("slot", name)], slot.generation);
    }
    let mut family = out.gauge("platform_slot_ready", "Whether the slot serves.");
    for (name, slot) in &names {
        family.sample(&[("slot", name)], slot.ready.into());
    }
    write_rollouts(out, &names);
    let entries: Vec<_> = names
        .iter()
        .flat_map(|(name, slot)| entries(slot).map(move |(generation, entry)| (name, generation.to_string(), entry)))
        .map(|(name, generation, entry)| (name, format!("{}@{}", entry.name, entry.version), generation, entry))
        .collect();
    let mut family = out.counter("platform_plugin_faults", "Calls without an answer, by kind.");
    for (slot, plugin, generation, entry) in &entries {
        for (kind, count) in &entry.counts.faults {
            family.sample(&[("slot", slot), ("plugin", plugin), ("generation", generation), ("kind", kind)], *count);
        }
    }
    let mut family = out
        .counter("platform_plugin_log_lines_dropped", "Log lines that were dropped for being over the plugin's rate.");
    for (slot, plugin, generation, entry) in &entries {
        let labels = [("slot", slot.as_str()), ("plugin", plugin), ("generation", generation)];
        family.sample(&labels, entry.log_lines_dropped);
    }
    let mut family = out.gauge("platform_plugin_memory_bytes", "Memory of the instance that served last.");
    for (slot, plugin, generation, entry) in &entries {
        let bytes = entry.memory_bytes as u64;
        family.sample(&[("slot", slot), ("plugin", plugin), ("generation", generation)], bytes);
    }
    let mut family = out.histogram("platform_plugin_call_seconds", "Time of calls.");
    for (slot, plugin, generation, entry) in &entries {
        let labels = [("slot", slot.as_str()), ("plugin", plugin), ("generation", generation)];
        write_buckets(&mut family, &labels, &BUCKETS_US, &entry.counts.buckets, entry.counts.total);
    }
}

/// What serves in a slot and what is tried there, told apart by the generation.
fn entries(slot: &SlotStatus) -> impl Iterator<Item = (u64, &EntryStatus)> {
    let serving = slot.entries.iter().map(|entry| (slot.generation, entry));
    let tried = slot.rollout.iter().flat_map(|tried| tried.entries.iter().map(|entry| (tried.generation, entry)));
    serving.chain(tried)
}

/// What is tried beside what serves: whole calls, where a chain is one.
fn write_rollouts(out: &mut Exposition, names: &[(String, &SlotStatus)]) {
    let tried: Vec<_> = names
        .iter()
        .filter_map(|(name, slot)| slot.rollout.as_ref().map(|tried| (name, tried.generation.to_string(), tried)))
        .collect();
    if tried.is_empty() {
        return;
    }
    let mut family =
        out.gauge("platform_rollout_percent", "Share of the calls that a candidate answers; 0 for a shadow.");
    for (slot, generation, tried) in &tried {
        let percent = match tried.plan.trial {
            Trial::Canary { percent, .. } => u64::from(percent),
            Trial::Shadow => 0,
        };
        family.sample(&[("slot", slot), ("generation", generation)], percent);
    }
    let mut counter = |name: &str, help: &str, read: fn(&RolloutStatus) -> u64| {
        let mut family = out.counter(name, help);
        for (slot, generation, tried) in &tried {
            family.sample(&[("slot", slot), ("generation", generation)], read(tried));
        }
    };
    counter("platform_rollout_calls", "Calls that a candidate was asked.", |tried| tried.candidate.calls);
    counter("platform_rollout_failures", "Those without an answer of its own.", |tried| {
        tried.candidate.faults.values().sum()
    });
    counter("platform_rollout_compared", "Answers of a shadow that were compared.", |tried| tried.compared.answers);
    counter("platform_rollout_diverged", "Those that differed.", |tried| tried.compared.diverged);
    counter("platform_rollout_dropped", "Questions that a shadow was not asked.", |tried| tried.compared.dropped);
}

/// What the registry was asked. Names of repositories are left out: there may be many.
fn write_marketplace(out: &mut Exposition, marketplace: &Marketplace) {
    let traffic = marketplace.traffic();
    let mut family = out.counter("platform_registry_requests", "Requests to the registry by operation and status.");
    for (operation, status, count) in traffic.requests() {
        let status = if status == 0 { "other".to_owned() } else { status.to_string() };
        family.sample(&[("operation", operation.name()), ("status", &status)], count);
    }
    out.counter("platform_registry_bytes_in", "Bytes that were sent to the registry.").sample(&[], traffic.bytes_in());
    out.counter("platform_registry_bytes_out", "Bytes that the registry gave.").sample(&[], traffic.bytes_out());
    let open = u64::try_from(marketplace.uploads_open()).unwrap_or(u64::MAX);
    out.gauge("platform_registry_uploads_open", "Uploads that are open.").sample(&[], open);
}

/// What webhooks did. URLs are left out: they may hold secrets.
fn write_webhooks(out: &mut Exposition, webhooks: &[platform_webhook::Status]) {
    let labels: Vec<[(&str, &str); 3]> = webhooks
        .iter()
        .map(|one| {
            [("namespace", &*one.namespace), ("topic", one.topic.as_str()), ("subscription", one.subscription.as_str())]
        })
        .collect();
    let mut counter = |name: &str, help: &str, read: fn(&Progress) -> u64| {
        let mut family = out.counter(name, help);
        for (one, labels) in webhooks.iter().zip(&labels) {
            family.sample(labels, read(&one.progress));
        }
    };
    counter("platform_webhook_delivered", "Events that the target took.", |progress| progress.delivered);
    counter("platform_webhook_failures", "Attempts that failed.", |progress| progress.failed);
    counter("platform_webhook_rejected", "Events that went to the dead-letter topic.", |progress| progress.rejected);
    let mut family = out.gauge("platform_webhook_in_flight", "Attempts that are being made.");
    for (one, labels) in webhooks.iter().zip(&labels) {
        family.sample(labels, one.progress.in_flight);
    }
    let mut family = out.gauge("platform_webhook_failures_in_row", "Attempts that have failed since the last success.");
    for (one, labels) in webhooks.iter().zip(&labels) {
        family.sample(labels, one.progress.failures_in_row);
    }
    let mut family = out.gauge("platform_webhook_active", "Whether events are delivered.");
    for (one, labels) in webhooks.iter().zip(&labels) {
        family.sample(labels, (one.webhook.state == State::Active).into());
    }
}

/// What the operating system knows of this process, where it tells.
fn write_process(out: &mut Exposition) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    if let Some(kib) = kib {
        out.gauge("process_resident_memory_bytes", "Resident memory.").sample(&[], kib * 1024);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart_by_method_and_code() {
        let pool = DescriptorPool::decode(platform_proto::FILE_DESCRIPTOR_SET).unwrap();
        let requests = Requests::new(&pool, &["/x.Y/Z"]);
        requests.record("/platform.kv.v1.Kv/Get", Code::NotFound, Duration::from_micros(120));
        requests.record("/nobody/knows", Code::Ok, Duration::from_secs(60));
        let checks = Counts::default();
        let told = Told {
            requests: &requests,
            checks: &checks,
            slots: &[],
            webhooks: &[],
            recorder: None,
            marketplace: None,
            ready: true,
        };
        let text = text(Format::Prometheus, &told);
        assert!(
            text.contains("platform_requests_total{method=\"/platform.kv.v1.Kv/Get\",code=\"NOT_FOUND\"} 1\n"),
            "{text}"
        );
        assert!(text.contains("platform_requests_total{method=\"other\",code=\"OK\"} 1\n"), "{text}");
        assert!(text.contains("le=\"0.00025\"} 1\n"), "{text}");
        assert!(text.contains("platform_request_seconds_bucket{method=\"other\",le=\"10.0\"} 0\n"), "{text}");
        assert!(text.contains("platform_ready 1\n") && !text.contains("x.Y"), "{text}");
    }
}
