//! Declarations, and what they leave to be done: indexes that are built, indexes and tables that go. Each stretch is one commit
//! against the declaration that it was computed from, so it goes on where it was after anything.

use platform_sdk::{
    context,
    db::{Error, Index, Result, indexed},
    storage::{self, Condition, Delete},
};

use crate::{
    TABLE, busy,
    commit::Draft,
    declaration,
    key::Place,
    read,
    record::{Declaration, Held},
};

/// Keys that a commit may write.
const KEYS_MAX: usize = 1000;
/// Keys that are removed at once, of each sort.
const SWEPT: u32 = 200;

/// Gives a table exactly these indexes.
pub(crate) fn declare(place: Place<'_>, mut indexes: Vec<Index>) -> Result<Declaration> {
    indexes.sort_by(|a, b| a.field.cmp(&b.field));
    for () in context::attempts() {
        let (old, revision) = declaration(place)?.unzip();
        let is_new = old.is_none();
        let old = old.unwrap_or_default();
        if old.dropping {
            return Err(Error::Unavailable(format!("`{}` is being dropped; try again", place.table)));
        }
        let mut new = Declaration { indexes: Vec::new(), ..old.clone() };
        for index in &indexes {
            if let Some(held) = old.indexes.iter().find(|held| held.index == *index) {
                new.indexes.push(held.clone());
                continue;
            }
            new.indexes.push(Held { number: new.next, index: index.clone(), ready: is_new });
            new.next += 1;
            new.built = None;
        }
        let kept = |number: u64| new.indexes.iter().any(|held| held.number == number);
        let gone: Vec<u64> = old.indexes.iter().map(|held| held.number).filter(|number| !kept(*number)).collect();
        new.gone.extend(gone);
        if !is_new && new == old {
            return Ok(old);
        }
        if written(place, &new, revision, Draft::default())? {
            return Ok(new);
        }
    }
    Err(busy(place.table))
}

/// Writes a declaration and what comes with it; whether nobody else did meanwhile.
fn written(place: Place<'_>, declared: &Declaration, revision: Option<u64>, mut draft: Draft) -> Result<bool> {
    draft.require(place.declaration(), revision);
    draft.set(place.declaration(), Some(declared.encode()));
    match draft.make() {
        Ok(_) => Ok(true),
        Err(storage::Error::Conflict(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Does a stretch of what is left to be done; whether nothing is left.
pub(crate) fn build(place: Place<'_>) -> Result<bool> {
    let Some((mut declared, revision)) = declaration(place)? else { return Ok(true) };
    if declared.dropping || declared.ready() {
        return Ok(true);
    }
    if let Some(number) = declared.gone.first().copied() {
        if !sweep(&['x', 'y', 'u'].map(|sort| place.index(sort, number)))? {
            declared.gone.retain(|gone| *gone != number);
            written(place, &declared, Some(revision), Draft::default())?;
        }
        return Ok(false);
    }
    let unready: Vec<Held> = declared.indexes.iter().filter(|held| !held.ready).cloned().collect();
    let limit = u32::try_from(KEYS_MAX / (1 + 3 * unready.len())).unwrap_or(1);
    let after = declared.built.as_deref().map(|id| place.record(id));
    let prefix = place.all('r');
    let page = TABLE.scan(&prefix, after.as_deref(), limit)?;
    let Some(last) = page.last() else {
        for held in &mut declared.indexes {
            held.ready = true;
        }
        declared.built = None;
        return written(place, &declared, Some(revision), Draft::default());
    };
    let last = last.key.strip_prefix(&prefix).unwrap_or_default().to_owned();
    let mut draft = Draft::default();
    for entry in &page {
        let id = entry.key.strip_prefix(&prefix).unwrap_or_default();
        let record = read(id, entry)?;
        draft.require(entry.key.clone(), Some(entry.revision));
        for held in &unready {
            let entered = match indexed(&held.index, id, &record.metadata) {
                Ok(Some(value)) => draft.enter(place, held, value, id),
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = entered {
                return give_up(place, declared, revision, &held.index.field, error);
            }
        }
    }
    match draft.settle() {
        Err(Error::Duplicate(met)) => {
            let field = met.field.clone();
            return give_up(place, declared, revision, &field, Error::Duplicate(met));
        }
        settled => settled?,
    }
    declared.built = Some(last);
    written(place, &declared, Some(revision), draft)?;
    Ok(false)
}

/// Takes an index that a record can't be in out of the declaration.
fn give_up(place: Place<'_>, mut declared: Declaration, revision: u64, field: &str, error: Error) -> Result<bool> {
    let gone = declared.indexes.iter().filter(|held| held.index.field == field).map(|held| held.number);
    declared.gone.extend(gone.collect::<Vec<_>>());
    declared.indexes.retain(|held| held.index.field != field);
    if written(place, &declared, Some(revision), Draft::default())? { Err(error) } else { Ok(false) }
}

/// Removes a stretch of a table; whether nothing is left of it.
pub(crate) fn drop_table(place: Place<'_>) -> Result<bool> {
    let Some((mut declared, revision)) = declaration(place)? else { return Ok(true) };
    if !declared.dropping {
        declared.dropping = true;
        written(place, &declared, Some(revision), Draft::default())?;
        return Ok(false);
    }
    if sweep(&['r', 'o', 'x', 'y', 'u'].map(|sort| place.all(sort)))? {
        return Ok(false);
    }
    match TABLE.delete(&place.declaration(), Condition::At(revision)) {
        Ok(_) => Ok(true),
        Err(storage::Error::Conflict(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Removes some keys with these prefixes; whether there were any.
fn sweep(prefixes: &[String]) -> Result<bool> {
    let mut keys = Vec::new();
    for prefix in prefixes {
        keys.extend(TABLE.scan(prefix, None, SWEPT)?.into_iter().map(|entry| entry.key));
    }
    let writes: Vec<storage::Write<'_>> =
        keys.iter().map(|key| storage::Write::Delete(Delete { key, condition: Condition::Always })).collect();
    if writes.is_empty() {
        return Ok(false);
    }
    TABLE.commit(&writes)?;
    Ok(true)
}
