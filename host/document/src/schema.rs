//! JSON Schema (2020-12 unless a schema says otherwise): checks of schemas, and of values against them.
//!
//! A schema is as foreign as whoever wrote it: it can't load other documents, and checking runs on a thread of its own with
//! room for deep recursion, under a time limit. Invariant: a check answers in time, whatever the schema.

mod cost;

use std::{
    error::Error as StdError,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use boon::{Compiler, Draft, Schemas, UrlLoader, ValidationError};
use serde_json::Value;

use crate::{DEPTH_MAX, Pointer, is_within};

/// Most references within a schema.
const REFERENCES_MAX: usize = 512;
/// Longest check.
const TIME_MAX: Duration = Duration::from_secs(3);
/// Most problems that are told.
const PROBLEMS_MAX: usize = 8;
/// Most checks at once, those that ran out of time included.
const CHECKS_MAX: usize = 8;
/// Stack of a check. Address space, not memory.
const STACK_BYTES: usize = 256 << 20;

/// Where a schema pretends to be, so that references within it resolve.
const LOCATION: &str = "settings:///schema.json";

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The value does not match the schema: JSON pointers (RFC 6901) and what is wrong there.
    #[error("{}", .0.join("; "))]
    Mismatch(Vec<String>),
    /// The schema itself is wrong.
    #[error("{0}")]
    Schema(String),
    /// Checking takes too long.
    #[error("checking against the schema takes longer than {} s", TIME_MAX.as_secs())]
    TooSlow,
    /// Too many checks run.
    #[error("too many checks are running; try again")]
    Busy,
}

/// Checks, and counts those that run: each user has its own, so that one can't starve the others.
#[derive(Debug, Default)]
pub struct SchemaChecks(AtomicUsize);

impl SchemaChecks {
    /// None running.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Checks a schema by itself. Blocks.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_schema(&'static self, schema: &Value) -> Result<(), SchemaError> {
        if !is_within(schema, DEPTH_MAX) {
            return Err(SchemaError::Schema(format!("it is nested more than {DEPTH_MAX} deep")));
        }
        if references(schema) > REFERENCES_MAX {
            return Err(SchemaError::Schema(format!("it holds more than {REFERENCES_MAX} references")));
        }
        let schema = schema.clone();
        self.timed(move || compiled(schema).map(drop))
    }

    /// The same for a schema of someone who is not trusted with the time of this process: one that could take exponential
    /// time is refused, because a check that has begun can't be stopped. Blocks.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_cheap_schema(&'static self, schema: &Value) -> Result<(), SchemaError> {
        self.check_schema(schema)?;
        cost::check(schema)
    }

    /// Checks a value against a schema. Of what is wrong at a `hidden` place or below it, no more than that is told. Blocks.
    ///
    /// # Errors
    /// What is wrong with either, and where.
    pub fn check(&'static self, schema: &Value, value: &Value, hidden: &[Pointer]) -> Result<(), SchemaError> {
        let (schema, value, hidden) = (schema.clone(), value.clone(), hidden.to_vec());
        self.timed(move || {
            let (schemas, index) = compiled(schema)?;
            schemas.validate(&value, index).map_err(|error| {
                let mut problems = Vec::new();
                tell(&error, &hidden, &mut problems);
                SchemaError::Mismatch(problems)
            })
        })
    }

    /// Runs a check on a thread with a deep stack. One that does not end in time is left behind and counts as running.
    fn timed<T: Send + 'static>(
        &'static self, check: impl FnOnce() -> Result<T, SchemaError> + Send + 'static,
    ) -> Result<T, SchemaError> {
        let running = Running(&self.0);
        if self.0.fetch_add(1, Ordering::SeqCst) >= CHECKS_MAX {
            return Err(SchemaError::Busy);
        }
        let (sender, receiver) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("schema".into()).stack_size(STACK_BYTES).spawn(move || {
            let _running = running;
            // Nobody listens any more when the check took too long.
            let _ = sender.send(check());
        });
        match thread {
            Ok(_) => match receiver.recv_timeout(TIME_MAX) {
                Ok(result) => result,
                Err(mpsc::RecvTimeoutError::Timeout) => Err(SchemaError::TooSlow),
                Err(mpsc::RecvTimeoutError::Disconnected) => Err(SchemaError::Schema("checking it failed".to_owned())),
            },
            Err(_) => Err(SchemaError::Busy),
        }
    }
}

struct Running(&'static AtomicUsize);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn compiled(schema: Value) -> Result<(Schemas, boon::SchemaIndex), SchemaError> {
    let wrong = |error: boon::CompileError| SchemaError::Schema(error.to_string().chars().take(500).collect());
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V2020_12);
    compiler.use_loader(Box::new(Nothing));
    compiler.add_resource(LOCATION, schema).map_err(wrong)?;
    let index = compiler.compile(LOCATION, &mut schemas).map_err(wrong)?;
    Ok((schemas, index))
}

/// The leaves of an error: what is wrong, at which place of the value.
fn tell(error: &ValidationError<'_, '_>, hidden: &[Pointer], problems: &mut Vec<String>) {
    if problems.len() >= PROBLEMS_MAX {
        return;
    }
    if error.causes.is_empty() {
        let place = error.instance_location.to_string();
        let is_hidden = place.parse::<Pointer>().is_ok_and(|place| hidden.iter().any(|hidden| hidden.holds(&place)));
        let what = if is_hidden { "a secret value does not match".to_owned() } else { error.kind.to_string() };
        let what: String = what.chars().take(300).collect();
        problems.push(format!("at `{}`: {what}", if place.is_empty() { "/" } else { &place }));
    }
    for cause in &error.causes {
        tell(cause, hidden, problems);
    }
}

/// Loads nothing: a schema stands for itself.
struct Nothing;

impl UrlLoader for Nothing {
    fn load(&self, url: &str) -> Result<Value, Box<dyn StdError>> {
        let url: String = url.chars().take(200).collect();
        Err(format!("`{url}` is another document; a schema can refer to itself only").into())
    }
}

fn references(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(references).sum(),
        Value::Object(members) => {
            let own = members.keys().filter(|key| key.ends_with("Ref") || key.as_str() == "$ref").count();
            own + members.values().map(references).sum::<usize>()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::*;

    static CHECKS: SchemaChecks = SchemaChecks::new();

    #[test]
    fn a_mismatch_names_its_place() {
        let schema = json!({
            "type": "object", "additionalProperties": false,
            "properties": { "rules": { "type": "array", "items": {
                "type": "object", "required": ["effect"],
                "properties": { "effect": { "enum": ["allow", "deny"] } } } } }
        });
        CHECKS.check_schema(&schema).unwrap();
        CHECKS.check(&schema, &json!({ "rules": [{ "effect": "allow" }] }), &[]).unwrap();
        let error = CHECKS.check(&schema, &json!({ "rules": [{ "effect": "allow" }, { "effect": "maybe" }] }), &[]);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("`/rules/1/effect`"), "{text}");
        let value = json!({ "rules": [{ "effect": "hunter2" }] });
        let hidden = ["/rules/0/effect".parse().unwrap()];
        let told = CHECKS.check(&schema, &value, &hidden).unwrap_err().to_string();
        assert_eq!(told, "at `/rules/0/effect`: a secret value does not match");
        let text = CHECKS.check(&schema, &json!({ "rule": 1 }), &[]).unwrap_err().to_string();
        assert!(text.contains("rule"), "{text}");
    }

    #[test]
    fn hostile_schemas_are_errors() {
        for schema in [
            json!({ "type": 7 }),
            json!({ "$ref": "file:///etc/passwd" }),
            json!({ "$ref": "https://example.com/schema.json" }),
            json!({ "$schema": "https://example.com/meta.json" }),
            json!({ "pattern": "(" }),
            json!({ "$ref": "#/nowhere" }),
            json!({ "allOf": vec![json!({ "$ref": "#" }); REFERENCES_MAX + 1] }),
        ] {
            assert!(matches!(CHECKS.check_schema(&schema), Err(SchemaError::Schema(_))), "{schema}");
        }
        let endless = json!({ "$ref": "#" });
        assert!(CHECKS.check(&endless, &json!({}), &[]).is_err());
    }

    #[test]
    fn a_schema_that_takes_exponential_time_is_given_up() {
        static CHECKS: SchemaChecks = SchemaChecks::new();
        let mut definitions = Map::new();
        for level in 0..60 {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            definitions.insert(format!("d{level}"), json!({ "allOf": [next.clone(), next] }));
        }
        definitions.insert("d60".to_owned(), json!({ "type": "object" }));
        let schema = json!({ "$ref": "#/$defs/d0", "$defs": definitions });
        assert_eq!(CHECKS.check(&schema, &json!({}), &[]), Err(SchemaError::TooSlow));
    }
}
