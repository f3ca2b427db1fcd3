//! Puts what a compiler left below `dist/`, as a component.
//!
//! Invariant: what is written was validated, and is written beside its place and renamed, so that nobody reads half a file.

use std::path::Path;

use anyhow::{Context, Result};

use super::record::{Record, digest};
use super::{Artifact, Built};
use crate::workspace::Workspace;

/// Changes when the same module would be encoded differently.
const ENCODER: &str = "1";

pub(super) fn encode(workspace: &Workspace, artifact: &Artifact, record: &mut Record) -> Result<Built> {
    let compiled =
        std::fs::read(&artifact.file).with_context(|| format!("can't read `{}`", artifact.file.display()))?;
    let input = format!("{ENCODER}:{}", digest(&compiled));
    place(workspace, &artifact.name, artifact.folder, &input, record, || Ok(platform_author::component(&compiled)?))
}

/// Puts a component in its place unless it is there already and made from the same input.
pub(super) fn place(
    workspace: &Workspace, name: &str, folder: &'static str, input: &str, record: &mut Record,
    make: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<Built> {
    let key = format!("{folder}/{name}.wasm");
    let file = workspace.dist().join(&key);
    let present = std::fs::read(&file).ok();
    let built = |bytes: &[u8], digest: String, changed| Built {
        name: name.to_owned(),
        folder,
        size: bytes.len(),
        digest,
        changed,
    };
    if let Some(bytes) = &present {
        let digest = digest(bytes);
        if record.made_from(&key, input) == Some(&digest) {
            return Ok(built(bytes, digest, false));
        }
    }
    let component = make()?;
    let digest = digest(&component);
    let changed = present.as_ref() != Some(&component);
    if changed {
        write(&file, &component)?;
    }
    record.remember(&key, input, &digest);
    Ok(built(&component, digest, changed))
}

fn write(file: &Path, component: &[u8]) -> Result<()> {
    let folder = file.parent().context("a component has no folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("can't make `{}`", folder.display()))?;
    let beside = file.with_extension("wasm.new");
    std::fs::write(&beside, component).with_context(|| format!("can't write `{}`", beside.display()))?;
    std::fs::rename(&beside, file).with_context(|| format!("can't put `{}` in its place", file.display()))
}
