//! [`Cursor`]: how far a transfer has come, kept in a file of its own beside the one that is written or read.
//!
//! Must not know what its place means. Invariant: it is there in full or not at all.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Header;
use crate::{cli::failure::Failure, words};

/// How far a transfer has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cursor {
    /// What is transferred, and in which namespace.
    pub(super) of: Header,
    /// Bytes of the file that are done with.
    pub(super) bytes: u64,
    /// Lines in them.
    pub(super) lines: u64,
    /// Where the capability goes on.
    pub(super) place: Value,
}

/// The cursor of a file.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// What is kept there; none when there is nothing.
pub(super) fn read(path: &Path, of: &Header) -> Result<Option<Cursor>, Failure> {
    let shown = path.display();
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::usage(format!("can't read `{shown}`: {}", words::of(&error)))),
        Ok(text) => text,
    };
    let cursor: Cursor = serde_json::from_slice(&text)
        .map_err(|error| Failure::usage(format!("`{shown}` is no cursor: {error}; begin anew without `--resume`")))?;
    if cursor.of != *of {
        let Header { export, namespace, .. } = &cursor.of;
        let why = format!("`{shown}` is of {export} in the namespace `{namespace}`; go on with that, or remove it");
        return Err(Failure::usage(why));
    }
    Ok(Some(cursor))
}

/// Keeps it.
pub(super) fn write(path: &Path, cursor: &Cursor) -> Result<(), Failure> {
    let kept = || -> io::Result<()> {
        let new = beside(path, ".new");
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(cursor)?)?;
        file.sync_data()?;
        fs::rename(&new, path)
    };
    kept().map_err(|error| Failure::usage(format!("can't write `{}`: {}", path.display(), words::of(&error))))
}

/// Removes it: the transfer is done.
pub(super) fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::usage(format!("can't remove `{}`: {}", path.display(), words::of(&error))))
        }
        _ => Ok(()),
    }
}
