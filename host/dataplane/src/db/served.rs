//! Records as plugins use them.
//!
//! Owns the way from a plugin's import to the capability. Must not know how records are kept. Invariant: what a caller of a front door is
//! refused, a plugin is refused too.

use std::sync::Arc;

use async_trait::async_trait;
use platform_capability::{
    Call,
    db::{self, Error, Found, Index, Query, Record, Stamp, Write},
};

use super::{Db, Place};
use crate::provider::Capability;

impl Db {
    /// The capability for plugins that import it.
    pub(crate) fn backend(&self) -> Arc<dyn db::Backend> {
        Arc::new(self.clone())
    }
}

#[async_trait]
impl db::Backend for Db {
    async fn declare(&self, call: &Call, database: &str, table: &str, indexes: &[Index]) -> Result<(), Error> {
        Self::nested(self.declare(call, Place { database, table }, indexes).await.map(drop))
    }

    async fn commit(&self, call: &Call, database: &str, writes: &[Write]) -> Result<Vec<Option<Stamp>>, Error> {
        Self::nested(self.commit(call, database, writes).await)
    }

    async fn get(&self, call: &Call, database: &str, table: &str, ids: &[&str]) -> Result<Vec<Option<Record>>, Error> {
        Self::nested(self.get(call, Place { database, table }, ids).await)
    }

    async fn find(&self, call: &Call, database: &str, table: &str, query: &Query) -> Result<Found, Error> {
        Self::nested(self.find(call, Place { database, table }, query).await)
    }
}
