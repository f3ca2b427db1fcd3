//! [`Embedded`]: storage in a directory of this machine, on fjall.
//!
//! Owns the fjall database; must not know tables or journals. Invariant: a durable batch is in fjall's journal and
//! fsynced before any view sees it, and damage is an error that names where it is.

mod directory;
mod marks;
mod recent;
mod verify;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable, compaction::Leveled};
use parking_lot::RwLock;

use self::recent::{Found, Recent};
use crate::{
    Error, Options, Result,
    backend::{Backend, Op, View, Visit, Written},
    codec::{Space, Stored},
    store::Store,
};

/// Threads of fjall that write table files and merge them. Of two, one would pass on the other's orders to merge, again and
/// again without a pause, as long as it merges.
const WORKERS: usize = 1;
/// Most bytes of fjall's journals before the oldest is written out.
const JOURNAL_BYTES: u64 = 256 << 20;

/// Storage in a directory of this machine.
pub type Embedded = Store<Disk>;

/// Why a directory could not be opened as storage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data directory `{directory}` is in use by process {pid}; stop it, or use another directory")]
    InUse {
        /// The directory.
        directory: PathBuf,
        /// Process that has it, `unknown` when it did not say.
        pid: String,
    },
    /// It can't be created, read or written.
    #[error("the data directory `{directory}` can't be used: {why}; make it a directory this user may write to")]
    Unusable {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        why: String,
    },
    /// It was written by another version.
    #[error("`{file}` says `{found}`, which this version can't read; use the version that wrote it")]
    Foreign {
        /// The file that tells the format.
        file: PathBuf,
        /// What it says.
        found: String,
    },
    /// What lies in it is not what was written.
    #[error("`{file}` is damaged: {why}; restore the data directory from a backup")]
    Damaged {
        /// The file or directory.
        file: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Damaged { .. } => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl Embedded {
    /// Opens the storage in `path`, or makes it. Blocks while it reads what is there.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let disk = Disk::open(path.as_ref(), &options)?;
        let directory = disk.directory.clone();
        Self::start(disk, options).map_err(|error| match error {
            Error::Corrupt(why) => OpenError::Damaged { file: directory, why },
            other => OpenError::Unusable { directory, why: other.to_string() },
        })
    }

    /// Writes what is gathered in memory to table files, which otherwise happens by itself when there is enough.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when closed or when the files can't be written.
    pub fn flush(&self) -> Result<()> {
        let guard = self.backend().open.read();
        let open = guard.as_ref().ok_or_else(closed)?;
        for space in Space::ALL {
            let keyspace = open.spaces.of(space);
            keyspace.rotate_memtable_and_wait().map_err(|error| failed(keyspace.path(), &error))?;
        }
        Ok(())
    }
}

/// The directory behind [`Embedded`].
pub struct Disk {
    directory: PathBuf,
    open: RwLock<Option<Open>>,
    /// Number of the last durable batch; set once it is visible.
    mark: AtomicU64,
    recent: Recent,
}

/// What is let go of by closing. Fields are dropped in this order: the lock goes last.
struct Open {
    spaces: Spaces,
    database: Database,
    _lock: directory::Lock,
}

/// The keyspace of each space.
struct Spaces {
    names: Keyspace,
    rows: Keyspace,
    changes: Keyspace,
    expiries: Keyspace,
    items: Keyspace,
}

impl Spaces {
    fn open(database: &Database, options: &Options) -> fjall::Result<Self> {
        let open = |space: Space| {
            database.keyspace(space.name(), || {
                // What makes a table file of others holds all that goes into it in memory until it is done.
                let tables = Leveled::default().with_table_target_size(options.memtable_bytes);
                let made = KeyspaceCreateOptions::default().max_memtable_size(options.memtable_bytes);
                made.compaction_strategy(Arc::new(tables))
            })
        };
        Ok(Self {
            names: open(Space::Names)?,
            rows: open(Space::Rows)?,
            changes: open(Space::Changes)?,
            expiries: open(Space::Expiries)?,
            items: open(Space::Items)?,
        })
    }

    fn of(&self, space: Space) -> &Keyspace {
        match space {
            Space::Names => &self.names,
            Space::Rows => &self.rows,
            Space::Changes => &self.changes,
            Space::Expiries => &self.expiries,
            Space::Items => &self.items,
        }
    }
}

impl Disk {
    fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let lock = directory::Lock::take(path)?;
        let data = directory::prepare(path)?;
        let mut expected = marks::Expected::noted(path)?;
        if directory::finished(path)? {
            verify::keyspaces(&data)?;
            verify::journals(&data, &mut expected)?;
        }
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = Database::builder(&data)
                .worker_threads(WORKERS)
                .cache_size(options.cache_bytes / 2)
                .max_journaling_size(JOURNAL_BYTES)
                .open()?;
            let spaces = Spaces::open(&database, options)?;
            Ok((database, spaces))
        }));
        let damaged = |why: String| OpenError::Damaged { file: data.clone(), why };
        let (database, spaces) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                return Err(match failed(&data, &error) {
                    Error::Corrupt(why) => damaged(why),
                    other => OpenError::Unusable { directory: path.to_owned(), why: other.to_string() },
                });
            }
            Err(_panic) => return Err(damaged("its files contradict each other".to_owned())),
        };
        let sealed = spaces.names.get(marks::KEY).map_err(|error| damaged(error.to_string()))?;
        let mark = sealed.and_then(|sealed| marks::decode(&sealed)).unwrap_or(0);
        expected.check(mark)?;
        directory::finish(path)?;
        let open = RwLock::new(Some(Open { spaces, database, _lock: lock }));
        let recent = Recent::new(options.cache_bytes / 2);
        Ok(Self { directory: path.to_owned(), open, mark: AtomicU64::new(mark), recent })
    }
}

impl Backend for Disk {
    fn read<R>(&self, reader: impl FnOnce(&dyn View) -> Result<R>) -> Result<R> {
        let guard = self.open.read();
        let open = guard.as_ref().ok_or_else(closed)?;
        // Read first: a batch that becomes visible in between is in the snapshot and no harm.
        let at = self.mark.load(Ordering::Acquire);
        let view = Snapshot { snapshot: open.database.snapshot(), at, disk: self, spaces: &open.spaces };
        // Fjall checks what it reads, but trusts some lengths: damage there is a panic of its own.
        catch_unwind(AssertUnwindSafe(|| reader(&view))).unwrap_or_else(|_panic| {
            Err(Error::Corrupt(format!("`{}`: its files contradict each other", self.directory.display())))
        })
    }

    fn load<T: Stored>(&self, space: Space, key: &[u8]) -> Result<Option<T>> {
        if space == Space::Rows
            && let Some(open) = &*self.open.read()
            && let Found::Row(row) = self.recent.find(key, self.mark.load(Ordering::Acquire), &self.mark)
        {
            let place = open.spaces.of(space).path().display();
            return row.map(|sealed| T::open(&place, key, sealed)).transpose();
        }
        self.read(|view| view.load(space, key))
    }

    fn write(&self, ops: Vec<Op>, _position: u64) -> Result<Written> {
        let guard = self.open.read();
        let open = guard.as_ref().ok_or_else(closed)?;
        let mut batch = OwnedWriteBatch::with_capacity(open.database.clone(), ops.len() + 1);
        let mark = self.mark.load(Ordering::Relaxed) + 1;
        batch.insert(&open.spaces.names, marks::KEY, marks::encode(mark));
        let mut rows = Vec::new();
        for Op { space, key, value } in ops {
            if space == Space::Rows {
                rows.push((Box::from(&key[..]), value.clone()));
            }
            match value {
                Some(value) => batch.insert(open.spaces.of(space), key, value),
                None => batch.remove(open.spaces.of(space), key),
            }
        }
        // A batch that fails stays begun: nothing is held of it, and fjall takes no other.
        self.recent.begin(rows.iter().map(|(key, _)| &**key));
        // Fsynced before it is applied, so that no view sees what a crash could take back.
        batch.durability(Some(PersistMode::SyncData)).commit().map_err(|error| failed(&self.directory, &error))?;
        self.mark.store(mark, Ordering::Release);
        self.recent.end(rows, mark);
        Ok(Written::Made)
    }

    fn close(&self) {
        let Some(open) = self.open.write().take() else { return };
        if let Err(error) = marks::note(&self.directory, self.mark.load(Ordering::Relaxed)) {
            tracing::warn!(%error, directory = %self.directory.display(), "the last batch could not be noted");
        }
        drop(open);
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = self.mark.load(Ordering::Relaxed);
        f.debug_struct("Disk").field("directory", &self.directory).field("mark", &mark).finish_non_exhaustive()
    }
}

struct Snapshot<'a> {
    snapshot: fjall::Snapshot,
    /// A batch that was visible before it was taken.
    at: u64,
    disk: &'a Disk,
    spaces: &'a Spaces,
}

impl Snapshot<'_> {
    fn search(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        let keyspace = self.spaces.of(space);
        let value = self.snapshot.get(keyspace, key).map_err(|error| failed(keyspace.path(), &error))?;
        Ok(value.map(Bytes::from))
    }
}

impl View for Snapshot<'_> {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>> {
        if space != Space::Rows {
            return self.search(space, key);
        }
        match self.disk.recent.find(key, self.at, &self.disk.mark) {
            Found::Row(row) => Ok(row),
            Found::Nothing(ticket) => {
                let row = self.search(space, key)?;
                if let Some(ticket) = ticket {
                    self.disk.recent.keep(key, row.as_ref(), ticket);
                }
                Ok(row)
            }
        }
    }

    fn walk(&self, space: Space, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        if from >= to {
            return Ok(());
        }
        let keyspace = self.spaces.of(space);
        for pair in self.snapshot.range(keyspace, from..to) {
            let (key, value) = pair.into_inner().map_err(|error| failed(keyspace.path(), &error))?;
            if visit(&key, value.into())?.is_break() {
                break;
            }
        }
        Ok(())
    }

    fn place(&self, space: Space) -> String {
        self.spaces.of(space).path().display().to_string()
    }
}

fn closed() -> Error {
    Error::Unavailable("it is closed".to_owned())
}

/// What an error of fjall means here: bytes that are not what was written, or a disk that does not do its work.
fn failed(place: &Path, error: &fjall::Error) -> Error {
    use std::io::ErrorKind::{InvalidData, InvalidInput, NotFound, UnexpectedEof};
    let io = match error {
        fjall::Error::Io(io) | fjall::Error::Storage(fjall::LsmError::Io(io)) => Some(io),
        _ => None,
    };
    let place = place.display();
    match (io, error) {
        (Some(io), _) if matches!(io.kind(), InvalidData | InvalidInput | NotFound | UnexpectedEof) => {
            Error::Corrupt(format!("`{place}`: a file is missing, cut short or holds wrong positions: {io}"))
        }
        (Some(io), _) => Error::Unavailable(format!("`{place}`: {io}")),
        (None, fjall::Error::Poisoned) => Error::Unavailable(format!(
            "`{place}`: an earlier write to disk failed, so nothing more is written; look at the disk, then restart"
        )),
        (None, fjall::Error::Locked) => Error::Unavailable(format!("`{place}` is in use by another process")),
        (None, other) => Error::Corrupt(format!("`{place}`: {other}")),
    }
}
