//! Decisions that start clean are clones of a configured memory, for every component that ships.

#![expect(clippy::indexing_slicing, reason = "what a test can't set up has failed")]

use platform_capability::SlotKind;
use platform_dataplane::{Plugin, Snapshot};
use platform_runtime::Mode;
use platform_testkit::{Fixture, acts, alone, component, plugin};
use serde_json::json;

async fn snapshot_of(plugin: Plugin) -> Snapshot {
    let fixture = Fixture::new();
    fixture.bind("auth.policy", alone(Plugin { mode: Mode::Fresh, ..plugin })).await;
    fixture.status("auth.policy").entries[0].snapshot.clone()
}

#[tokio::test]
async fn policies_are_cloned_from_a_snapshot() {
    let scopes = component("plugins", "auth-scopes");
    let example = component("examples", "auth-policy-rust");
    for plugin in [
        acts(&json!({"tag": "a"})),
        Plugin {
            settings: json!({"rules": [{"effect": "allow", "methods": ["GET"], "paths": ["/open/**"]}]}).to_string(),
            ..plugin(SlotKind::AuthPolicy, "auth-scopes", &scopes, &[])
        },
        Plugin {
            settings: json!({"opens": "08:00", "closes": "18:00"}).to_string(),
            ..plugin(SlotKind::AuthPolicy, "auth-policy-rust", &example, &[])
        },
    ] {
        let name = plugin.name.clone();
        assert_eq!(snapshot_of(plugin).await, Snapshot::Cloned, "{name}");
    }
}
