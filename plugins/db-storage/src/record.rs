//! The stored forms of records and declarations. Invariant: what is read is what was written, or an error that says so.

use platform_sdk::{
    codec::{Malformed, Reader, Result, Writer},
    db::{Field, Index, Kind, Record, Stamp, Value},
};

/// The only form so far.
const VERSION: u8 = 1;

/// An index as a table has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    /// Its number: no other index of the table ever had it.
    pub(crate) number: u64,
    pub(crate) index: Index,
    /// Whether it has every record.
    pub(crate) ready: bool,
}

/// What a table was declared to be, and what is left to be done about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Declaration {
    /// Number of the next index.
    pub(crate) next: u64,
    /// In byte order of their fields.
    pub(crate) indexes: Vec<Held>,
    /// Numbers of indexes whose entries are to go.
    pub(crate) gone: Vec<u64>,
    /// The last record that indexes were built from; none at the beginning.
    pub(crate) built: Option<String>,
    /// Whether the table is to go.
    pub(crate) dropping: bool,
}

impl Declaration {
    /// Whether nothing is left to be done.
    pub(crate) fn ready(&self) -> bool {
        self.gone.is_empty() && self.indexes.iter().all(|held| held.ready)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(VERSION).u64(self.next).u8(self.dropping.into());
        writer.u8(self.built.is_some().into()).text(self.built.as_deref().unwrap_or_default());
        writer.count(self.gone.len());
        self.gone.iter().for_each(|number| {
            writer.u64(*number);
        });
        writer.count(self.indexes.len());
        for Held { number, index, ready } in &self.indexes {
            let kind = match index.kind {
                Kind::Text => 0,
                Kind::Number => 1,
                Kind::Boolean => 2,
            };
            writer.u64(*number).text(&index.field).u8(kind).u8(index.unique.into()).u8((*ready).into());
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        version(&mut reader)?;
        let (next, dropping) = (reader.u64()?, reader.u8()? != 0);
        let (is_built, built) = (reader.u8()? != 0, reader.text()?.to_owned());
        let gone = (0..reader.count()?).map(|_| reader.u64()).collect::<Result<Vec<_>>>()?;
        let indexes = (0..reader.count()?).map(|_| {
            let (number, field) = (reader.u64()?, reader.text()?.to_owned());
            let kind = match reader.u8()? {
                0 => Kind::Text,
                1 => Kind::Number,
                2 => Kind::Boolean,
                _ => return Err(Malformed),
            };
            let (unique, ready) = (reader.u8()? != 0, reader.u8()? != 0);
            Ok(Held { number, index: Index { field, kind, unique }, ready })
        });
        let indexes = indexes.collect::<Result<Vec<_>>>()?;
        reader.end()?;
        Ok(Self { next, indexes, gone, built: is_built.then_some(built), dropping })
    }
}

/// What the revisions of storage come to: those of a store that was taken over go on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    /// What is added to a revision of storage.
    pub(crate) by: i64,
    /// The revision of storage that nothing before is to be watched from.
    pub(crate) since: u64,
}

impl Shift {
    /// What a revision of storage comes to.
    pub(crate) fn of(self, revision: u64) -> u64 {
        revision.saturating_add_signed(self.by)
    }

    /// The revision of storage that comes to `revision`.
    pub(crate) fn back(self, revision: u64) -> u64 {
        revision.saturating_add_signed(self.by.saturating_neg())
    }

    pub(crate) fn encode(self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u8(VERSION).u64(self.by.cast_unsigned()).u64(self.since);
        writer.finish()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        version(&mut reader)?;
        let (by, since) = (reader.u64()?.cast_signed(), reader.u64()?);
        reader.end()?;
        Ok(Self { by, since })
    }
}

/// Where a record's revision comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The commit that wrote it, shifted.
    Here(Shift),
    /// Another store.
    Elsewhere(u64),
}

/// A record; its id is the entry's.
pub(crate) fn encode(stamp: &Stamp, origin: Origin, metadata: &[Field], data: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(data.len() + 64 * (metadata.len() + 1));
    let (mark, number) = match origin {
        Origin::Here(shift) => (0, shift.by.cast_unsigned()),
        Origin::Elsewhere(revision) => (1, revision),
    };
    writer.u8(VERSION).u8(mark).u64(number).u64(stamp.created_ns).u64(stamp.updated_ns).count(metadata.len());
    for Field { name, value } in metadata {
        writer.text(name);
        match value {
            Value::Text(text) => writer.u8(0).text(text),
            Value::Number(number) => writer.u8(1).bytes(&number.to_le_bytes()),
            Value::Boolean(boolean) => writer.u8(2).u8((*boolean).into()),
        };
    }
    writer.bytes(data);
    writer.finish()
}

/// The record of an entry.
pub(crate) fn decode(id: &str, revision: u64, bytes: &[u8]) -> Result<Record> {
    let mut reader = Reader::new(bytes);
    version(&mut reader)?;
    let revision = match (reader.u8()?, reader.u64()?) {
        (0, by) => revision.saturating_add_signed(by.cast_signed()),
        (1, elsewhere) => elsewhere,
        _ => return Err(Malformed),
    };
    let (created_ns, updated_ns) = (reader.u64()?, reader.u64()?);
    let metadata = (0..reader.count()?).map(|_| {
        let name = reader.text()?.to_owned();
        let value = match reader.u8()? {
            0 => Value::Text(reader.text()?.to_owned()),
            1 => Value::Number(f64::from_le_bytes(reader.bytes()?.try_into().ok().ok_or(Malformed)?)),
            2 => Value::Boolean(reader.u8()? != 0),
            _ => return Err(Malformed),
        };
        Ok(Field { name, value })
    });
    let metadata = metadata.collect::<Result<Vec<_>>>()?;
    let data = reader.bytes()?.to_vec();
    reader.end()?;
    Ok(Record { stamp: Stamp { id: id.to_owned(), created_ns, updated_ns, revision }, metadata, data })
}

fn version(reader: &mut Reader<'_>) -> Result<()> {
    if reader.u8()? == VERSION { Ok(()) } else { Err(Malformed) }
}
