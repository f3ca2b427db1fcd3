//! What every provider of `kv.store` promises.

mod commits;
mod keys;
mod order;
mod takeover;

use platform_capability::kv::{self, Action, Condition, Conflict, Content, Entry, Error, Expiry, Write};
use platform_dataplane::CallError;

use crate::{
    Check, Failure, checks,
    outcome::{refused, shown},
};

pub(crate) const SUITE: &[Check] = checks! {
    "reads-what-was-written" "a key holds what was written last, and nothing once it was deleted" keys::read_back,
    "any-bytes" "keys and values may hold everything that the interface allows" keys::any_bytes,
    "large-values" "values of 8 MiB come back whole; an answer beyond 16 MiB is refused as too large" keys::large,
    "namespaces" "what one namespace holds is not seen from another" keys::namespaces,
    "numbers" "increments add up, also when they come at the same time; what is no number is refused" keys::numbers,
    "numbers-at-the-edge" "increments are exact in 64 bits, keep the expiry, and leave alone what they refuse" keys::numbers_at_the_edge,
    "expiry" "a key goes when its time has come, and not before; conditions and watchers hear of it" keys::expiry,
    "usage" "used tells keys and bytes exactly" keys::usage,
    "conditions" "a write whose condition does not hold changes nothing and tells the key and its revision" commits::conditions,
    "commits" "several writes are made together under one revision, or none is" commits::several,
    "isolation" "reads and commits of several keys are of one moment" commits::transfers,
    "scan" "a scan yields each key of the prefix once, in byte order, page by page" order::scan,
    "changes" "every change comes once, in order, from the revision asked for, those of one commit together" order::changes,
    "takeover" "what another store holds is taken over with its revisions and ends, and nobody is told" takeover::takes_over where kv::TAKEOVER,
    "ends-elsewhere" "what had ended in another store already is never read, and its end is told" takeover::ends where kv::TAKEOVER,
    "fences" "fences are told, taken over, and never go back" takeover::fences where kv::TAKEOVER,
};

fn put(key: &str, value: &str) -> Write {
    put_for(key, value, Condition::Always, Expiry::Never)
}

fn put_for(key: &str, value: &str, condition: Condition, expiry: Expiry) -> Write {
    Write { key: key.to_owned(), condition, action: Action::Put(Content { value: value.into(), expiry }) }
}

fn delete(key: &str, condition: Condition) -> Write {
    Write { key: key.to_owned(), condition, action: Action::Delete }
}

fn check(key: &str, condition: Condition) -> Write {
    Write { key: key.to_owned(), condition, action: Action::Check }
}

/// The values as text, for comparing and showing.
fn values(entries: &[Option<Entry>]) -> Vec<Option<String>> {
    let text = |entry: &Entry| String::from_utf8_lossy(&entry.value).into_owned();
    entries.iter().map(|entry| entry.as_ref().map(text)).collect()
}

/// The key and revision of the conflict that a call has to be refused with.
fn conflict<T: std::fmt::Debug>(answer: Result<T, CallError<Error>>, what: &str) -> Result<(String, u64), Failure> {
    match refused(answer, what)? {
        Error::Conflict(Conflict { key, revision }) => Ok((key, revision)),
        other => Err(Failure::new(format!("{what} has to be refused as a conflict, not as {}", shown(&other)))),
    }
}
