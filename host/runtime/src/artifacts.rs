//! Compiled components on disk, found by what they were compiled from and for.
//!
//! Whoever asks for a component that is in use gets the one in use: instances of one code share their warm memory.
//!
//! Invariant: a file appears under its final name complete and synced, or not at all. Files are code that the host
//! runs, so the folder is the owner's alone (0700) and the data directory's lock keeps other daemons out.

use std::{
    borrow::Cow,
    fmt, fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use wasmtime::component::Component;

use crate::engine::Engine;

/// SHA-256 of a component's bytes, written `sha256:HEX`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits, without the algorithm.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no digest.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no digest; write `sha256:` and 64 hexadecimal digits")]
pub struct InvalidDigest(String);

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let invalid = || InvalidDigest(text.chars().take(100).collect());
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64 && hex.is_ascii()).ok_or_else(invalid)?;
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.contains('+')).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(pair, 16).ok().ok_or_else(invalid)?;
        }
        Ok(Self(digest))
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The folder of compiled components.
#[derive(Clone)]
pub struct Artifacts {
    engine: Engine,
    folder: PathBuf,
    unique: Arc<AtomicU64>,
    /// Components in use, by file name.
    used: Arc<DashMap<String, Weak<Component>>>,
}

/// Snapshots kept of one component; each belongs to other settings.
const SNAPSHOTS_MAX: usize = 256;

impl Artifacts {
    /// Uses `folder`, which is made when it is not there.
    ///
    /// # Errors
    /// The folder can't be made.
    pub fn open(engine: Engine, folder: &Path) -> io::Result<Self> {
        let folder = folder.join(engine.compatibility());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { engine, folder, unique: Arc::default(), used: Arc::default() })
    }

    /// The component compiled from `wasm`, from disk when it was compiled before. `variant` tells apart what is
    /// compiled for one digest. Takes from 0.1 ms (found) to seconds (not found): call it off the request path.
    ///
    /// # Errors
    /// `wasm` does not compile.
    pub fn component(
        &self, digest: Digest, variant: &str, wasm: impl FnOnce() -> wasmtime::Result<Vec<u8>>,
    ) -> wasmtime::Result<Arc<Component>> {
        let name = file_name(digest, variant);
        if let Some(component) = self.find(&name) {
            return Ok(component);
        }
        let component = Arc::new(self.compile(&self.folder.join(&name), &wasm()?)?);
        self.note(name, &component);
        Ok(component)
    }

    /// The snapshot that configuring `digest` with `settings` came to, if it was kept.
    #[must_use]
    pub fn snapshot(&self, digest: Digest, settings: &str) -> Option<Arc<Component>> {
        self.find(&file_name(digest, &snapshot(settings)))
    }

    /// Compiles and keeps the snapshot that configuring `digest` with `settings` came to. It holds what the settings
    /// hold: like them, it is the owner's alone.
    ///
    /// # Errors
    /// `wasm` does not compile.
    pub fn keep_snapshot(&self, digest: Digest, settings: &str, wasm: &[u8]) -> wasmtime::Result<Arc<Component>> {
        let name = file_name(digest, &snapshot(settings));
        let component = Arc::new(self.compile(&self.folder.join(&name), wasm)?);
        self.note(name, &component);
        self.forget_oldest(&format!("{}.{SNAPSHOT}", digest.hex()));
        Ok(component)
    }

    fn find(&self, name: &str) -> Option<Arc<Component>> {
        if let Some(component) = self.used.get(name).and_then(|used| used.upgrade()) {
            return Some(component);
        }
        let path = self.folder.join(name);
        match self.load(&path) {
            Ok(component) => {
                let component = Arc::new(component);
                self.note(name.to_owned(), &component);
                Some(component)
            }
            Err(error) => {
                if path.exists() {
                    tracing::warn!(path = %path.display(), %error, "compiled component can't be used and is made anew");
                }
                None
            }
        }
    }

    fn note(&self, name: String, component: &Arc<Component>) {
        self.used.retain(|_, used| used.strong_count() > 0);
        self.used.insert(name, Arc::downgrade(component));
    }

    /// Removes the oldest files whose names begin with `prefix`, but for the latest [`SNAPSHOTS_MAX`].
    fn forget_oldest(&self, prefix: &str) {
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        let ours = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        let mut files: Vec<_> =
            ours.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
        files.sort_unstable();
        let surplus = files.len().saturating_sub(SNAPSHOTS_MAX);
        for (_, path) in files.into_iter().take(surplus) {
            // What stays behind costs disk, nothing else.
            let _ = fs::remove_file(path);
        }
    }

    fn compile(&self, path: &Path, wasm: &[u8]) -> wasmtime::Result<Component> {
        let code = self.engine.wasmtime().precompile_component(wasm)?;
        give_back();
        if let Err(error) = self.write(path, &code) {
            tracing::warn!(path = %path.display(), %error, "compiled component could not be kept");
            // SAFETY: the bytes come from this engine's own compiler, one line above.
            #[expect(unsafe_code, reason = "loading code that this process compiled")]
            return unsafe { Component::deserialize(self.engine.wasmtime(), &code) };
        }
        self.load(path)
    }

    /// Forgets what was compiled for `digest`. Loaded components stay valid.
    pub fn remove(&self, digest: Digest) {
        let prefix = digest.hex();
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // What stays behind costs disk, nothing else.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn load(&self, path: &Path) -> wasmtime::Result<Component> {
        // SAFETY: only this process writes to the folder (0700, data directory locked), complete files under their
        // final name, and the folder's name pins wasmtime's version and configuration.
        #[expect(unsafe_code, reason = "loading code that this daemon compiled")]
        unsafe {
            Component::deserialize_file(self.engine.wasmtime(), path)
        }
    }

    fn write(&self, path: &Path, code: &[u8]) -> io::Result<()> {
        let unique = self.unique.fetch_add(1, Ordering::Relaxed);
        let partial = path.with_extension(format!("{}-{unique}.partial", std::process::id()));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        let written = file.write_all(code).and_then(|()| file.sync_data()).and_then(|()| fs::rename(&partial, path));
        if written.is_err() {
            let _ = fs::remove_file(&partial);
        }
        written
    }
}

/// Gives the system back what compiling took. It comes in many small pieces, and the allocator keeps them all when others
/// that stay were placed behind them in the meantime.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back() {
    // SAFETY: the function has no conditions and takes the allocator's own locks.
    #[expect(unsafe_code, reason = "the allocator is told in C")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators are left as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn give_back() {}

/// What the variants begin with that are snapshots.
const SNAPSHOT: &str = "snapshot-";

/// The variant of a component that is configured with `settings`.
fn snapshot(settings: &str) -> String {
    format!("{SNAPSHOT}{}", Digest::of(settings.as_bytes()).hex())
}

fn file_name(digest: Digest, variant: &str) -> String {
    format!("{}.{variant}.cwasm", digest.hex())
}

impl fmt::Debug for Artifacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Artifacts").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Compiled functions in memory, so that a snapshot that differs only in data compiles in a fraction of the time.
/// Bounded: when it is full it starts over.
#[derive(Debug)]
pub(crate) struct IncrementalCache {
    functions: DashMap<Box<[u8]>, Box<[u8]>>,
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl IncrementalCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { functions: DashMap::new(), bytes: AtomicUsize::new(0), bytes_max }
    }
}

impl wasmtime::CacheStore for IncrementalCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.functions.get(key).map(|value| Cow::Owned(value.to_vec()))
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        let size = key.len() + value.len();
        if self.functions.contains_key(key) {
            return true;
        }
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size > self.bytes_max {
            self.functions.clear();
            self.bytes.store(size, Ordering::Relaxed);
        }
        self.functions.insert(key.into(), value.into_boxed_slice());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_text_round_trips_and_bad_text_is_refused() {
        let digest = Digest::of(b"component");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        for bad in ["", "sha256:", "sha256:zz", "md5:00", &format!("sha256:{}", "+1".repeat(32)), &"é".repeat(64)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
