//! What keeps a bad change from landing: schemas and validators.

#![expect(clippy::unwrap_used, reason = "what a test can't set up has failed")]

use platform_capability::SlotKind;
use platform_dataplane::{Action, BindingSpec, CallError, ConfigError, Edit, Edited, FailureMode, Plugin, Read};
use platform_testkit::{Fixture, alone, call, call_of, component, name, plugin};
use serde_json::{Value, json};

async fn fixture() -> Fixture {
    let fixture = Fixture::new();
    let store = component("plugins", "config-storage");
    fixture.bind("config.store", alone(plugin(SlotKind::ConfigStore, "config-storage", &store, &["storage"]))).await;
    fixture
}

/// The example: limits change by a factor of at most `factor`.
fn small_steps(factor: f64) -> Plugin {
    let example = component("examples", "config-validator-rust");
    let settings = json!({"factor": factor, "role": "on-call"}).to_string();
    Plugin { settings, ..plugin(SlotKind::ConfigValidator, "config-validator-rust", &example, &[]) }
}

async fn edit_as(
    fixture: &Fixture, roles: &[&str], action: Action, path: &str, value: &Value,
) -> Result<Edited, ConfigError> {
    let value = if value.is_null() { String::new() } else { value.to_string() };
    let edit = Edit { path, value: &value, restores: 1, ..Edit::new("shop", action) };
    fixture.plane.configurations().edit(&call_of("alice", roles), &edit).await.map_err(|error| match error {
        CallError::Capability(error) => error,
        other => ConfigError::Other(other.to_string()),
    })
}

async fn edit(fixture: &Fixture, action: Action, path: &str, value: &Value) -> Result<Edited, ConfigError> {
    edit_as(fixture, &[], action, path, value).await
}

async fn document(fixture: &Fixture) -> Value {
    fixture.plane.configurations().get(&call(), &Read::new("shop")).await.unwrap().value
}

#[tokio::test]
async fn a_document_has_to_match_its_schema() {
    let fixture = fixture().await;
    edit(&fixture, Action::Set, "", &json!({"requests": "many"})).await.unwrap();
    let schema = json!({"type": "object", "properties": {"requests": {"type": "integer", "minimum": 0}}});
    let refused = edit(&fixture, Action::Schema, "", &schema).await.unwrap_err();
    assert!(matches!(&refused, ConfigError::Mismatch(why) if why.contains("`/requests`")), "{refused}");
    edit(&fixture, Action::Set, "/requests", &json!(10)).await.unwrap();
    assert!(edit(&fixture, Action::Schema, "", &schema).await.unwrap().version.unwrap().has_schema);
    for (action, path, value) in [
        (Action::Set, "/requests", json!(-1)),
        (Action::Set, "", json!([])),
        (Action::Merge, "", json!({"requests": "few"})),
        (Action::Rollback, "", json!(null)),
    ] {
        // Version 1 had another document and no schema: going back to it is allowed, for both go back.
        let answer = edit(&fixture, action, path, &value).await;
        if action == Action::Rollback {
            assert!(!answer.unwrap().version.unwrap().has_schema);
        } else {
            assert!(matches!(answer, Err(ConfigError::Mismatch(_))), "{value}: {answer:?}");
            assert_eq!(document(&fixture).await, json!({"requests": 10}));
        }
    }
    assert_eq!(document(&fixture).await, json!({"requests": "many"}));
}

#[tokio::test]
async fn a_schema_that_is_none_is_refused() {
    let fixture = fixture().await;
    edit(&fixture, Action::Set, "", &json!({})).await.unwrap();
    for schema in [
        json!({"type": 7}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"$ref": "https://example.com/schema.json"}),
        json!({"$ref": "#"}),
        json!({"pattern": "("}),
        json!({"allOf": [{"properties": {"a": {"$ref": "#"}}}, {"properties": {"a": {"$ref": "#"}}}]}),
        json!("text"),
    ] {
        let refused = edit(&fixture, Action::Schema, "", &schema).await;
        assert!(matches!(refused, Err(ConfigError::Invalid(_))), "{schema}: {refused:?}");
    }
    let large = json!({"description": "x".repeat(256 << 10)});
    assert!(matches!(edit(&fixture, Action::Schema, "", &large).await, Err(ConfigError::TooLarge(_))));
}

#[tokio::test]
async fn a_schema_is_versioned_with_its_document() {
    let fixture = fixture().await;
    let schema = json!({"properties": {"a": {"type": "integer"}}});
    let nothing = edit(&fixture, Action::Schema, "", &schema).await;
    assert!(matches!(nothing, Err(ConfigError::NotFound(_))), "{nothing:?}");
    edit(&fixture, Action::Set, "/a", &json!(1)).await.unwrap();
    edit(&fixture, Action::Schema, "", &schema).await.unwrap();
    edit(&fixture, Action::Schema, "", &json!(null)).await.unwrap();
    edit(&fixture, Action::Set, "/a", &json!("text")).await.unwrap();
    edit(&fixture, Action::Delete, "", &json!(null)).await.unwrap();
    let configurations = fixture.plane.configurations();
    assert_eq!(configurations.schema(&call(), "shop", Some(2)).await.unwrap().1, schema.to_string());
    assert!(configurations.schema(&call(), "shop", None).await.is_err());
    let back = Edit { restores: 2, ..Edit::new("shop", Action::Rollback) };
    configurations.edit(&call(), &back).await.unwrap();
    assert_eq!(document(&fixture).await, json!({"a": 1}));
    assert!(matches!(edit(&fixture, Action::Set, "/a", &json!("text")).await, Err(ConfigError::Mismatch(_))));
}

#[tokio::test]
async fn a_validator_refuses_with_a_reason() {
    let fixture = fixture().await;
    fixture.bind("config.validator", alone(small_steps(10.0))).await;
    edit(&fixture, Action::Set, "/limits/requests", &json!(10)).await.unwrap();
    for (action, path, value) in [
        (Action::Set, "/limits/requests", json!(1000)),
        (Action::Merge, "", json!({"limits": {"requests": 1000}})),
        (Action::Set, "", json!({"limits": {"requests": 1000}})),
    ] {
        let refused = edit(&fixture, action, path, &value).await.unwrap_err();
        let expected = ConfigError::Refused {
            by: "config-validator-rust@0.1.0".into(),
            reason: "`requests` would go from 10 to 1000, which is more than a factor of 10".into(),
            at: Some("/limits/requests".into()),
        };
        assert_eq!(refused, expected);
        assert_eq!(document(&fixture).await, json!({"limits": {"requests": 10}}));
    }
    edit_as(&fixture, &["on-call"], Action::Set, "/limits/requests", &json!(1000)).await.unwrap();
    let back = edit(&fixture, Action::Rollback, "", &json!(null)).await;
    assert!(matches!(back, Err(ConfigError::Refused { .. })), "going back is a change too: {back:?}");
    edit(&fixture, Action::Delete, "", &json!(null)).await.unwrap();
}

#[tokio::test]
async fn every_validator_of_a_chain_is_asked() {
    let fixture = fixture().await;
    let second = Plugin { name: name("stricter"), ..small_steps(2.0) };
    let chain = BindingSpec { plugins: vec![small_steps(10.0), second], failure: FailureMode::Closed, fallback: None };
    fixture.bind("config.validator", chain).await;
    edit(&fixture, Action::Set, "/limits/requests", &json!(10)).await.unwrap();
    let refused = edit(&fixture, Action::Set, "/limits/requests", &json!(50)).await;
    assert!(matches!(refused, Err(ConfigError::Refused { by, .. }) if &*by == "stricter@0.1.0"));
    edit(&fixture, Action::Set, "/limits/requests", &json!(20)).await.unwrap();
}

#[tokio::test]
async fn without_a_judgement_nothing_is_changed() {
    let fixture = fixture().await;
    edit(&fixture, Action::Set, "", &json!({"act": "nothing"})).await.unwrap();
    let acts = plugin(SlotKind::ConfigValidator, "config-acts", &component("testkit", "config-acts"), &[]);
    let stand_in = Plugin { name: name("stand-in"), ..small_steps(2.0) };
    let modes = [
        (FailureMode::Closed, None, false),
        (FailureMode::Open, None, true),
        (FailureMode::Fallback(name("stand-in")), Some(stand_in), true),
    ];
    for (failure, fallback, passes) in modes {
        let spec = BindingSpec { plugins: vec![acts.clone()], failure, fallback };
        fixture.bind("config.validator", spec).await;
        for act in ["trap", "loop"] {
            let answer = edit(&fixture, Action::Set, "/act", &json!(act)).await;
            assert_eq!(answer.is_ok(), passes, "{act}: {answer:?}");
            assert!(passes || matches!(answer, Err(ConfigError::Unjudged { .. })), "{answer:?}");
        }
        let refused = edit(&fixture, Action::Set, "/act", &json!("refuse")).await;
        assert!(passes || matches!(refused, Err(ConfigError::Refused { .. } | ConfigError::Unjudged { .. })));
    }
}
