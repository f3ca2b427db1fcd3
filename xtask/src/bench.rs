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
        let packages = ["--package", "platform-benches", "--package", "platform-daemon"];
        let release = |task: &str| {
        let mut cargo = process::cargo(&workspace.root);
        cargo.args([task, "--release", "--package", "platform-daemon", "--package", "platform-benches"]);
        cargo
    };
    process::run(&mut release("build"))?;
    process::run(release("run").args(["--bin", "platform-benches", "--"]).args(arguments))
}
