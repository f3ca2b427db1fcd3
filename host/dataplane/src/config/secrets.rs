//! Secret values in documents: what is stored is sealed, what is shown is a mark.
//!
//! Stored is `{"$secret": {"key": ID, "data": BASE64}}`, shown is `{"$secret": "ID:FINGERPRINT"}`. Who writes a document back
//! as it was shown keeps its secrets: a mark stands for the sealed value with that fingerprint. Invariant: nothing but the
//! store ever sees a sealed value, and nobody can write one.

use base64::{Engine, engine::general_purpose::STANDARD};
use platform_capability::Call;
use platform_document::{Pointer, SECRET, canonical, mentions_secret, replace_secrets, secret};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::{
    ConfigError, Result,
    keys::{KeyError, Keys, Sealed},
    refused,
};
use crate::error::CallError;

/// Digits of a fingerprint.
const FINGERPRINT: usize = 16;

/// The way to the secrets of one configuration.
#[derive(Debug)]
pub(super) struct Secrets<'a> {
    keys: &'a Keys,
    /// What a value is bound to: one that is copied elsewhere does not open there.
    place: String,
}

impl<'a> Secrets<'a> {
    pub(super) fn of(keys: &'a Keys, call: &Call, id: &str) -> Self {
        Self { keys, place: format!("platform.config\n{}\n{id}", call.namespace) }
    }

    /// Encrypts a value.
    pub(super) fn seal(&self, value: &Value) -> Result<Value> {
        if mentions_secret(value) {
            return Err(refused(format!("a secret value can't hold a member `{SECRET}`")));
        }
        let Sealed { key, data } = self.keys.seal(&self.place, canonical(value).as_bytes()).map_err(unreadable)?;
        Ok(json!({SECRET: {"key": key, "data": STANDARD.encode(data)}}))
    }

    /// The document with its values in place of what stands for them.
    pub(super) fn reveal(&self, mut document: Value) -> Result<Value> {
        replace_secrets(&mut document, &mut |form| self.open(form))?;
        Ok(document)
    }

    /// The same where each value that can't be had says why.
    pub(super) fn reveal_each(&self, value: &mut Value) -> Result<()> {
        replace_secrets(value, &mut |form| {
            Ok(match self.open(form) {
                Ok(value) => value,
                Err(CallError::Capability(ConfigError::Key(why))) => {
                    json!({SECRET: mark(&read(form)?), "problem": why.to_string()})
                }
                Err(error) => return Err(error),
            })
        })
    }

    /// The document with everything encrypted by the key that is current.
    pub(super) fn reseal(&self, mut document: Value) -> Result<Value> {
        replace_secrets(&mut document, &mut |form| {
            let sealed = read(form)?;
            if self.keys.writes(&sealed.key) {
                return Ok(json!({SECRET: form.clone()}));
            }
            self.seal(&self.open(form)?)
        })?;
        Ok(document)
    }

    fn open(&self, form: &Value) -> Result<Value> {
        let opened = self.keys.open(&self.place, &read(form)?).map_err(unreadable)?;
        serde_json::from_slice(&opened).map_err(|error| damaged(&error))
    }
}

/// The document as it is shown.
pub(super) fn redact(mut document: Value) -> Result<Value> {
    replace_secrets(&mut document, &mut |form| Ok(json!({SECRET: mark(&read(form)?)})))?;
    Ok(document)
}

/// Puts the sealed values of `before` in place of the marks that stand for them in `after`. Sealed values, of `before` or made
/// now, stay.
pub(super) fn keep(mut after: Value, before: Option<&Value>) -> Result<Value> {
    if !mentions_secret(&after) {
        return Ok(after);
    }
    let mut known = Vec::new();
    if let Some(before) = before {
        let mut before = before.clone();
        replace_secrets(&mut before, &mut |form| {
            known.push((mark(&read(form)?), form.clone()));
            Ok(Value::Null)
        })?;
    }
    replace_secrets(&mut after, &mut |form| {
        let Value::String(wanted) = form else { return Ok(json!({SECRET: form.clone()})) };
        let found = known.iter().find(|(mark, _)| *mark == *wanted).map(|(_, form)| json!({SECRET: form.clone()}));
        let shown: String = wanted.escape_debug().take(100).collect();
        found.ok_or_else(|| {
            refused(format!("the configuration holds no secret `{shown}`; set the value anew, as a secret"))
        })
    })?;
    Ok(after)
}

/// Refuses what only the host may write: of secrets a caller writes marks alone.
pub(super) fn check_input(value: &Value) -> Result<()> {
    let allowed = match value {
        Value::Object(members) if members.contains_key(SECRET) => secret(value).is_some_and(Value::is_string),
        Value::Object(members) => return members.values().try_for_each(check_input),
        Value::Array(items) => return items.iter().try_for_each(check_input),
        _ => true,
    };
    if allowed {
        Ok(())
    } else {
        Err(refused(format!("the member name `{SECRET}` is reserved; to encrypt a value, set it as a secret")))
    }
}

/// Refuses a path into a secret.
pub(super) fn check_path(path: &Pointer) -> Result<()> {
    if path.enters_secret() {
        return Err(refused(format!("the path leads to a member `{SECRET}`, which has no parts")));
    }
    Ok(())
}

/// What stands for a sealed value where it is shown.
fn mark(sealed: &Sealed) -> String {
    let digest = format!("{:x}", Sha256::digest(&sealed.data));
    format!("{}:{}", sealed.key, digest.get(..FINGERPRINT).unwrap_or_default())
}

fn read(form: &Value) -> Result<Sealed> {
    let text = |name: &str| form.get(name).and_then(Value::as_str);
    let (Some(key), Some(data)) = (text("key"), text("data")) else { return Err(damaged(&"it has no key or no data")) };
    let data = STANDARD.decode(data).map_err(|error| damaged(&error))?;
    Ok(Sealed { key: key.to_owned(), data })
}

fn unreadable(error: KeyError) -> CallError<ConfigError> {
    CallError::Capability(ConfigError::Key(error))
}

fn damaged(why: &dyn std::fmt::Display) -> CallError<ConfigError> {
    CallError::Capability(ConfigError::Other(format!("the store answers with a secret that is none: {why}")))
}
