//! The form in which the store is handed to its successor. It knows the layout and checks what it reads: a state that
//! breaks an invariant of [`Space`] is refused, never served.

use std::{
    collections::{BTreeMap, VecDeque},
    rc::Rc,
};

use platform_sdk::codec::{Malformed, Reader, Result, Writer};

use crate::space::{Held, Kept, Space};

/// First byte; another layout gets another number.
const LAYOUT: u8 = 2;

/// Writes all spaces.
pub(crate) fn save(spaces: &BTreeMap<String, Space>) -> Vec<u8> {
    // What a space counts for each entry is more than its numbers take here.
    let mut writer = Writer::with_capacity(spaces.iter().map(|(name, space)| name.len() + 32 + space.bytes()).sum());
    writer.u8(LAYOUT).count(spaces.len());
    for (name, space) in spaces {
        let (revision, now_ms, entries, kept) = space.parts();
        writer.text(name).u64(revision).u64(now_ms).count(entries.len());
        for (key, held) in entries {
            writer.text(key);
            write_held(&mut writer, held);
        }
        writer.count(kept.len());
        for change in kept {
            writer.text(&change.key);
            match &change.held {
                None => writer.u8(0).u64(change.revision),
                Some(held) => write_held(writer.u8(1), held),
            };
        }
        writer.count(space.fences.iter().len());
        for (name, token) in space.fences.iter() {
            writer.text(name).u64(token);
        }
    }
    writer.finish()
}

/// Reads what [`save`] wrote.
pub(crate) fn load(state: &[u8]) -> Result<BTreeMap<String, Space>> {
    let mut reader = Reader::new(state);
    if reader.u8()? != LAYOUT {
        return Err(Malformed);
    }
    let mut spaces = BTreeMap::new();
    for _ in 0..reader.count()? {
        let name = reader.text()?.to_owned();
        spaces.insert(name, read_space(&mut reader)?);
    }
    reader.end()?;
    Ok(spaces)
}

fn write_held<'a>(writer: &'a mut Writer, held: &Held) -> &'a mut Writer {
    writer.bytes(&held.value).u64(held.revision).optional(held.expires_ms)
}

fn read_held(reader: &mut Reader<'_>) -> Result<Held> {
    Ok(Held { value: Rc::from(reader.bytes()?), revision: reader.u64()?, expires_ms: reader.optional()? })
}

fn read_space(reader: &mut Reader<'_>) -> Result<Space> {
    let (revision, now_ms) = (reader.u64()?, reader.u64()?);
    let mut entries = BTreeMap::new();
    for _ in 0..reader.count()? {
        let key = reader.text()?.to_owned();
        let held = read_held(reader)?;
        if held.revision == 0 || held.revision > revision {
            return Err(Malformed);
        }
        entries.insert(key, held);
    }
    let count = reader.count()?;
    // The changes kept are those of the last commits, without gaps.
    let mut last: Option<u64> = None;
    let mut kept = VecDeque::new();
    for _ in 0..count {
        let key = reader.text()?.to_owned();
        let change = match reader.u8()? {
            0 => Kept { key, revision: reader.u64()?, held: None },
            1 => {
                let held = read_held(reader)?;
                Kept { key, revision: held.revision, held: Some(held) }
            }
            _ => return Err(Malformed),
        };
        if last.is_some_and(|last| change.revision != last && Some(change.revision) != last.checked_add(1)) {
            return Err(Malformed);
        }
        last = Some(change.revision);
        kept.push_back(change);
    }
    if last.is_some_and(|last| last != revision) {
        return Err(Malformed);
    }
    let fences = (0..reader.count()?).map(|_| Ok((reader.text()?.to_owned(), reader.u64()?))).collect::<Result<_>>()?;
    Ok(Space::from_parts(revision, now_ms, entries, kept, fences))
}
