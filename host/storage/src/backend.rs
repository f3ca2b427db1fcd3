//! The seam between what storage means and where bytes lie.
//!
//! Owns the two traits that memory and disk implement; must not know tables or journals. Invariant: a batch is visible
//! to later views whole or not at all, and only once it is durable.

use std::{fmt, ops::ControlFlow};

use bytes::Bytes;

use crate::{
    Objects, Result,
    codec::{Space, Stored},
};

/// One write of a batch; no value: the key is removed.
#[derive(Debug)]
pub(crate) struct Op {
    pub(crate) space: Space,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Option<Bytes>,
}

/// What [`View::walk`] calls with each key and sealed value.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], Bytes) -> Result<ControlFlow<()>> + 'a;

/// All keys at one instant.
pub(crate) trait View {
    /// The sealed value under `key`.
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>>;

    /// Visits the keys from `from` on and before `to` in byte order, until told to break.
    fn walk(&self, space: Space, from: &[u8], to: &[u8], visit: &mut Visit<'_>) -> Result<()>;

    /// Where keys of a space lie, for errors.
    fn place(&self, space: Space) -> String;

    /// Place in the common log that the view shows; 0 for a backend that is written by this process alone.
    fn position(&self) -> u64 {
        0
    }
}

impl dyn View + '_ {
    /// The opened value under `key`.
    pub(crate) fn load<T: Stored>(&self, space: Space, key: &[u8]) -> Result<Option<T>> {
        let sealed = self.get(space, key)?;
        sealed.map(|sealed| T::open(&Place(self, space), key, sealed)).transpose()
    }

    /// Visits opened values; see [`View::walk`].
    pub(crate) fn each<T: Stored>(
        &self, space: Space, from: &[u8], to: &[u8], mut visit: impl FnMut(&[u8], T) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        self.walk(space, from, to, &mut |key, sealed| visit(key, T::open(&Place(self, space), key, sealed)?))
    }
}

/// Tells the place only when an error needs it.
struct Place<'a>(&'a dyn View, Space);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.place(self.1))
    }
}

/// What came of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is durable and visible.
    Made,
    /// Nothing of it was made and never will be: it was worked out on a view that was no longer the newest.
    Outdated,
}

/// Where bytes lie.
pub(crate) trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Whether other processes write too.
    const COMMON: bool = false;

    /// Waits until views show everything that was acknowledged anywhere before this call.
    fn catch_up(&self) -> impl Future<Output = Result<()>> + Send {
        std::future::ready(Ok(()))
    }

    /// Calls `reader` with a view of everything made so far.
    fn read<R>(&self, reader: impl FnOnce(&dyn View) -> Result<R>) -> Result<R>;

    /// The opened value under one key, as a view of its own would show it.
    fn load<T: Stored>(&self, space: Space, key: &[u8]) -> Result<Option<T>> {
        self.read(|view| view.load(space, key))
    }

    /// Makes all of a batch or nothing, as durable as this backend can, if the view at `position` is still the newest.
    /// An empty batch asks just that.
    fn write(&self, ops: Vec<Op>, position: u64) -> Result<Written>;

    /// Earliest expiry that came from elsewhere since this was asked last, [`u64::MAX`] without one.
    fn foreign_expiry(&self) -> u64 {
        u64::MAX
    }

    /// Why it can't answer now, none when it can.
    fn problem(&self) -> Option<String> {
        None
    }

    /// Where processes that share this place keep objects; none when nobody shares it.
    fn objects(&self) -> Option<&dyn Objects> {
        None
    }

    /// Lets go of files; later calls are unavailable.
    fn close(&self);
}
