//! Runs the benchmarks, which print their figures as ratios.
//!
//! Built in release, with the guests that they load and the daemon, which some of them start.

use std::ffi::OsString;

use anyhow::Result;

use crate::plugins::{self, Choice};
use crate::process;
use crate::report::Report;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, report: &Report, arguments: &[OsString]) -> Result<()> {
    plugins::build(workspace, report, Choice::default())?;
    // Both times the same packages, so that features agree and nothing is compiled twice.
    let release = |task: &str| {
        let mut cargo = process::cargo(&workspace.root);
        cargo.args([task, "--release", "--package", "platform-daemon", "--package", "platform-benches"]);
        cargo
    };
    report.step("build the benchmarks and the daemon", || process::run(&mut release("build")))?;
    process::run(release("run").args(["--bin", "platform-benches", "--"]).args(arguments))
}
