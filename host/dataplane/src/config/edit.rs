//! Changes: what a document becomes, and how the version is made that says so.
//!
//! Invariant: what was checked is what is committed. A change that comes between makes it be computed and checked anew, and
//! one that changes nothing makes no version.

use platform_base::clock;
use platform_capability::{
    Call,
    config::{self, Candidate, Change, Content, Version},
};
use platform_document::{
    BYTES_MAX, DEPTH_MAX, Pointer, canonical, checksum, difference, is_within, merge, secret_places, touched,
};
use serde_json::{Map, Value};

use super::{
    Config, ConfigError, Result, ask, check_id, pointer, read_document, refused, schema,
    secrets::{self, Secrets},
    validators::Proposal,
};
use crate::error::CallError;

pub use platform_capability::config::Action;

/// Longest comment, in bytes.
const COMMENT_BYTES_MAX: usize = 1024;
/// Largest difference that is kept with a version, in bytes.
const DIFFERENCE_BYTES_MAX: usize = 16 << 10;

/// A change to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit<'a> {
    /// Name of the configuration.
    pub id: &'a str,
    /// What to do.
    pub action: Action,
    /// Where: a JSON Pointer, empty for the whole document.
    pub path: &'a str,
    /// The value to set or merge, or the schema to attach; a JSON text, empty where there is none.
    pub value: &'a str,
    /// Whether the value to set is a secret: it is stored encrypted, and shown to nobody who may not see it.
    pub secret: bool,
    /// Percentage of instances that are served the candidate.
    pub percent: u32,
    /// The version to go back to.
    pub restores: u64,
    /// What the author says about it.
    pub comment: &'a str,
    /// The version that the configuration has to be at, 0 for none.
    pub if_version: Option<u64>,
}

impl<'a> Edit<'a> {
    /// A change of the whole document, to be completed.
    #[must_use]
    pub const fn new(id: &'a str, action: Action) -> Self {
        Self { id, action, path: "", value: "", secret: false, percent: 0, restores: 0, comment: "", if_version: None }
    }
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Edited {
    /// The version that the configuration is at now; none when there is none.
    pub version: Option<Version>,
    /// Whether the change made that version; else everything was already as asked.
    pub changed: bool,
}

/// A change whose arguments are good.
struct Checked<'a> {
    edit: &'a Edit<'a>,
    path: Pointer,
    value: Option<Value>,
}

/// What a configuration would become.
struct Step {
    /// The document as it is shown.
    before: Option<Value>,
    /// The new document as it would be shown.
    after: Option<Value>,
    /// The new document as it is.
    revealed: Option<Value>,
    content: Content,
}

impl Config {
    /// Makes a change.
    ///
    /// # Errors
    /// An argument is not allowed, the configuration is not at the version named, the document would not match its schema,
    /// or a validator refuses; nothing was changed then.
    pub async fn edit(&self, call: &Call, edit: &Edit<'_>) -> Result<Edited> {
        let keys = self.keys.load_full();
        let secrets = Secrets::of(&keys, call, edit.id);
        let checked = Checked::new(edit, &secrets)?;
        loop {
            let current = ask(self.provider.call::<config::Get, _>(call, (edit.id, None)).await)?;
            let number = current.as_ref().map_or(0, |(version, _)| version.number);
            if edit.if_version.is_some_and(|wanted| wanted != number) {
                return Err(CallError::Capability(ConfigError::Conflict(number)));
            }
            let nothing = Content { document: None, schema: None, candidate: None };
            let (version, content) = match current {
                Some((version, content)) => (Some(version), content),
                None => (None, nothing),
            };
            let step = self.step(call, &checked, &content, &secrets).await?;
            if step.content == content {
                return Ok(Edited { version, changed: false });
            }
            let change = step.change(call, edit, version.as_ref().map_or(0, |version| version.change.time_ms));
            Self::check_schema(&checked, &step).await?;
            let proposal = Proposal::new(step.before, step.after, &change);
            self.judge(call, edit.id, &change, proposal).await?;
            let commit =
                self.provider.write::<config::Commit, _>(call, (edit.id, number, &change, &step.content)).await;
            match ask(commit) {
                Ok(version) => return Ok(Edited { version: Some(version), changed: true }),
                Err(CallError::Capability(ConfigError::Conflict(_))) if edit.if_version.is_none() => {
                    // Whoever came between has got on; this one tries for as long as its call has time.
                    if clock::now() >= call.deadline {
                        return Err(CallError::Capability(ConfigError::Contended(edit.id.to_owned())));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The document has to match its schema; a schema that is new has to be one.
    async fn check_schema(checked: &Checked<'_>, step: &Step) -> Result<()> {
        if let (Action::Schema, Some(schema)) = (checked.edit.action, &checked.value) {
            schema::check_schema(schema).await?;
        }
        match (&step.content.schema, &step.revealed) {
            (Some(schema), Some(document)) => {
                let hidden = step.after.as_ref().map(secret_places).unwrap_or_default();
                schema::check(schema, document, hidden).await
            }
            _ => Ok(()),
        }
    }

    /// What the change makes of `content`.
    async fn step(&self, call: &Call, checked: &Checked<'_>, content: &Content, secrets: &Secrets<'_>) -> Result<Step> {
        let before = read_document(content)?;
        let Checked { edit, path, value } = checked;
        let mut schema = content.schema.clone();
        let candidate = content.candidate.as_ref().map(read_candidate).transpose()?;
        check_stage(edit, candidate.is_some())?;
        let after = match (edit.action, value) {
            (Action::Set, Some(value)) => Some(put(before.clone(), path, value.clone())?),
            (Action::Merge, Some(patch)) => {
                let mut merged =
                    before.as_ref().and_then(|document| path.get(document)).cloned().unwrap_or(Value::Null);
                merge(&mut merged, patch.clone());
                Some(put(before.clone(), path, merged)?)
            }
            (Action::Delete, _) if path.is_root() => {
                schema = None;
                None
            }
            (Action::Delete, _) => before.clone().map(|mut document| {
                path.remove(&mut document);
                document
            }),
            (Action::Rollback, _) => {
                let (_, content) = self.version(call, edit.id, Some(edit.restores)).await?;
                schema.clone_from(&content.schema);
                read_document(&content)?
            }
            (Action::Schema | Action::Stage, _) if before.is_none() => {
                let why = format!("there is no configuration `{}`; set its document first", edit.id);
                return Err(CallError::Capability(ConfigError::NotFound(why)));
            }
            (Action::Schema, value) => {
                schema = value.as_ref().map(canonical);
                before.clone()
            }
            (Action::Reseal, _) => before.clone().map(|document| secrets.reseal(document)).transpose()?,
            (Action::Stage, Some(value)) => Some(put(before.clone(), path, value.clone())?),
            (Action::Stage | Action::Promote, _) => candidate,
            (Action::Abort | Action::Set | Action::Merge, _) => before.clone(),
        };
        let after = after.map(|document| secrets::keep(document, before.as_ref())).transpose()?;
        let document = after.as_ref().map(write_document).transpose()?;
        let revealed = match (&schema, &after) {
            (Some(_), Some(document)) => Some(secrets.reveal(document.clone())?),
            _ => None,
        };
        let (before, after) = (before.map(secrets::redact).transpose()?, after.map(secrets::redact).transpose()?);
        let content = match edit.action {
            // The document stays, and the candidate is judged as what it may become.
            Action::Stage => Content {
                document: content.document.clone(),
                schema,
                candidate: document.map(|document| Candidate { document, percent: edit.percent }),
            },
            _ => Content { document, schema, candidate: None },
        };
        Ok(Step { before, after, revealed, content })
    }
}

impl Step {
    fn change(&self, call: &Call, edit: &Edit<'_>, not_before_ms: u64) -> Change {
        let before = self.before.as_ref();
        // Encrypting anew changes marks and no value; a candidate changes the document once it is promoted.
        let (wanted, changed, now) = match edit.action {
            Action::Reseal => (before, before, self.after.as_ref()),
            Action::Stage => (self.after.as_ref(), before, before),
            _ => (self.after.as_ref(), self.after.as_ref(), self.after.as_ref()),
        };
        let steps = difference(before, wanted);
        let steps = serde_json::to_string(&steps).ok().filter(|steps| steps.len() <= DIFFERENCE_BYTES_MAX);
        Change {
            action: edit.action,
            path: edit.path.to_owned(),
            author: call.caller.as_ref().map(|caller| caller.subject.clone()),
            comment: edit.comment.to_owned(),
            time_ms: (call.time_ns / 1_000_000).max(not_before_ms),
            touched: touched(before, changed).iter().map(ToString::to_string).collect(),
            difference: steps,
            restores: edit.restores,
            checksum: now.map(|document| checksum(&canonical(document))).unwrap_or_default(),
        }
    }
}

impl<'a> Checked<'a> {
    fn new(edit: &'a Edit<'a>, secrets: &Secrets<'_>) -> Result<Self> {
        check_id(edit.id)?;
        let path = pointer(edit.path)?;
        secrets::check_path(&path)?;
        if edit.comment.len() > COMMENT_BYTES_MAX {
            let why = format!("the comment has {} bytes, more than {COMMENT_BYTES_MAX}", edit.comment.len());
            return Err(CallError::Capability(ConfigError::TooLarge(why)));
        }
        if edit.comment.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            return Err(refused("the comment holds control characters"));
        }
        let value = match edit.action {
            Action::Set | Action::Stage if edit.secret => Some(secrets.seal(&parse("value", edit.value)?)?),
            Action::Stage if edit.value.is_empty() && path.is_root() => None,
            Action::Set | Action::Merge | Action::Stage => {
                let value = parse("value", edit.value)?;
                secrets::check_input(&value)?;
                Some(value)
            }
            Action::Schema if !edit.value.is_empty() => Some(parse("schema", edit.value)?),
            _ => None,
        };
        if edit.percent > 100 {
            return Err(refused(format!("{} is no percentage; it is 0 to 100", edit.percent)));
        }
        if edit.action == Action::Rollback && edit.restores == 0 {
            return Err(refused("versions count from 1; name the one to go back to"));
        }
        Ok(Self { edit, path, value })
    }
}

/// While a candidate is rolled out nothing else changes: what it was made from is what it replaces.
fn check_stage(edit: &Edit<'_>, is_staged: bool) -> Result<()> {
    let id = || edit.id.to_owned();
    let error = match edit.action {
        Action::Promote | Action::Abort if !is_staged => ConfigError::NotStaged(id()),
        Action::Stage if !is_staged && edit.value.is_empty() => ConfigError::NotStaged(id()),
        Action::Stage if is_staged && !edit.value.is_empty() => ConfigError::Staged(id()),
        Action::Promote | Action::Abort | Action::Stage => return Ok(()),
        _ if is_staged => ConfigError::Staged(id()),
        _ => return Ok(()),
    };
    Err(CallError::Capability(error))
}

/// A candidate that is kept is a document that this host gave.
fn read_candidate(candidate: &Candidate) -> Result<Value> {
    let content = Content { document: Some(candidate.document.clone()), schema: None, candidate: None };
    Ok(read_document(&content)?.unwrap_or_default())
}

fn parse(what: &str, text: &str) -> Result<Value> {
    use platform_document::InvalidJson;
    platform_document::parse(text).map_err(|error| {
        let why = format!("the {what} can't be taken: {error}");
        CallError::Capability(match error {
            InvalidJson::TooLarge(_) | InvalidJson::TooDeep => ConfigError::TooLarge(why),
            _ => ConfigError::Invalid(why),
        })
    })
}

/// The document with a value in its place.
fn put(document: Option<Value>, path: &Pointer, value: Value) -> Result<Value> {
    let mut document = document.unwrap_or_else(|| Value::Object(Map::new()));
    path.set(&mut document, value).map_err(|obstacle| {
        refused(format!("nothing can be put at `{}`: {obstacle}", path.to_string().escape_debug()))
    })?;
    Ok(document)
}

/// The document's text, when it is within the limits.
fn write_document(document: &Value) -> Result<String> {
    let too_large = |why: String| Err(CallError::Capability(ConfigError::TooLarge(why)));
    if !is_within(document, DEPTH_MAX) {
        return too_large(format!("the document would be nested more than {DEPTH_MAX} deep"));
    }
    let text = canonical(document);
    if text.len() > BYTES_MAX {
        return too_large(format!("the document would have {} bytes, more than {BYTES_MAX}", text.len()));
    }
    Ok(text)
}
