//! Settings: bounded JSON objects, checked against the JSON Schema of the plugin's manifest.
//!
//! Must not know how a schema is checked. Invariant: settings that pass are an object within the limits below.

use platform_document::{DEPTH_MAX, SchemaChecks, SchemaError, is_within};
use serde_json::{Map, Value};

/// Largest settings of one plugin, in bytes of JSON.
pub const SETTINGS_BYTES_MAX: usize = 1 << 20;

static CHECKS: SchemaChecks = SchemaChecks::new();

/// What is wrong with settings or a schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// They are not an object.
    #[error("they have to be a JSON object")]
    NotObject,
    /// They are too large.
    #[error("they are {size} bytes of JSON; {SETTINGS_BYTES_MAX} are allowed")]
    TooLarge {
        /// Their size.
        size: usize,
    },
    /// They are nested too deeply.
    #[error("they are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    /// They can't be written.
    #[error("they are no JSON: {0}")]
    NoJson(String),
    /// They don't match the schema, or it can't be checked.
    #[error(transparent)]
    Schema(#[from] SchemaError),
}

/// Checks a plugin's schema by itself. Blocks.
///
/// # Errors
/// What is wrong with it.
pub fn check_schema(schema: &Value) -> Result<(), Error> {
    Ok(CHECKS.check_schema(schema)?)
}

/// Checks settings against the limits and, when there is one, a schema. Blocks.
///
/// # Errors
/// What is wrong with them, and where.
pub fn check(schema: Option<&Value>, settings: &Map<String, Value>) -> Result<(), Error> {
    let settings = Value::Object(settings.clone());
    if !is_within(&settings, DEPTH_MAX) {
        return Err(Error::TooDeep);
    }
    let size = serde_json::to_vec(&settings).map_err(|error| Error::NoJson(error.to_string()))?.len();
    if size > SETTINGS_BYTES_MAX {
        return Err(Error::TooLarge { size });
    }
    let Some(schema) = schema else { return Ok(()) };
    Ok(CHECKS.check(schema, &settings, &[])?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn without_a_schema_only_the_limits_count() {
        check(None, &Map::new()).unwrap();
        let large = object(json!({ "x": "y".repeat(SETTINGS_BYTES_MAX) }));
        assert!(matches!(check(None, &large), Err(Error::TooLarge { .. })));
        let mut deep = json!(1);
        for _ in 0..DEPTH_MAX {
            deep = json!([deep]);
        }
        assert_eq!(check(None, &object(json!({ "x": deep }))), Err(Error::TooDeep));
    }

    #[test]
    fn with_a_schema_they_match_it() {
        let schema = json!({ "properties": { "x": { "type": "integer" } } });
        check_schema(&schema).unwrap();
        check(Some(&schema), &object(json!({ "x": 1 }))).unwrap();
        let error = check(Some(&schema), &object(json!({ "x": "1" }))).unwrap_err().to_string();
        assert!(error.starts_with("at `/x`"), "{error}");
    }
}
