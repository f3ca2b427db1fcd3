//! [`Uploads`]: bytes that come in, until it is known that they are what was said.
//!
//! Owns files that nobody else sees, and how many there are. Must not know what becomes of them. Invariant: a chunk counts whole or not at all; what
//! breaks off leaves an upload as it was, and a start begins without any.

use std::{
    collections::HashMap,
    error::Error as StdError,
    fs,
    io::SeekFrom,
    ops::Range,
    path::{Path, PathBuf},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use parking_lot::Mutex;
use platform_base::clock;
use platform_runtime::Digest;
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::{File, OpenOptions},
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
};

use crate::{
    blobs::emptied,
    config::Limits,
    error::{Error, Result},
    name::RepositoryName,
};

/// All uploads.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: PathBuf,
    limits: Limits,
    open: Mutex<HashMap<String, Arc<Upload>>>,
}

/// An upload that has begun; its file goes with it.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: String,
    repository: RepositoryName,
    path: PathBuf,
    touched_ms: AtomicU64,
    progress: tokio::sync::Mutex<Progress>,
}

#[derive(Debug)]
struct Progress {
    file: File,
    hasher: Sha256,
    /// Bytes that count.
    offset: u64,
    /// Whether it is being finished: its file may be a blob's by now.
    is_closed: bool,
}

impl Drop for Upload {
    fn drop(&mut self) {
        // What stays behind is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

impl Uploads {
    /// Uses a folder, and removes what is in it: nobody can go on with it. Blocks.
    pub(crate) fn open(path: PathBuf, limits: Limits) -> Result<Self> {
        emptied(&path)?;
        Ok(Self { folder: path, limits, open: Mutex::default() })
    }

    /// Begins an upload.
    pub(crate) async fn begin(&self, repository: &RepositoryName) -> Result<Arc<Upload>> {
        self.drop_old();
        let id = format!("{:032x}", rand::random::<u128>());
        let path = self.folder.join(&id);
        if self.open.lock().len() >= self.limits.uploads_max {
            let max = self.limits.uploads_max;
            return Err(Error::Busy(format!("{max} uploads are open, the limit here; try again later")));
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(&path).await;
        let file = file.map_err(|error| Error::disk(&path, &error))?;
        let upload = Arc::new(Upload {
            id: id.clone(),
            repository: repository.clone(),
            path,
            touched_ms: AtomicU64::new(clock::unix_ms()),
            progress: tokio::sync::Mutex::new(Progress { file, hasher: Sha256::new(), offset: 0, is_closed: false }),
        });
        self.open.lock().insert(id, Arc::clone(&upload));
        Ok(upload)
    }

    /// An upload of a repository.
    pub(crate) fn find(&self, repository: &RepositoryName, id: &str) -> Result<Arc<Upload>> {
        let found = self.open.lock().get(id).map(Arc::clone);
        let found = found.filter(|upload| upload.repository == *repository);
        found.ok_or_else(|| Error::NoUpload(id.chars().filter(char::is_ascii_alphanumeric).take(64).collect()))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.open.lock().len()
    }

    /// Ends an upload.
    pub(crate) fn end(&self, upload: &Upload) {
        self.open.lock().remove(&upload.id);
    }

    /// Drops uploads that rest for too long.
    pub(crate) fn drop_old(&self) {
        let oldest_ms = clock::unix_ms().saturating_sub(self.limits.upload_ms);
        self.open.lock().retain(|_, upload| {
            // What is being written is not at rest, however long it takes.
            upload.touched_ms.load(Ordering::Relaxed) >= oldest_ms || upload.progress.try_lock().is_err()
        });
    }
}

impl Upload {
    /// Bytes that are there.
    pub(crate) async fn offset(&self) -> u64 {
        self.progress.lock().await.offset
    }

    /// Where its bytes lie.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a chunk, which has to lie where it says; how many bytes there are then.
    pub(crate) async fn append<B>(&self, body: B, chunk: Option<Range<u64>>, limits: &Limits) -> Result<u64>
    where
        B: Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let busy = |_| Error::Upload("another request writes to this upload; wait for it to end".to_owned());
        let mut progress = self.progress.try_lock().map_err(busy)?;
        let progress = &mut *progress;
        if progress.is_closed {
            return Err(Error::NoUpload(self.id.clone()));
        }
        if chunk.as_ref().is_some_and(|chunk| chunk.start != progress.offset) {
            return Err(Error::Order { offset: progress.offset });
        }
        let disk = |error: std::io::Error| Error::disk(&self.path, &error);
        // Behind what counts there may be the rest of a chunk that broke off.
        progress.file.set_len(progress.offset).await.map_err(disk)?;
        progress.file.seek(SeekFrom::Start(progress.offset)).await.map_err(disk)?;
        let (mut hasher, mut offset) = (progress.hasher.clone(), progress.offset);
        let mut body = pin!(body);
        while let Some(bytes) = next(&mut body, limits).await? {
            offset = offset.saturating_add(bytes.len() as u64);
            if offset > limits.blob_bytes {
                return Err(Error::TooLarge { what: "blob", max: limits.blob_bytes });
            }
            hasher.update(&bytes);
            progress.file.write_all(&bytes).await.map_err(disk)?;
            self.touched_ms.store(clock::unix_ms(), Ordering::Relaxed);
        }
        progress.file.flush().await.map_err(disk)?;
        if let Some(chunk) = chunk.filter(|chunk| chunk.end != offset) {
            let (said, got) = (chunk.end - chunk.start, offset - progress.offset);
            return Err(Error::Size(format!("the chunk says that it has {said} bytes, and has {got}")));
        }
        (progress.hasher, progress.offset) = (hasher, offset);
        Ok(offset)
    }

    /// Makes what is there durable, and takes no more; its digest and size.
    pub(crate) async fn finish(&self) -> Result<(Digest, u64)> {
        let mut progress = self.progress.lock().await;
        progress.is_closed = true;
        let disk = |error: std::io::Error| Error::disk(&self.path, &error);
        progress.file.set_len(progress.offset).await.map_err(disk)?;
        progress.file.sync_all().await.map_err(disk)?;
        let hex: String = progress.hasher.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = format!("sha256:{hex}").parse();
        Ok((digest.map_err(|error| Error::Unavailable(format!("{error}")))?, progress.offset))
    }
}

/// The next bytes of a body; none at its end.
pub(crate) async fn next<B>(body: &mut std::pin::Pin<&mut B>, limits: &Limits) -> Result<Option<Bytes>>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    loop {
        let frame = tokio::time::timeout(Duration::from_millis(limits.idle_ms), body.frame()).await;
        let frame = frame.map_err(|_late| Error::Body("the next bytes did not arrive in time".to_owned()))?;
        match frame {
            None => return Ok(None),
            Some(Err(error)) => return Err(Error::Body(format!("the body broke off: {}", error.into()))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(_trailers) => {}
            },
        }
    }
}

/// A body as a whole.
pub(crate) async fn whole<B>(body: B, what: &'static str, bytes_max: usize, limits: &Limits) -> Result<Bytes>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let mut body = pin!(body);
    let mut whole = Vec::new();
    while let Some(bytes) = next(&mut body, limits).await? {
        if whole.len().saturating_add(bytes.len()) > bytes_max {
            return Err(Error::TooLarge { what, max: bytes_max as u64 });
        }
        whole.extend_from_slice(&bytes);
    }
    Ok(whole.into())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::stream;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn uploads(limits: Limits) -> (tempfile::TempDir, Uploads) {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("uploads")).unwrap();
        fs::write(root.path().join("uploads/left"), "over").unwrap();
        let uploads = Uploads::open(root.path().join("uploads"), limits).unwrap();
        (root, uploads)
    }

    fn bytes(text: &'static str) -> Full<Bytes> {
        Full::new(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn chunks_count_whole_or_not_at_all() {
        let limits = Limits { blob_bytes: 10, uploads_max: 1, ..Limits::default() };
        let (root, uploads) = uploads(limits.clone());
        let repository: RepositoryName = "a".parse().unwrap();
        let upload = uploads.begin(&repository).await.unwrap();
        assert!(matches!(uploads.begin(&repository).await, Err(Error::Busy(_))));
        assert!(matches!(uploads.find(&"b".parse().unwrap(), &upload.id), Err(Error::NoUpload(_))));
        assert_eq!(upload.append(bytes("abc"), Some(0..3), &limits).await.unwrap(), 3);
        assert!(matches!(upload.append(bytes("x"), Some(4..5), &limits).await, Err(Error::Order { offset: 3 })));
        assert!(matches!(upload.append(bytes("x"), Some(3..5), &limits).await, Err(Error::Size(_))));
        assert!(matches!(upload.append(bytes("01234567"), None, &limits).await, Err(Error::TooLarge { .. })));
        let torn = StreamBody::new(stream::iter([
            Ok(Frame::data(Bytes::from_static(b"zz"))),
            Err(std::io::Error::other("gone")),
        ]));
        assert!(matches!(upload.append(torn, None, &limits).await, Err(Error::Body(_))));
        // Whoever goes away in the middle of a chunk leaves nothing of it either.
        let first = stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"yy"))) });
        let stalled = StreamBody::new(futures::StreamExt::chain(first, stream::pending()));
        let gone = tokio::time::timeout(Duration::from_millis(50), upload.append(stalled, None, &limits)).await;
        assert!(gone.is_err());
        assert_eq!(upload.append(bytes("def"), None, &limits).await.unwrap(), 6);
        assert_eq!(upload.finish().await.unwrap(), (Digest::of(b"abcdef"), 6));
        assert_eq!(fs::read(upload.path()).unwrap(), b"abcdef");
        assert!(matches!(upload.append(bytes("g"), None, &limits).await, Err(Error::NoUpload(_))));
        uploads.end(&upload);
        drop(upload);
        assert_eq!(fs::read_dir(root.path().join("uploads")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn what_rests_for_too_long_is_dropped() {
        let (_root, uploads) = uploads(Limits { upload_ms: 0, ..Limits::default() });
        let upload = uploads.begin(&"a".parse().unwrap()).await.unwrap();
        upload.touched_ms.store(0, Ordering::Relaxed);
        uploads.drop_old();
        assert!(uploads.find(&"a".parse().unwrap(), &upload.id).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_hangs_is_given_up() {
        let limits = Limits::default();
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        assert!(matches!(whole(body, "manifest", 10, &limits).await, Err(Error::Body(_))));
        assert!(matches!(whole(bytes("12345678901"), "manifest", 10, &limits).await, Err(Error::TooLarge { .. })));
    }
}
