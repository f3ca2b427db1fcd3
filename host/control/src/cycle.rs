//! Slots that depend on each other in a circle: a call would wait for itself until its deadline.
//!
//! Which provider a nested call reaches depends on the namespace of the call, so the graph is looked at once for every
//! namespace that has a slot of its own, and once for all others. Which database a call is about only the plugin knows, so a call to
//! databases may reach each of their slots. Who publishes asks the filters too, so they are part of the graph.

use std::collections::{BTreeMap, BTreeSet};

use platform_capability::{Grant, Name, Need, SlotKind, need};
use platform_dataplane::SlotName;

use crate::{
    error::{Error, Result},
    record::BindingRecord,
    state::View,
};

/// Kinds of slots that a slot's plugins call.
type Calls = BTreeSet<SlotKind>;

/// Checks that `binding` in `slot`, with everything else as `view` has it, closes no circle.
pub(crate) fn check(view: &View, slot: &SlotName, binding: &BindingRecord) -> Result<()> {
    let mut slots: BTreeMap<&SlotName, Calls> = view
        .bindings()
        .filter(|(name, _)| name.kind.is_provider() || name.kind == SlotKind::EventFilter)
        .map(|(name, bound)| (name, calls(view, bound)))
        .collect();
    slots.insert(slot, calls(view, binding));
    let mut namespaces: BTreeSet<Option<&Name>> = BTreeSet::from([None]);
    namespaces.extend(slots.keys().map(|name| name.qualifier.as_ref()));
    for namespace in namespaces {
        if let Some(circle) = circle(&slots, namespace) {
            let names: Vec<_> = circle.iter().map(|name| format!("`{name}`")).collect();
            return Err(Error::Cycle(names.join(" calls ")));
        }
    }
    Ok(())
}

fn calls(view: &View, binding: &BindingRecord) -> Calls {
    let mut calls = Calls::new();
    for link in binding.links() {
        let Some(record) = view.with_digest(link.digest) else { continue };
        for import in &record.imports {
            match need(import) {
                Need::Grant(grant @ Grant::Kv) if link.grants.contains(&grant) => calls.insert(SlotKind::KvStore),
                Need::Grant(grant @ Grant::Discovery) if link.grants.contains(&grant) => {
                    calls.insert(SlotKind::DiscoveryRegistry)
                }
                Need::Grant(grant @ Grant::Config) if link.grants.contains(&grant) => {
                    calls.insert(SlotKind::ConfigStore)
                }
                Need::Grant(grant @ Grant::Db) if link.grants.contains(&grant) => calls.insert(SlotKind::DbStore),
                Need::Grant(grant @ Grant::Sync) if link.grants.contains(&grant) => calls.insert(SlotKind::SyncLock),
                Need::Grant(grant @ Grant::Event) if link.grants.contains(&grant) => {
                    calls.insert(SlotKind::EventFilter);
                    calls.insert(SlotKind::EventBroker)
                }
                _ => false,
            };
        }
    }
    calls
}

/// The first circle that a call in `namespace` can run into.
fn circle<'a>(slots: &BTreeMap<&'a SlotName, Calls>, namespace: Option<&Name>) -> Option<Vec<&'a SlotName>> {
    let providers = |kind: SlotKind| -> Vec<&'a SlotName> {
        let of_kind = || slots.keys().copied().filter(move |name| name.kind == kind);
        if kind == SlotKind::DbStore {
            return of_kind().collect();
        }
        let own = of_kind().find(|name| name.qualifier.as_ref() == namespace);
        own.or_else(|| of_kind().find(|name| name.qualifier.is_none())).into_iter().collect()
    };
    for kind in [
        SlotKind::KvStore,
        SlotKind::DiscoveryRegistry,
        SlotKind::ConfigStore,
        SlotKind::DbStore,
        SlotKind::EventBroker,
        SlotKind::EventFilter,
        SlotKind::SyncLock,
    ] {
        let mut path: Vec<&SlotName> = Vec::new();
        let mut open: Vec<(usize, &SlotName)> = providers(kind).into_iter().map(|start| (0, start)).collect();
        while let Some((depth, next)) = open.pop() {
            path.truncate(depth);
            if let Some(start) = path.iter().position(|name| *name == next) {
                path.push(next);
                return Some(path.split_off(start));
            }
            path.push(next);
            let called = slots.get(next).into_iter().flatten();
            open.extend(called.flat_map(|kind| providers(*kind)).map(|callee| (depth + 1, callee)));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(slots: &[(&str, &[SlotKind])], namespace: Option<&str>) -> Option<String> {
        let names: Vec<(SlotName, Calls)> =
            slots.iter().map(|(name, calls)| (name.parse().unwrap(), calls.iter().copied().collect())).collect();
        let slots = names.iter().map(|(name, calls)| (name, calls.clone())).collect();
        let namespace = namespace.map(|name| name.parse().unwrap());
        let circle = circle(&slots, namespace.as_ref())?;
        Some(circle.iter().map(ToString::to_string).collect::<Vec<_>>().join(" > "))
    }

    const KV: SlotKind = SlotKind::KvStore;
    const DISCOVERY: SlotKind = SlotKind::DiscoveryRegistry;

    #[test]
    fn circles_are_found_and_lines_are_not() {
        assert_eq!(found(&[("kv.store", &[KV])], None).unwrap(), "kv.store > kv.store");
        assert_eq!(
            found(&[("kv.store", &[DISCOVERY]), ("discovery.registry", &[KV])], None).unwrap(),
            "kv.store > discovery.registry > kv.store"
        );
        assert_eq!(found(&[("kv.store", &[]), ("discovery.registry", &[KV])], None), None);
        assert_eq!(found(&[("discovery.registry", &[KV])], None), None, "nobody is there to be called");
    }

    #[test]
    fn a_call_to_databases_may_reach_each_of_their_slots() {
        let slots: &[(&str, &[SlotKind])] =
            &[("db.store", &[]), ("db.store/shop", &[KV]), ("kv.store", &[SlotKind::DbStore])];
        assert_eq!(found(slots, None).unwrap(), "kv.store > db.store/shop > kv.store");
        assert_eq!(found(&slots[..1], None), None);
        assert_eq!(found(&[slots[0], slots[2]], None), None);
    }

    #[test]
    fn a_filter_that_publishes_would_ask_itself() {
        let publishing = [SlotKind::EventBroker, SlotKind::EventFilter];
        let slots: &[(&str, &[SlotKind])] = &[("event.broker", &[]), ("event.filter", &publishing)];
        assert_eq!(found(slots, None).unwrap(), "event.filter > event.filter");
        assert_eq!(found(&[("event.broker", &[]), ("kv.store", &publishing)], None), None);
    }

    #[test]
    fn a_namespace_has_its_own_graph() {
        let slots: &[(&str, &[SlotKind])] =
            &[("kv.store", &[]), ("kv.store/team", &[DISCOVERY]), ("discovery.registry", &[KV])];
        assert_eq!(found(slots, None), None);
        assert_eq!(found(slots, Some("team")).unwrap(), "kv.store/team > discovery.registry > kv.store/team");
    }
}
