//! The house rules that no other tool checks: layers, files, manifests, contracts, words.
//!
//! Each rule is a file of its own that reports what breaks it. Invariant: rules only read, and one run shows everything.

mod files;
mod layers;
mod manifests;
mod sources;
mod wit;

use anyhow::{Result, bail};

use crate::process;
use crate::report::Report;
use crate::workspace::Workspace;

/// Something that breaks a rule: where, what, and the way out.
pub(crate) struct Finding {
    place: String,
    message: String,
}

impl Finding {
    fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }

    /// At a line of a file, counted from 1.
    fn at(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self::new(format!("{file}:{line}"), message)
    }
}

/// A file of the repository: tracked, or new and not ignored.
struct File {
    /// Relative to the root, with `/` between parts.
    path: String,
    bytes: Vec<u8>,
}

impl File {
    fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
    }

    /// The content, when it is text.
    fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }
}

/// Checks everything, with a line of success.
pub(crate) fn run(workspace: &Workspace, report: &Report) -> Result<()> {
    report.step("house rules", || check(workspace, report))
}

/// Checks everything.
pub(crate) fn check(workspace: &Workspace, report: &Report) -> Result<()> {
    let files = read(workspace)?;
    let mut findings = layers::check(workspace);
    findings.extend(manifests::check(workspace, &files));
    findings.extend(wit::check(workspace, &files));
    for file in &files {
        findings.extend(files::check(file));
        findings.extend(sources::check(file));
    }
    findings.sort_by(|left, right| left.place.cmp(&right.place));
    for finding in &findings {
        report.note(format!("{}: {}", finding.place, finding.message));
    }
    if !findings.is_empty() {
        bail!("{} places break the house rules", findings.len());
    }
    Ok(())
}

fn read(workspace: &Workspace) -> Result<Vec<File>> {
    let mut git = std::process::Command::new("git");
    let arguments = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = process::output(git.current_dir(&workspace.root).args(arguments))?;
    let mut files = Vec::new();
    for path in listed.split('\0').filter(|path| !path.is_empty()) {
        // A file that is tracked and gone from the work tree is about to be deleted.
        if let Ok(bytes) = std::fs::read(workspace.root.join(path)) {
            files.push(File { path: path.to_owned(), bytes });
        }
    }
    Ok(files)
}
