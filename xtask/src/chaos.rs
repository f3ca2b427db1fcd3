//! Runs the crash tests for long: what CI runs for seconds, with a seed and a time of one's choosing.
//!
//! Owns how the time and the seed reach the tests; what goes wrong and what is judged is theirs. Invariant: the seed is
//! printed before anything happens, so that a run which fails can be repeated.

use anyhow::Result;

use crate::plugins::{self, Choice};
use crate::process;
use crate::report::Report;
use crate::setup;
use crate::workspace::Workspace;

/// How long each test runs when nobody says.
const MINUTES: u64 = 10;

pub(crate) fn run(workspace: &Workspace, report: &Report, seed: Option<u64>, minutes: Option<u64>) -> Result<()> {
    plugins::build(workspace, report, Choice::default())?;
    setup::servers(workspace, report)?;
    report.step("build the binaries", || {
        process::run(process::cargo(&workspace.root).args(["build", "--workspace", "--bins", "--tests", "--examples"]))
    })?;
    let mut tests = process::cargo(&workspace.root);
    // One after the other, and what they say as it comes.
    tests.args(["test", "--workspace", "--test", "chaos", "--", "--nocapture", "--test-threads", "1"]);
    tests.env("CHAOS_MINUTES", minutes.unwrap_or(MINUTES).to_string()).env("CI", "true");
    if let Some(seed) = seed {
        tests.env("CHAOS_SEED", seed.to_string());
    }
    process::run(&mut tests)
}
