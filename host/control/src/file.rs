//! The part of the configuration file that declares plugins and bindings.
//!
//! ```toml
//! [[plugin]]
//! path = "policies/office-hours.wasm"   # or: name = "kv-storage", one that ships with the daemon
//! grants = ["wasi"]
//!
//! [[binding]]
//! slot = "auth.policy"
//! plugins = ["auth-scopes", { plugin = "office-hours", settings = { from = 8, to = 18 } }]
//! failure = "closed"
//! ```
//!
//! Owns what may be written; [`Control::apply`](crate::Control::apply) makes it so.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use platform_capability::{Grants, Name};
use platform_dataplane::{FailureMode, SlotName};
use platform_runtime::Mode;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::{error::Result, record::LimitChanges};

/// A plugin to be installed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredPlugin {
    /// File of the component, relative to the configuration file. Without one it is NAME.wasm among those that ship with
    /// the daemon.
    pub path: Option<PathBuf>,
    /// Name, instead of the manifest's.
    pub name: Option<Name>,
    /// Version, instead of the manifest's.
    pub version: Option<String>,
    /// Its grants, all of them. Left out: they are not touched.
    pub grants: Option<Grants>,
}

/// A slot to be bound.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredBinding {
    /// The slot.
    pub slot: SlotName,
    /// The plugin, or the chain in order: a reference, or a table with its settings.
    pub plugins: Vec<DeclaredLink>,
    /// What happens when one of them fails.
    #[serde(default)]
    pub failure: FailureMode,
    /// Settings, when there is one plugin.
    #[serde(default, deserialize_with = "settings", skip_serializing_if = "Map::is_empty")]
    pub settings: Map<String, Value>,
    /// Instance mode, when there is one plugin.
    pub mode: Option<Mode>,
    /// Limits, when there is one plugin.
    #[serde(default)]
    pub limits: LimitChanges,
    /// Why.
    #[serde(default)]
    pub comment: String,
}

/// One plugin of a declared binding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeclaredLink {
    /// NAME, NAME@VERSION or digest.
    pub plugin: String,
    /// Its settings.
    pub settings: Map<String, Value>,
    /// Its instance mode.
    pub mode: Option<Mode>,
    /// Its limits.
    pub limits: LimitChanges,
}

/// What a configuration file declares.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Declaration {
    /// Its plugins.
    pub plugins: Vec<DeclaredPlugin>,
    /// Its bindings.
    pub bindings: Vec<DeclaredBinding>,
    /// The folder that paths are relative to.
    pub folder: PathBuf,
    /// Folders of the plugins that ship with the daemon; the first that has a plugin wins.
    pub bundled: Vec<PathBuf>,
}

impl Declaration {
    /// Reads a text that holds nothing but `[[plugin]]` and `[[binding]]`, with paths relative to `folder`.
    ///
    /// # Errors
    /// What is wrong, and in which line.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, toml::de::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Part {
            #[serde(default)]
            plugin: Vec<DeclaredPlugin>,
            #[serde(default)]
            binding: Vec<DeclaredBinding>,
        }
        let part: Part = toml::from_str(text)?;
        Ok(Self { plugins: part.plugin, bindings: part.binding, folder: folder.to_owned(), bundled: Vec::new() })
    }
}

impl DeclaredPlugin {
    /// How errors call the entry.
    #[must_use]
    pub fn label(&self) -> String {
        match (&self.path, &self.name) {
            (_, Some(name)) => format!("plugin `{name}`"),
            (Some(path), None) => format!("plugin `{}`", path.display()),
            (None, None) => "plugin without `path` and `name`".to_owned(),
        }
    }
}

impl<'de> Deserialize<'de> for DeclaredLink {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            plugin: String,
            #[serde(default, deserialize_with = "settings")]
            settings: Map<String, Value>,
            mode: Option<Mode>,
            #[serde(default)]
            limits: LimitChanges,
        }

        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = DeclaredLink;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a plugin's name, or a table with `plugin`")
            }

            fn visit_str<E: de::Error>(self, plugin: &str) -> Result<DeclaredLink, E> {
                let plugin = plugin.to_owned();
                Ok(DeclaredLink { plugin, settings: Map::new(), mode: None, limits: LimitChanges::default() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DeclaredLink, A::Error> {
                let table = Table::deserialize(de::value::MapAccessDeserializer::new(map))?;
                let Table { plugin, settings, mode, limits } = table;
                Ok(DeclaredLink { plugin, settings, mode, limits })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Settings are written in TOML and handed over as JSON.
fn settings<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let table = toml::Table::deserialize(deserializer)?;
    members(table).map_err(de::Error::custom)
}

fn members(table: toml::Table) -> Result<Map<String, Value>, String> {
    table.into_iter().map(|(key, value)| Ok((key, json(value)?))).collect()
}

fn json(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Boolean(truth) => Value::Bool(truth),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(items) => Value::Array(items.into_iter().map(json).collect::<Result<_, _>>()?),
        toml::Value::Table(table) => Value::Object(members(table)?),
        toml::Value::Float(number) => {
            let number = serde_json::Number::from_f64(number);
            Value::Number(number.ok_or("`nan` and `inf` can't be written in JSON, which settings become")?)
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Declaration, String> {
        Declaration::parse(text, Path::new("/etc/platform")).map_err(|error| error.to_string())
    }

    #[test]
    fn plugins_and_bindings_are_read() {
        let declaration = parse(
            r#"
            [[plugin]]
            path = "a.wasm"
            grants = ["storage", "network:redis:6379"]

            [[binding]]
            slot = "auth.policy/payments"
            plugins = ["auth-scopes", { plugin = "a@0.1.0", mode = "reused", limits = { deadline_ms = 5 }, settings = { at = 2026-01-01, n = [1, 2.5] } }]
            failure = "fallback:strict"
            "#,
        )
        .unwrap();
        assert_eq!(declaration.plugins[0].grants.as_ref().unwrap().len(), 2);
        let binding = &declaration.bindings[0];
        assert_eq!(binding.slot.to_string(), "auth.policy/payments");
        assert_eq!(binding.plugins[0].plugin, "auth-scopes");
        assert_eq!(binding.plugins[1].settings["at"], json!("2026-01-01"));
        assert_eq!(binding.plugins[1].settings["n"], json!([1, 2.5]));
        assert_eq!(binding.plugins[1].limits.deadline_ms, Some(5));
        assert_eq!(binding.plugins[1].mode, Some(Mode::Reused));
        assert_eq!(binding.failure.to_string(), "fallback:strict");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, named) in [
            ("[[plugins]]", "plugins"),
            ("[[plugin]]\ngrant = []", "grant"),
            ("[[plugin]]\nname = '../x'", "../x"),
            ("[[plugin]]\ngrants = ['root']", "root"),
            ("[[binding]]\nplugins = ['a']", "slot"),
            ("[[binding]]\nslot = 'kv'\nplugins = ['a']", "kv"),
            ("[[binding]]\nslot = 'kv.store'\nplugins = [1]", "plugin's name"),
            ("[[binding]]\nslot = 'kv.store'\nplugins = [{ plugin = 'a', colour = 1 }]", "colour"),
            ("[[binding]]\nslot = 'kv.store'\nplugins = ['a']\nfailure = 'never'", "never"),
            ("[[binding]]\nslot = 'kv.store'\nplugins = ['a']\nsettings = { x = nan }", "nan"),
            ("[[binding]]\nslot = 'kv.store'\nplugins = ['a']\nlimits = { memory = 1 }", "memory"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
