//! Commands on keys, whatever they hold: whether they are there and how long they stay.

use bytes::Bytes;

use super::{
    Data, all_keys, key,
    options::{Unit, When},
};
use crate::resp::{
    draft::{Draft, Held, Life},
    refusal::Refusal,
    reply::Reply,
};

type Parsed = Result<Data, Refusal>;

/// An `EXPIRE` in any of its forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::resp) struct Expire {
    pub(super) key: String,
    when: When,
    only: Only,
}

/// For which keys it is done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Only {
    /// Those that stay.
    stays: bool,
    /// Those that go.
    goes: bool,
    /// Those that go before the new time.
    later: bool,
    /// Those that go after the new time, or stay.
    earlier: bool,
}

impl Only {
    fn read(words: &[Bytes]) -> Result<Self, Refusal> {
        let mut only = Self::default();
        for word in words {
            match word.to_ascii_uppercase().as_slice() {
                b"NX" => only.stays = true,
                b"XX" => only.goes = true,
                b"GT" => only.later = true,
                b"LT" => only.earlier = true,
                _ => return Err(Refusal::Syntax),
            }
        }
        let against = only.stays && (only.goes || only.later || only.earlier) || only.later && only.earlier;
        if against { Err(Refusal::ExpireOptions) } else { Ok(only) }
    }

    fn allows(self, old: Option<u64>, new: u64) -> bool {
        !(self.stays && old.is_some()
            || self.goes && old.is_none()
            || self.later && old.is_none_or(|old| new <= old)
            || self.earlier && old.is_some_and(|old| new >= old))
    }
}

impl Expire {
    pub(super) fn run(&self, draft: &mut Draft) -> Reply {
        let at = self.when.at_ms(draft.now_ms);
        let Some(held) = draft.decide(&self.key).cloned() else { return Reply::bit(false) };
        if !self.only.allows(held.life.ends_ms(), at) {
            return Reply::bit(false);
        }
        draft.set(&self.key, Held { life: Life::Until(at), ..held });
        Reply::bit(true)
    }
}

pub(in crate::resp) fn del(_: &'static str, arguments: &[Bytes]) -> Parsed {
    all_keys(arguments).map(Data::Del)
}

pub(in crate::resp) fn exists(_: &'static str, arguments: &[Bytes]) -> Parsed {
    all_keys(arguments).map(Data::Exists)
}

pub(in crate::resp) fn kind(_: &'static str, arguments: &[Bytes]) -> Parsed {
    one(arguments).map(Data::Type)
}

pub(in crate::resp) fn ttl(_: &'static str, arguments: &[Bytes]) -> Parsed {
    Ok(Data::Ttl(one(arguments)?, Unit::Seconds))
}

pub(in crate::resp) fn pttl(_: &'static str, arguments: &[Bytes]) -> Parsed {
    Ok(Data::Ttl(one(arguments)?, Unit::Milliseconds))
}

pub(in crate::resp) fn persist(_: &'static str, arguments: &[Bytes]) -> Parsed {
    one(arguments).map(Data::Persist)
}

pub(in crate::resp) fn expire(name: &'static str, arguments: &[Bytes]) -> Parsed {
    expiring(name, arguments, Unit::Seconds, false)
}

pub(in crate::resp) fn pexpire(name: &'static str, arguments: &[Bytes]) -> Parsed {
    expiring(name, arguments, Unit::Milliseconds, false)
}

pub(in crate::resp) fn expireat(name: &'static str, arguments: &[Bytes]) -> Parsed {
    expiring(name, arguments, Unit::Seconds, true)
}

pub(in crate::resp) fn pexpireat(name: &'static str, arguments: &[Bytes]) -> Parsed {
    expiring(name, arguments, Unit::Milliseconds, true)
}

fn expiring(name: &'static str, arguments: &[Bytes], unit: Unit, absolute: bool) -> Parsed {
    let [key_bytes, number, words @ ..] = arguments else { return Err(Refusal::Arity(name)) };
    let when = When::read(name, number, unit, absolute)?;
    Ok(Data::Expire(Expire { key: key(key_bytes)?, when, only: Only::read(words)? }))
}

fn one(arguments: &[Bytes]) -> Result<String, Refusal> {
    key(arguments.first().map_or(&[], |argument| &argument[..]))
}

pub(super) fn run_del(draft: &mut Draft, keys: &[String]) -> Reply {
    let mut gone = 0_i64;
    for key in keys {
        if draft.decide(key).is_some() {
            draft.remove(key);
            gone += 1;
        }
    }
    Reply::Integer(gone)
}

pub(super) fn run_ttl(draft: &mut Draft, key: &str, unit: Unit) -> Reply {
    let now_ms = draft.now_ms;
    let Some(held) = draft.read(key) else { return Reply::Integer(-2) };
    let Some(at) = held.life.ends_ms() else { return Reply::Integer(-1) };
    let left = at.saturating_sub(now_ms);
    Reply::count(if unit == Unit::Seconds { left.saturating_add(500) / 1000 } else { left })
}

pub(super) fn run_persist(draft: &mut Draft, key: &str) -> Reply {
    let held = draft.decide(key).filter(|held| held.life.ends_ms().is_some()).cloned();
    if let Some(held) = &held {
        draft.set(key, Held { value: held.value.clone(), life: Life::Stays });
    }
    Reply::bit(held.is_some())
}
