//! Slot `db.store`: records in the tables of databases.

mod find;
mod order;

use serde::de::DeserializeOwned;

use crate::{
    Problem,
    bindings::db::exports::platform::db::store::Guest,
    export::{Adapter, Instance},
    storage,
};

pub use find::{Range, Row, Rows, search};
pub use order::{compare, decode, encode};

pub use crate::bindings::db::{
    exports::platform::db::store::{Change, Table},
    platform::db::types::{
        Action, Condition, Conflict, Content, Duplicate, Error, Fence, Field, Filter, Found, Index, Kind, Query,
        Record, Stamp, Test, Value, Write,
    },
};

/// Most records or changes in one answer.
pub const MAX_LIMIT: u32 = 1000;
/// Largest text of an indexed field, in bytes.
pub const MAX_INDEXED_BYTES: usize = 256;
/// Most records that a search leaves out before it gives up.
pub const MAX_LEFT_OUT: u32 = 10_000;
/// Bytes of records after which an answer ends.
pub const ANSWER_BYTES: usize = 4 << 20;

/// Result of a call to a store.
pub type Result<T> = std::result::Result<T, Error>;

/// Keeps records. Writes are linearizable within a database; the namespace is the call's ([`crate::context::namespace`];
/// [`storage`] is scoped to it already). The host checks names, ids, metadata and queries before a store sees them.
pub trait Store: Sized + 'static {
    /// The settings, read from JSON; `()` for none.
    type Settings: DeserializeOwned + 'static;

    /// Makes the store from its settings, once per instance. No import may be called.
    ///
    /// # Errors
    /// When the settings make no sense; the previous generation then stays.
    fn configure(settings: Self::Settings) -> std::result::Result<Self, Problem>;

    /// Checks itself before a generation takes traffic.
    ///
    /// # Errors
    /// When the store would not work; the previous generation then stays.
    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        Ok(())
    }

    /// Makes a table if there is none, and gives it exactly these indexes.
    ///
    /// # Errors
    /// See [`Error`]; so for all methods.
    fn declare(&mut self, database: &str, table: &str, indexes: Vec<Index>) -> Result<Table>;

    /// Does a stretch of what a declaration left to be done; whether nothing is left.
    ///
    /// # Errors
    /// [`Error::Duplicate`] or [`Error::Invalid`] when a record can't be in an index, which then is no longer declared.
    fn build(&mut self, database: &str, table: &str) -> Result<bool>;

    /// Removes a stretch of a table; whether nothing is left of it.
    ///
    /// # Errors
    /// See [`Error`].
    fn drop_table(&mut self, database: &str, table: &str) -> Result<bool>;

    /// Tables whose `DATABASE/TABLE` starts with `prefix` and is greater than `after`, in byte order, at most `limit`.
    ///
    /// # Errors
    /// See [`Error`].
    fn tables(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Table>>;

    /// Makes all of the writes or none; for each the stamp of its record after it.
    ///
    /// # Errors
    /// [`Error::Conflict`] when a condition does not hold, [`Error::Duplicate`] when a unique value is taken.
    fn commit(&mut self, database: &str, writes: Vec<Write>) -> Result<Vec<Option<Stamp>>>;

    /// The records of ids, in the order asked.
    ///
    /// # Errors
    /// [`Error::TooLarge`] when the answer is more than 16 MiB.
    fn get(&mut self, database: &str, table: &str, ids: &[String]) -> Result<Vec<Option<Record>>>;

    /// Records that match; [`search`] does it over the [`Rows`] of a table.
    ///
    /// # Errors
    /// [`Error::Unindexed`].
    fn find(&mut self, database: &str, table: &str, query: &Query) -> Result<Found>;

    /// Changes with a revision greater than `after`, oldest first, those of a commit together. Waits up to `wait_ms` for the
    /// first one, or returns at once when the store can't wait.
    ///
    /// # Errors
    /// [`Error::Compacted`] when `after` is older than what is kept.
    fn changes(&mut self, selector: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>>;

    /// Fences of the namespace whose name is greater than `after`, in byte order, at most `limit`.
    ///
    /// # Errors
    /// See [`Error`].
    fn fences(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Fence>>;

    /// Makes records what another store says that they are, with their stamps, and remembers its fences; all of it or
    /// nothing. A `revision` other than 0 is then the store's, and changes up to it are not kept.
    ///
    /// # Errors
    /// [`Error::Duplicate`] when a unique value is taken.
    fn restore(&mut self, changes: Vec<Change>, fences: Vec<Fence>, revision: u64) -> Result<()>;

    /// Revision of the last write in the namespace, 0 when there was none.
    ///
    /// # Errors
    /// See [`Error`].
    fn revision(&mut self) -> Result<u64>;
}

/// What a record's metadata holds under a name.
#[must_use]
pub fn field<'a>(metadata: &'a [Field], name: &str) -> Option<&'a Value> {
    metadata.iter().find(|field| field.name == name).map(|field| &field.value)
}

/// The kind of a value.
#[must_use]
pub const fn kind(value: &Value) -> Kind {
    match value {
        Value::Text(_) => Kind::Text,
        Value::Number(_) => Kind::Number,
        Value::Boolean(_) => Kind::Boolean,
    }
}

/// What an index has of a record: none when it has not the field.
///
/// # Errors
/// The field holds another kind than the index has, or too long a text.
pub fn indexed<'a>(index: &Index, id: &str, metadata: &'a [Field]) -> Result<Option<&'a Value>> {
    let Some(value) = field(metadata, &index.field) else { return Ok(None) };
    let (name, id) = (&index.field, id.escape_debug());
    if kind(value) != index.kind {
        let kind = match index.kind {
            Kind::Text => "text",
            Kind::Number => "a number",
            Kind::Boolean => "true or false",
        };
        return Err(Error::Invalid(format!("`{name}` of `{id}` is not {kind}, as the index on it has it")));
    }
    match value {
        Value::Text(text) if text.len() > MAX_INDEXED_BYTES => Err(Error::TooLarge(format!(
            "`{name}` of `{id}` has {} bytes; an indexed text has at most {MAX_INDEXED_BYTES}",
            text.len()
        ))),
        value => Ok(Some(value)),
    }
}

/// Metadata as records have it: in byte order of names, without negative zero.
pub fn arrange(metadata: &mut [Field]) {
    metadata.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for field in metadata {
        if let Value::Number(number) = &mut field.value {
            *number += 0.0;
        }
    }
}

/// Whether a condition holds of a record's revision, 0 where there is no record.
///
/// # Errors
/// [`Error::Conflict`] when it does not.
pub fn check(write: &Write, revision: u64) -> Result<()> {
    let holds = match write.condition {
        Condition::Always => true,
        Condition::Absent => revision == 0,
        Condition::Present => revision != 0,
        Condition::At(wanted) => revision != 0 && revision == wanted,
    };
    if holds {
        return Ok(());
    }
    Err(Error::Conflict(Conflict { table: write.table.clone(), id: write.id.clone(), revision }))
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            // A store turns conflicts of keys into those of records, or tries again.
            storage::Error::Conflict(_) => Self::Unavailable("others wrote at the same time; try again".into()),
            storage::Error::Compacted(oldest) => Self::Compacted(oldest),
            storage::Error::TooLarge(what) | storage::Error::Full(what) => Self::TooLarge(what),
            storage::Error::Invalid(what) => Self::Invalid(what),
            storage::Error::Unavailable(why) => Self::Unavailable(why),
            storage::Error::Stale(seen) => Self::Stale(seen),
            storage::Error::Other(why) => Self::Other(why),
        }
    }
}

/// Calls the store, or says that the host skipped `configure`.
fn with<P: Instance<State = P>, T>(call: impl FnOnce(&mut P) -> Result<T>) -> Result<T> {
    P::with(call).unwrap_or_else(|problem| Err(Error::Unavailable(problem.message().to_owned())))
}

impl<P: Store + Instance<State = P>> Guest for Adapter<P> {
    fn declare(database: String, table: String, indexes: Vec<Index>) -> Result<Table> {
        with(|store: &mut P| store.declare(&database, &table, indexes))
    }

    fn build(database: String, table: String) -> Result<bool> {
        with(|store: &mut P| store.build(&database, &table))
    }

    fn drop_table(database: String, table: String) -> Result<bool> {
        with(|store: &mut P| store.drop_table(&database, &table))
    }

    fn tables(prefix: String, after: Option<String>, limit: u32) -> Result<Vec<Table>> {
        with(|store: &mut P| store.tables(&prefix, after.as_deref(), limit))
    }

    fn commit(database: String, writes: Vec<Write>) -> Result<Vec<Option<Stamp>>> {
        with(|store: &mut P| store.commit(&database, writes))
    }

    fn get(database: String, table: String, ids: Vec<String>) -> Result<Vec<Option<Record>>> {
        with(|store: &mut P| store.get(&database, &table, &ids))
    }

    fn find(database: String, table: String, query: Query) -> Result<Found> {
        with(|store: &mut P| store.find(&database, &table, &query))
    }

    fn changes(selector: String, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        with(|store: &mut P| store.changes(&selector, after, limit, wait_ms))
    }

    fn fences(after: Option<String>, limit: u32) -> Result<Vec<Fence>> {
        with(|store: &mut P| store.fences(after.as_deref(), limit))
    }

    fn restore(changes: Vec<Change>, fences: Vec<Fence>, revision: u64) -> Result<()> {
        with(|store: &mut P| store.restore(changes, fences, revision))
    }

    fn revision() -> Result<u64> {
        with(|store: &mut P| store.revision())
    }
}
