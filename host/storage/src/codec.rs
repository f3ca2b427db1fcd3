//! Bytes of keys and values as they are stored, and the checksum that covers both.
//!
//! Owns the stored form; must not know what stores it. Invariant: a value is opened only when its checksum agrees
//! with the key it was found under, so damage is an error and never an answer.

use std::fmt::Display;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{Change, Entry, Error, Item, Result, Scope, Usage};

const CHECKSUM_BYTES: usize = 8;

/// What a stored name stands for; part of the name, so that a table and a journal may share theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Table,
    Journal,
}

/// Kinds of keys, each in a key space of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Space {
    /// Name of a table or journal: its state.
    Names,
    /// Table id and key: the row.
    Rows,
    /// Table id, revision and position in the commit: the change.
    Changes,
    /// Time, table id and key: nothing; one for each row that expires.
    Expiries,
    /// Journal id and sequence: the item.
    Items,
}

impl Space {
    pub(crate) const ALL: [Self; 5] = [Self::Names, Self::Rows, Self::Changes, Self::Expiries, Self::Items];

    /// The number that stands for the space in a log.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The space that a number stands for.
    pub(crate) fn of(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Rows => "rows",
            Self::Changes => "changes",
            Self::Expiries => "expiries",
            Self::Items => "items",
        }
    }
}

/// State of a table, stored under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Table {
    pub(crate) id: u32,
    /// Revision of the last commit.
    pub(crate) revision: u64,
    /// Changes up to this revision are dropped.
    pub(crate) floor: u64,
    /// Changes kept.
    pub(crate) changes: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// What its rows hold.
    pub(crate) usage: Usage,
}

/// State of a journal, stored under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Journal {
    pub(crate) id: u32,
    /// First sequence that is kept.
    pub(crate) first: u64,
    /// Sequence of the next item.
    pub(crate) next: u64,
    /// Time of the last item.
    pub(crate) time_ns: u64,
    /// Items before this sequence are gone from disk too.
    pub(crate) swept: u64,
}

impl Default for Journal {
    fn default() -> Self {
        Self { id: 0, first: 1, next: 1, time_ns: 0, swept: 1 }
    }
}

/// A row of a table without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) revision: u64,
    pub(crate) expires_ms: Option<u64>,
    pub(crate) value: Bytes,
}

impl Row {
    pub(crate) fn expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires| expires <= now_ms)
    }

    pub(crate) fn entry(self, key: String) -> Entry {
        Entry { key, value: self.value, revision: self.revision, expires_ms: self.expires_ms }
    }
}

/// Name of a table or journal. Parts hold no control characters, so 0 keeps them apart.
pub(crate) fn name(kind: Kind, scope: &Scope, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(scope.owner.len() + scope.namespace.len() + name.len() + 3);
    key.push(match kind {
        Kind::Table => b't',
        Kind::Journal => b'j',
    });
    key.extend_from_slice(scope.owner.as_bytes());
    key.push(0);
    key.extend_from_slice(scope.namespace.as_bytes());
    key.push(0);
    key.extend_from_slice(name.as_bytes());
    key
}

/// Scope and name that a stored name was made of, none when it is no name.
pub(crate) fn name_parts(name: &[u8]) -> Option<(Scope, String)> {
    kind(name)?;
    let mut parts = std::str::from_utf8(name.get(1..)?).ok()?.splitn(3, '\0');
    let (owner, namespace, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some((Scope::new(owner, namespace), name.to_owned()))
}

/// Kind of a stored name, none when it is no name.
pub(crate) fn kind(name: &[u8]) -> Option<Kind> {
    match name.first() {
        Some(b't') => Some(Kind::Table),
        Some(b'j') => Some(Kind::Journal),
        _ => None,
    }
}

/// Key of a row; with a part of a key, the start of all rows that begin so.
pub(crate) fn row_key(id: u32, key: &str) -> Vec<u8> {
    [&id.to_be_bytes()[..], key.as_bytes()].concat()
}

/// Key of a change.
pub(crate) fn change_key(id: u32, revision: u64, position: u32) -> Vec<u8> {
    [&id.to_be_bytes()[..], &revision.to_be_bytes(), &position.to_be_bytes()].concat()
}

/// Key of an expiry.
pub(crate) fn expiry_key(expires_ms: u64, id: u32, key: &str) -> Vec<u8> {
    [&expires_ms.to_be_bytes()[..], &id.to_be_bytes(), key.as_bytes()].concat()
}

/// Key of an item.
pub(crate) fn item_key(id: u32, sequence: u64) -> Vec<u8> {
    [&id.to_be_bytes()[..], &sequence.to_be_bytes()].concat()
}

/// First key after all that start with `prefix`.
pub(crate) fn after_all(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    // Every byte was 255: nothing of ours sorts behind this.
    vec![u8::MAX; prefix.len() + 1]
}

/// `body` with the checksum of it and `key` behind it.
fn seal(key: &[u8], mut body: BytesMut) -> Bytes {
    let sum = xxh3_64_with_seed(&body, xxh3_64(key));
    body.put_u64(sum);
    body.freeze()
}

/// The body of what [`seal`] made, none when it or its key is not what was written.
pub(crate) fn open(key: &[u8], mut sealed: Bytes) -> Option<Bytes> {
    let mut sum = sealed.split_off(sealed.len().checked_sub(CHECKSUM_BYTES)?);
    (sum.get_u64() == xxh3_64_with_seed(&sealed, xxh3_64(key))).then_some(sealed)
}

fn body(bytes: usize) -> BytesMut {
    BytesMut::with_capacity(bytes + CHECKSUM_BYTES)
}

/// A value with a stored form.
pub(crate) trait Stored: Sized {
    /// The sealed value under `key`.
    fn seal(&self, key: &[u8]) -> Bytes;

    /// The value of an opened body, none when it does not fit.
    fn decode(body: Bytes) -> Option<Self>;

    /// The value of what was found under `key` at `place`.
    fn open(place: &dyn Display, key: &[u8], sealed: Bytes) -> Result<Self> {
        open(key, sealed).and_then(Self::decode).ok_or_else(|| {
            Error::Corrupt(format!(
                "`{place}`: the value under key {} does not have the checksum it was written with; restore the data \
                 directory from a backup",
                key.escape_ascii()
            ))
        })
    }
}

impl Stored for Table {
    fn seal(&self, key: &[u8]) -> Bytes {
        let mut out = body(52);
        out.put_u32(self.id);
        for field in [self.revision, self.floor, self.changes, self.bytes, self.usage.keys, self.usage.bytes] {
            out.put_u64(field);
        }
        seal(key, out)
    }

    fn decode(mut body: Bytes) -> Option<Self> {
        Some(Self {
            id: body.try_get_u32().ok()?,
            revision: body.try_get_u64().ok()?,
            floor: body.try_get_u64().ok()?,
            changes: body.try_get_u64().ok()?,
            bytes: body.try_get_u64().ok()?,
            usage: Usage { keys: body.try_get_u64().ok()?, bytes: body.try_get_u64().ok()? },
        })
    }
}

impl Stored for Journal {
    fn seal(&self, key: &[u8]) -> Bytes {
        let mut out = body(36);
        out.put_u32(self.id);
        for field in [self.first, self.next, self.time_ns, self.swept] {
            out.put_u64(field);
        }
        seal(key, out)
    }

    fn decode(mut body: Bytes) -> Option<Self> {
        Some(Self {
            id: body.try_get_u32().ok()?,
            first: body.try_get_u64().ok()?,
            next: body.try_get_u64().ok()?,
            time_ns: body.try_get_u64().ok()?,
            swept: body.try_get_u64().ok()?,
        })
    }
}

impl Stored for Row {
    fn seal(&self, key: &[u8]) -> Bytes {
        let mut out = body(16 + self.value.len());
        out.put_u64(self.revision);
        // No key expires in 1970, so 0 is free to mean never.
        out.put_u64(self.expires_ms.unwrap_or(0));
        out.put_slice(&self.value);
        seal(key, out)
    }

    fn decode(mut body: Bytes) -> Option<Self> {
        let revision = body.try_get_u64().ok()?;
        let expires_ms = Some(body.try_get_u64().ok()?).filter(|ms| *ms != 0);
        Some(Self { revision, expires_ms, value: body })
    }
}

impl Stored for Change {
    fn seal(&self, key: &[u8]) -> Bytes {
        let changed = self.key();
        let value = if let Self::Put(entry) = self { entry.value.as_ref() } else { &[] };
        let mut out = body(19 + changed.len() + value.len());
        out.put_u8(u8::from(matches!(self, Self::Put(_))));
        out.put_u64(self.revision());
        if let Self::Put(entry) = self {
            out.put_u64(entry.expires_ms.unwrap_or(0));
        }
        // Keys are at most 1024 bytes, so their length fits.
        out.put_u16(u16::try_from(changed.len()).unwrap_or(u16::MAX));
        out.put_slice(changed.as_bytes());
        out.put_slice(value);
        seal(key, out)
    }

    fn decode(mut body: Bytes) -> Option<Self> {
        let put = body.try_get_u8().ok()? == 1;
        let revision = body.try_get_u64().ok()?;
        let expires_ms = if put { Some(body.try_get_u64().ok()?).filter(|ms| *ms != 0) } else { None };
        let length = usize::from(body.try_get_u16().ok()?);
        if length > body.len() {
            return None;
        }
        let key = String::from_utf8(body.split_to(length).into()).ok()?;
        Some(if put {
            Self::Put(Entry { key, value: body, revision, expires_ms })
        } else {
            Self::Delete { key, revision }
        })
    }
}

impl Stored for Item {
    fn seal(&self, key: &[u8]) -> Bytes {
        let mut out = body(16 + self.data.len());
        out.put_u64(self.sequence);
        out.put_u64(self.time_ns);
        out.put_slice(&self.data);
        seal(key, out)
    }

    fn decode(mut body: Bytes) -> Option<Self> {
        let sequence = body.try_get_u64().ok()?;
        let time_ns = body.try_get_u64().ok()?;
        Some(Self { sequence, time_ns, data: body })
    }
}

/// An expiry is all key, so there is nothing in its value but the checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry;

impl Stored for Expiry {
    fn seal(&self, key: &[u8]) -> Bytes {
        seal(key, body(0))
    }

    fn decode(body: Bytes) -> Option<Self> {
        body.is_empty().then_some(Self)
    }
}

/// Time, table id and key of an expiry's key, none when it is no such key.
pub(crate) fn expiry_parts(mut key: &[u8]) -> Option<(u64, u32, String)> {
    let expires_ms = key.try_get_u64().ok()?;
    let id = key.try_get_u32().ok()?;
    Some((expires_ms, id, String::from_utf8(key.to_vec()).ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn same<T: Stored + PartialEq + std::fmt::Debug>(value: &T, flip: usize) {
        let sealed = value.seal(b"key");
        assert_eq!(T::open(&"here", b"key", sealed.clone()).as_ref(), Ok(value));
        assert!(matches!(T::open(&"here", b"kez", sealed.clone()), Err(Error::Corrupt(why)) if why.contains("`here`")));
        let mut flipped = sealed.to_vec();
        let bit = flip % (flipped.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(T::open(&"here", b"key", flipped.into()).is_err());
        assert!(T::open(&"here", b"key", sealed.slice(..sealed.len() - 1)).is_err());
        assert!(T::open(&"here", b"key", Bytes::new()).is_err());
    }

    proptest! {
        #[test]
        fn forms_have_an_inverse_and_tell_damage(
            numbers in any::<[u64; 4]>(), id: u32, key in "\\PC{0,40}", value: Vec<u8>, ttl: Option<u64>, flip: usize,
        ) {
            let [a, b, c, d] = numbers;
            let value = Bytes::from(value);
            let expires_ms = ttl.filter(|ms| *ms != 0);
            same(&Table { id, revision: a, floor: b, changes: c, bytes: d, usage: Usage { keys: d, bytes: a } }, flip);
            same(&Journal { id, first: a, next: b, time_ns: c, swept: d }, flip);
            same(&Row { revision: a, expires_ms, value: value.clone() }, flip);
            same(&Change::Delete { key: key.clone(), revision: a }, flip);
            same(&Change::Put(Entry { key: key.clone(), value: value.clone(), revision: a, expires_ms }), flip);
            same(&Item { sequence: a, time_ns: b, data: value }, flip);
            same(&Expiry, flip);
            prop_assert_eq!(expiry_parts(&expiry_key(a, id, &key)), Some((a, id, key)));
        }

        #[test]
        fn after_all_is_the_least_upper_bound(prefix: Vec<u8>, rest: Vec<u8>) {
            let end = after_all(&prefix);
            prop_assert!([&prefix[..], &rest].concat() < end || prefix.iter().all(|byte| *byte == u8::MAX));
            prop_assert!(!end.starts_with(&prefix) || prefix.iter().all(|byte| *byte == u8::MAX));
        }

        #[test]
        fn keys_sort_like_what_they_stand_for(a: (u32, u64, u32), b: (u32, u64, u32)) {
            prop_assert_eq!(change_key(a.0, a.1, a.2).cmp(&change_key(b.0, b.1, b.2)), a.cmp(&b));
            prop_assert_eq!(item_key(a.0, a.1).cmp(&item_key(b.0, b.1)), (a.0, a.1).cmp(&(b.0, b.1)));
        }
    }
}
