//! The db capability: what an argument may be, before any plugin sees it, and which provider has a database.
//!
//! Must not know how records are kept. Invariant: all calls about a database go to one slot, `db.store/DATABASE` where it is
//! bound.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
};

use futures::Stream;
use platform_capability::{
    Call, SlotKind,
    db::{self, Action, Change, Error, Found, Index, Query, Record, Stamp, Table, Write},
};

use crate::{
    error::CallError,
    plane::Plane,
    provider::{Capability, LIMIT_MAX, Provider},
    watch::Event,
};

mod carry;
mod check;
mod served;

type Result<T, E = CallError<Error>> = std::result::Result<T, E>;

/// A table of a database.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The database.
    pub database: &'a str,
    /// The table.
    pub table: &'a str,
}

/// Typed calls to `db.store/DATABASE` where it is bound, to `db.store` elsewhere.
#[derive(Debug, Clone)]
pub struct Db(Arc<Provider<Self>>);

impl Db {
    pub(crate) fn new(plane: Weak<Plane>) -> Self {
        Self(Provider::new(plane))
    }

    pub(crate) fn provider(&self) -> &Arc<Provider<Self>> {
        &self.0
    }

    /// Gives a table exactly these indexes and waits until they are built; makes the table when there is none.
    ///
    /// # Errors
    /// See [`CallError`]; so for all methods.
    pub async fn declare(&self, call: &Call, at: Place<'_>, indexes: &[Index]) -> Result<Table> {
        check::place(at)?;
        check::indexes(indexes)?;
        let Place { database, table } = at;
        let _writing = self.0.writing(call).await?;
        let mut declared: Table = self.0.write_in::<db::Declare, _>(call, database, (database, table, indexes)).await?;
        while !declared.ready {
            declared.ready = self.0.call_in::<db::Build, _>(call, database, (database, table)).await?;
        }
        Ok(declared)
    }

    /// Removes a table with its records.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn drop_table(&self, call: &Call, at: Place<'_>) -> Result<()> {
        check::place(at)?;
        let _writing = self.0.writing(call).await?;
        while !self.0.write_in::<db::DropTable, _>(call, at.database, (at.database, at.table)).await? {}
        Ok(())
    }

    /// Removes a database with its tables.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn drop_database(&self, call: &Call, database: &str) -> Result<()> {
        check::name("database", database)?;
        loop {
            let (prefix, none) = (format!("{database}/"), None);
            let tables: Vec<Table> =
                self.0.call_in::<db::Tables, _>(call, database, (prefix.as_str(), none, LIMIT_MAX)).await?;
            if tables.is_empty() {
                return Ok(());
            }
            for table in tables {
                self.drop_table(call, Place { database, table: &table.name }).await?;
            }
        }
    }

    /// Tables of a database in order, after a name.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn tables(&self, call: &Call, database: &str, after: Option<&str>, limit: u32) -> Result<Vec<Table>> {
        check::name("database", database)?;
        let (prefix, after) = (format!("{database}/"), after.map(|after| format!("{database}/{after}")));
        let params = (prefix.as_str(), after.as_deref(), limit.clamp(1, LIMIT_MAX));
        self.0.read_in::<db::Tables, _>(call, database, params).await
    }

    /// Names of databases in order, after a name: those that have tables in the slot that serves them.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn databases(&self, call: &Call, after: Option<&str>, limit: u32) -> Result<Vec<String>> {
        let qualified = self.0.plane()?.qualifiers(SlotKind::DbStore);
        let mut names = self.plain_databases(call, after, limit as usize, &qualified).await?;
        for name in qualified {
            if after.is_none_or(|after| name.as_ref() > after) && !self.tables(call, &name, None, 1).await?.is_empty() {
                names.push(name.to_string());
            }
        }
        names.sort_unstable();
        names.truncate(limit as usize);
        Ok(names)
    }

    /// Those of them that the plain slot serves.
    async fn plain_databases(
        &self, call: &Call, after: Option<&str>, limit: usize, elsewhere: &[Arc<str>],
    ) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        // Places come in byte order of `DATABASE/TABLE`; nothing that names hold comes between `/` and `0`, and only `-` and
        // `.` come before them, so databases are gathered before they are cut.
        let mut place: Option<String> = None;
        loop {
            let page: Vec<Table> = self.0.read_in::<db::Tables, _>(call, "", ("", place.as_deref(), LIMIT_MAX)).await?;
            let Some(last) = page.last() else { break };
            place = Some(format!("{}0", last.database));
            for table in page {
                let wanted = after.is_none_or(|after| table.database.as_str() > after);
                let served = !elsewhere.iter().any(|name| name.as_ref() == table.database);
                if wanted && served && names.last() != Some(&table.database) {
                    names.push(table.database);
                }
            }
        }
        names.sort_unstable();
        names.truncate(limit);
        Ok(names)
    }

    /// Makes 1 to 100 writes of different records, all or none; for each the stamp of its record after it.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn commit(&self, call: &Call, database: &str, writes: &[Write]) -> Result<Vec<Option<Stamp>>> {
        check::name("database", database)?;
        check::count("writes", writes.len(), check::WRITES_MAX)?;
        let (mut bytes, mut records) = (0, HashSet::with_capacity(writes.len()));
        for write in writes {
            check::place(Place { database, table: &write.table })?;
            check::id(&write.id)?;
            if let Action::Put(content) = &write.action {
                bytes += check::content(content)?;
            }
            if !records.insert((&write.table, &write.id)) {
                let id = write.id.escape_debug();
                return Err(Self::refused(format!("the record `{id}` of `{}` is written twice", write.table)));
            }
        }
        if bytes > check::COMMIT_BYTES_MAX {
            let why = format!("the writes have {bytes} bytes, more than {}", check::COMMIT_BYTES_MAX);
            return Err(CallError::Capability(Error::TooLarge(why)));
        }
        let _writing = self.0.writing(call).await?;
        self.0.write_in::<db::Commit, _>(call, database, (database, writes)).await
    }

    /// The records of 1 to 1000 ids, in the order asked.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn get(&self, call: &Call, at: Place<'_>, ids: &[&str]) -> Result<Vec<Option<Record>>> {
        check::place(at)?;
        check::count("ids", ids.len(), LIMIT_MAX as usize)?;
        ids.iter().try_for_each(|id| check::id(id))?;
        self.0.read_in::<db::Get, _>(call, at.database, (at.database, at.table, ids)).await
    }

    /// Records that match.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn find(&self, call: &Call, at: Place<'_>, query: &Query) -> Result<Found> {
        check::place(at)?;
        check::query(query)?;
        self.0.read_in::<db::Find, _>(call, at.database, (at.database, at.table, query)).await
    }

    /// The last revision of what serves the database.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn revision(&self, call: &Call, database: &str) -> Result<u64> {
        check::name("database", database)?;
        self.0.revision_in(call, database).await
    }

    /// Changes of a database, or of one table of it, after a revision, for as long as the stream is read.
    ///
    /// # Errors
    /// A name is not allowed, or the host is shutting down. The stream ends with an error when changes that it asks for are
    /// no longer kept.
    pub fn watch(
        &self, call: &Call, database: &str, table: Option<&str>, after: u64,
    ) -> Result<impl Stream<Item = Result<Event<Change>>> + Send + 'static + use<>> {
        check::name("database", database)?;
        let selector = match table {
            Some(table) => {
                check::name("table", table)?;
                format!("{database}/{table}/")
            }
            None => Self::everything(database),
        };
        self.0.watch_in(call, database, &selector, after)
    }
}

impl Capability for Db {
    const KIND: SlotKind = SlotKind::DbStore;
    type Error = Error;
    type Change = Change;
    type Revision = db::Revision;
    type Changes = db::Changes;

    fn qualifier<'a>(_namespace: &'a str, part: &'a str) -> &'a str {
        part
    }

    fn everything(part: &str) -> String {
        format!("{part}/")
    }

    fn selects(selector: &str, change: &Change) -> bool {
        let rest = selector.strip_prefix(change.database.as_str()).and_then(|rest| rest.strip_prefix('/'));
        rest.is_some_and(|table| table.is_empty() || table.strip_suffix('/') == Some(&change.table))
    }
}
