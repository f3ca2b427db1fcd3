//! [`DataDir`]: the directory that the daemon keeps its state in.
//!
//! Owns who has the directory, the administrator's token and the published address; must not know what the storage in it
//! holds. Invariants: one daemon at a time has the directory; the files that others read are there in full or not at all;
//! the token never reaches the log.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::{place, words};

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Random bytes of the id of a daemon.
const ID_BYTES: usize = 6;
/// Longest token file that is read.
const TOKEN_FILE_BYTES: u64 = 4096;
/// Shortest token that is taken from a file, in characters: less would be guessed.
const TOKEN_MIN: usize = 16;
/// Name of the daemon among those that share a storage.
const ID: &str = "daemon.id";
/// Held by the daemon that has the directory.
const LOCK: &str = "daemon.lock";

/// Why a directory can't be the data directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// Another daemon has it.
    #[error("the data directory `{}` is in use by process {pid}; stop it, or use another with `--data-dir`", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Process that has it.
        pid: String,
    },
    /// It can't be created, read or written.
    #[error("can't use the data directory `{}`: {}; make it a directory this user may write to, or use another with `--data-dir`", path.display(), words::of(why))]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The token file holds no token.
    #[error("`{}` holds no token; remove it, and the daemon makes a new one", path.display())]
    Token {
        /// The file.
        path: PathBuf,
    },
}

/// The data directory, held until dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes the directory, making it when it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, DataDirError> {
        let unusable = |why| DataDirError::Unusable { path: path.to_owned(), why };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let lock = take_lock(&path)?;
        let directory = Self { path, _lock: lock };
        // What an earlier daemon published may by now be the address of something else.
        directory.withdraw_address();
        Ok(directory)
    }

    /// A file or directory in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The administrator's token; made at the first start.
    pub(crate) fn admin_token(&self) -> Result<String, DataDirError> {
        let path = self.join(place::ADMIN_TOKEN);
        let unusable = |why| DataDirError::Unusable { path: path.clone(), why };
        match File::open(&path) {
            Ok(file) => {
                if file.metadata().map_err(unusable)?.permissions().mode() & 0o077 != 0 {
                    tracing::warn!(file = %path.display(), "others could read the administrator's token; now only its owner can");
                    file.set_permissions(Permissions::from_mode(0o600)).map_err(unusable)?;
                }
                let mut text = String::new();
                file.take(TOKEN_FILE_BYTES).read_to_string(&mut text).map_err(unusable)?;
                let token = text.trim();
                let good = token.len() >= TOKEN_MIN && token.chars().all(|c| c.is_ascii_graphic());
                if good { Ok(token.to_owned()) } else { Err(DataDirError::Token { path }) }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let token = random::<TOKEN_BYTES>();
                self.write(place::ADMIN_TOKEN, &token)?;
                tracing::info!(file = %path.display(), "made the administrator's token");
                Ok(token)
            }
            Err(error) => Err(unusable(error)),
        }
    }

    /// Id of the daemon, the same as long as the directory is there.
    pub(crate) fn daemon_id(&self) -> Result<String, DataDirError> {
        let path = self.join(ID);
        let known = fs::read_to_string(&path).unwrap_or_default();
        let known = known.trim();
        if known.len() == 2 * ID_BYTES && known.chars().all(|c| c.is_ascii_hexdigit()) {
            return Ok(known.to_owned());
        }
        let id = random::<ID_BYTES>();
        self.write(ID, &id)?;
        Ok(id)
    }

    /// Tells clients where the daemon listens.
    pub(crate) fn publish_address(&self, address: SocketAddr) -> Result<(), DataDirError> {
        self.write(place::ADDRESS, &address.to_string())
    }

    /// Tells clients of Redis where they are served.
    pub(crate) fn publish_resp_address(&self, address: SocketAddr) -> Result<(), DataDirError> {
        self.write(place::RESP_ADDRESS, &address.to_string())
    }

    /// Tells clients that the daemon listens no more. A failure changes nothing: they find out when they connect.
    pub(crate) fn withdraw_address(&self) {
        for name in [place::ADDRESS, place::RESP_ADDRESS] {
            let _ = fs::remove_file(self.join(name));
        }
    }

    /// Writes a line to a file that only its owner reads: in full or not at all, and durably.
    fn write(&self, name: &str, line: &str) -> Result<(), DataDirError> {
        let path = self.join(name);
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.path)?;
            writeln!(file, "{line}")?;
            file.as_file().sync_all()?;
            file.persist(&path).map_err(|error| error.error)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|why| DataDirError::Unusable { path: path.clone(), why })
    }
}

/// Random bytes in hexadecimal.
fn random<const BYTES: usize>() -> String {
    let mut bytes = [0_u8; BYTES];
    rand::fill(&mut bytes[..]);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn take_lock(directory: &Path) -> Result<File, DataDirError> {
    let path = directory.join(LOCK);
    let unusable = |why| DataDirError::Unusable { path: directory.to_owned(), why };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).map_err(unusable)?;
            writeln!(file, "{}", std::process::id()).map_err(unusable)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // The number helps whoever reads the error; not having it changes nothing.
            let _ = file.read_to_string(&mut pid);
            let pid: String = pid.trim().chars().filter(char::is_ascii_digit).collect();
            let pid = if pid.is_empty() { "unknown".to_owned() } else { pid };
            Err(DataDirError::InUse { path: directory.to_owned(), pid })
        }
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_daemon_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/data");
        let first = DataDir::open(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err().to_string();
        assert!(error.contains("in use by process"), "{error}");
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(first);
        DataDir::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_token_stays_and_only_its_owner_reads_it() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDir::open(root.path()).unwrap();
        let token = directory.admin_token().unwrap();
        assert_eq!(token.len(), 2 * TOKEN_BYTES);
        let file = root.path().join("admin.token");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(directory.admin_token().unwrap(), token);

        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(directory.admin_token().unwrap(), token);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        fs::write(&file, "short\n").unwrap();
        assert!(directory.admin_token().unwrap_err().to_string().contains("holds no token"));
    }

    #[test]
    fn the_id_stays() {
        let (root, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let directory = DataDir::open(root.path()).unwrap();
        let id = directory.daemon_id().unwrap();
        assert_eq!(directory.daemon_id().unwrap(), id);
        assert_ne!(DataDir::open(other.path()).unwrap().daemon_id().unwrap(), id);
        fs::write(root.path().join("daemon.id"), "a b\n").unwrap();
        assert_eq!(directory.daemon_id().unwrap().len(), 2 * ID_BYTES, "what is no id is replaced");
    }

    #[test]
    fn an_address_of_an_earlier_daemon_is_not_kept() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDir::open(root.path()).unwrap();
        directory.publish_address(([127, 0, 0, 1], 8080).into()).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("address")).unwrap(), "127.0.0.1:8080\n");
        drop(directory);
        DataDir::open(root.path()).unwrap();
        assert!(!root.path().join("address").exists());
    }

    #[test]
    fn what_can_not_be_a_directory_is_said() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DataDir::open(&file).unwrap_err();
        assert!(matches!(error, DataDirError::Unusable { .. }), "{error}");
        assert!(DataDir::open(&file.join("below")).unwrap_err().to_string().contains("--data-dir"));
    }
}
