//! Settings: bounded JSON objects, checked against the JSON Schema of the plugin's manifest.
//!
//! The schema is as foreign as the plugin: it can't load other documents, and checking runs on a thread of its own with
//! room for deep recursion, under a time limit. Invariant: settings that pass are an object within the limits below.

use std::{
    error::Error as StdError,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use boon::{Compiler, Draft, Schemas, UrlLoader, ValidationError};
use serde_json::{Map, Value};

/// Largest settings of one plugin, in bytes of JSON.
pub const SETTINGS_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting of settings and schemas.
pub const DEPTH_MAX: usize = 64;
/// Most references within a schema.
const REFERENCES_MAX: usize = 512;
/// Most problems that are told.
const PROBLEMS_MAX: usize = 8;
/// Longest check.
const CHECK_TIME_MAX: Duration = Duration::from_secs(3);
/// Most checks at once, those that ran out of time included.
const CHECKS_MAX: usize = 8;
/// Stack of a check. Address space, not memory.
const STACK_BYTES: usize = 256 << 20;

/// Where a schema pretends to be, so that references within it resolve.
const LOCATION: &str = "settings:///schema.json";

static CHECKS: AtomicUsize = AtomicUsize::new(0);

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
    /// They don't match the schema: JSON pointers (RFC 6901) and what is wrong there.
    #[error("{}", .0.join("; "))]
    Mismatch(Vec<String>),
    /// The schema itself is wrong.
    #[error("{0}")]
    Schema(String),
    /// Checking takes too long.
    #[error("checking them against the schema takes longer than {} s", CHECK_TIME_MAX.as_secs())]
    TooSlow,
    /// Too many checks run.
    #[error("too many checks are running; try again")]
    Busy,
}

/// Checks a plugin's schema by itself. Blocks.
///
/// # Errors
/// What is wrong with it.
pub fn check_schema(schema: &Value) -> Result<(), Error> {
    if !within(schema, DEPTH_MAX) {
        return Err(Error::Schema(format!("it is nested more than {DEPTH_MAX} deep")));
    }
    if references(schema) > REFERENCES_MAX {
        return Err(Error::Schema(format!("it holds more than {REFERENCES_MAX} references")));
    }
    let schema = schema.clone();
    timed(move || compiled(schema).map(drop))
}

/// Checks settings against the limits and, when there is one, a schema. Blocks.
///
/// # Errors
/// What is wrong with them, and where.
pub fn check(schema: Option<&Value>, settings: &Map<String, Value>) -> Result<(), Error> {
    let settings = Value::Object(settings.clone());
    if !within(&settings, DEPTH_MAX) {
        return Err(Error::TooDeep);
    }
    let size = serde_json::to_vec(&settings).map_err(|error| Error::Schema(error.to_string()))?.len();
    if size > SETTINGS_BYTES_MAX {
        return Err(Error::TooLarge { size });
    }
    let Some(schema) = schema.cloned() else { return Ok(()) };
    timed(move || {
        let (schemas, index) = compiled(schema)?;
        schemas.validate(&settings, index).map_err(|error| {
            let mut problems = Vec::new();
            tell(&error, &mut problems);
            Error::Mismatch(problems)
        })
    })
}

fn compiled(schema: Value) -> Result<(Schemas, boon::SchemaIndex), Error> {
    let wrong = |error: boon::CompileError| Error::Schema(error.to_string().chars().take(500).collect());
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V2020_12);
    compiler.use_loader(Box::new(Nothing));
    compiler.add_resource(LOCATION, schema).map_err(wrong)?;
    let index = compiler.compile(LOCATION, &mut schemas).map_err(wrong)?;
    Ok((schemas, index))
}

/// The leaves of an error: what is wrong, at which place of the settings.
fn tell(error: &ValidationError<'_, '_>, problems: &mut Vec<String>) {
    if problems.len() >= PROBLEMS_MAX {
        return;
    }
    if error.causes.is_empty() {
        let place = error.instance_location.to_string();
        let what: String = error.kind.to_string().chars().take(300).collect();
        problems.push(format!("at `{}`: {what}", if place.is_empty() { "/" } else { &place }));
    }
    for cause in &error.causes {
        tell(cause, problems);
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

/// Runs a check on a thread with a deep stack. One that does not end in time is left behind and counts as running.
fn timed<T: Send + 'static>(check: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    if CHECKS.fetch_add(1, Ordering::SeqCst) >= CHECKS_MAX {
        CHECKS.fetch_sub(1, Ordering::SeqCst);
        return Err(Error::Busy);
    }
    let running = Running;
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name("settings".into()).stack_size(STACK_BYTES).spawn(move || {
        let _running = running;
        // Nobody listens any more when the check took too long.
        let _ = sender.send(check());
    });
    match thread {
        Ok(_) => match receiver.recv_timeout(CHECK_TIME_MAX) {
            Ok(result) => result,
            Err(mpsc::RecvTimeoutError::Timeout) => Err(Error::TooSlow),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::Schema("checking it failed".to_owned())),
        },
        Err(_) => Err(Error::Busy),
    }
}

struct Running;

impl Drop for Running {
    fn drop(&mut self) {
        CHECKS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a value is nested no deeper than `left`.
fn within(value: &Value, left: usize) -> bool {
    let Some(left) = left.checked_sub(1) else { return false };
    match value {
        Value::Array(items) => items.iter().all(|item| within(item, left)),
        Value::Object(members) => members.values().all(|member| within(member, left)),
        _ => true,
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
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            other => panic!("{other} is no object"),
        }
    }

    #[test]
    fn a_mismatch_names_its_place() {
        let schema = json!({
            "type": "object", "additionalProperties": false,
            "properties": { "rules": { "type": "array", "items": {
                "type": "object", "required": ["effect"],
                "properties": { "effect": { "enum": ["allow", "deny"] } } } } }
        });
        check_schema(&schema).unwrap();
        check(Some(&schema), &object(json!({ "rules": [{ "effect": "allow" }] }))).unwrap();
        let error = check(Some(&schema), &object(json!({ "rules": [{ "effect": "allow" }, { "effect": "maybe" }] })));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("`/rules/1/effect`"), "{text}");
        let text = check(Some(&schema), &object(json!({ "rule": 1 }))).unwrap_err().to_string();
        assert!(text.contains("rule"), "{text}");
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
            assert!(matches!(check_schema(&schema), Err(Error::Schema(_))), "{schema}");
        }
        let endless = json!({ "$ref": "#" });
        assert!(check(Some(&endless), &Map::new()).is_err());
    }

    #[test]
    fn a_schema_that_takes_exponential_time_is_given_up() {
        let mut definitions = Map::new();
        for level in 0..60 {
            let next = json!({ "$ref": format!("#/$defs/d{}", level + 1) });
            definitions.insert(format!("d{level}"), json!({ "allOf": [next.clone(), next] }));
        }
        definitions.insert("d60".to_owned(), json!({ "type": "object" }));
        let schema = json!({ "$ref": "#/$defs/d0", "$defs": definitions });
        assert_eq!(check(Some(&schema), &Map::new()), Err(Error::TooSlow));
    }
}
