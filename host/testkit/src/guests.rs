//! The guests of `host/testkit/guests` as plugins, ready to be bound.

use platform_capability::SlotKind;
use platform_dataplane::Plugin;
use platform_runtime::Mode;
use serde_json::Value;

use crate::{component, plugin};

/// A policy that does what the action of the request says; see `auth-acts`.
#[must_use]
pub fn acts(settings: &Value) -> Plugin {
    let mut acts = plugin(SlotKind::AuthPolicy, "auth-acts", &component("testkit", "auth-acts"), &[]);
    acts.settings = settings.to_string();
    acts
}

/// A policy that answers with what the key-value store holds under the target; see `auth-asks`.
#[must_use]
pub fn asks() -> Plugin {
    plugin(SlotKind::AuthPolicy, "auth-asks", &component("testkit", "auth-asks"), &["kv"])
}

/// A policy that asks configurations; see `auth-configured`.
#[must_use]
pub fn configured() -> Plugin {
    plugin(SlotKind::AuthPolicy, "auth-configured", &component("testkit", "auth-configured"), &["config"])
}

/// A policy that writes by another capability, with time for it on a busy machine.
fn client(name: &str, grant: &str) -> Plugin {
    let mut client = plugin(SlotKind::AuthPolicy, name, &component("testkit", name), &[grant]);
    client.limits.deadline_ms = 5_000;
    client
}

/// A policy that takes locks; see `auth-locks`.
#[must_use]
pub fn locks() -> Plugin {
    client("auth-locks", "sync")
}

/// A policy that publishes and takes events; see `auth-publishes`.
#[must_use]
pub fn publishes() -> Plugin {
    client("auth-publishes", "event")
}

/// A policy that keeps records; see `auth-records`.
#[must_use]
pub fn records() -> Plugin {
    client("auth-records", "db")
}

/// A store of counters in the memory of its only instance, handed over; see `kv-counts`.
#[must_use]
pub fn counts(settings: &Value) -> Plugin {
    let mut counts = plugin(SlotKind::KvStore, "kv-counts", &component("testkit", "kv-counts"), &[]);
    counts.settings = settings.to_string();
    counts.mode = Mode::Single;
    counts
}

/// A store that waits in storage; see `kv-waits`.
#[must_use]
pub fn waits() -> Plugin {
    plugin(SlotKind::KvStore, "kv-waits", &component("testkit", "kv-waits"), &["storage"])
}

/// A policy that gives the weights of its settings, or traps; see `router-weighs`.
#[must_use]
pub fn weighs(settings: &Value) -> Plugin {
    let mut weighs = plugin(SlotKind::RouterPolicy, "router-weighs", &component("testkit", "router-weighs"), &[]);
    weighs.settings = settings.to_string();
    weighs
}
