//! `db.store` in a PostgreSQL server, reached over a socket that was granted by host and port.
//!
//! A table has a table of its own, with a column and an index for each field that it is searched by; changes lie in one table
//! beside. Its invariant: a write takes the next revision of its namespace first, in a row that no other write has meanwhile, so
//! revisions, conditions and changes are in one order whoever writes; and names and values are never part of a statement's
//! text.
//!
//! How durable a write is when it returns, the server's own configuration says (`synchronous_commit`).

use platform_sdk::{
    Problem, context,
    db::{Change, Error, Fence, Found, Index, Query, Record, Result, Stamp, Store, Table, Write, search},
    export,
};
use serde::Deserialize;

mod commit;
mod declare;
mod fence;
mod record;
mod rows;
mod server;
mod url;

use declare::Shape;
use record::{columns, read};
use rows::Shelf;
use server::{Parameter, Server};
use url::Address;

/// Most bytes of the records of one answer.
const GET_BYTES_MAX: i64 = 16 << 20;
/// Bytes of changes after which an answer ends.
const CHANGES_BYTES: i64 = 8 << 20;

/// Where the server is, and what is kept there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE[?sslmode=MODE]`.
    url: String,
    /// The schema that everything is in. It is part of statements: nothing but what a plain name may hold.
    #[serde(default = "schema")]
    schema: String,
    /// Changes kept for watchers, for each namespace.
    #[serde(default = "changes_kept")]
    changes_kept: u64,
}

fn schema() -> String {
    "platform".to_owned()
}

fn changes_kept() -> u64 {
    100_000
}

/// A store with one connection; the host makes as many instances as there are calls at a time.
struct Remote {
    server: Server,
    schema: String,
    changes_kept: u64,
}

export!(
    db::Store for Remote,
    mode = "reused",
    grants = ["wasi"],
    settings_schema = include_str!("../settings.schema.json")
);

impl Store for Remote {
    type Settings = Settings;

    fn configure(settings: Settings) -> std::result::Result<Self, Problem> {
        let address = Address::parse(&settings.url)
            .map_err(|why| Problem::new(format!("it is no address of a PostgreSQL server: {why}")).at("/url"))?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let starts = settings.schema.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        if !starts || settings.schema.len() > 40 || !settings.schema.bytes().all(plain) {
            let why = "a schema has 1 to 40 lowercase letters, digits and `_`, and starts with a letter";
            return Err(Problem::new(why).at("/schema"));
        }
        Ok(Self { server: Server::new(address), schema: settings.schema, changes_kept: settings.changes_kept })
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        let schema = &self.schema;
        let made = self.server.transaction(|session| declare::prepare(session, schema));
        made.map_err(|error| match error {
            Error::Unavailable(why) | Error::Other(why) => Problem::new(why),
            error => Problem::new(error.to_string()),
        })
    }

    fn declare(&mut self, database: &str, table: &str, indexes: Vec<Index>) -> Result<Table> {
        let schema = &self.schema;
        self.server.transaction(|session| declare::declare(session, schema, (database, table), indexes))
    }

    fn build(&mut self, _database: &str, _table: &str) -> Result<bool> {
        // A declaration is one transaction, which builds what it declares.
        Ok(true)
    }

    fn drop_table(&mut self, database: &str, table: &str) -> Result<bool> {
        let schema = &self.schema;
        self.server.transaction(|session| declare::drop_table(session, schema, (database, table)))?;
        Ok(true)
    }

    fn tables(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<Table>> {
        let (schema, namespace) = (&self.schema, context::namespace());
        self.server.call(|session| {
            let rows = session.run(
                &format!(
                    "SELECT database, name FROM {schema}.tables WHERE namespace = $1 AND starts_with(database || '/' || name, $2) \
                     AND (database || '/' || name) COLLATE \"C\" > $3 ORDER BY (database || '/' || name) COLLATE \"C\" LIMIT $4"
                ),
                &[
                    Parameter::Text(&namespace),
                    Parameter::Text(prefix),
                    Parameter::Text(after.unwrap_or_default()),
                    Parameter::Whole(limit.into()),
                ],
            )?;
            let mut tables = Vec::with_capacity(rows.len());
            for row in rows {
                let (database, name) = (row.text(0)?, row.text(1)?);
                // It may have gone since.
                if let Some(shape) = declare::shape(session, schema, (&database, &name))? {
                    tables.push(Table { database, name, indexes: shape.indexes(), ready: true });
                }
            }
            Ok(tables)
        })
    }

    fn commit(&mut self, database: &str, writes: Vec<Write>) -> Result<Vec<Option<Stamp>>> {
        let (schema, kept) = (&self.schema, self.changes_kept);
        self.server.transaction(|session| commit::commit(session, (schema, kept), database, writes))
    }

    fn get(&mut self, database: &str, table: &str, ids: &[String]) -> Result<Vec<Option<Record>>> {
        let schema = &self.schema;
        let wanted = serde_json::to_string(ids).map_err(|error| Error::Other(error.to_string()))?;
        self.server.call(|session| {
            let Some(shape) = declare::shape(session, schema, (database, table))? else {
                return Ok(vec![None; ids.len()]);
            };
            let among = format!(
                "FROM {schema}.records_{} WHERE id IN (SELECT jsonb_array_elements_text($1::text::jsonb))",
                shape.number
            );
            let wanted = [Parameter::Text(&wanted)];
            let size = session.run(&format!("SELECT coalesce(sum(octet_length(data)), 0)::int8 {among}"), &wanted)?;
            let size = size.first().map_or(Ok(0), |row| row.whole(0))?;
            if size > GET_BYTES_MAX {
                return Err(Error::TooLarge(format!("the records have {size} bytes, the limit is {GET_BYTES_MAX}")));
            }
            let rows = session.run(&format!("SELECT {} {among}", columns()), &wanted)?;
            let found = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
            let one = |id: &String| found.iter().find(|record| record.stamp.id == *id).cloned();
            Ok(ids.iter().map(one).collect())
        })
    }

    fn find(&mut self, database: &str, table: &str, query: &Query) -> Result<Found> {
        let schema = &self.schema;
        self.server.call(|session| {
            let shape = declare::shape(session, schema, (database, table))?;
            let indexes = shape.as_ref().map(Shape::indexes).unwrap_or_default();
            search(&mut Shelf { session, schema, shape: shape.as_ref() }, &indexes, query)
        })
    }

    fn changes(&mut self, selector: &str, after: u64, limit: u32, _wait_ms: u32) -> Result<Vec<Change>> {
        let (schema, namespace) = (&self.schema, context::namespace());
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.server.call(|session| {
            let floor = session.run(
                &format!("SELECT floor FROM {schema}.spaces WHERE namespace = $1"),
                &[Parameter::Text(&namespace)],
            )?;
            let floor = floor.first().map_or(Ok(0), |row| row.whole(0))?;
            if after < floor {
                return Err(Error::Compacted(u64::try_from(floor).unwrap_or(0)));
            }
            let rows = session.run(
                &format!(
                    "SELECT id, created, updated, revision, metadata::text, data, database, name FROM {schema}.changes \
                     WHERE namespace = $1 AND revision > $2 AND starts_with(database || '/' || name || '/', $3) \
                     AND revision <= (SELECT max(revision) FROM (SELECT revision, \
                     sum(octet_length(data)) OVER (ORDER BY revision, part) - octet_length(data) AS before FROM \
                     (SELECT revision, part, coalesce(data, '') AS data FROM {schema}.changes WHERE namespace = $1 AND \
                     revision > $2 AND starts_with(database || '/' || name || '/', $3) ORDER BY revision, part LIMIT $4) picked) \
                     sized WHERE before < $5) ORDER BY revision, part"
                ),
                &[
                    Parameter::Text(&namespace),
                    Parameter::Whole(after),
                    Parameter::Text(selector),
                    Parameter::Whole(limit.into()),
                    Parameter::Whole(CHANGES_BYTES),
                ],
            )?;
            rows.iter().map(record::change).collect()
        })
    }

    fn fences(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
        let schema = &self.schema;
        self.server.call(|session| fence::list(session, schema, after, limit))
    }

    fn restore(&mut self, changes: Vec<Change>, fences: Vec<Fence>, revision: u64) -> Result<()> {
        let schema = &self.schema;
        self.server.transaction(|session| {
            fence::remember(session, schema, &fences)?;
            commit::restore(session, schema, changes, revision)
        })
    }

    fn revision(&mut self) -> Result<u64> {
        let (schema, namespace) = (&self.schema, context::namespace());
        self.server.call(|session| {
            let rows = session.run(
                &format!("SELECT revision FROM {schema}.spaces WHERE namespace = $1"),
                &[Parameter::Text(&namespace)],
            )?;
            rows.first().map_or(Ok(0), |row| row.count(0))
        })
    }
}
