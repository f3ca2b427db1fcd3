//! Runs every test: builds what they load, installs the servers that they start, then nextest and the doctests.
//!
//! On a person's machine a missing server skips the tests that need it; in CI it fails. Invariant: what the test runner
//! says last is the last of its output that matters, so nothing long follows it.

use std::ffi::OsString;

use anyhow::{Context, Result};

use crate::plugins::{self, Choice};
use crate::process;
use crate::report::Report;
use crate::setup;
use crate::workspace::Workspace;

/// Whether this runs unattended: then everything is required and nothing is skipped.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0")
}

pub(crate) fn run(workspace: &Workspace, report: &Report, arguments: &[OsString]) -> Result<()> {
    let outcome = all(workspace, report, arguments);
    report.summary();
    let closing = outcome?;
    if let Some(closing) = closing {
        report.plain(closing);
    }
    Ok(())
}

/// Everything; the counts of the tests that ran, when the runner wrote them down.
pub(crate) fn all(workspace: &Workspace, report: &Report, arguments: &[OsString]) -> Result<Option<String>> {
    plugins::build(workspace, report, Choice::default())?;
    if let Err(error) = setup::servers(workspace, report) {
        if is_ci() {
            return Err(error);
        }
        report.note(format!("tests against real servers will be skipped: {error:#}"));
    }
    // Selected as the runner selects, so that features agree and nothing is compiled twice. Tests start binaries of other
    // packages, which the runner would not build.
    report.step("build the binaries", || {
        process::run(process::cargo(&workspace.root).args(["build", "--workspace", "--bins", "--tests", "--examples"]))
    })?;
    let tested = report.step("run tests", || tests(workspace, report, arguments));
    // A narrowed run is somebody looking at one test; the doctests are none of it.
    let documented = if arguments.is_empty() { doctests(workspace, report) } else { Ok(()) };
    tested.and_then(|closing| documented.map(|()| closing))
}

fn tests(workspace: &Workspace, report: &Report, arguments: &[OsString]) -> Result<Option<String>> {
    if !process::succeeds(process::cargo(&workspace.root).args(["nextest", "--version"])) {
        report.note(
            "cargo-nextest is not installed, so cargo's own runner is used; `cargo install cargo-nextest` brings it",
        );
        process::run(
            process::cargo(&workspace.root)
                .args(["test", "--workspace", "--lib", "--bins", "--tests", "--"])
                .args(arguments),
        )?;
        return Ok(None);
    }
    let profile = if is_ci() { "ci" } else { "default" };
    let mut nextest = process::cargo(&workspace.root);
    nextest.args(["nextest", "run", "--workspace", "--profile", profile]).args(arguments);
    process::run(&mut nextest)?;
    let file = workspace.target.join("nextest").join(profile).join("junit.xml");
    // Only the profile for CI writes the file.
    std::fs::read_to_string(&file).ok().map(|text| counts(&text)).transpose()
}

fn doctests(workspace: &Workspace, report: &Report) -> Result<()> {
    report.step("run doctests", || {
        process::run(process::cargo(&workspace.root).args(["test", "--workspace", "--doc", "--quiet"]))
    })
}

/// The counts in the head of a JUnit report, as one line.
fn counts(report: &str) -> Result<String> {
    let head = report
        .split("<testsuites")
        .nth(1)
        .and_then(|rest| rest.split('>').next())
        .context("the runner's report has no head")?;
    let number = |name: &str| -> Result<u64> {
        let value = head.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
        value
            .with_context(|| format!("the runner's report has no `{name}`"))?
            .parse()
            .with_context(|| format!("`{name}` is no number"))
    };
    let failed = number("failures")? + number("errors")?;
    Ok(format!("{} passed, {failed} failed", number("tests")?.saturating_sub(failed)))
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn counts_come_from_the_head() {
        let report = "<?xml version=\"1.0\"?>\n<testsuites name=\"n\" tests=\"9\" failures=\"1\" errors=\"2\" uuid=\"x\">\n<testsuite tests=\"3\">";
        assert_eq!(counts(report).ok().as_deref(), Some("6 passed, 3 failed"));
        assert!(counts("<html/>").is_err());
    }
}
