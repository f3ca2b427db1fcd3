//! Tasks of this repository: what a person, the README and CI run.
//!
//! Owns the command line; each task is a module of its own. It compiles before everything else, so it depends on little
//! and never on the platform's own crates. Invariant: a task leaves the work tree as it was, apart from ignored files.

mod bench;
mod chaos;
mod ci;
mod plugins;
mod process;
mod report;
mod run;
mod setup;
mod test;
mod tidy;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Result, bail};
use lexopt::ValueExt as _;

use crate::report::Report;
use crate::workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask TASK [OPTIONS]

  setup [--servers]            make guests compile here; with --servers also install the servers that tests use
  run [--dev] [-- DAEMON ARGS] set up, build everything, start the platform on 127.0.0.1:8080
  test [-- NEXTEST ARGS]       set up, build everything, run every test and doctest
  plugins [--others] [--rebuild]
                               build all guests into dist/; with --others also those in C, Python and JavaScript
  bench [-- BENCH ARGS]        run the benchmarks and print their ratios
  chaos [--seed N] [--minutes N]
                               kill, cut off and pause daemons and servers for long, and judge what they answered
  tidy                         check the house rules that no other tool checks
  ci                           what .ci/run runs: test, fmt, clippy, docs, dependencies, tidy
";

fn main() -> ExitCode {
    let report = Report::new();
    match dispatch(&report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report.failure(&error);
            ExitCode::FAILURE
        }
    }
}

/// What stands on the command line after the task's name.
#[derive(Default)]
struct Options {
    servers: bool,
    dev: bool,
    others: bool,
    rebuild: bool,
    seed: Option<u64>,
    minutes: Option<u64>,
    /// What stands after `--`, for the program that the task starts.
    passed_on: Vec<OsString>,
}

fn dispatch(report: &Report) -> Result<()> {
    let mut arguments = lexopt::Parser::from_env();
    let task = match arguments.next()? {
        Some(lexopt::Arg::Value(task)) => task.to_string_lossy().into_owned(),
        Some(lexopt::Arg::Long("help") | lexopt::Arg::Short('h')) | None => {
            report.plain(USAGE);
            return Ok(());
        }
        Some(other) => return Err(other.unexpected().into()),
    };
    let options = options(&task, arguments)?;
    let workspace = Workspace::load()?;
    match task.as_str() {
        "setup" => {
            setup::guests(&workspace, report)?;
            if options.servers {
                setup::servers(&workspace, report)?;
            }
            Ok(())
        }
        "run" => run::run(&workspace, report, options.dev, &options.passed_on),
        "test" => test::run(&workspace, report, &options.passed_on),
        "plugins" => {
            let choice = plugins::Choice { others: options.others, rebuild: options.rebuild };
            plugins::build(&workspace, report, choice).map(drop)
        }
        "bench" => bench::run(&workspace, report, &options.passed_on),
        "chaos" => chaos::run(&workspace, report, options.seed, options.minutes),
        "tidy" => tidy::run(&workspace, report),
        "ci" => ci::run(&workspace, report),
        unknown => bail!("no task `{unknown}`\n\n{USAGE}"),
    }
}

fn options(task: &str, mut arguments: lexopt::Parser) -> Result<Options> {
    let mut options = Options::default();
    // What follows `--` belongs to another program and may look like anything, so it is taken before parsing goes on.
    loop {
        if let Some(mut raw) = arguments.try_raw_args()
            && raw.peek().is_some_and(|next| next == "--")
        {
            raw.next();
            options.passed_on = raw.collect();
            return Ok(options);
        }
        match arguments.next()? {
            None => return Ok(options),
            Some(lexopt::Arg::Long("servers")) if task == "setup" => options.servers = true,
            Some(lexopt::Arg::Long("dev")) if task == "run" => options.dev = true,
            Some(lexopt::Arg::Long("others")) if task == "plugins" => options.others = true,
            Some(lexopt::Arg::Long("rebuild")) if task == "plugins" => options.rebuild = true,
            Some(lexopt::Arg::Long("seed")) if task == "chaos" => options.seed = Some(arguments.value()?.parse()?),
            Some(lexopt::Arg::Long("minutes")) if task == "chaos" => {
                options.minutes = Some(arguments.value()?.parse()?);
            }
            Some(other) => return Err(anyhow::Error::from(other.unexpected()).context(USAGE)),
        }
    }
}
