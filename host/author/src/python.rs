//! From a module in Python to a component, by componentize-py, which puts an interpreter into it.
//!
//! Invariant: nothing is installed here, and nothing is written to the project but what Python itself keeps
//! in `__pycache__`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Error,
    interfaces::{self, WORLD, stage},
    run::done,
    validate,
};

/// The module that a project consists of, and its file.
pub(crate) const FILE: &str = "plugin.py";
const MODULE: &str = "plugin";
const PROGRAM: &str = "componentize-py";
const WAY_OUT: &str = "install it into the project, `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt`, or put it on `PATH`";

/// Makes a component of the module in a folder.
///
/// # Errors
/// componentize-py is missing or fails, or what comes out is no component.
pub(crate) fn build(folder: &Path, tools: Option<&Path>) -> Result<Vec<u8>, Error> {
    let work = tempfile::tempdir()
        .map_err(|error| Error::Project(format!("can't write to the directory for temporary files: {error}")))?;
    let (wit, file) = (work.path().join("wit"), work.path().join("plugin.wasm"));
    stage(folder, &wit)?;
    let mut command = Command::new(program(folder, tools));
    command.current_dir(folder).arg("-d").arg(&wit).args(["-w", WORLD, "componentize", "--stub-wasi", MODULE]);
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

/// That of the project, one that the caller has, or whichever is on the path.
fn program(folder: &Path, tools: Option<&Path>) -> PathBuf {
    let own = [".venv/bin", "venv/bin"].map(|place| folder.join(place).join(PROGRAM));
    let given = tools.map(|tools| tools.join(PROGRAM));
    own.into_iter().chain(given).find(|program| program.is_file()).unwrap_or_else(|| PathBuf::from(PROGRAM))
}
