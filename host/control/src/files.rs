//! The bytes of installed components, in files named after their digest.
//!
//! Invariant: a file appears under its name complete and synced, or not at all; what is loaded has the digest that was
//! asked for, or is refused by name.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use platform_runtime::Digest;

use crate::{
    error::{Error, Result},
    inspect::COMPONENT_BYTES_MAX,
};

/// The folder of components. Every method blocks.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    loaded: Mutex<std::collections::BTreeMap<Digest, Weak<[u8]>>>,
    unique: AtomicU64,
}

impl Files {
    /// Uses `folder`, which is made when it is not there.
    pub(crate) fn open(folder: PathBuf) -> Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|error| Error::File { path: folder.clone(), action: "made", error })?;
        Ok(Self { folder, loaded: Mutex::default(), unique: AtomicU64::new(0) })
    }

    /// Keeps `bytes`, durably.
    pub(crate) fn put(&self, digest: Digest, bytes: &[u8]) -> Result<()> {
        let path = self.path(digest);
        if self.load(digest).is_ok() {
            return Ok(());
        }
        self.write(&path, bytes).map_err(|error| Error::File { path, action: "written", error })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let partial = path.with_extension(format!("{}-{unique}.partial", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&partial, path));
        if written.is_err() {
            // The sweep at the next start removes what stays behind.
            let _ = fs::remove_file(&partial);
        }
        written.and_then(|()| fs::File::open(&self.folder)?.sync_all())
    }

    /// The component of that digest. Those in use are shared, not read again.
    pub(crate) fn load(&self, digest: Digest) -> Result<Arc<[u8]>> {
        if let Some(bytes) = self.loaded.lock().get(&digest).and_then(Weak::upgrade) {
            return Ok(bytes);
        }
        let path = self.path(digest);
        let bytes = read(&path)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(Error::Damaged { path, expected: digest, found });
        }
        let bytes: Arc<[u8]> = bytes.into();
        let mut loaded = self.loaded.lock();
        loaded.retain(|_, bytes| bytes.strong_count() > 0);
        loaded.insert(digest, Arc::downgrade(&bytes));
        Ok(bytes)
    }

    /// Removes the component of that digest; one that is not there is removed already.
    pub(crate) fn remove(&self, digest: Digest) {
        // A file that stays behind is removed by the sweep at the next start.
        let _ = fs::remove_file(self.path(digest));
    }

    /// Removes what no record knows: the traces of an installation that a crash cut short.
    pub(crate) fn sweep(&self, known: &BTreeSet<Digest>) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest = name.strip_suffix(".wasm").and_then(|stem| stem.replacen('-', ":", 1).parse::<Digest>().ok());
            let ours = digest.is_some() || name.ends_with(".partial");
            if ours && !digest.is_some_and(|digest| known.contains(&digest)) {
                tracing::info!(file = %entry.path().display(), "removed a component that was not completely installed");
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("sha256-{}.wasm", digest.hex()))
    }
}

/// The bytes of a component's file, when it is not larger than components can be.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |error| Error::File { path: path.to_owned(), action: "read", error };
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > COMPONENT_BYTES_MAX {
        return Err(Error::FileTooLarge { path: path.to_owned(), max: COMPONENT_BYTES_MAX });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().join("plugins")).unwrap();
        (folder, files)
    }

    #[test]
    fn components_come_back_and_are_the_owners_alone() {
        let (_folder, files) = files();
        let digest = Digest::of(b"component");
        files.put(digest, b"component").unwrap();
        files.put(digest, b"component").unwrap();
        assert_eq!(&*files.load(digest).unwrap(), b"component");
        let mode = fs::metadata(files.path(digest)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        files.remove(digest);
        assert!(matches!(files.load(digest), Err(Error::File { .. })));
    }

    #[test]
    fn a_flipped_byte_is_refused_by_name_and_repaired_by_installing_again() {
        let (_folder, files) = files();
        let digest = Digest::of(b"component");
        files.put(digest, b"component").unwrap();
        fs::write(files.path(digest), b"componenT").unwrap();
        let error = files.load(digest).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }));
        assert!(error.to_string().contains(&digest.hex()), "{error}");
        files.put(digest, b"component").unwrap();
        assert_eq!(&*files.load(digest).unwrap(), b"component");
    }

    #[test]
    fn the_sweep_removes_what_no_record_knows_and_nothing_else() {
        let (_folder, files) = files();
        let (known, unknown) = (Digest::of(b"known"), Digest::of(b"unknown"));
        files.put(known, b"known").unwrap();
        files.put(unknown, b"unknown").unwrap();
        fs::write(files.folder.join("sha256-00.1-1.partial"), b"half").unwrap();
        fs::write(files.folder.join("README"), b"not ours").unwrap();
        files.sweep(&BTreeSet::from([known]));
        let mut left: Vec<_> = fs::read_dir(&files.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["README".into(), files.path(known).file_name().unwrap().to_owned()]);
    }
}
