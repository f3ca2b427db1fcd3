//! Tables and their indexes, made when they are declared. Names and fields are values in tables of ours; what statements name are
//! numbers that we gave.

use platform_sdk::{
    context,
    db::{Duplicate, Error, Index, Kind, MAX_INDEXED_BYTES, Result, Table},
};

use crate::{
    commit::{next_revision, turn},
    server::{Failure, Parameter, Session},
};

/// What a schema is made under, so that two instances do not make it at once.
const LOCK: i64 = 0x706c_6174_666f_726d;

/// A table of ours, as the server has it.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) number: i64,
    pub(crate) columns: Vec<Column>,
}

/// A field that a table is searched by.
#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) number: i64,
    pub(crate) index: Index,
}

impl Shape {
    /// Its indexes, in byte order of their fields.
    pub(crate) fn indexes(&self) -> Vec<Index> {
        self.columns.iter().map(|column| column.index.clone()).collect()
    }
}

/// Makes what all tables share.
pub(crate) fn prepare(session: &mut Session, schema: &str) -> Result<()> {
    session.run("SELECT pg_advisory_xact_lock($1)", &[Parameter::Whole(LOCK)])?;
    let statements = [
        "CREATE SCHEMA IF NOT EXISTS {schema}",
        "CREATE TABLE IF NOT EXISTS {schema}.spaces (namespace text PRIMARY KEY, revision int8 NOT NULL, \
         floor int8 NOT NULL DEFAULT 0)",
        "CREATE TABLE IF NOT EXISTS {schema}.tables (number int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
         namespace text NOT NULL, database text COLLATE \"C\" NOT NULL, name text COLLATE \"C\" NOT NULL, \
         UNIQUE (namespace, database, name))",
        "CREATE TABLE IF NOT EXISTS {schema}.indexes (number int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, \
         place int8 NOT NULL REFERENCES {schema}.tables ON DELETE CASCADE, field text COLLATE \"C\" NOT NULL, \
         kind text NOT NULL, single bool NOT NULL, UNIQUE (place, field))",
        "CREATE TABLE IF NOT EXISTS {schema}.fences (namespace text NOT NULL, name text COLLATE \"C\" NOT NULL, \
         token text COLLATE \"C\" NOT NULL, PRIMARY KEY (namespace, name))",
        "CREATE TABLE IF NOT EXISTS {schema}.changes (namespace text NOT NULL, revision int8 NOT NULL, part int8 NOT NULL, \
         database text NOT NULL, name text NOT NULL, id text NOT NULL, created int8, updated int8, metadata jsonb, \
         data bytea, PRIMARY KEY (namespace, revision, part))",
    ];
    for statement in statements {
        session.run(&statement.replace("{schema}", schema), &[])?;
    }
    Ok(())
}

/// A table as it is; none when there is none.
pub(crate) fn shape(session: &mut Session, schema: &str, (database, table): (&str, &str)) -> Result<Option<Shape>> {
    let namespace = context::namespace();
    let rows = session.run(
        &format!(
            "SELECT t.number, i.number, i.field, i.kind, i.single FROM {schema}.tables t LEFT JOIN {schema}.indexes i \
             ON i.place = t.number WHERE t.namespace = $1 AND t.database = $2 AND t.name = $3 ORDER BY i.field"
        ),
        &[Parameter::Text(&namespace), Parameter::Text(database), Parameter::Text(table)],
    )?;
    let Some(first) = rows.first() else { return Ok(None) };
    let number = first.whole(0)?;
    let column = |row: &crate::server::Row| {
        let kind = match row.text(3)?.as_str() {
            "number" => Kind::Number,
            "boolean" => Kind::Boolean,
            _ => Kind::Text,
        };
        Ok(Column { number: row.whole(1)?, index: Index { field: row.text(2)?, kind, unique: row.boolean(4)? } })
    };
    let columns = rows.iter().filter(|row| row.has(1)).map(column).collect::<Result<Vec<_>>>()?;
    Ok(Some(Shape { number, columns }))
}

/// The same, made when there is none. It takes a turn among the writes of the namespace.
pub(crate) fn made(session: &mut Session, schema: &str, place: (&str, &str)) -> Result<Shape> {
    if let Some(shape) = shape(session, schema, place)? {
        return Ok(shape);
    }
    let namespace = context::namespace();
    let rows = session.run(
        &format!("INSERT INTO {schema}.tables (namespace, database, name) VALUES ($1, $2, $3) RETURNING number"),
        &[Parameter::Text(&namespace), Parameter::Text(place.0), Parameter::Text(place.1)],
    )?;
    let number = rows.first().map_or(Ok(0), |row| row.whole(0))?;
    session.run(
        &format!(
            "CREATE TABLE {schema}.records_{number} (id text COLLATE \"C\" PRIMARY KEY, created int8 NOT NULL, \
             updated int8 NOT NULL, revision int8 NOT NULL, metadata jsonb NOT NULL, data bytea NOT NULL)"
        ),
        &[],
    )?;
    Ok(Shape { number, columns: Vec::new() })
}

/// Gives a table exactly these indexes.
pub(crate) fn declare(
    session: &mut Session, schema: &str, place: (&str, &str), mut indexes: Vec<Index>,
) -> Result<Table> {
    turn(session, schema)?;
    let shape = made(session, schema, place)?;
    for column in shape.columns.iter().filter(|column| !indexes.contains(&column.index)) {
        let (table, number) = (shape.number, column.number);
        session.run(&format!("DELETE FROM {schema}.indexes WHERE number = $1"), &[Parameter::Whole(number)])?;
        session.run(&format!("ALTER TABLE {schema}.records_{table} DROP COLUMN f_{number}"), &[])?;
    }
    let had = shape.indexes();
    for index in indexes.iter().filter(|index| !had.contains(index)) {
        add(session, (schema, shape.number), place.1, index)?;
    }
    indexes.sort_by(|a, b| a.field.cmp(&b.field));
    Ok(Table { database: place.0.to_owned(), name: place.1.to_owned(), indexes, ready: true })
}

/// Adds an index and builds it from the records that are there.
fn add(session: &mut Session, (schema, table): (&str, i64), name: &str, index: &Index) -> Result<()> {
    let (kind, column, cast) = match index.kind {
        Kind::Text => ("text", "text COLLATE \"C\"", ""),
        Kind::Number => ("number", "float8", "::float8"),
        Kind::Boolean => ("boolean", "bool", "::bool"),
    };
    let field = Parameter::Text(&index.field);
    let json = if kind == "text" { "string" } else { kind };
    let odd = session.run(
        &format!(
            "SELECT id FROM {schema}.records_{table} WHERE jsonb_typeof(metadata -> $1) <> $2 \
             OR ($2 = 'string' AND octet_length(metadata ->> $1) > $3) LIMIT 1"
        ),
        &[field, Parameter::Text(json), Parameter::Whole(MAX_INDEXED_BYTES as i64)],
    )?;
    if let Some(row) = odd.first() {
        let (id, field) = (row.text(0)?, &index.field);
        let why = format!("`{field}` of `{}` is no {kind} that an index can have", id.escape_debug());
        return Err(Error::Invalid(why));
    }
    let rows = session.run(
        &format!("INSERT INTO {schema}.indexes (place, field, kind, single) VALUES ($1, $2, $3, $4) RETURNING number"),
        &[Parameter::Whole(table), field, Parameter::Text(kind), Parameter::Boolean(index.unique)],
    )?;
    let number = rows.first().map_or(Ok(0), |row| row.whole(0))?;
    session.run(&format!("ALTER TABLE {schema}.records_{table} ADD COLUMN f_{number} {column}"), &[])?;
    session.run(
        &format!("UPDATE {schema}.records_{table} SET f_{number} = (metadata ->> $1){cast} WHERE metadata ? $1"),
        &[field],
    )?;
    session.run(&format!("CREATE INDEX ON {schema}.records_{table} (f_{number}, id)"), &[])?;
    if index.unique {
        // Deferred, so that a value can move from one record to another within a transaction.
        let added = session.run(
            &format!(
                "ALTER TABLE {schema}.records_{table} ADD CONSTRAINT u_{number} UNIQUE (f_{number}) DEFERRABLE INITIALLY DEFERRED"
            ),
            &[],
        );
        if let Err(failure) = added {
            return Err(match failure {
                Failure::Refused { code, .. } if code == "23505" => {
                    let (table, field) = (name.to_owned(), index.field.clone());
                    Error::Duplicate(Duplicate { table, field, id: String::new() })
                }
                failure => failure.into(),
            });
        }
    }
    Ok(())
}

/// Removes a table; watchers hear of each of its records.
pub(crate) fn drop_table(session: &mut Session, schema: &str, place: (&str, &str)) -> Result<()> {
    turn(session, schema)?;
    let Some(shape) = shape(session, schema, place)? else { return Ok(()) };
    let (namespace, revision) = (context::namespace(), next_revision(session, schema)?);
    let number = shape.number;
    session.run(
        &format!(
            "INSERT INTO {schema}.changes (namespace, revision, part, database, name, id) \
             SELECT $1, $2, row_number() OVER (), $3, $4, id FROM {schema}.records_{number}"
        ),
        &[Parameter::Text(&namespace), Parameter::Whole(revision), Parameter::Text(place.0), Parameter::Text(place.1)],
    )?;
    session.run(&format!("DROP TABLE {schema}.records_{number}"), &[])?;
    session.run(&format!("DELETE FROM {schema}.tables WHERE number = $1"), &[Parameter::Whole(number)])?;
    Ok(())
}
