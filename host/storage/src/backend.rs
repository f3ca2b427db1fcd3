//! The seam between what storage means and where bytes lie.
//!
//! Owns the two traits that memory and disk implement; must not know tables or journals. Invariant: a batch is visible
//! to later views whole or not at all, and only once it is durable.

use std::{fmt, ops::ControlFlow};

use bytes::Bytes;

use crate::{
    Result,
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

/// Where bytes lie.
pub(crate) trait Backend: fmt::Debug + Send + Sync + 'static {
    /// Calls `reader` with a view of everything made so far.
    fn read<R>(&self, reader: impl FnOnce(&dyn View) -> Result<R>) -> Result<R>;

    /// Makes all of a batch or nothing, as durable as this backend can.
    fn write(&self, ops: Vec<Op>) -> Result<()>;

    /// Lets go of files; later calls are unavailable.
    fn close(&self);
}
