//! [`Lock`]: the file that says which bytes a reference led to.
//!
//! Owns its form, TOML for people to read and to review; must not know registries. Invariant: the file is whole at any time, and of several that
//! write it at once none loses what another wrote.

use std::{
    fs::{File, Permissions},
    io::{self, Read, Write},
    path::Path,
};

use platform_runtime::Digest;
use serde::{Deserialize, Serialize};

/// The version of the form.
const VERSION: u32 = 1;
/// Largest file that is read.
const BYTES_MAX: u64 = 16 << 20;

/// What references led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    version: u32,
    #[serde(default, rename = "artifact", skip_serializing_if = "Vec::is_empty")]
    artifacts: Vec<Locked>,
}

/// What one reference led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Locked {
    /// The reference, as it is shown.
    pub reference: String,
    /// The tag by which it was found; none for a digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Digest of the manifest.
    pub digest: Digest,
}

/// The file can't be used.
#[derive(Debug, thiserror::Error)]
pub enum LockFault {
    /// It can't be read or written.
    #[error("can't {what} `{file}`: {why}; name another file with `--lock`")]
    File {
        /// What was tried.
        what: &'static str,
        /// Its name.
        file: String,
        /// What the system says.
        why: String,
    },
    /// It is something else.
    #[error("`{file}` is no lock file: {why}; mend it, or remove it and lock anew")]
    Malformed {
        /// Its name.
        file: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Default for Lock {
    fn default() -> Self {
        Self { version: VERSION, artifacts: Vec::new() }
    }
}

impl Lock {
    /// Reads a file; one that is not there holds nothing.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(file: &Path) -> Result<Self, LockFault> {
        let mut text = String::new();
        match File::open(file) {
            Ok(source) => {
                let read = source.take(BYTES_MAX).read_to_string(&mut text);
                read.map_err(|error| unusable("read", file, &error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(unusable("read", file, &error)),
        }
        let malformed = |why: String| LockFault::Malformed { file: file.display().to_string(), why };
        let lock: Self = toml::from_str(&text).map_err(|error| malformed(error.message().to_owned()))?;
        if lock.version == VERSION {
            Ok(lock)
        } else {
            Err(malformed(format!("its version is {} and not {VERSION}", lock.version)))
        }
    }

    /// What a reference led to.
    #[must_use]
    pub fn get(&self, reference: &str) -> Option<&Locked> {
        self.artifacts.iter().find(|locked| locked.reference == reference)
    }

    /// Notes in a file what a reference led to, in place of what it led to before.
    ///
    /// # Errors
    /// The file can't be read or written; it is as it was.
    pub fn record(file: &Path, locked: Locked) -> Result<(), LockFault> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let failed = |error: io::Error| unusable("write", file, &error);
        // The folder, since the file itself is exchanged for a new one.
        let turn = File::open(folder).map_err(failed)?;
        turn.lock().map_err(failed)?;
        let mut lock = Self::read(file)?;
        lock.artifacts.retain(|other| other.reference != locked.reference);
        lock.artifacts.push(locked);
        lock.artifacts.sort_unstable_by(|one, other| one.reference.cmp(&other.reference));
        let text = toml::to_string(&lock).map_err(|error| failed(io::Error::other(error)))?;
        let mut fresh = tempfile::Builder::new();
        #[cfg(unix)]
        fresh.permissions(<Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644));
        let mut fresh = fresh.tempfile_in(folder).map_err(failed)?;
        fresh.write_all(text.as_bytes()).and_then(|()| fresh.as_file().sync_all()).map_err(failed)?;
        fresh.persist(file).map_err(|error| failed(error.error))?;
        // The new name too.
        turn.sync_all().map_err(failed)
    }
}

fn unusable(what: &'static str, file: &Path, error: &io::Error) -> LockFault {
    LockFault::File { what, file: file.display().to_string(), why: error.kind().to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn locked(reference: &str, bytes: &[u8]) -> Locked {
        Locked { reference: reference.to_owned(), tag: Some("1.0.0".to_owned()), digest: Digest::of(bytes) }
    }

    #[test]
    fn what_was_recorded_is_read_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("platform.lock");
        assert_eq!(Lock::read(&file).unwrap(), Lock::default());
        Lock::record(&file, locked("x.io/b@^1", b"1")).unwrap();
        Lock::record(&file, locked("x.io/a:1", b"2")).unwrap();
        Lock::record(&file, locked("x.io/b@^1", b"3")).unwrap();
        let lock = Lock::read(&file).unwrap();
        assert_eq!(lock.artifacts, [locked("x.io/a:1", b"2"), locked("x.io/b@^1", b"3")]);
        assert_eq!(lock.get("x.io/b@^1"), Some(&locked("x.io/b@^1", b"3")));
        assert_eq!(lock.get("x.io/b"), None);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn several_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("platform.lock");
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    for turn in 0..5 {
                        Lock::record(file, locked(&format!("x.io/{writer}:{turn}"), b"")).unwrap();
                    }
                });
            }
        });
        assert_eq!(Lock::read(&file).unwrap().artifacts.len(), 40);
    }

    #[test]
    fn what_is_no_lock_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("platform.lock");
        for text in [
            "version = 2",
            "what = 1",
            "[[artifact]]",
            "version = 1\n[[artifact]]\nreference = \"a\"\ndigest = \"b\"",
            "\0",
        ] {
            fs::write(&file, text).unwrap();
            let error = Lock::record(&file, locked("x.io/a:1", b"")).unwrap_err().to_string();
            assert!(error.contains("platform.lock` is no lock file: "), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        let nowhere = folder.path().join("missing/platform.lock");
        assert!(Lock::record(&nowhere, locked("x.io/a:1", b"")).unwrap_err().to_string().contains("`--lock`"));
    }
}
