//! What a command reads: a file that the user names, or standard input.
//!
//! Must not know what is in it. Invariant: no more is read than is allowed.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{failure::Failure, quantity::human_bytes};
use crate::words;

/// The file named on the command line, or standard input for `-`.
pub(crate) fn read(file: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    use io::Read;
    let unreadable =
        |error: io::Error| Failure::usage(format!("can't read `{}`: {}", file.display(), words::of(&error)));
    let source: Box<dyn io::Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(fs::File::open(file).map_err(unreadable)?)
    };
    let mut bytes = Vec::new();
    source.take(most.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        let message = format!("`{}` is larger than the {} that are allowed", file.display(), human_bytes(most));
        return Err(Failure::usage(message));
    }
    Ok(bytes)
}

/// A path for messages.
pub(crate) fn shown(path: &Path) -> PathBuf {
    if path == Path::new("-") { PathBuf::from("standard input") } else { path.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_is_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "12345").unwrap();
        assert_eq!(read(file.path(), 5).unwrap(), b"12345");
        assert!(read(file.path(), 4).is_err());
    }
}
