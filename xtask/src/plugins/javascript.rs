//! Builds the guests that are written in JavaScript: folders below `examples/` with a `package.json`.
//!
//! Each has its own build script, run by npm; it writes the component to the path it is given. Invariant: npm runs only
//! when a file of the guest or of `wit/` changed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use platform_author::Script;

use super::encode::place;
use super::record::{Record, digest};
use super::{Built, Choice};
use crate::report::Report;
use crate::workspace::Workspace;

pub(super) fn build(workspace: &Workspace, report: &Report, choice: Choice) -> Result<Vec<Built>> {
    let mut record = Record::read(workspace, choice.rebuild);
    let mut built = Vec::new();
    let examples = workspace.root.join("examples");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&examples)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    folders.sort();
    for folder in folders.into_iter().filter(|folder| folder.join("package.json").is_file()) {
        let name = folder.file_name().context("an example has no name")?.to_string_lossy().into_owned();
        let input = inputs(workspace, &folder)?;
        let make = || {
            report.note(format!("npm, for {name}"));
            Ok(Script::read(&folder)?.build()?)
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
    collect(&workspace.root.join("wit"), &mut files)?;
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
        // What npm brings follows from the pinned versions.
        if name == "node_modules" || name == "package-lock.json" {
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
