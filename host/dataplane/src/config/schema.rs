//! Schemas: what a document has to match before it is kept.

use platform_document::{Pointer, SchemaChecks, SchemaError};
use serde_json::Value;

use super::{ConfigError, Result};
use crate::error::CallError;

/// Largest schema, in bytes of JSON without blanks.
const SCHEMA_BYTES_MAX: usize = 256 << 10;

static CHECKS: SchemaChecks = SchemaChecks::new();

/// Checks a schema that is to be attached.
pub(super) async fn check_schema(schema: &Value) -> Result<()> {
    let size = schema.to_string().len();
    if size > SCHEMA_BYTES_MAX {
        let why = format!("the schema has {size} bytes, more than {SCHEMA_BYTES_MAX}");
        return Err(CallError::Capability(ConfigError::TooLarge(why)));
    }
    let schema = schema.clone();
    blocking(move || CHECKS.check_cheap_schema(&schema)).await
}

/// Checks a document against its schema, a JSON text.
pub(super) async fn check(schema: &str, document: &Value, hidden: Vec<Pointer>) -> Result<()> {
    let schema: Value = serde_json::from_str(schema).map_err(|error| {
        CallError::Capability(ConfigError::Other(format!("the store answers with a schema that is none: {error}")))
    })?;
    let document = document.clone();
    blocking(move || CHECKS.check(&schema, &document, &hidden)).await
}

/// Checks block, and may take seconds.
async fn blocking(check: impl FnOnce() -> std::result::Result<(), SchemaError> + Send + 'static) -> Result<()> {
    let answer = tokio::task::spawn_blocking(check).await;
    let answer = answer.unwrap_or_else(|error| Err(SchemaError::Schema(format!("checking it did not end: {error}"))));
    answer.map_err(|error| {
        CallError::Capability(match error {
            SchemaError::Mismatch(_) => ConfigError::Mismatch(error.to_string()),
            SchemaError::Busy => ConfigError::Unavailable(error.to_string()),
            _ => ConfigError::Invalid(format!("the schema can't be used: {error}")),
        })
    })
}
