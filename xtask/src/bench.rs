//! Runs the benchmarks, which print their figures as ratios.
//!
//! Built in release, with the guests that they load and the daemon, which some of them start.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;

use crate::plugins::{self, Choice};
use crate::process;
use crate::report::Report;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, report: &Report, arguments: &[OsString]) -> Result<()> {
    plugins::build(workspace, report, Choice::default())?;
    report.step("build the benchmarks and the daemon", || {
        process::run(process::build_beside_benches(&workspace.root).arg("--release"))
    })?;
    let benches = workspace.target.join("release/platform-benches");
    process::run(Command::new(benches).current_dir(&workspace.root).args(arguments))
}
