//! Decisions that start clean are clones of a configured memory, for every component that ships.

#![expect(clippy::indexing_slicing, reason = "what a test can't set up has failed")]

use std::{thread, time::Duration};

use platform_base::clock;
use platform_capability::SlotKind;
use platform_dataplane::{Plugin, Snapshot};
use platform_runtime::{Artifacts, Engine, EngineConfig, Fault, Limits, Mode, snapshot};
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
            settings: json!({"opens": 8, "closes": 18}).to_string(),
            ..plugin(SlotKind::AuthPolicy, "auth-policy-rust", &example, &[])
        },
    ] {
        let name = plugin.name.clone();
        assert_eq!(snapshot_of(plugin).await, Snapshot::Cloned, "{name}");
    }
}

/// On a busy machine the time may be over between `configure` and the reading of its memory.
#[test]
fn a_memory_that_is_read_too_late_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let engine = Engine::new(&EngineConfig { instances_max: 100, ..EngineConfig::default() }).unwrap();
    let artifacts = Artifacts::open(engine.clone(), folder.path()).unwrap();
    let Plugin { digest, wasm, .. } = acts(&json!({}));
    snapshot::prepare(&artifacts, digest, &wasm).unwrap();
    let deadline = clock::now() + Duration::from_secs(1);
    let limits = Limits::decision();
    let request = snapshot::Request { digest, wasm: &wasm, functions: &[], limits: &limits, deadline };
    let configured = snapshot::configured(&artifacts, engine.wasmtime(), &request, (), |_, _| {
        while clock::now() < deadline {
            thread::park_timeout(Duration::from_millis(10));
        }
        Ok(Ok::<(), ()>(()))
    });
    assert!(matches!(configured, Err(snapshot::Error::Fault(Fault::Expired(_)))), "{configured:?}");
}
