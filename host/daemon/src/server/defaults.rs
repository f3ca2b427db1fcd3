//! What serves when nobody has said anything: the shipped component of each kind.
//!
//! Owns which components these are and with what settings; must not know how a slot is bound. Invariant: a slot that ever
//! held anything else, or that the configuration file declares, is left alone.

use std::path::Path;

use platform_control::{
    Bind, Control, Error, GrantChange, Install, LinkRequest, PageRequest, Reference, Result, file::DeclaredBinding,
};
use platform_dataplane::{FailureMode, SlotName};
use platform_runtime::Digest;
use platform_signing::Evidence;
use serde_json::{Map, Value, json};

/// Who the audit trail says did it.
const BY: &str = "default";

/// Times that a default is tried again because another daemon was quicker.
const ATTEMPTS_MAX: usize = 5;

/// A slot and what serves it by default.
struct Default {
    slot: &'static str,
    plugin: &'static str,
    settings: fn() -> Value,
}

const DEFAULTS: [Default; 8] = [
    Default { slot: "kv.store", plugin: "kv-storage", settings: || json!({}) },
    Default { slot: "discovery.registry", plugin: "discovery-storage", settings: || json!({}) },
    Default { slot: "config.store", plugin: "config-storage", settings: || json!({}) },
    Default { slot: "sync.lock", plugin: "sync-storage", settings: || json!({}) },
    Default { slot: "db.store", plugin: "db-storage", settings: || json!({}) },
    Default { slot: "event.broker", plugin: "event-storage", settings: || json!({}) },
    Default { slot: "router.policy", plugin: "router-round-robin", settings: || json!({}) },
    Default { slot: "auth.policy", plugin: "auth-scopes", settings: closed },
];

/// What serves where the marketplace is on.
const PAGE: Default = Default { slot: "web.page/marketplace", plugin: "web-marketplace", settings: || json!({}) };

/// Nobody but the administrator may do anything, until the operator says who may do what.
fn closed() -> Value {
    json!({
        "default": "deny",
        "rules": [{ "name": "administrators", "effect": "allow", "roles": [platform_ingress::ADMIN_ROLE], "reason": "the caller is an administrator" }],
    })
}

/// Binds the defaults from `folder` to slots that never held anything, and brings those that still hold an earlier default up
/// to the shipped version. A default that can't be bound is logged; the others are bound.
pub(crate) async fn bind(control: &Control, declared: &[DeclaredBinding], folder: Option<&Path>, marketplace: bool) {
    for default in DEFAULTS.iter().chain(marketplace.then_some(&PAGE)) {
        let Ok(slot) = default.slot.parse::<SlotName>() else { continue };
        if declared.iter().any(|binding| binding.slot == slot) {
            continue;
        }
        let mut bound = default.bind_if_free(control, &slot, folder).await;
        for _again in 0..ATTEMPTS_MAX {
            // Daemons that share a storage start at the same time, and one of them does it.
            if !matches!(bound, Err(Error::Changed(_) | Error::OtherGeneration { .. })) {
                break;
            }
            bound = default.bind_if_free(control, &slot, folder).await;
        }
        match bound {
            Ok(None) => {}
            Ok(Some(generation)) => tracing::info!(%slot, plugin = default.plugin, generation, "bound the default"),
            Err(error) => tracing::error!(%slot, plugin = default.plugin, %error, "the default was not bound"),
        }
    }
}

impl Default {
    /// Binds when the slot is free; its generation then.
    async fn bind_if_free(&self, control: &Control, slot: &SlotName, folder: Option<&Path>) -> Result<Option<u64>> {
        let (generation, serving) = match control.slot(slot) {
            Ok(view) if view.binding.bound_by != BY => return Ok(None),
            Ok(view) => (view.binding.generation, view.binding.chain.first().map(|link| link.digest)),
            Err(_) if control.history(slot, &PageRequest::default()).await?.items.is_empty() => (0, None),
            // It was emptied on purpose.
            Err(_) => return Ok(None),
        };
        let Some(file) =
            folder.map(|folder| folder.join(self.plugin).with_extension("wasm")).filter(|file| file.is_file())
        else {
            if serving.is_none() {
                tracing::warn!(%slot, plugin = self.plugin, "the default component is not there; nothing serves the slot; name its directory with `--plugins-dir`");
            }
            return Ok(None);
        };
        let bytes =
            tokio::fs::read(&file).await.map_err(|error| Error::File { path: file.clone(), action: "read", error })?;
        if serving == Some(Digest::of(&bytes)) {
            return Ok(None);
        }
        let signatures = Evidence::beside(&file)?.into_iter().collect();
        let request = Install { by: BY.to_owned(), signatures, ..Install::default() };
        let installed = match control.install(bytes.into(), request).await {
            Err(error @ Error::VersionTaken { .. }) if serving.is_some() => {
                tracing::warn!(%slot, %error, "the shipped component is another one than the installed one of the same version");
                return Ok(None);
            }
            installed => installed?.plugin,
        };
        let reference: Reference = installed.label().parse()?;
        let change = GrantChange { requested: true, by: BY.to_owned(), ..GrantChange::default() };
        control.grant(reference.clone(), change).await?;
        let link = LinkRequest { settings: members((self.settings)()), ..LinkRequest::new(reference) };
        let bind = Bind {
            rollout: None,
            carry: Vec::new(),
            chain: vec![link],
            failure: FailureMode::Closed,
            dry_run: false,
            if_generation: Some(generation),
            comment: "nothing else was bound".to_owned(),
            by: BY.to_owned(),
        };
        Ok(Some(control.bind(slot.clone(), bind).await?.binding.generation))
    }
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_name_slots() {
        for default in DEFAULTS.iter().chain([&PAGE]) {
            assert_eq!(default.slot.parse::<SlotName>().unwrap().to_string(), default.slot);
            assert!((default.settings)().is_object());
        }
    }
}
