//! `platform db`: records in the tables of databases.
//!
//! Knows the command's arguments and how records look; the rules of records and queries are the daemon's. Invariant: data that
//! is written from a file is written byte for byte.

mod find;
mod given;
mod transaction;
mod transfer;

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use platform_proto::db::v1::{
    BatchGetRequest, CreateRequest, DeclareTableRequest, DeleteRequest, DropDatabaseRequest, DropTableRequest,
    GetRequest, Index, Kind, ListDatabasesRequest, ListDatabasesResponse, ListTablesRequest, ListTablesResponse,
    PutRequest, Record, Table, WatchEvent, WatchRequest, delete_request, put_request, watch_event::Event,
};

use self::{find::Find, given::Given, transaction::Transaction};
use super::{
    Context,
    client::{Client, TIMEOUT},
    failure::{Exit, Failure},
    kv::time,
    output::{Output, preview, show},
    pages,
    transfer::Place,
    watch::{self, Shown},
};

/// What can be done with databases.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a table and gives it exactly these indexes; waits until they are built.
    #[command(after_help = "An index is FIELD[:KIND][:unique]; the kind is text, number or boolean.\n\n\
        Example:\n  platform db declare shop orders --index total:number --index email:text:unique")]
    Declare(Declare),
    /// Lists databases, or the tables of one.
    #[command(after_help = "Examples:\n  platform db list\n  platform db list shop")]
    List(List),
    /// Removes a table, or a whole database, with all records; what is missing is fine.
    #[command(after_help = "Example:\n  platform db drop shop orders --yes")]
    Drop(Drop),
    /// Makes or replaces a record; exits with 1 when a condition does not hold.
    #[command(after_help = "Without an id one is made. Metadata is given as fields, or as a JSON object.\n\n\
        Examples:\n  platform db put shop orders o-1 --set status=open --set total:number=120.5\n  \
        platform db put shop orders --metadata '{\"status\":\"open\"}' --data hello\n  \
        platform db put shop orders o-1 --set status=paid --if-revision 7")]
    Put(Put),
    /// Reads records; exits with 1 when one of them is not there.
    #[command(after_help = "Example:\n  platform db get shop orders o-1")]
    Get(Get),
    /// Looks for records; all filters must hold.
    #[command(
        after_help = "A filter is FIELD[:KIND]OP VALUE without blanks; OP is =, <, <=, >, >= or ^= (starts with). The kind is text\n\
        unless it is given.\n\nExamples:\n  platform db find shop orders status=open\n  \
        platform db find shop orders 'total:number>=100' --order-by total --descending --limit 10\n  \
        platform db find shop orders email^=a --any status=open,paid"
    )]
    Find(Find),
    /// Deletes a record; deleting a missing one succeeds.
    #[command(after_help = "Example:\n  platform db delete shop orders o-1 --if-revision 7")]
    Delete(Delete),
    /// Makes several writes in a database, all or none; exits with 1 when a condition does not hold.
    #[command(
        after_help = "Each line is a JSON object with `table` and `id`; then `metadata` with `text` or `data` (base64), or `delete`;\n\
        and `ifAbsent`, `ifPresent` or `ifRevision`. A line with nothing but a condition only checks it.\n\n\
        Example, with two lines in order.jsonl:\n  platform db transaction shop --file order.jsonl\n  \
        {\"table\": \"stock\", \"id\": \"7\", \"metadata\": {\"left\": 9}, \"ifRevision\": 41}\n  \
        {\"table\": \"orders\", \"metadata\": {\"item\": \"7\"}}"
    )]
    Transaction(Transaction),
    /// Shows changes as they happen, until interrupted; goes on where it was after a lost connection.
    #[command(after_help = "Example:\n  platform db watch shop orders --after 0")]
    Watch(Watch),
    /// Writes tables and records to a file, one JSON object on each line, each database as it was at one revision.
    #[command(
        after_help = "Examples:\n  platform db export --file db.jsonl\n  platform db export shop --file shop.jsonl --resume"
    )]
    Export(transfer::Export),
    /// Writes what an export holds; records that it does not hold are left alone. Importing it again comes to the same.
    #[command(after_help = "Example:\n  platform db import --file shop.jsonl --namespace dev")]
    Import(Place),
}

#[derive(Debug, Args)]
pub(crate) struct Declare {
    /// The database.
    database: String,
    /// The table.
    table: String,
    /// An index; all that the table is to have.
    #[arg(long = "index", value_name = "FIELD[:KIND][:unique]", value_parser = index)]
    indexes: Vec<Index>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// The database whose tables are listed.
    database: Option<String>,
    /// At most this many; all when not given.
    #[arg(long)]
    limit: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Drop {
    /// The database.
    database: String,
    /// The table; the whole database when not given.
    table: Option<String>,
    /// Says that this is meant: what is dropped does not come back.
    #[arg(long, required = true)]
    yes: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("condition").args(["if_absent", "if_present", "if_revision"]))]
pub(crate) struct Put {
    /// The database.
    database: String,
    /// The table; made when there is none, without indexes.
    table: String,
    /// The id; made when not given.
    id: Option<String>,
    #[command(flatten)]
    given: Given,
    /// Writes only when there is no such record.
    #[arg(long)]
    if_absent: bool,
    /// Writes only when there is such a record.
    #[arg(long, requires = "id")]
    if_present: bool,
    /// Writes only when the record is at exactly this revision.
    #[arg(long, value_name = "REVISION", requires = "id")]
    if_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// The database.
    database: String,
    /// The table.
    table: String,
    /// The id; up to 1000 are read together.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Writes the bare data of one record to a file; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    data_to: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The database.
    database: String,
    /// The table.
    table: String,
    /// The id.
    id: String,
    /// Deletes only when there is such a record.
    #[arg(long, conflicts_with = "if_revision")]
    if_present: bool,
    /// Deletes only when the record is at exactly this revision.
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// The database.
    database: String,
    /// Only this table; all when not given.
    #[arg(default_value = "")]
    table: String,
    #[command(flatten)]
    extent: watch::Extent,
}

/// Runs a command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Declare(arguments) => declare(context, arguments).await,
        Command::List(arguments) => list(context, arguments).await,
        Command::Drop(arguments) => drop_all(context, arguments).await,
        Command::Put(arguments) => put(context, arguments).await,
        Command::Get(arguments) => get(context, arguments).await,
        Command::Find(arguments) => find::run(context, arguments).await,
        Command::Delete(arguments) => delete(context, arguments).await,
        Command::Transaction(arguments) => transaction::run(context, arguments).await,
        Command::Watch(arguments) => follow(context, arguments).await,
        Command::Export(arguments) => transfer::export(context, arguments).await,
        Command::Import(place) => transfer::import(context, place).await,
    }
}

/// An index as it is written.
fn index(text: &str) -> Result<Index, String> {
    let mut parts = text.split(':');
    let field = parts.next().unwrap_or_default().to_owned();
    let mut index = Index { field, kind: Kind::Text.into(), unique: false };
    for part in parts {
        match part {
            "unique" => index.unique = true,
            kind => index.kind = given::kind(kind)?.into(),
        }
    }
    Ok(index)
}

/// An index as it is written.
fn written(index: &Index) -> String {
    let kind = Kind::try_from(index.kind).unwrap_or_default().as_str_name().to_lowercase();
    format!("{}:{kind}{}", index.field, if index.unique { ":unique" } else { "" })
}

async fn declare(context: &Context, arguments: Declare) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let Declare { database, table, indexes } = arguments;
    let request = client.request(TIMEOUT, DeclareTableRequest { database, table, indexes });
    let progress = context.output.progress("building indexes".to_owned());
    let declared = client.call(client.db().declare_table(request)).await;
    drop(progress);
    let declared = declared?;
    context.output.answer("platform.db.v1.Table", &declared, || tables(context.output, [&declared]))?;
    Ok(Exit::Done)
}

fn tables<'a>(output: Output, tables: impl IntoIterator<Item = &'a Table>) -> String {
    let mut shown = output.table(&["DATABASE", "TABLE", "INDEXES", "READY"]);
    for table in tables {
        let indexes: Vec<String> = table.indexes.iter().map(written).collect();
        let ready = if table.ready { "yes" } else { "being built" };
        shown.add_row([table.database.clone(), table.table.clone(), indexes.join(" "), ready.to_owned()]);
    }
    show(&shown)
}

async fn list(context: &Context, arguments: List) -> Result<Exit, Failure> {
    let (client, output) = (context.connect().await?, context.output);
    let List { database, limit } = arguments;
    let more = match database {
        None => {
            let (databases, next_page_token) = pages::read(limit, async |limit, page_token| {
                let request = client.request(TIMEOUT, ListDatabasesRequest { limit, page_token });
                let page = client.call(client.db().list_databases(request)).await?;
                Ok((page.databases, page.next_page_token))
            })
            .await?;
            let answer = ListDatabasesResponse { databases, next_page_token };
            output.answer("platform.db.v1.ListDatabasesResponse", &answer, || answer.databases.join("\n"))?;
            !answer.next_page_token.is_empty()
        }
        Some(database) => {
            let (found, next_page_token) = pages::read(limit, async |limit, page_token| {
                let message = ListTablesRequest { database: database.clone(), limit, page_token };
                let page = client.call(client.db().list_tables(client.request(TIMEOUT, message))).await?;
                Ok((page.tables, page.next_page_token))
            })
            .await?;
            let answer = ListTablesResponse { tables: found, next_page_token };
            let human = || if answer.tables.is_empty() { String::new() } else { tables(output, &answer.tables) };
            output.answer("platform.db.v1.ListTablesResponse", &answer, human)?;
            !answer.next_page_token.is_empty()
        }
    };
    if more {
        output.note("there are more; raise `--limit`");
    }
    Ok(Exit::Done)
}

async fn drop_all(context: &Context, arguments: Drop) -> Result<Exit, Failure> {
    let client = context.connect().await?;
    let Drop { database, table, .. } = arguments;
    if let Some(table) = table {
        let request = client.request(TIMEOUT, DropTableRequest { database, table });
        let dropped = client.call(client.db().drop_table(request)).await?;
        context.output.answer("platform.db.v1.DropTableResponse", &dropped, || "dropped".to_owned())?;
    } else {
        let request = client.request(TIMEOUT, DropDatabaseRequest { database });
        let dropped = client.call(client.db().drop_database(request)).await?;
        context.output.answer("platform.db.v1.DropDatabaseResponse", &dropped, || "dropped".to_owned())?;
    }
    Ok(Exit::Done)
}

async fn put(context: &Context, arguments: Put) -> Result<Exit, Failure> {
    let Put { database, table, id, given, if_absent, if_present, if_revision } = arguments;
    let (metadata, data) = given.read()?;
    let client = context.connect().await?;
    let record = match id {
        None => {
            let message = CreateRequest { database, table, id: String::new(), metadata, data };
            client.call(client.db().create(client.request(TIMEOUT, message))).await?
        }
        Some(id) => {
            let condition = match (if_absent, if_present) {
                (true, _) => Some(put_request::Condition::IfAbsent(true)),
                (_, true) => Some(put_request::Condition::IfPresent(true)),
                _ => if_revision.map(put_request::Condition::IfRevision),
            };
            let message = PutRequest { database, table, id, metadata, data, condition };
            client.call(client.db().put(client.request(TIMEOUT, message))).await?
        }
    };
    let human = || format!("{} is at revision {}", record.id, record.revision);
    context.output.answer("platform.db.v1.Record", &record, human)?;
    Ok(Exit::Done)
}

async fn get(context: &Context, arguments: Get) -> Result<Exit, Failure> {
    let Get { database, table, ids, data_to } = arguments;
    let (client, output) = (context.connect().await?, context.output);
    if let [id] = ids.as_slice() {
        let request = client.request(TIMEOUT, GetRequest { database, table, id: id.clone() });
        let record = client.call(client.db().get(request)).await?;
        match data_to {
            Some(file) if file.as_os_str() == "-" => output.raw(&record.data)?,
            Some(file) => std::fs::write(file, &record.data)?,
            None => output.answer("platform.db.v1.Record", &record, || details(output, &record))?,
        }
        return Ok(Exit::Done);
    }
    if data_to.is_some() {
        return Err(Failure::usage("`--data-to` writes the data of one record; ask for one"));
    }
    let request = client.request(TIMEOUT, BatchGetRequest { database, table, ids });
    let found = client.call(client.db().batch_get(request)).await?;
    output.answer("platform.db.v1.BatchGetResponse", &found, || records(output, &found.records))?;
    if found.missing.is_empty() {
        return Ok(Exit::Done);
    }
    let missing: Vec<String> = found.missing.iter().map(|id| format!("`{}`", id.escape_debug())).collect();
    output.note(&format!("there is no {}", missing.join(", ")));
    Ok(Exit::No)
}

fn details(output: Output, record: &Record) -> String {
    output.fields(&[
        ("id", record.id.clone()),
        ("revision", record.revision.to_string()),
        ("created", time(record.created)),
        ("updated", time(record.updated)),
        ("metadata", given::shown(record)),
        ("data", preview(&record.data)),
    ])
}

/// Records as a table for people.
fn records(output: Output, records: &[Record]) -> String {
    if records.is_empty() {
        return String::new();
    }
    let mut table = output.table(&["ID", "REVISION", "UPDATED", "METADATA", "DATA"]);
    for record in records {
        let (revision, updated) = (record.revision.to_string(), time(record.updated));
        table.add_row([record.id.clone(), revision, updated, given::shown(record), preview(&record.data)]);
    }
    show(&table)
}

async fn delete(context: &Context, arguments: Delete) -> Result<Exit, Failure> {
    let Delete { database, table, id, if_present, if_revision } = arguments;
    let condition = if if_present {
        Some(delete_request::Condition::IfPresent(true))
    } else {
        if_revision.map(delete_request::Condition::IfRevision)
    };
    let client = context.connect().await?;
    let request = client.request(TIMEOUT, DeleteRequest { database, table, id, condition });
    let deleted = client.call(client.db().delete(request)).await?;
    context.output.answer("platform.db.v1.DeleteResponse", &deleted, || "deleted".to_owned())?;
    Ok(Exit::Done)
}

async fn follow(context: &Context, arguments: Watch) -> Result<Exit, Failure> {
    let Watch { database, table, extent } = arguments;
    let open = async |client: &Client, after_revision| {
        let message = WatchRequest { database: database.clone(), table: table.clone(), after_revision };
        client.db().watch(message).await
    };
    watch::follow(context, extent, "platform.db.v1.WatchEvent", open, |event: &WatchEvent| {
        Some(match event.event.as_ref()? {
            Event::Put(changed) => {
                let record = changed.record.as_ref()?;
                let what = format!("put     {}/{}  {}", changed.table, record.id, given::shown(record));
                Shown::Change(record.revision, what)
            }
            Event::Delete(gone) => Shown::Change(gone.revision, format!("delete  {}/{}", gone.table, gone.id)),
            Event::Progress(progress) => Shown::Progress(progress.revision),
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_read_as_they_are_written() {
        for text in ["total:number", "email:text:unique", "open:boolean"] {
            assert_eq!(written(&index(text).unwrap()), text);
        }
        assert_eq!(written(&index("email:unique").unwrap()), "email:text:unique");
        assert!(index("total:float").is_err());
    }
}
