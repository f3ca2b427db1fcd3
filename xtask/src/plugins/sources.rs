//! Builds the guests that are written in other languages than Rust: folders below `examples/` with a `manifest.json`.
//!
//! Each is built as a project of an author is. Invariant: the tools run only when a file of the guest, of `wit/` or of the SDKs
//! changed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use platform_author::Sources;

use super::encode::place;
use super::record::{Record, digest};
use super::{Built, Choice};
use crate::report::Report;
use crate::workspace::Workspace;

/// What tools leave beside sources.
const LEFT: [&str; 6] = ["node_modules", "package-lock.json", "target", "dist", ".venv", "__pycache__"];

pub(super) fn build(workspace: &Workspace, report: &Report, choice: Choice) -> Result<Vec<Built>> {
    let mut record = Record::read(workspace, choice.rebuild);
    let mut built = Vec::new();
    let examples = workspace.root.join("examples");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&examples)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    folders.sort();
    for folder in folders.into_iter().filter(|folder| folder.join("manifest.json").is_file()) {
        let name = folder.file_name().context("an example has no name")?.to_string_lossy().into_owned();
        let input = inputs(workspace, &folder)?;
        let make = || {
            report.note(format!("the tools of its language, for {name}"));
            Ok(Sources::read(&folder)?.build(Some(&workspace.tools().join("bin")), false)?.component)
        };
        let one = place(workspace, &name, "examples", &input, &mut record, make)
            .with_context(|| format!("guest `{name}`"))?;
        built.push(one);
    }
    record.write()?;
    Ok(built)
}

/// One digest of everything that the component is made from.
fn inputs(workspace: &Workspace, folder: &Path) -> Result<String> {
    let mut files = Vec::new();
    collect(folder, &mut files)?;
    for shared in ["wit", "sdk/c", "sdk/js", "sdk/python"] {
        collect(&workspace.root.join(shared), &mut files)?;
    }
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).with_context(|| format!("can't read `{}`", file.display()))?;
        all.extend_from_slice(digest(&bytes).as_bytes());
    }
    Ok(digest(&all))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("can't read `{}`", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if LEFT.iter().any(|left| name == *left) {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
