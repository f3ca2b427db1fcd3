//! Commands on values: `GET`, `SET` and what is made of them.

use bytes::{Bytes, BytesMut};

use super::{
    Data, all_keys, integer, key,
    options::{Change, Unit, When},
    value,
};
use crate::resp::{
    draft::{Draft, Held, Life},
    refusal::Refusal,
    reply::Reply,
};

type Parsed = Result<Data, Refusal>;

/// A `SET` in any of its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::resp) struct Set {
    pub(super) key: String,
    pub(super) value: Bytes,
    only: Only,
    stays: Stays,
    answer: Answer,
}

/// On which keys it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    Any,
    Absent,
    Present,
}

/// How long the value stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stays {
    Good,
    Kept,
    Until(When),
}

/// What it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Ok,
    Old,
    Bit,
}

impl Set {
    fn plain(key_bytes: &[u8], value_bytes: &Bytes) -> Result<Self, Refusal> {
        let (key, value) = (key(key_bytes)?, value(value_bytes)?);
        Ok(Self { key, value, only: Only::Any, stays: Stays::Good, answer: Answer::Ok })
    }

    /// Whether it needs to know nothing of the key.
    pub(super) fn is_blind(&self) -> bool {
        self.only == Only::Any && self.answer == Answer::Ok
    }

    pub(super) fn run(&self, draft: &mut Draft) -> Reply {
        let old = if self.is_blind() { None } else { draft.decide(&self.key).map(|held| held.value.clone()) };
        let made = match self.only {
            Only::Any => true,
            Only::Absent => old.is_none(),
            Only::Present => old.is_some(),
        };
        if made {
            let life = match self.stays {
                Stays::Good => Life::Stays,
                Stays::Kept => Life::Kept(None),
                Stays::Until(when) => when.life(draft.now_ms),
            };
            draft.set(&self.key, Held { value: self.value.clone(), life });
        }
        match self.answer {
            Answer::Old => Reply::optional(old),
            Answer::Bit => Reply::bit(made),
            Answer::Ok if made => Reply::OK,
            Answer::Ok => Reply::Null,
        }
    }
}

pub(in crate::resp) fn get(_: &'static str, arguments: &[Bytes]) -> Parsed {
    one(arguments).map(Data::Get)
}

pub(in crate::resp) fn strlen(_: &'static str, arguments: &[Bytes]) -> Parsed {
    one(arguments).map(Data::Strlen)
}

pub(in crate::resp) fn getdel(_: &'static str, arguments: &[Bytes]) -> Parsed {
    one(arguments).map(Data::GetDel)
}

pub(in crate::resp) fn mget(_: &'static str, arguments: &[Bytes]) -> Parsed {
    all_keys(arguments).map(Data::MGet)
}

pub(in crate::resp) fn set(name: &'static str, arguments: &[Bytes]) -> Parsed {
    let [key, value, options @ ..] = arguments else { return Err(Refusal::Arity(name)) };
    let mut set = Set::plain(key, value)?;
    let mut options = options.iter();
    while let Some(word) = options.next() {
        match word.to_ascii_uppercase().as_slice() {
            b"NX" if set.only != Only::Present => set.only = Only::Absent,
            b"XX" if set.only != Only::Absent => set.only = Only::Present,
            b"GET" => set.answer = Answer::Old,
            b"KEEPTTL" if set.stays == Stays::Good => set.stays = Stays::Kept,
            _ if set.stays == Stays::Good => {
                let number = options.next().map(|number| &number[..]);
                set.stays = Stays::Until(When::option(name, word, number)?.ok_or(Refusal::Syntax)?);
            }
            _ => return Err(Refusal::Syntax),
        }
    }
    Ok(Data::Set(set))
}

pub(in crate::resp) fn setnx(name: &'static str, arguments: &[Bytes]) -> Parsed {
    let [key, value] = arguments else { return Err(Refusal::Arity(name)) };
    Ok(Data::Set(Set { only: Only::Absent, answer: Answer::Bit, ..Set::plain(key, value)? }))
}

pub(in crate::resp) fn getset(name: &'static str, arguments: &[Bytes]) -> Parsed {
    let [key, value] = arguments else { return Err(Refusal::Arity(name)) };
    Ok(Data::Set(Set { answer: Answer::Old, ..Set::plain(key, value)? }))
}

pub(in crate::resp) fn setex(name: &'static str, arguments: &[Bytes]) -> Parsed {
    set_for(name, arguments, Unit::Seconds)
}

pub(in crate::resp) fn psetex(name: &'static str, arguments: &[Bytes]) -> Parsed {
    set_for(name, arguments, Unit::Milliseconds)
}

fn set_for(name: &'static str, arguments: &[Bytes], unit: Unit) -> Parsed {
    let [key, ttl, value] = arguments else { return Err(Refusal::Arity(name)) };
    let when = When::positive(name, ttl, unit, false)?;
    Ok(Data::Set(Set { stays: Stays::Until(when), ..Set::plain(key, value)? }))
}

pub(in crate::resp) fn getex(name: &'static str, arguments: &[Bytes]) -> Parsed {
    let [key_bytes, options @ ..] = arguments else { return Err(Refusal::Arity(name)) };
    let change = match options {
        [] => None,
        [word] if word.eq_ignore_ascii_case(b"PERSIST") => Some(Change::Persist),
        [word, number] => Some(Change::To(When::option(name, word, Some(number))?.ok_or(Refusal::Syntax)?)),
        _ => return Err(Refusal::Syntax),
    };
    Ok(Data::GetEx(key(key_bytes)?, change))
}

pub(in crate::resp) fn append(name: &'static str, arguments: &[Bytes]) -> Parsed {
    let [key_bytes, more] = arguments else { return Err(Refusal::Arity(name)) };
    Ok(Data::Append(key(key_bytes)?, value(more)?))
}

pub(in crate::resp) fn mset(name: &'static str, arguments: &[Bytes]) -> Parsed {
    pairs(name, arguments).map(Data::MSet)
}

pub(in crate::resp) fn msetnx(name: &'static str, arguments: &[Bytes]) -> Parsed {
    pairs(name, arguments).map(Data::MSetNx)
}

pub(in crate::resp) fn incr(_: &'static str, arguments: &[Bytes]) -> Parsed {
    Ok(Data::Add(one(arguments)?, 1))
}

pub(in crate::resp) fn decr(_: &'static str, arguments: &[Bytes]) -> Parsed {
    Ok(Data::Add(one(arguments)?, -1))
}

pub(in crate::resp) fn incrby(name: &'static str, arguments: &[Bytes]) -> Parsed {
    let [key_bytes, by] = arguments else { return Err(Refusal::Arity(name)) };
    Ok(Data::Add(key(key_bytes)?, integer(by)?))
}

pub(in crate::resp) fn decrby(name: &'static str, arguments: &[Bytes]) -> Parsed {
    let [key_bytes, by] = arguments else { return Err(Refusal::Arity(name)) };
    Ok(Data::Add(key(key_bytes)?, integer(by)?.checked_neg().ok_or(Refusal::Overflow)?))
}

fn one(arguments: &[Bytes]) -> Result<String, Refusal> {
    key(arguments.first().map_or(&[], |argument| &argument[..]))
}

fn pairs(name: &'static str, arguments: &[Bytes]) -> Result<Vec<(String, Bytes)>, Refusal> {
    let (pairs, rest) = arguments.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Refusal::Arity(name));
    }
    if pairs.len() > super::KEYS_MAX {
        return Err(Refusal::Keys(pairs.len(), super::KEYS_MAX));
    }
    pairs.iter().map(|[name, bytes]| Ok((key(name)?, value(bytes)?))).collect()
}

pub(super) fn run_getdel(draft: &mut Draft, key: &str) -> Reply {
    let old = draft.decide(key).map(|held| held.value.clone());
    if old.is_some() {
        draft.remove(key);
    }
    Reply::optional(old)
}

pub(super) fn run_getex(draft: &mut Draft, key: &str, change: Option<Change>) -> Reply {
    let Some(change) = change else { return Reply::optional(draft.read(key).map(|held| held.value.clone())) };
    let Some(held) = draft.decide(key).cloned() else { return Reply::Null };
    let life = match change {
        Change::To(when) => when.life(draft.now_ms),
        Change::Persist => Life::Stays,
    };
    // A key that stays already is not written again.
    if change != Change::Persist || held.life.ends_ms().is_some() {
        draft.set(key, Held { value: held.value.clone(), life });
    }
    Reply::Bulk(held.value)
}

pub(super) fn run_append(draft: &mut Draft, key: &str, more: &[u8]) -> Result<Reply, Refusal> {
    let (old, life) = draft.decide(key).map_or((Bytes::new(), Life::Stays), |held| (held.value.clone(), held.life));
    let mut joined = BytesMut::with_capacity(old.len() + more.len());
    joined.extend_from_slice(&old);
    joined.extend_from_slice(more);
    let joined = value(&joined.freeze())?;
    let length = joined.len();
    draft.set(key, Held { value: joined, life });
    Ok(Reply::count(length))
}

pub(super) fn run_mset(draft: &mut Draft, pairs: &[(String, Bytes)]) -> Reply {
    for (key, value) in pairs {
        draft.set(key, Held { value: value.clone(), life: Life::Stays });
    }
    Reply::OK
}

pub(super) fn run_msetnx(draft: &mut Draft, pairs: &[(String, Bytes)]) -> Reply {
    // Each is asked, so that each is checked again when the draft is written.
    let held = pairs.iter().filter(|(key, _)| draft.decide(key).is_some()).count();
    if held == 0 {
        run_mset(draft, pairs);
    }
    Reply::bit(held == 0)
}

pub(super) fn run_add(draft: &mut Draft, key: &str, by: i64) -> Result<Reply, Refusal> {
    let (old, life) = match draft.decide(key) {
        Some(held) => (integer(&held.value)?, held.life),
        None => (0, Life::Stays),
    };
    let sum = old.checked_add(by).ok_or(Refusal::Overflow)?;
    draft.set(key, Held { value: Bytes::from(sum.to_string()), life });
    Ok(Reply::Integer(sum))
}
