//! Makes a configuration of variables: `SHOP_DATABASE__HOST=db1` is `{"database": {"host": "db1"}}` with the settings
//! `{"id": "shop", "prefix": "SHOP_"}`. The plugin sees what it was granted, such as `env:SHOP_*`.

use platform_sdk::{Problem, config};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variables {
    /// Name of the configuration.
    id: String,
    /// Start of the variables' names, which is left out.
    prefix: String,
    /// What stands between the names of members.
    #[serde(default = "separator")]
    separator: String,
}

fn separator() -> String {
    "__".to_owned()
}

platform_sdk::export!(
    config::Source for Variables,
    mode = "single",
    grants = ["wasi"],
    settings_schema = include_str!("../settings.schema.json"),
);

impl config::Source for Variables {
    type Settings = Self;

    fn configure(variables: Self) -> Result<Self, Problem> {
        config::check_id(&variables.id).map_err(|error| Problem::new(format!("{error:?}")).at("/id"))?;
        if variables.separator.is_empty() {
            return Err(Problem::new("a separator has at least one character").at("/separator"));
        }
        Ok(variables)
    }

    fn load(&mut self) -> Result<Vec<config::Document>, String> {
        Ok(vec![config::Document::new(&self.id, &self.document(std::env::vars())?)?])
    }
}

impl Variables {
    fn document(&self, variables: impl Iterator<Item = (String, String)>) -> Result<Value, String> {
        let mut named: Vec<_> =
            variables.filter_map(|(name, value)| Some((name.strip_prefix(&self.prefix)?.to_owned(), value))).collect();
        named.sort();
        let mut document = Map::new();
        for (name, value) in named {
            let lower = name.to_lowercase();
            let mut path: Vec<&str> = lower.split(&self.separator).collect();
            let Some(last) = path.pop() else { continue };
            let clash = || format!("`{}{name}` can't be a member of a value that is there by itself", self.prefix);
            let mut place = &mut document;
            for member in path {
                let inner = place.entry(member).or_insert_with(|| Value::Object(Map::new()));
                place = inner.as_object_mut().ok_or_else(clash)?;
            }
            if place.insert(last.to_owned(), value_of(value)).is_some() {
                return Err(format!("`{}{name}` is there twice, as a value and as more than one", self.prefix));
            }
        }
        Ok(Value::Object(document))
    }
}

/// JSON where it is JSON, and text otherwise.
fn value_of(text: String) -> Value {
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

#[cfg(test)]
mod tests;
