//! Remembers what each component was made from, so that nothing is made twice.
//!
//! A lost or unreadable record only costs time. Invariant: an entry is trusted only while the file it speaks of still
//! has the digest that it names.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::workspace::Workspace;

/// Digests of inputs and of the component made from them, by file.
pub(super) struct Record {
    file: PathBuf,
    entries: Map<String, Value>,
}

impl Record {
    /// Reads what is remembered; nothing, when everything is to be made again.
    pub(super) fn read(workspace: &Workspace, forget: bool) -> Self {
        let file = workspace.target.join("guests.json");
        let text = if forget { None } else { std::fs::read(&file).ok() };
        let entries = text.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { file, entries }
    }

    /// The digest of the component made from this input, if one is known.
    pub(super) fn made_from(&self, component: &str, input: &str) -> Option<&str> {
        let entry = self.entries.get(component)?;
        let same = entry.get("input").and_then(Value::as_str) == Some(input);
        entry.get("digest").and_then(Value::as_str).filter(|_| same)
    }

    pub(super) fn remember(&mut self, component: &str, input: &str, digest: &str) {
        self.entries.insert(component.to_owned(), serde_json::json!({ "input": input, "digest": digest }));
    }

    pub(super) fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(&self.entries)?;
        std::fs::write(&self.file, text).with_context(|| format!("can't write `{}`", self.file.display()))
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
