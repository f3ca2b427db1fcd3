//! Transactions: they take turns in a namespace, by the row that counts its revisions.

use std::collections::BTreeMap;

use platform_sdk::{
    context,
    db::{
        Action, Change, Content, Duplicate, Error, Field, Kind, Result, Stamp, Value, Write, arrange, check, indexed,
    },
};

use crate::{
    declare::{Column, Shape, made, shape},
    fence,
    record::json,
    server::{Failure, Parameter, Session},
};

/// How many revisions there are between two clearings of old changes.
const CLEARED_EVERY: i64 = 256;

/// Waits for the turn of this transaction in the call's namespace, and refuses it when its fence is behind.
pub(crate) fn turn(session: &mut Session, schema: &str) -> Result<()> {
    let namespace = context::namespace();
    session.run(
        &format!("INSERT INTO {schema}.spaces (namespace, revision) VALUES ($1, 0) ON CONFLICT DO NOTHING"),
        &[Parameter::Text(&namespace)],
    )?;
    session.run(
        &format!("SELECT revision FROM {schema}.spaces WHERE namespace = $1 FOR UPDATE"),
        &[Parameter::Text(&namespace)],
    )?;
    fence::check(session, schema)
}

/// The revision of this transaction, which has its turn.
pub(crate) fn next_revision(session: &mut Session, schema: &str) -> Result<i64> {
    fence::pass(session, schema)?;
    let namespace = context::namespace();
    let rows = session.run(
        &format!("UPDATE {schema}.spaces SET revision = revision + 1 WHERE namespace = $1 RETURNING revision"),
        &[Parameter::Text(&namespace)],
    )?;
    rows.first().map_or_else(|| Err(Error::Other("the namespace has gone".into())), |row| row.whole(0))
}

/// Makes all of the writes, or fails; the caller then takes all of it back.
pub(crate) fn commit(
    session: &mut Session, (schema, kept): (&str, u64), database: &str, writes: Vec<Write>,
) -> Result<Vec<Option<Stamp>>> {
    turn(session, schema)?;
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    let mut known = Vec::with_capacity(writes.len());
    for write in &writes {
        let place = (database, write.table.as_str());
        if !shapes.contains_key(&write.table) {
            let found = match write.action {
                Action::Put(_) => Some(made(session, schema, place)?),
                Action::Delete | Action::Check => shape(session, schema, place)?,
            };
            if let Some(found) = found {
                shapes.insert(write.table.clone(), found);
            }
        }
        let old = match shapes.get(&write.table) {
            Some(shape) => old(session, schema, shape, &write.id)?,
            None => None,
        };
        check(write, old.as_ref().map_or(0, |old| old.revision))?;
        known.push(old);
    }
    let changing = |(write, old): (&Write, &Option<Stamp>)| match write.action {
        Action::Put(_) => true,
        Action::Delete => old.is_some(),
        Action::Check => false,
    };
    if !writes.iter().zip(&known).any(changing) {
        return Ok(writes
            .iter()
            .zip(known)
            .map(|(write, old)| old.filter(|_| write.action == Action::Check))
            .collect());
    }
    let revision = next_revision(session, schema)?;
    let mut stamps = Vec::with_capacity(writes.len());
    for (part, (write, old)) in (0..).zip(writes.into_iter().zip(known)) {
        let log = Log { schema, revision, part, database };
        let stamp = match (write.action, shapes.get(&write.table), old) {
            (Action::Put(content), Some(shape), old) => {
                Some(put(session, &log, shape, (&write.table, write.id), content, old.as_ref())?)
            }
            (Action::Delete, Some(shape), Some(_)) => {
                let statement = format!("DELETE FROM {schema}.records_{} WHERE id = $1", shape.number);
                session.run(&statement, &[Parameter::Text(&write.id)])?;
                log.deleted(session, &write.table, &write.id)?;
                None
            }
            (Action::Check, _, old) => old,
            _ => None,
        };
        stamps.push(stamp);
    }
    session.run("SET CONSTRAINTS ALL IMMEDIATE", &[]).map_err(|failure| duplicate(failure, &shapes))?;
    if revision % CLEARED_EVERY == 0 {
        clear(session, schema, revision, kept)?;
    }
    Ok(stamps)
}

/// Makes records what another store says that they are, with their stamps.
pub(crate) fn restore(session: &mut Session, schema: &str, changes: Vec<Change>, revision: u64) -> Result<()> {
    turn(session, schema)?;
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    for change in changes {
        let place = (change.database.as_str(), change.table.as_str());
        let found = match &change.now {
            Some(_) => Some(made(session, schema, place)?),
            None => shape(session, schema, place)?,
        };
        let Some(found) = found else { continue };
        match change.now {
            Some(record) => {
                upsert(
                    session,
                    schema,
                    &found,
                    &record.stamp,
                    (&json(&record.metadata), &record.metadata),
                    &record.data,
                )?;
            }
            None => {
                let statement = format!("DELETE FROM {schema}.records_{} WHERE id = $1", found.number);
                session.run(&statement, &[Parameter::Text(&change.id)])?;
            }
        }
        shapes.insert(change.table, found);
    }
    session.run("SET CONSTRAINTS ALL IMMEDIATE", &[]).map_err(|failure| duplicate(failure, &shapes))?;
    if revision > 0 {
        let namespace = context::namespace();
        let revision = Parameter::Whole(i64::try_from(revision).unwrap_or(i64::MAX));
        let namespace = Parameter::Text(&namespace);
        session.run(&format!("DELETE FROM {schema}.changes WHERE namespace = $1"), &[namespace])?;
        session.run(
            &format!("UPDATE {schema}.spaces SET revision = $2, floor = $2 WHERE namespace = $1"),
            &[namespace, revision],
        )?;
    }
    Ok(())
}

/// The stamp of a record that is there.
fn old(session: &mut Session, schema: &str, shape: &Shape, id: &str) -> Result<Option<Stamp>> {
    let rows = session.run(
        &format!("SELECT created, updated, revision FROM {schema}.records_{} WHERE id = $1", shape.number),
        &[Parameter::Text(id)],
    )?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (created_ns, updated_ns, revision) = (row.count(0)?, row.count(1)?, row.count(2)?);
    Ok(Some(Stamp { id: id.to_owned(), created_ns, updated_ns, revision }))
}

/// Where a write stands among the changes.
struct Log<'a> {
    schema: &'a str,
    revision: i64,
    part: i64,
    database: &'a str,
}

impl Log<'_> {
    fn deleted(&self, session: &mut Session, table: &str, id: &str) -> Result<()> {
        let namespace = context::namespace();
        session.run(
            &format!(
                "INSERT INTO {}.changes (namespace, revision, part, database, name, id) VALUES ($1, $2, $3, $4, $5, $6)",
                self.schema
            ),
            &[
                Parameter::Text(&namespace),
                Parameter::Whole(self.revision),
                Parameter::Whole(self.part),
                Parameter::Text(self.database),
                Parameter::Text(table),
                Parameter::Text(id),
            ],
        )?;
        Ok(())
    }
}

fn put(
    session: &mut Session, log: &Log<'_>, shape: &Shape, (table, id): (&str, String), mut content: Content,
    old: Option<&Stamp>,
) -> Result<Stamp> {
    arrange(&mut content.metadata);
    let (now, metadata) = (context::time_ns(), json(&content.metadata));
    let stamp = Stamp {
        id,
        created_ns: old.map_or(now, |old| old.created_ns),
        updated_ns: old.map_or(now, |old| now.max(old.updated_ns)),
        revision: u64::try_from(log.revision).unwrap_or(0),
    };
    upsert(session, log.schema, shape, &stamp, (&metadata, &content.metadata), &content.data)?;
    let namespace = context::namespace();
    let mut values = stamped(&stamp).to_vec();
    values.extend([
        Parameter::Text(&metadata),
        Parameter::Data(&content.data),
        Parameter::Text(&namespace),
        Parameter::Whole(log.part),
        Parameter::Text(log.database),
        Parameter::Text(table),
    ]);
    session.run(
        &format!(
            "INSERT INTO {}.changes (id, created, updated, revision, metadata, data, namespace, part, database, name) \
             VALUES ($1, $2, $3, $4, $5::text::jsonb, $6, $7, $8, $9, $10)",
            log.schema
        ),
        &values,
    )?;
    Ok(stamp)
}

fn stamped(stamp: &Stamp) -> [Parameter<'_>; 4] {
    let number = |number: u64| Parameter::Whole(i64::try_from(number).unwrap_or(i64::MAX));
    [Parameter::Text(&stamp.id), number(stamp.created_ns), number(stamp.updated_ns), number(stamp.revision)]
}

/// Makes or replaces a record, with what each of its columns holds.
fn upsert(
    session: &mut Session, schema: &str, shape: &Shape, stamp: &Stamp, (json, metadata): (&str, &[Field]), data: &[u8],
) -> Result<()> {
    let mut values = stamped(stamp).to_vec();
    values.extend([Parameter::Text(json), Parameter::Data(data)]);
    let (mut names, mut places, mut sets) = (String::new(), String::new(), String::new());
    for column in &shape.columns {
        values.push(held(column, &stamp.id, metadata)?);
        let (name, place) = (format!(", f_{}", column.number), format!(", ${}", values.len()));
        sets.push_str(&format!("{name} = excluded.f_{}", column.number));
        names.push_str(&name);
        places.push_str(&place);
    }
    let statement = format!(
        "INSERT INTO {schema}.records_{} (id, created, updated, revision, metadata, data{names}) \
         VALUES ($1, $2, $3, $4, $5::text::jsonb, $6{places}) ON CONFLICT (id) DO UPDATE SET created = excluded.created, \
         updated = excluded.updated, revision = excluded.revision, metadata = excluded.metadata, data = excluded.data{sets}",
        shape.number
    );
    session.run(&statement, &values)?;
    Ok(())
}

/// What a column holds of a record.
fn held<'a>(column: &Column, id: &str, metadata: &'a [Field]) -> Result<Parameter<'a>> {
    Ok(match indexed(&column.index, id, metadata)? {
        Some(Value::Text(text)) => Parameter::Text(text),
        Some(Value::Number(number)) => Parameter::Number(*number),
        Some(Value::Boolean(boolean)) => Parameter::Boolean(*boolean),
        None => Parameter::Nothing(match column.index.kind {
            Kind::Text => &Parameter::Text(""),
            Kind::Number => &Parameter::Number(0.0),
            Kind::Boolean => &Parameter::Boolean(false),
        }),
    })
}

/// Which unique index has a value already.
fn duplicate(failure: Failure, shapes: &BTreeMap<String, Shape>) -> Error {
    let number = failure.taken().and_then(|constraint| constraint.strip_prefix("u_")?.parse::<i64>().ok());
    let columns = shapes.iter().flat_map(|(table, shape)| shape.columns.iter().map(move |column| (table, column)));
    let mut met = columns.filter(|(_, column)| Some(column.number) == number);
    match met.next() {
        Some((table, column)) => {
            let (table, field) = (table.clone(), column.index.field.clone());
            Error::Duplicate(Duplicate { table, field, id: String::new() })
        }
        None => failure.into(),
    }
}

/// Clears changes beyond those that are kept.
fn clear(session: &mut Session, schema: &str, revision: i64, kept: u64) -> Result<()> {
    let namespace = context::namespace();
    let floor = revision.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX)).max(0);
    let values = [Parameter::Text(&namespace), Parameter::Whole(floor)];
    session.run(&format!("DELETE FROM {schema}.changes WHERE namespace = $1 AND revision <= $2"), &values)?;
    session.run(&format!("UPDATE {schema}.spaces SET floor = $2 WHERE namespace = $1 AND floor < $2"), &values)?;
    Ok(())
}
