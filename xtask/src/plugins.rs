//! Builds every guest of the workspace into a component below `dist/`.
//!
//! A guest is a package with `[package.metadata.platform]`, whose `target` names what it is compiled for: pure guests for
//! wasm32-unknown-unknown, guests with WASI for wasm32-wasip2. With `examples = true` each example of the package is a
//! guest. Invariant: a file below `dist/` is a validated component and changes only when its content does.

mod encode;
mod record;
mod sources;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use platform_author::{Compile, Sysroot, TARGETS};
use serde_json::Value;

use self::record::Record;
use crate::report::{Report, table};
use crate::setup;
use crate::workspace::{Package, Workspace};

/// What else to build, and how.
#[derive(Clone, Copy, Default)]
pub(crate) struct Choice {
    /// Also the guests written in other languages than Rust, which need the tools of those.
    pub(crate) others: bool,
    /// Encode again what did not change.
    pub(crate) rebuild: bool,
}

/// A component below `dist/`.
pub(crate) struct Built {
    pub(crate) name: String,
    /// Relative to `dist/`.
    pub(crate) folder: &'static str,
    pub(crate) size: usize,
    /// SHA-256 of the component, in hexadecimal.
    pub(crate) digest: String,
    /// Whether the file was written now.
    pub(crate) changed: bool,
}

/// A module or component as a compiler left it.
struct Artifact {
    name: String,
    folder: &'static str,
    file: PathBuf,
}

/// Builds all guests and prints what came out.
pub(crate) fn build(workspace: &Workspace, report: &Report, choice: Choice) -> Result<Vec<Built>> {
    let sysroot = setup::guests(workspace, report)?;
    let mut built = report.step("build guests", || rust(workspace, report, &sysroot, choice))?;
    if choice.others {
        built.extend(report.step("build guests in other languages", || sources::build(workspace, report, choice))?);
    }
    if !built.is_empty() {
        let rows: Vec<Vec<String>> = built.iter().map(Built::row).collect();
        report.plain(table(&["component", "size", "sha256", ""], &rows));
    }
    Ok(built)
}

fn rust(workspace: &Workspace, report: &Report, sysroot: &Sysroot, choice: Choice) -> Result<Vec<Built>> {
    let mut by_target: BTreeMap<&str, Vec<&Package>> = BTreeMap::new();
    for package in &workspace.packages {
        if let Some(target) = target(package)? {
            by_target.entry(target).or_default().push(package);
        }
    }
    let mut record = Record::read(workspace, choice.rebuild);
    let mut built = Vec::new();
    for (target, packages) in by_target {
        report.note(format!("{} packages for {target}", packages.len()));
        for artifact in compile(workspace, sysroot, target, &packages)? {
            let name = artifact.name.clone();
            let one = encode::encode(workspace, &artifact, &mut record).with_context(|| format!("guest `{name}`"))?;
            built.push(one);
        }
    }
    record.write()?;
    built.sort_by(|left, right| (left.folder, &left.name).cmp(&(right.folder, &right.name)));
    Ok(built)
}

/// The target of a guest; absent for packages that are none.
fn target(package: &Package) -> Result<Option<&str>> {
    if package.platform.is_null() {
        return Ok(None);
    }
    let Some(target) = package.platform.get("target").and_then(Value::as_str) else {
        bail!(
            "package `{}`: `package.metadata.platform` needs a `target`, one of {}",
            package.name,
            TARGETS.join(", ")
        );
    };
    ensure!(
        TARGETS.contains(&target),
        "package `{}`: guests are not built for `{target}`, only for {}",
        package.name,
        TARGETS.join(", ")
    );
    Ok(Some(target))
}

/// One run of cargo for all guests of a target; the modules it left, also those that were fresh.
fn compile(workspace: &Workspace, sysroot: &Sysroot, target: &str, packages: &[&Package]) -> Result<Vec<Artifact>> {
    let names: Vec<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let compile = Compile {
        folder: &workspace.root,
        target,
        sysroot,
        profile: "guest",
        packages: &names,
        examples: packages.iter().any(|package| has_examples(package)),
        config: &[],
        remap: &[],
    };
    let artifact = |built: platform_author::Artifact| {
        let package = packages.iter().find(|package| package.id == built.package)?;
        if built.example.is_some() != has_examples(package) {
            return None;
        }
        let name = built.example.unwrap_or_else(|| package.name.clone());
        Some(Artifact { name, folder: folder(package), file: built.file })
    };
    Ok(compile.run()?.into_iter().filter_map(artifact).collect())
}

fn has_examples(package: &Package) -> bool {
    package.platform.get("examples").and_then(Value::as_bool).unwrap_or(false)
}

/// Where a guest's component goes, told by where its source is.
fn folder(package: &Package) -> &'static str {
    match package.folder.split('/').next() {
        Some("examples") => "examples",
        Some("host") => "testkit",
        _ => "plugins",
    }
}

impl Built {
    fn row(&self) -> Vec<String> {
        let tenths = self.size * 10 / 1024;
        vec![
            format!("{}/{}.wasm", self.folder, self.name),
            format!("{}.{} KiB", tenths / 10, tenths % 10),
            self.digest.chars().take(12).collect(),
            if self.changed { "built" } else { "unchanged" }.to_owned(),
        ]
    }
}
