//! Runs the tools of a language. What they complain about goes to the terminal; one that is missing is named with the way to get it.

use std::{
    env,
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

use crate::Error;

/// A program, or what a variable names in its place, run in a folder.
pub(crate) fn program(variable: &str, program: &str, folder: &Path) -> Command {
    let mut command = Command::new(env::var_os(variable).unwrap_or_else(|| program.into()));
    command.current_dir(folder);
    command
}

/// Runs to the end and returns what it wrote to standard output; standard error stays on the terminal.
pub(crate) fn captured(command: &mut Command, way_out: &'static str) -> Result<String, Error> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|source| cannot_start(command, source, way_out))?;
    if !output.status.success() {
        return Err(Error::Failed(line(command)));
    }
    String::from_utf8(output.stdout).map_err(|error| Error::Output { program: line(command), what: error.to_string() })
}

/// Runs to the end; what it says goes to standard error, so that standard output stays that of this program.
pub(crate) fn done(command: &mut Command, way_out: &'static str) -> Result<(), Error> {
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).stderr(Stdio::inherit()).status();
    let status = status.map_err(|source| cannot_start(command, source, way_out))?;
    if status.success() { Ok(()) } else { Err(Error::Failed(line(command))) }
}

/// Runs tests to the end; whether they passed. What they say goes to standard error, where it is not to be quiet.
pub(crate) fn passed(command: &mut Command, quiet: bool, way_out: &'static str) -> Result<bool, Error> {
    let said = if quiet { Stdio::null() } else { Stdio::from(std::io::stderr()) };
    let status = command.stdin(Stdio::null()).stdout(said).status();
    Ok(status.map_err(|source| cannot_start(command, source, way_out))?.success())
}

fn cannot_start(command: &Command, source: std::io::Error, way_out: &'static str) -> Error {
    Error::Start { program: command.get_program().to_string_lossy().into_owned(), source, way_out }
}

/// The program, wherever it lies, and its task; what else it is told is nothing that a user wrote.
fn line(command: &Command) -> String {
    let program = command.get_program();
    let words = std::iter::once(Path::new(program).file_name().unwrap_or(program)).chain(command.get_args().take(1));
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
