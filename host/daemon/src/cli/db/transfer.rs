//! `platform db export` and `import`: tables and records as JSON lines.
//!
//! Owns the form of the lines. An export lists the records of a database, then what changed while it listed, so that the lines
//! of a database, read in order, come to what it held at one revision. Invariant: importing lines again comes to the same.

use std::collections::{BTreeMap, HashSet};

use clap::Args;
use platform_proto::db::v1::{
    DeclareTableRequest, FindRequest, Index, Kind, ListDatabasesRequest, ListTablesRequest, Record, Table,
    TransactRequest, WatchEvent, WatchRequest, Write,
    watch_event::{Changed, Deleted, Event, Progress},
    write::{Action, Content},
};
use prost_types::Struct;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::cli::{
    Context,
    client::{Client, TIMEOUT},
    document,
    failure::{Exit, Failure},
    pages,
    transfer::{self, Place, Sink, Source, read_bytes, spell},
};

/// Records in one page.
const PAGE: u32 = 500;
/// Records in one transaction: few enough for the keys that a record with many indexes takes.
const AT_ONCE: usize = 30;
/// Bytes of data in one transaction.
const TRANSACTION_BYTES: usize = 6 << 20;

#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The database; all when not given.
    database: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// One line: a table when it names indexes, else a record.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Line {
    database: String,
    table: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    indexes: Option<Vec<Indexed>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Map<String, Value>>,
    /// The data as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// The data in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    delete: bool,
    /// For whoever reads, like the times; the store that it is imported to has its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated: Option<String>,
}

/// An index of a table.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Indexed {
    field: String,
    kind: String,
    #[serde(default)]
    unique: bool,
}

/// How far an export has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct At {
    only: Option<String>,
    /// The last database of which all is written.
    done: String,
    database: String,
    /// Changes after this revision follow what is listed; none before the database is begun.
    revision: Option<u64>,
    table: String,
    /// Token of the next page of the table; none when it is listed.
    page: Option<String>,
}

/// Writes databases to a file.
pub(crate) async fn export(context: &Context, arguments: Export) -> Result<Exit, Failure> {
    let Export { database, place } = arguments;
    let (mut sink, at) = Sink::open::<At>(context, &place, "db")?;
    if at.as_ref().is_some_and(|at| at.only != database) {
        return Err(Failure::usage("the export that broke off is of other databases; name the same"));
    }
    let client = context.connect().await?;
    let mut at = at.unwrap_or_else(|| At { only: database.clone(), ..At::default() });
    let databases = match database {
        Some(database) => vec![database],
        None => databases(&client).await?,
    };
    let (mut count, done) = (0, at.done.clone());
    for database in databases.into_iter().filter(|name| *name > done) {
        if database != at.database {
            at = At { database, ..At { only: at.only, done: at.done, ..At::default() } };
            at.revision = Some(revision(&client, &at.database).await?);
        }
        one(&client, &mut sink, &mut at).await?;
        at = At { only: at.only, done: at.database, ..At::default() };
        sink.checkpoint(&at)?;
        count += 1;
    }
    let lines = sink.finish()?;
    let words = format!("exported {lines} lines of {count} databases");
    transfer::told(context, &place, &words, &json!({"lines": lines, "databases": count}))?;
    Ok(Exit::Done)
}

async fn databases(client: &Client) -> Result<Vec<String>, Failure> {
    let (names, _) = pages::read(None, async |limit, page_token| {
        let request = client.request(TIMEOUT, ListDatabasesRequest { limit, page_token });
        let page = client.call(client.db().list_databases(request)).await?;
        Ok((page.databases, page.next_page_token))
    })
    .await?;
    Ok(names)
}

/// One database, from where it is on.
async fn one(client: &Client, sink: &mut Sink, at: &mut At) -> Result<(), Failure> {
    let (tables, _) = pages::read(None, async |limit, page_token| {
        let message = ListTablesRequest { database: at.database.clone(), limit, page_token };
        let page = client.call(client.db().list_tables(client.request(TIMEOUT, message))).await?;
        Ok((page.tables, page.next_page_token))
    })
    .await?;
    let begun = at.table.clone();
    for table in tables.into_iter().filter(|table| table.table >= begun) {
        if table.table == at.table {
            if at.page.is_none() {
                continue;
            }
        } else {
            (at.table, at.page) = (table.table.clone(), Some(String::new()));
            sink.line(&Line::of_table(table))?;
        }
        while let Some(page_token) = at.page.take() {
            let (database, table) = (at.database.clone(), at.table.clone());
            let order_by = "id".to_owned();
            let message = FindRequest { database, table, order_by, limit: PAGE, page_token, ..FindRequest::default() };
            let page = client.call(client.db().find(client.request(TIMEOUT, message))).await?;
            for record in page.records {
                sink.line(&Line::of(&at.database, &at.table, record))?;
            }
            at.page = Some(page.next_page_token).filter(|token| !token.is_empty());
            sink.checkpoint(at)?;
        }
    }
    let until = revision(client, &at.database).await?;
    let from = at.revision.unwrap_or(until);
    if until > from {
        changes(client, &at.database, (from, until), sink).await?;
    }
    Ok(())
}

/// The revision that a database is at: a watch begins with it.
async fn revision(client: &Client, database: &str) -> Result<u64, Failure> {
    let request = WatchRequest { database: database.to_owned(), table: String::new(), after_revision: None };
    let mut stream = client.call(client.db().watch(request)).await?;
    let first = client.call(async { stream.message().await.map(tonic::Response::new) }).await?;
    match first.and_then(|first| first.event) {
        Some(Event::Progress(Progress { revision })) => Ok(revision),
        _ => Err(Failure::new(Exit::Error, "NO_REVISION", "the daemon did not say which revision it is at")),
    }
}

/// What changed while records were listed; see `kv`.
async fn changes(client: &Client, database: &str, (from, until): (u64, u64), sink: &mut Sink) -> Result<(), Failure> {
    let request = WatchRequest { database: database.to_owned(), table: String::new(), after_revision: Some(from) };
    let mut stream = client.call(client.db().watch(request)).await.map_err(transfer::compacted)?;
    loop {
        let message = client.call(async { stream.message().await.map(tonic::Response::new) }).await;
        let Some(WatchEvent { event: Some(event) }) = message.map_err(transfer::compacted)? else {
            return Err(Failure::new(Exit::Unavailable, "STREAM_ENDED", "the daemon ended the stream of changes"));
        };
        let line = match event {
            // The first one only repeats what was asked for.
            Event::Progress(Progress { revision }) if revision >= until && revision > from => return Ok(()),
            Event::Put(Changed { table, record: Some(record) }) => Line::of(database, &table, record),
            Event::Delete(Deleted { table, id, revision }) => {
                let (database, revision) = (database.to_owned(), Some(revision));
                Line { database, table, id, revision, delete: true, ..Line::default() }
            }
            Event::Progress(_) | Event::Put(_) => continue,
        };
        if line.revision.is_some_and(|revision| revision > until) {
            return Ok(());
        }
        sink.line(&line)?;
    }
}

impl Line {
    fn of_table(table: Table) -> Self {
        let indexed = |index: Index| {
            let kind = index.kind().as_str_name().to_lowercase();
            Indexed { field: index.field, kind, unique: index.unique }
        };
        let indexes = Some(table.indexes.into_iter().map(indexed).collect());
        Self { database: table.database, table: table.table, indexes, ..Self::default() }
    }

    fn of(database: &str, table: &str, record: Record) -> Self {
        let (text, data) = spell(&record.data);
        let metadata = document::to_json(Struct { fields: record.metadata });
        Self {
            database: database.to_owned(),
            table: table.to_owned(),
            id: record.id,
            metadata: metadata.as_object().cloned(),
            text,
            data,
            revision: Some(record.revision),
            created: record.created.map(|time| time.to_string()),
            updated: record.updated.map(|time| time.to_string()),
            ..Self::default()
        }
    }

    fn table(indexes: Vec<Indexed>, database: String, table: String) -> Result<DeclareTableRequest, String> {
        let index = |Indexed { field, kind, unique }: Indexed| {
            let known = Kind::from_str_name(&kind.to_uppercase()).filter(|known| *known != Kind::Unspecified);
            let known = known.ok_or_else(|| format!("`{kind}` is no kind; write `text`, `number` or `boolean`"))?;
            Ok(Index { field, kind: known.into(), unique })
        };
        let indexes = indexes.into_iter().map(index).collect::<Result<_, String>>()?;
        Ok(DeclareTableRequest { database, table, indexes })
    }

    fn write(self) -> Result<Write, String> {
        if self.id.is_empty() {
            return Err("`id` is missing".to_owned());
        }
        let data = read_bytes("data", self.text, self.data)?;
        let action = match (self.delete, self.metadata, data) {
            (true, None, None) => Action::Delete(true),
            (true, ..) => return Err("a record that is deleted holds nothing".to_owned()),
            (false, None, None) => return Err("there is neither `metadata` nor data nor `delete`".to_owned()),
            (false, metadata, data) => {
                let metadata = Value::Object(metadata.unwrap_or_default()).to_string();
                let metadata = document::read(&metadata).map_err(|failure| failure.message)?.fields;
                Action::Put(Content { metadata, data: data.unwrap_or_default() })
            }
        };
        Ok(Write { table: self.table, id: self.id, condition: None, action: Some(action) })
    }
}

/// Reads databases from a file.
pub(crate) async fn import(context: &Context, place: Place) -> Result<Exit, Failure> {
    let mut source = Source::open(context, &place, "db")?;
    let mut batch = Batch::new(context.connect().await?);
    let mut lines = 0_u64;
    while let Some(entry) = source.next::<Line>()? {
        let (number, mut line) = (entry.number, entry.line);
        lines += 1;
        if line.database.is_empty() || line.table.is_empty() {
            return Err(source.wrong(number, "`database` or `table` is missing"));
        }
        if let Some(indexes) = line.indexes.take() {
            batch.send(&source).await?;
            let declared = Line::table(indexes, line.database, line.table);
            batch.declare(number, declared.map_err(|why| source.wrong(number, why))?, &source).await?;
            continue;
        }
        let database = line.database.clone();
        let write = line.write().map_err(|why| source.wrong(number, why))?;
        if !batch.takes(&database, &write) {
            batch.send(&source).await?;
        }
        batch.push(number, database, write);
        if batch.writes.len() >= AT_ONCE {
            batch.send(&source).await?;
            // What is put off is read again.
            if batch.put_off.is_empty() {
                source.checkpoint()?;
            }
        }
    }
    batch.send(&source).await?;
    batch.settle(&source).await?;
    let exit = source.finish()?;
    transfer::told(context, &place, &format!("imported {lines} lines"), &json!({"lines": lines}))?;
    Ok(exit)
}

/// Writes that go to the daemon together.
struct Batch {
    client: Client,
    database: String,
    writes: Vec<(u64, Write)>,
    records: HashSet<(String, String)>,
    bytes: usize,
    /// Writes whose value in a unique index another record has, which a later line takes away.
    put_off: BTreeMap<(String, String, String), (u64, Write)>,
}

fn size(write: &Write) -> usize {
    if let Some(Action::Put(content)) = &write.action { content.data.len() } else { 0 }
}

impl Batch {
    fn new(client: Client) -> Self {
        let (writes, records, put_off) = Default::default();
        Self { client, database: String::new(), writes, records, bytes: 0, put_off }
    }

    /// Whether a write fits in: a transaction is of one database, and writes a record once.
    fn takes(&self, database: &str, write: &Write) -> bool {
        let new = || !self.records.contains(&(write.table.clone(), write.id.clone()));
        self.writes.is_empty() || (self.database == database && new() && self.bytes + size(write) <= TRANSACTION_BYTES)
    }

    fn push(&mut self, number: u64, database: String, write: Write) {
        self.put_off.remove(&(database.clone(), write.table.clone(), write.id.clone()));
        self.bytes += size(&write);
        self.records.insert((write.table.clone(), write.id.clone()));
        self.database = database;
        self.writes.push((number, write));
    }

    async fn declare(&self, number: u64, table: DeclareTableRequest, source: &Source) -> Result<(), Failure> {
        let request = self.client.request(TIMEOUT, table);
        let declared = self.client.call(self.client.db().declare_table(request)).await;
        declared.map(drop).map_err(|failure| source.refused(number, number, failure))
    }

    async fn transact(&self, database: &str, writes: &[(u64, Write)], source: &Source) -> Result<(), Failure> {
        let (Some((from, _)), Some((to, _))) = (writes.first(), writes.last()) else { return Ok(()) };
        let writes = writes.iter().map(|(_, write)| write.clone()).collect();
        let request = self.client.request(TIMEOUT, TransactRequest { database: database.to_owned(), writes });
        let made = self.client.call(self.client.db().transact(request)).await;
        made.map(drop).map_err(|failure| source.refused(*from, *to, failure))
    }

    async fn send(&mut self, source: &Source) -> Result<(), Failure> {
        let writes = std::mem::take(&mut self.writes);
        self.records.clear();
        self.bytes = 0;
        let database = self.database.clone();
        match self.transact(&database, &writes, source).await {
            Err(failure) if is_duplicate(&failure) => {}
            made => return made,
        }
        for (number, write) in writes {
            let of = (database.clone(), write.table.clone(), write.id.clone());
            match self.transact(&database, &[(number, write.clone())], source).await {
                Err(failure) if is_duplicate(&failure) => {
                    self.put_off.insert(of, (number, write));
                }
                made => made?,
            }
        }
        Ok(())
    }

    /// Makes what was put off, as far as possible together: values may move from one record to another.
    async fn settle(&mut self, source: &Source) -> Result<(), Failure> {
        let mut by_database: BTreeMap<String, Vec<(u64, Write)>> = BTreeMap::new();
        for ((database, ..), write) in std::mem::take(&mut self.put_off) {
            by_database.entry(database).or_default().push(write);
        }
        for (database, mut writes) in by_database {
            writes.sort_by_key(|(number, _)| *number);
            for chunk in writes.chunks(AT_ONCE) {
                self.transact(&database, chunk, source).await?;
            }
        }
        Ok(())
    }
}

fn is_duplicate(failure: &Failure) -> bool {
    failure.reason == "DUPLICATE_VALUE"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<Write, String> {
        serde_json::from_str::<Line>(text).map_err(|error| error.to_string()).and_then(Line::write)
    }

    #[test]
    fn what_is_exported_is_imported() {
        let metadata = document::read(r#"{"n": 1.5, "t": "x", "b": true}"#).unwrap().fields;
        for data in [&b""[..], b"text", b"\xff"] {
            let record =
                Record { id: "1".into(), metadata: metadata.clone(), data: data.to_vec().into(), ..Record::default() };
            let text = serde_json::to_string(&Line::of("d", "t", record.clone())).unwrap();
            let Some(Action::Put(content)) = line(&text).unwrap().action else { panic!("{text}") };
            assert_eq!((content.metadata, content.data), (record.metadata, record.data));
        }
        let indexes = vec![Index { field: "n".into(), kind: Kind::Number.into(), unique: true }];
        let table = Table { database: "d".into(), table: "t".into(), indexes: indexes.clone(), ready: true };
        let text = serde_json::to_string(&Line::of_table(table)).unwrap();
        let read: Line = serde_json::from_str(&text).unwrap();
        assert_eq!(Line::table(read.indexes.unwrap(), read.database, read.table).unwrap().indexes, indexes);
    }

    #[test]
    fn what_is_not_understood_is_said() {
        for (text, named) in [
            (r#"{"database": "d", "table": "t"}"#, "`id`"),
            (r#"{"id": "1"}"#, "neither"),
            (r#"{"id": "1", "text": "", "delete": true}"#, "holds nothing"),
            (r#"{"id": "1", "data": "?"}"#, "base64"),
            (r#"{"id": "1", "colour": 1}"#, "`colour`"),
            (r#"{"id": "1", "metadata": {"n": 9007199254740993}}"#, "9007199254740993"),
        ] {
            let why = line(text).unwrap_err();
            assert!(why.contains(named), "{text}: {why}");
        }
        let kind = Indexed { field: "f".into(), kind: "colour".into(), unique: false };
        assert!(Line::table(vec![kind], "d".into(), "t".into()).unwrap_err().contains("`colour`"));
    }
}
