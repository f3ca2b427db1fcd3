//! [`Data`]: commands on keys, read from their arguments and run on a draft.
//!
//! Owns which keys a command needs and what it makes of them; must not know how keys are read or written. Invariant:
//! running a command either gives its answer and changes the draft, or refuses and leaves the draft alone.

mod keys;
mod options;
mod strings;

use bytes::Bytes;

use super::{draft::Draft, refusal::Refusal, reply::Reply};

pub(super) use keys::{del, exists, expire, expireat, kind, persist, pexpire, pexpireat, pttl, ttl};
pub(super) use strings::{
    append, decr, decrby, get, getdel, getex, getset, incr, incrby, mget, mset, msetnx, psetex, set, setex, setnx,
    strlen,
};

/// Most keys that one command or transaction may name, as one read and one commit of the store.
pub(super) const KEYS_MAX: usize = 1000;
/// Longest key, in bytes.
const KEY_BYTES_MAX: usize = 1024;
/// Largest value, in bytes.
const VALUE_BYTES_MAX: usize = 8 << 20;

/// A command on keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Data {
    Get(String),
    Strlen(String),
    MGet(Vec<String>),
    Set(strings::Set),
    GetDel(String),
    GetEx(String, Option<options::Change>),
    Append(String, Bytes),
    MSet(Vec<(String, Bytes)>),
    MSetNx(Vec<(String, Bytes)>),
    Add(String, i64),
    Del(Vec<String>),
    Exists(Vec<String>),
    Type(String),
    Ttl(String, options::Unit),
    Expire(keys::Expire),
    Persist(String),
}

/// What a command does with its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Writes them whatever they hold.
    Blind,
    /// Reads them.
    Read,
    /// Reads them, and writes what follows from that.
    Decide,
}

impl Data {
    /// The keys that it works on.
    pub(super) fn keys(&self) -> Vec<&str> {
        match self {
            Self::Get(key)
            | Self::Strlen(key)
            | Self::GetDel(key)
            | Self::GetEx(key, _)
            | Self::Append(key, _)
            | Self::Add(key, _)
            | Self::Type(key)
            | Self::Ttl(key, _)
            | Self::Persist(key) => vec![key],
            Self::Set(set) => vec![&set.key],
            Self::Expire(expire) => vec![&expire.key],
            Self::MGet(keys) | Self::Del(keys) | Self::Exists(keys) => keys.iter().map(String::as_str).collect(),
            Self::MSet(pairs) | Self::MSetNx(pairs) => pairs.iter().map(|(key, _)| key.as_str()).collect(),
        }
    }

    /// What it does with them.
    pub(super) fn access(&self) -> Access {
        match self {
            Self::Set(set) if set.is_blind() => Access::Blind,
            Self::MSet(_) => Access::Blind,
            Self::Get(_)
            | Self::Strlen(_)
            | Self::MGet(_)
            | Self::Exists(_)
            | Self::Type(_)
            | Self::Ttl(..)
            | Self::GetEx(_, None) => Access::Read,
            _ => Access::Decide,
        }
    }

    /// Bytes that it may write.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Set(set) => set.key.len() + set.value.len(),
            Self::Append(key, value) => key.len() + value.len(),
            Self::MSet(pairs) | Self::MSetNx(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len()).sum(),
            _ => self.keys().iter().map(|key| key.len()).sum(),
        }
    }

    /// Runs it on a draft in which the keys that it reads are.
    pub(super) fn run(&self, draft: &mut Draft) -> Result<Reply, Refusal> {
        match self {
            Self::Get(key) => Ok(Reply::optional(draft.read(key).map(|held| held.value.clone()))),
            Self::Strlen(key) => Ok(Reply::count(draft.read(key).map_or(0, |held| held.value.len()))),
            Self::MGet(keys) => {
                let value = |key: &String| Reply::optional(draft.read(key).map(|held| held.value.clone()));
                Ok(Reply::Array(keys.iter().map(value).collect()))
            }
            Self::Set(set) => Ok(set.run(draft)),
            Self::GetDel(key) => Ok(strings::run_getdel(draft, key)),
            Self::GetEx(key, change) => Ok(strings::run_getex(draft, key, *change)),
            Self::Append(key, value) => strings::run_append(draft, key, value),
            Self::MSet(pairs) => Ok(strings::run_mset(draft, pairs)),
            Self::MSetNx(pairs) => Ok(strings::run_msetnx(draft, pairs)),
            Self::Add(key, by) => strings::run_add(draft, key, *by),
            Self::Del(keys) => Ok(keys::run_del(draft, keys)),
            Self::Exists(keys) => Ok(Reply::count(keys.iter().filter(|key| draft.read(key).is_some()).count())),
            Self::Type(key) => Ok(Reply::Simple(if draft.read(key).is_some() { "string" } else { "none" })),
            Self::Ttl(key, unit) => Ok(keys::run_ttl(draft, key, *unit)),
            Self::Expire(expire) => Ok(expire.run(draft)),
            Self::Persist(key) => Ok(keys::run_persist(draft, key)),
        }
    }
}

/// A key as it may be here.
pub(super) fn key(bytes: &[u8]) -> Result<String, Refusal> {
    if bytes.is_empty() || bytes.len() > KEY_BYTES_MAX {
        return Err(Refusal::Key("invalid key: keys are 1 to 1024 bytes here"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_not_text| Refusal::Key("invalid key: keys are UTF-8 here"))?;
    if text.chars().any(char::is_control) {
        return Err(Refusal::Key("invalid key: keys have no control characters here"));
    }
    Ok(text.to_owned())
}

fn all_keys(arguments: &[Bytes]) -> Result<Vec<String>, Refusal> {
    if arguments.len() > KEYS_MAX {
        return Err(Refusal::Keys(arguments.len(), KEYS_MAX));
    }
    arguments.iter().map(|argument| key(argument)).collect()
}

/// A value that is not too large.
fn value(bytes: &Bytes) -> Result<Bytes, Refusal> {
    if bytes.len() > VALUE_BYTES_MAX { Err(Refusal::ValueSize(VALUE_BYTES_MAX)) } else { Ok(bytes.clone()) }
}

/// A number in the one form that it is written in: no sign but `-`, no zeros before it.
pub(super) fn integer(bytes: &[u8]) -> Result<i64, Refusal> {
    let number = std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<i64>().ok());
    number.filter(|number| number.to_string().as_bytes() == bytes).ok_or(Refusal::NotInteger)
}

#[cfg(test)]
mod tests;
