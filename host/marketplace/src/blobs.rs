//! [`Blobs`]: bytes under their digest.
//!
//! Owns where they lie: in files below the data directory, and where daemons share a storage that takes large things also there, of which the
//! files are then copies. Must not know who may see them. Invariant: bytes appear under their digest complete and synced, or not at all.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use platform_runtime::Digest;
use platform_storage::Storage;
use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// What the names of objects begin with: others keep theirs in the same place.
const OBJECT: &str = "blob.";
/// What the name of a file ends with that is not whole.
const PARTIAL: &str = ".partial";
/// Blobs that are moved to or from where daemons share them at once; each is in memory meanwhile.
const MOVES_MAX: usize = 2;

/// Bytes under their digest.
#[derive(Debug)]
pub(crate) struct Blobs {
    folder: PathBuf,
    storage: Arc<dyn Storage>,
    unique: AtomicU64,
    moves: Semaphore,
}

/// Runs what waits for a disk where it holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Error::Unavailable(format!("a task did not end: {error}"))))
}

/// Makes a folder that only its owner reads.
pub(crate) fn folder(path: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| Error::disk(path, &error))
}

/// Makes a folder that only its owner reads, and removes what is in it.
pub(crate) fn emptied(path: &Path) -> Result<()> {
    let emptied = if path.exists() { fs::remove_dir_all(path) } else { Ok(()) };
    emptied.map_err(|error| Error::disk(path, &error))?;
    folder(path)
}

impl Blobs {
    /// Uses a folder, and removes what is not whole. Blocks.
    pub(crate) fn open(path: PathBuf, storage: Arc<dyn Storage>) -> Result<Self> {
        folder(&path)?;
        for entry in fs::read_dir(&path).map_err(|error| Error::disk(&path, &error))?.flatten() {
            if entry.file_name().to_string_lossy().ends_with(PARTIAL) {
                // What stays behind is removed at the next start.
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { folder: path, storage, unique: AtomicU64::new(0), moves: Semaphore::new(MOVES_MAX) })
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    fn partial(&self) -> PathBuf {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        self.folder.join(format!("{}-{unique}{PARTIAL}", std::process::id()))
    }

    /// Keeps the bytes of a file, which are known to have the digest and to be synced. The file stays.
    pub(crate) async fn keep(&self, file: &Path, digest: Digest) -> Result<()> {
        let (from, partial, path) = (file.to_owned(), self.partial(), self.path(digest));
        blocking(move || {
            let linked = fs::hard_link(&from, &partial).and_then(|()| place(&partial, &path));
            linked.map_err(|error| Error::disk(&path, &error))
        })
        .await?;
        let Some(objects) = self.storage.objects() else { return Ok(()) };
        let _turn = self.moves.acquire().await;
        let path = file.to_owned();
        let bytes = blocking(move || fs::read(&path).map_err(|error| Error::disk(&path, &error))).await?;
        Ok(objects.put(&format!("{OBJECT}{}", digest.hex()), bytes.into()).await?)
    }

    /// The file with the bytes; none when they are nowhere.
    pub(crate) async fn file(&self, digest: Digest) -> Result<Option<fs::File>> {
        let path = self.path(digest);
        let opened = blocking(move || match fs::File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::disk(&path, &error)),
        })
        .await?;
        match opened {
            Some(file) => Ok(Some(file)),
            None => self.fetch(digest).await,
        }
    }

    /// Where the file with the bytes lies, for another process; none when they are nowhere.
    pub(crate) async fn local(&self, digest: Digest) -> Result<Option<PathBuf>> {
        if self.file(digest).await?.is_none() {
            return Ok(None);
        }
        let path = self.path(digest);
        std::path::absolute(&path).map(Some).map_err(|error| Error::disk(&path, &error))
    }

    /// Brings bytes here that another daemon took.
    async fn fetch(&self, digest: Digest) -> Result<Option<fs::File>> {
        let Some(objects) = self.storage.objects() else { return Ok(None) };
        let _turn = self.moves.acquire().await;
        let Some(bytes) = objects.get(&format!("{OBJECT}{}", digest.hex())).await? else { return Ok(None) };
        let (partial, path) = (self.partial(), self.path(digest));
        blocking(move || {
            if Digest::of(&bytes) != digest {
                return Err(damaged(digest));
            }
            let write = || {
                let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
                file.write_all(&bytes)?;
                file.sync_all()?;
                place(&partial, &path)?;
                fs::File::open(&path)
            };
            write().map(Some).map_err(|error| Error::disk(&path, &error))
        })
        .await
    }

    /// The bytes, which are known to have the digest.
    pub(crate) async fn read(&self, digest: Digest, bytes_max: u64) -> Result<Option<Bytes>> {
        let Some(file) = self.file(digest).await? else { return Ok(None) };
        let path = self.path(digest);
        blocking(move || {
            let mut bytes = Vec::new();
            let read = io::Read::read_to_end(&mut io::Read::take(file, bytes_max.saturating_add(1)), &mut bytes);
            read.map_err(|error| Error::disk(&path, &error))?;
            if bytes.len() as u64 > bytes_max {
                return Err(Error::TooLarge { what: "component", max: bytes_max });
            }
            if Digest::of(&bytes) == digest { Ok(Some(bytes.into())) } else { Err(damaged(digest)) }
        })
        .await
    }

    /// Removes bytes; those that are not there are removed already.
    pub(crate) async fn remove(&self, digest: Digest) -> Result<()> {
        let path = self.path(digest);
        blocking(move || match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::disk(&path, &error)),
            _ => Ok(()),
        })
        .await?;
        match self.storage.objects() {
            Some(objects) => Ok(objects.remove(&format!("{OBJECT}{}", digest.hex())).await?),
            None => Ok(()),
        }
    }

    /// All digests of which there are bytes, here or where daemons share them.
    pub(crate) async fn all(&self) -> Result<BTreeSet<Digest>> {
        let mut all = self.here().await?;
        if let Some(objects) = self.storage.objects() {
            all.extend(objects.list().await?.iter().filter_map(|object| of_hex(object.name.strip_prefix(OBJECT)?)));
        }
        Ok(all)
    }

    /// Those of which there are files.
    async fn here(&self) -> Result<BTreeSet<Digest>> {
        let folder = self.folder.clone();
        blocking(move || {
            let entries = fs::read_dir(&folder).map_err(|error| Error::disk(&folder, &error))?;
            Ok(entries.flatten().filter_map(|entry| of_hex(entry.file_name().to_str()?)).collect())
        })
        .await
    }

    /// Shares what was pushed while nobody shared the storage.
    pub(crate) async fn share(&self) -> Result<()> {
        let Some(objects) = self.storage.objects() else { return Ok(()) };
        let listed = objects.list().await?;
        let shared: BTreeSet<Digest> =
            listed.iter().filter_map(|object| of_hex(object.name.strip_prefix(OBJECT)?)).collect();
        for digest in self.here().await?.difference(&shared) {
            let Some(bytes) = self.read(*digest, u64::MAX).await? else { continue };
            objects.put(&format!("{OBJECT}{}", digest.hex()), bytes).await?;
        }
        Ok(())
    }
}

fn of_hex(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}

/// What is told of bytes that are not what was kept.
pub(crate) fn damaged(digest: Digest) -> Error {
    tracing::error!(%digest, "a blob is damaged; push it again");
    Error::Unavailable(format!("the blob `{digest}` is damaged; push it again"))
}

/// Gives a whole file its name, durably.
fn place(partial: &Path, path: &Path) -> io::Result<()> {
    if let Err(error) = fs::rename(partial, path) {
        let _ = fs::remove_file(partial);
        return Err(error);
    }
    // Two names of one file: nothing was renamed, and nothing had to be.
    let _ = fs::remove_file(partial);
    path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use platform_storage::{Memory, Options};

    use super::*;

    #[tokio::test]
    async fn bytes_come_back_or_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("blobs");
        let storage: Arc<dyn Storage> = Arc::new(Memory::new(Options::default()));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("1-1.partial"), "half").unwrap();
        let blobs = Blobs::open(folder.clone(), storage).unwrap();
        assert!(!folder.join("1-1.partial").exists());
        let digest = Digest::of(b"bytes");
        assert!(blobs.read(digest, 9).await.unwrap().is_none());
        let file = root.path().join("upload");
        fs::write(&file, "bytes").unwrap();
        blobs.keep(&file, digest).await.unwrap();
        blobs.keep(&file, digest).await.unwrap();
        assert_eq!(blobs.all().await.unwrap(), BTreeSet::from([digest]));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert_eq!(blobs.read(digest, 5).await.unwrap().unwrap(), "bytes");
        assert!(matches!(blobs.read(digest, 4).await, Err(Error::TooLarge { .. })));
        fs::remove_file(folder.join(digest.hex())).unwrap();
        fs::write(folder.join(digest.hex()), "bytez").unwrap();
        assert!(blobs.read(digest, 5).await.unwrap_err().to_string().contains("damaged"));
        // Pushing it again repairs it.
        blobs.keep(&file, digest).await.unwrap();
        assert_eq!(blobs.read(digest, 5).await.unwrap().unwrap(), "bytes");
        blobs.remove(digest).await.unwrap();
        blobs.remove(digest).await.unwrap();
        assert!(blobs.all().await.unwrap().is_empty());
    }
}
