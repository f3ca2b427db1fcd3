//! The data directory: who has it, what format it has, and whether making it was finished.
//!
//! Owns the files beside fjall's; must not know what fjall stores. Invariant: one process at a time has the directory,
//! and a directory whose making was cut short is made anew, never one that ever held an acknowledged write.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::OpenError;

/// What the format file says.
const FORMAT: &str = "platform storage 1\n";
/// Most bytes of a foreign format file that an error repeats.
const SHOWN: usize = 64;

/// The directory, held against other processes until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    pub(super) fn take(directory: &Path) -> Result<Self, OpenError> {
        let unusable = |error: &io::Error| unusable(directory, error);
        fs::create_dir_all(directory).map_err(|error| unusable(&error))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("lock"))
            .map_err(|error| unusable(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // The number helps whoever reads the error; not having it changes nothing.
                let _unread = file.read_to_string(&mut pid);
                let pid = pid.trim();
                let known = !pid.is_empty() && pid.chars().all(|c| c.is_ascii_digit());
                return Err(OpenError::InUse {
                    directory: directory.to_owned(),
                    pid: if known { pid.to_owned() } else { "unknown".to_owned() },
                });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(&error)),
        }
        let write_pid = |file: &mut File| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            writeln!(file, "{}", std::process::id())
        };
        write_pid(&mut file).map_err(|error| unusable(&error))?;
        Ok(Self { _file: file })
    }
}

/// The directory of fjall, after a look at what is there.
pub(super) fn prepare(directory: &Path) -> Result<PathBuf, OpenError> {
    let data = directory.join("data");
    let unusable = |error: &io::Error| unusable(directory, error);
    let file = directory.join("format");
    let made = data.join("version").try_exists().map_err(|error| unusable(&error))?;
    match fs::read(&file) {
        Ok(found) if found == FORMAT.as_bytes() => {
            if !made {
                let why = "fjall's `version` file is missing from it".to_owned();
                return Err(OpenError::Damaged { file: data, why });
            }
        }
        Ok(found) => {
            let found = found.get(..SHOWN).unwrap_or(&found).escape_ascii().to_string();
            return Err(OpenError::Foreign { file, found });
        }
        // Nothing is acknowledged before the format is written, so there is nothing to lose.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !made && data.try_exists().map_err(|error| unusable(&error))? {
                fs::remove_dir_all(&data).map_err(|error| unusable(&error))?;
            }
        }
        Err(error) => return Err(unusable(&error)),
    }
    Ok(data)
}

/// Whether making the directory was finished, so that all of it must be there.
pub(super) fn finished(directory: &Path) -> Result<bool, OpenError> {
    directory.join("format").try_exists().map_err(|error| unusable(directory, &error))
}

/// Notes that the directory is whole.
pub(super) fn finish(directory: &Path) -> Result<(), OpenError> {
    if finished(directory)? {
        return Ok(());
    }
    let file = directory.join("format");
    replace(&file, FORMAT.as_bytes()).map_err(|error| unusable(directory, &error))
}

/// Puts `bytes` in `file`, all or nothing, durably.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut out = File::create(&new)?;
    out.write_all(bytes)?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    match file.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

pub(super) fn unusable(directory: &Path, error: &io::Error) -> OpenError {
    OpenError::Unusable { directory: directory.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_the_directory_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let lock = Lock::take(directory.path()).unwrap();
        let refused = Lock::take(directory.path()).unwrap_err().to_string();
        assert!(refused.contains(&directory.path().display().to_string()), "{refused}");
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(lock);
        Lock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let refused = Lock::take(&file.join("below")).unwrap_err();
        assert!(matches!(&refused, OpenError::Unusable { directory, .. } if directory.starts_with(&file)), "{refused}");
    }

    #[test]
    fn a_half_made_directory_is_made_anew_and_a_finished_one_never() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::write(data.join("0.jnl"), "").unwrap();
        prepare(directory.path()).unwrap();
        assert!(!data.exists());
        finish(directory.path()).unwrap();
        fs::create_dir(&data).unwrap();
        assert!(matches!(prepare(directory.path()), Err(OpenError::Damaged { .. })));
        assert!(data.exists());
    }

    #[test]
    fn another_format_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("format"), "platform storage 9\n").unwrap();
        let refused = prepare(directory.path()).unwrap_err().to_string();
        assert!(refused.contains("platform storage 9"), "{refused}");
    }
}
