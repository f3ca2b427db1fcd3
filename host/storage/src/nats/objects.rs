//! Files that daemons share, in an object store of NATS.
//!
//! Owns how long each step may take and what its failures mean; must not know what the files are. Invariant: an object is
//! there whole or not at all, and its bytes are checked against the digest that was kept with it.

use std::{io::Cursor, time::Duration};

use async_nats::jetstream::object_store::{GetErrorKind, InfoErrorKind, ObjectMetadata};
use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt as _;
use tokio::io::AsyncReadExt as _;

use super::{Cluster, link::words};
use crate::{Error, Object, Objects, Result};

/// Longest that moving one object takes: 64 MiB over a slow line.
const MOVE: Duration = Duration::from_secs(120);
/// Longest that a question takes.
const ASK: Duration = Duration::from_secs(10);
/// Bytes of a message, where the server takes as many.
const PIECE_BYTES: usize = 128 << 10;

impl Cluster {
    /// Does something with the object store, in time.
    async fn object<T>(&self, most: Duration, work: impl Future<Output = Result<T, String>>) -> Result<T> {
        if let Some(error) = self.inner.unavailable() {
            return Err(error);
        }
        let done = tokio::time::timeout(most, work).await;
        let done = done.unwrap_or_else(|_late| Err(format!("no answer within {} s", most.as_secs())));
        done.map_err(|why| Error::Unavailable(format!("the object store in NATS: {why}")))
    }
}

#[async_trait]
impl Objects for Cluster {
    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        let link = &self.inner.link;
        let chunk_size = Some(link.entry_bytes().min(PIECE_BYTES));
        let about = ObjectMetadata { name: name.to_owned(), chunk_size, ..ObjectMetadata::default() };
        let mut bytes = Cursor::new(bytes);
        let put = async { link.objects.put(about, &mut bytes).await.map(drop).map_err(|error| words(&error)) };
        self.object(MOVE, put).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let get = async {
            let mut object = match self.inner.link.objects.get(name).await {
                Ok(object) if object.info().deleted => return Ok(None),
                Ok(object) => object,
                Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(words(&error)),
            };
            let mut bytes = Vec::with_capacity(object.info().size);
            // The reader compares the digest before it says that this is the end.
            object.read_to_end(&mut bytes).await.map_err(|error| words(&error))?;
            Ok(Some(Bytes::from(bytes)))
        };
        self.object(MOVE, get).await
    }

    async fn remove(&self, name: &str) -> Result<()> {
        let objects = &self.inner.link.objects;
        let remove = async {
            match objects.info(name).await {
                Ok(about) if about.deleted => return Ok(()),
                Err(error) if error.kind() == InfoErrorKind::NotFound => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(words(&error)),
            }
            objects.delete(name).await.map_err(|error| words(&error))
        };
        self.object(ASK, remove).await
    }

    async fn list(&self) -> Result<Vec<Object>> {
        let list = async {
            let list = self.inner.link.objects.list().await.map_err(|error| words(&error))?;
            let all: Vec<_> = list.try_collect().await.map_err(|error| words(&error))?;
            let kept_ms = |seconds: i64| u64::try_from(seconds).unwrap_or(0).saturating_mul(1000);
            let object = |about: async_nats::jetstream::object_store::ObjectInfo| Object {
                name: about.name,
                kept_ms: about.modified.map_or(0, |at| kept_ms(at.unix_timestamp())),
            };
            Ok(all.into_iter().map(object).collect())
        };
        self.object(ASK, list).await
    }
}
