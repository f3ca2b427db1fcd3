//! Secret values of configurations: sealed where they are kept, marks wherever they are shown.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "what a test can't set up has failed")]

use std::{fs, sync::Arc};

use futures::StreamExt as _;
use platform_capability::SlotKind;
use platform_dataplane::{
    Action, CallError, ConfigError, Edit, Edited, Event, KeyError, Read, SecretKey, SecretsConfig,
};
use platform_storage::Scope;
use platform_testkit::{Fixture, MapFacts, alone, call, component, configured, name, plugin};
use serde_json::{Value, json};

struct Setting {
    fixture: Fixture,
    folder: tempfile::TempDir,
}

impl Setting {
    async fn new() -> Self {
        let fixture = Fixture::new();
        let store = component("plugins", "config-storage");
        fixture
            .bind("config.store", alone(plugin(SlotKind::ConfigStore, "config-storage", &store, &["storage"])))
            .await;
        let setting = Self { fixture, folder: tempfile::tempdir().unwrap() };
        setting.use_keys("one", &["one"]);
        setting
    }

    /// Has keys with these ids, of which one writes.
    fn use_keys(&self, writes: &str, ids: &[&str]) {
        let key = |id: &&str| {
            let file = self.folder.path().join(id);
            fs::write(&file, format!("{:02x}", id.as_bytes()[0]).repeat(32)).unwrap();
            SecretKey { id: name(id), file: Some(file), env: None }
        };
        let keys = SecretsConfig { key: Some(name(writes)), keys: ids.iter().map(key).collect() };
        self.fixture.plane.configurations().use_keys(keys.build());
    }

    async fn edit(&self, edit: Edit<'_>) -> Result<Edited, ConfigError> {
        self.fixture.plane.configurations().edit(&call(), &edit).await.map_err(|error| match error {
            CallError::Capability(error) => error,
            other => ConfigError::Other(other.to_string()),
        })
    }

    async fn set(&self, path: &str, value: &Value, secret: bool) -> Result<Edited, ConfigError> {
        let value = value.to_string();
        self.edit(Edit { path, value: &value, secret, ..Edit::new("shop", Action::Set) }).await
    }

    async fn shown(&self) -> Value {
        self.fixture.plane.configurations().get(&call(), &Read::new("shop")).await.unwrap().value
    }

    async fn revealed(&self) -> Value {
        self.fixture.plane.configurations().reveal(&call(), &Read::new("shop")).await.unwrap().value
    }

    /// Everything that storage holds of configurations, as one text.
    async fn stored(&self) -> String {
        let scope = Scope { owner: "config.store".into(), namespace: "default".into() };
        let entries = self.fixture.storage.scan(&scope, "configurations", "", None, 1000).await.unwrap();
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).collect()
    }
}

#[tokio::test]
async fn a_secret_is_shown_to_nobody_who_does_not_ask_for_it() {
    let setting = Setting::new().await;
    setting.set("", &json!({"user": "shop"}), false).await.unwrap();
    let configurations = setting.fixture.plane.configurations();
    let mut watch = Box::pin(configurations.watch(&call(), "shop", Some("/password"), "", 1).unwrap());
    setting.set("/password", &json!("hunter2"), true).await.unwrap();
    let shown = setting.shown().await;
    let mark = shown["password"]["$secret"].as_str().unwrap();
    assert!(mark.starts_with("one:") && mark.len() == 4 + 16, "{mark}");
    assert_eq!(setting.revealed().await, json!({"user": "shop", "password": "hunter2"}));

    let (history, _) = configurations.history(&call(), "shop", (0, 9), 9, false).await.unwrap();
    let difference = configurations.difference(&call(), "shop", 1, None).await.unwrap().json();
    assert_eq!(history[1].change.touched, ["/password"]);
    let seen = loop {
        if let Event::Changes(seen) = watch.next().await.unwrap().unwrap() {
            break format!("{seen:?}");
        }
    };
    let told = [format!("{history:?}"), difference, seen, setting.stored().await].concat();
    assert!(!told.contains("hunter2"), "{told}");
    assert!(setting.stored().await.contains("\"$secret\":{\"data\":\""), "it is sealed where it is kept");
}

#[tokio::test]
async fn a_document_that_is_written_back_keeps_its_secrets() {
    let setting = Setting::new().await;
    setting.set("/list", &json!(["plain"]), false).await.unwrap();
    setting.set("/list/-", &json!("first"), true).await.unwrap();
    setting.set("/list/-", &json!({"second": 2}), true).await.unwrap();
    let mut shown = setting.shown().await;
    // Edited as it was shown, and turned around.
    let list = shown["list"].as_array_mut().unwrap();
    list.reverse();
    list.push(json!("new"));
    setting.set("", &shown, false).await.unwrap();
    assert_eq!(setting.revealed().await, json!({"list": [{"second": 2}, "first", "plain", "new"]}));
    let mark = shown["list"][0].clone();
    setting.set("/copy", &mark, false).await.unwrap();
    assert_eq!(setting.revealed().await["copy"], json!({"second": 2}));
    let edit = Edit { value: "{\"list\":null,\"copy\":{\"a\":1}}", ..Edit::new("shop", Action::Merge) };
    setting.edit(edit).await.unwrap();
    assert_eq!(setting.revealed().await, json!({"copy": {"a": 1}}), "merging replaces a secret as a whole");
    setting.edit(Edit { restores: 3, ..Edit::new("shop", Action::Rollback) }).await.unwrap();
    assert_eq!(setting.revealed().await, json!({"list": ["plain", "first", {"second": 2}]}));
}

#[tokio::test]
async fn nobody_can_write_what_only_the_host_may() {
    let setting = Setting::new().await;
    setting.set("/password", &json!("hunter2"), true).await.unwrap();
    let sealed = setting.stored().await;
    let start = sealed.find("{\"$secret\":{").unwrap();
    let end = start + sealed[start..].find("}}").unwrap() + 2;
    let stolen: Value = serde_json::from_str(&sealed[start..end]).unwrap();
    let mark = setting.shown().await["password"].clone();
    for (path, value) in [
        ("/copy", stolen),
        ("/copy", json!({"$secret": "one:0000000000000000"})),
        ("/copy", json!({"$secret": "x", "more": 1})),
        ("/copy", json!({"$secret": null})),
        ("/password/more", json!("x")),
        ("/password/$secret", json!("x")),
        ("/password/$secret/data", json!("x")),
    ] {
        let refused = setting.set(path, &value, false).await;
        assert!(matches!(refused, Err(ConfigError::Invalid(_))), "{path} {value}: {refused:?}");
    }
    let inside = setting.set("/copy", &json!({"a": {"$secret": "x"}}), true).await;
    assert!(matches!(inside, Err(ConfigError::Invalid(_))), "{inside:?}");
    // A mark stands for a secret of its own configuration.
    let value = mark.to_string();
    let elsewhere = setting.edit(Edit { value: &value, ..Edit::new("other", Action::Set) }).await;
    assert!(matches!(elsewhere, Err(ConfigError::Invalid(_))), "{elsewhere:?}");
    let configurations = setting.fixture.plane.configurations();
    assert!(configurations.get(&call(), &Read { path: "/password/$secret", ..Read::new("shop") }).await.is_err());
    assert!(configurations.watch(&call(), "shop", Some("/password/$secret"), "", 0).is_err());
}

#[tokio::test]
async fn keys_are_rotated_without_a_gap() {
    let setting = Setting::new().await;
    setting.set("/a", &json!("first"), true).await.unwrap();
    setting.use_keys("two", &["one", "two"]);
    setting.set("/b", &json!("second"), true).await.unwrap();
    assert_eq!(setting.revealed().await, json!({"a": "first", "b": "second"}));
    assert!(setting.shown().await["b"]["$secret"].as_str().unwrap().starts_with("two:"));

    let configurations = setting.fixture.plane.configurations();
    let mut watch = Box::pin(configurations.watch(&call(), "shop", Some("/a"), "", 2).unwrap());
    let resealed = setting.edit(Edit::new("shop", Action::Reseal)).await.unwrap();
    let version = resealed.version.unwrap();
    assert_eq!((version.number, resealed.changed, version.change.touched.len()), (3, true, 0));
    assert!(!setting.edit(Edit::new("shop", Action::Reseal)).await.unwrap().changed, "nothing is left to encrypt anew");
    setting.set("/a", &json!("third"), true).await.unwrap();
    let seen = loop {
        if let Event::Changes(seen) = watch.next().await.unwrap().unwrap() {
            break seen[0].version.number;
        }
    };
    assert_eq!(seen, 4, "encrypting anew is no change of a value");

    setting.use_keys("two", &["two"]);
    assert_eq!(setting.revealed().await, json!({"a": "third", "b": "second"}));
}

#[tokio::test]
async fn without_a_key_each_value_says_so_and_the_rest_is_served() {
    let setting = Setting::new().await;
    setting.set("", &json!({"plain": 1}), false).await.unwrap();
    setting.set("/old", &json!("first"), true).await.unwrap();
    setting.use_keys("two", &["two"]);
    setting.set("/new", &json!("second"), true).await.unwrap();
    let revealed = setting.revealed().await;
    assert_eq!((&revealed["plain"], &revealed["new"]), (&json!(1), &json!("second")));
    assert_eq!(revealed["old"]["problem"], "the key `one` is not among `config.secrets.keys`");
    assert!(revealed["old"]["$secret"].as_str().unwrap().starts_with("one:"));
    setting.set("/plain", &json!(2), false).await.unwrap();
    let resealed = setting.edit(Edit::new("shop", Action::Reseal)).await;
    assert_eq!(resealed, Err(ConfigError::Key(KeyError::Unknown("one".into()))));
    setting.fixture.plane.configurations().use_keys(SecretsConfig::default().build());
    assert_eq!(setting.set("/x", &json!("y"), true).await, Err(ConfigError::Key(KeyError::NoKey)));
    assert_eq!(setting.shown().await["plain"], 2);
}

#[tokio::test]
async fn a_schema_checks_secrets_and_does_not_tell_them() {
    let setting = Setting::new().await;
    setting.set("/port", &json!(8080), true).await.unwrap();
    let schema = json!({"properties": {"port": {"type": "integer"}, "name": {"pattern": "^[a-z]+$"}}}).to_string();
    setting.edit(Edit { value: &schema, ..Edit::new("shop", Action::Schema) }).await.unwrap();
    setting.set("/name", &json!("shop"), true).await.unwrap();
    let refused = setting.set("/name", &json!("HUNTER2"), true).await.unwrap_err().to_string();
    assert_eq!(refused, "the document does not match its schema: at `/name`: a secret value does not match");
}

/// A policy that may read configurations is shown marks.
#[tokio::test(flavor = "multi_thread")]
async fn a_policy_sees_no_secret() {
    let setting = Setting::new().await;
    setting.fixture.bind("auth.policy", alone(configured())).await;
    let value = json!(["GET"]).to_string();
    let edit = Edit { path: "/allowed", value: &value, secret: true, ..Edit::new("policy", Action::Set) };
    setting.edit(edit).await.unwrap();
    let verdict =
        setting.fixture.plane.auth().check(&call(), None, "GET", "/allowed", Arc::new(MapFacts::default())).await;
    assert!(!verdict.allowed && verdict.reason.contains("at `/allowed`"), "{verdict:?}");
}
