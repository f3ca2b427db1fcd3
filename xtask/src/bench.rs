//! Runs the benchmarks, which print their figures as ratios.
//!
//! Built in release, with the guests that they load.

use std::ffi::OsString;

use anyhow::Result;

use crate::plugins::{self, Choice};
use crate::process;
use crate::report::Report;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, report: &Report, arguments: &[OsString]) -> Result<()> {
    plugins::build(workspace, report, Choice::default())?;
    process::run(
        process::cargo(&workspace.root)
            .args(["run", "--release", "--package", "platform-benches", "--"])
            .args(arguments),
    )
}
