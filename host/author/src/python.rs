//! From a module in Python to a component, by componentize-py, which puts an interpreter into it.
//!
//! Invariant: nothing is installed here, and nothing is written to the project but what Python itself keeps
//! in `__pycache__`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::{
    Error,
    interfaces::{self, WORLD, stage},
    run::{done, passed},
    validate,
};

/// The module that a project consists of, and its file.
pub(crate) const FILE: &str = "plugin.py";
const MODULE: &str = "plugin";
/// Where tests lie.
const TESTS: &str = "tests";
const PYTHON: &str = "install Python 3.11 or newer";
const PROGRAM: &str = "componentize-py";
const WAY_OUT: &str = "install it into the project, `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt`, or put it on `PATH`";

/// Makes a component of the module in a folder.
///
/// # Errors
/// componentize-py is missing or fails, or what comes out is no component.
pub(crate) fn build(folder: &Path, tools: Option<&Path>) -> Result<Vec<u8>, Error> {
    let work = work()?;
    let file = work.path().join("plugin.wasm");
    let mut command = tool(folder, tools, work.path())?;
    command.args(["componentize", "--stub-wasi", MODULE]);
    // What is imported is what lies here, and not what the user's own programs find.
    command.env_remove("PYTHONPATH").env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONHASHSEED", "0");
    command.args(["-p", "."]).arg("-p").arg(interfaces::platform(folder)?.join("sdk/python"));
    command.arg("-o").arg(&file);
    done(&mut command, WAY_OUT)?;
    let component =
        fs::read(&file).map_err(|error| Error::Component(format!("`{PROGRAM}` left no component: {error}")))?;
    validate(&component)?;
    Ok(component)
}

/// Runs the tests of `unittest` below `tests`, where there are any, with the bindings that a component would have; whether all passed.
/// What a test's plugin asks of its host the test puts in place of what they raise.
///
/// # Errors
/// componentize-py or Python is missing.
pub(crate) fn test(folder: &Path, quiet: bool) -> Result<Option<bool>, Error> {
    let tests = folder.join(TESTS);
    let is_test = |file: &PathBuf| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("test") && name.ends_with(".py")
    };
    if !tests.is_dir() || !interfaces::entries(&tests)?.iter().any(is_test) {
        return Ok(None);
    }
    let work = work()?;
    let bindings = work.path().join("bindings");
    done(tool(folder, None, work.path())?.arg("bindings").arg(&bindings), WAY_OUT)?;
    let places = [folder.to_owned(), bindings, interfaces::platform(folder)?.join("sdk/python")];
    let places = env::join_paths(places)
        .map_err(|error| Error::Project(format!("`{}` can't be on the path of Python: {error}", folder.display())))?;
    let own = [".venv/bin", "venv/bin"].map(|place| folder.join(place).join("python"));
    let python = own.into_iter().find(|python| python.is_file()).unwrap_or_else(|| PathBuf::from("python3"));
    let mut command = Command::new(python);
    command.current_dir(folder).env("PYTHONPATH", places).env("PYTHONDONTWRITEBYTECODE", "1");
    passed(command.args(["-m", "unittest", "discover", "-s", TESTS]), quiet, PYTHON).map(Some)
}

fn work() -> Result<TempDir, Error> {
    tempfile::tempdir()
        .map_err(|error| Error::Project(format!("can't write to the directory for temporary files: {error}")))
}

/// A run of componentize-py for the world of the project, laid out below `work`.
fn tool(folder: &Path, tools: Option<&Path>, work: &Path) -> Result<Command, Error> {
    let wit = work.join("wit");
    stage(folder, &wit)?;
    let mut command = Command::new(program(folder, tools));
    command.current_dir(folder).arg("-d").arg(&wit).args(["-w", WORLD]);
    Ok(command)
}

/// That of the project, one that the caller has, or whichever is on the path.
fn program(folder: &Path, tools: Option<&Path>) -> PathBuf {
    let own = [".venv/bin", "venv/bin"].map(|place| folder.join(place).join(PROGRAM));
    let given = tools.map(|tools| tools.join(PROGRAM));
    own.into_iter().chain(given).find(|program| program.is_file()).unwrap_or_else(|| PathBuf::from(PROGRAM))
}
