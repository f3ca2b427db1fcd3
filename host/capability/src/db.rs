//! `platform:db`: what providers export and what users of the capability import.

use std::fmt;

use async_trait::async_trait;
use platform_runtime::{Functions, function::Row};

pub use crate::bindings::platform::db::{
    store::{Change, Table},
    types::{
        Action, Condition, Conflict, Content, Duplicate, Error, Fence, Field, Filter, Found, Index, Kind, Query,
        Record, Stamp, Test, Value, Write,
    },
};
use crate::{
    bindings::platform::db::{records, types},
    context::Call,
    functions::{LIFECYCLE, functions},
    guest::Guest,
    plugin::{Configure, Load, Save, SelfTest},
};

/// The interface that a provider exports.
pub const INTERFACE: &str = "platform:db/store@0.1.0";

functions! { "platform:db/store@0.1.0" from LIFECYCLE;
    /// Declares a table.
    Declare = "declare" (&'a str, &'a str, &'a [Index]) -> (Result<Table, Error>,);
    /// Builds indexes.
    Build = "build" (&'a str, &'a str) -> (Result<bool, Error>,);
    /// Removes a table.
    DropTable = "drop-table" (&'a str, &'a str) -> (Result<bool, Error>,);
    /// Lists tables.
    Tables = "tables" (&'a str, Option<&'a str>, u32) -> (Result<Vec<Table>, Error>,);
    /// Writes records.
    Commit = "commit" (&'a str, &'a [Write]) -> (Result<Vec<Option<Stamp>>, Error>,);
    /// Reads records.
    Get = "get" (&'a str, &'a str, &'a [&'a str]) -> (Result<Vec<Option<Record>>, Error>,);
    /// Looks for records.
    Find = "find" (&'a str, &'a str, &'a Query) -> (Result<Found, Error>,);
    /// Waits for changes.
    Changes = "changes" (&'a str, u64, u32, u32) -> (Result<Vec<Change>, Error>,);
    /// Lists fences.
    Fences = "fences" (Option<&'a str>, u32) -> (Result<Vec<Fence>, Error>,);
    /// Takes over what another store holds.
    Restore = "restore" (&'a [Change], &'a [Fence], u64) -> (Result<(), Error>,);
    /// The last revision.
    Revision = "revision" () -> (Result<u64, Error>,);
}

/// What the host calls in a provider.
pub const FUNCTIONS: Functions<Guest> = &[
    Row::required::<Configure>(),
    Row::required::<SelfTest>(),
    Row::optional::<Save>(),
    Row::optional::<Load>(),
    Row::required::<Declare>(),
    Row::required::<Build>(),
    Row::required::<DropTable>(),
    Row::required::<Tables>(),
    Row::required::<Commit>(),
    Row::required::<Get>(),
    Row::required::<Find>(),
    Row::required::<Changes>(),
    Row::required::<Fences>(),
    Row::required::<Restore>(),
    Row::required::<Revision>(),
];

/// Records for guests that import them: answers under the grants and the context of the importer.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync + 'static {
    /// See `platform:db/records`.
    async fn declare(&self, call: &Call, database: &str, table: &str, indexes: &[Index]) -> Result<(), Error>;
    /// See `platform:db/records`.
    async fn commit(&self, call: &Call, database: &str, writes: &[Write]) -> Result<Vec<Option<Stamp>>, Error>;
    /// See `platform:db/records`.
    async fn get(&self, call: &Call, database: &str, table: &str, ids: &[&str]) -> Result<Vec<Option<Record>>, Error>;
    /// See `platform:db/records`.
    async fn find(&self, call: &Call, database: &str, table: &str, query: &Query) -> Result<Found, Error>;
}

impl types::Host for Guest {}

impl Guest {
    fn db(&self) -> Result<&dyn Backend, Error> {
        let backend = self.parts.db.as_deref();
        backend.ok_or_else(|| Error::Unavailable("the plugin has no `db` grant".to_owned()))
    }
}

impl records::Host for Guest {
    async fn declare(&mut self, database: String, table: String, indexes: Vec<Index>) -> Result<(), Error> {
        self.db()?.declare(&self.nested(), &database, &table, &indexes).await
    }

    async fn commit(&mut self, database: String, writes: Vec<Write>) -> Result<Vec<Option<Stamp>>, Error> {
        self.db()?.commit(&self.nested(), &database, &writes).await
    }

    async fn get(&mut self, database: String, table: String, ids: Vec<String>) -> Result<Vec<Option<Record>>, Error> {
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        self.db()?.get(&self.nested(), &database, &table, &ids).await
    }

    async fn find(&mut self, database: String, table: String, query: Query) -> Result<Found, Error> {
        self.db()?.find(&self.nested(), &database, &table, &query).await
    }
}
