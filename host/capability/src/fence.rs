//! Fencing: a write that carries a token is refused when a later holder of the lock has written already.
//!
//! Owns the check for everything that is kept in the host's storage: it is part of the very commit that a provider makes, so
//! none can forget it. A provider that keeps things elsewhere finds the token in the context of its call. Invariant: the
//! greatest token of a name that a table's commits carried is written with those commits, and no commit with a smaller one
//! is made.

use std::{str::FromStr, sync::Arc};

use platform_storage::{Change, Condition, Entry, Error, Scope, Storage, Usage, Write};

use crate::bindings::platform::{plugin::context, storage::types};

/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 512;
/// How often a commit is tried again when another moved the fence.
const TRIES: u32 = 64;
/// What the keys of fences start with: the last character that there is, so that they come after all others.
const RESERVED: &str = "\u{10ffff}fence/";

/// A fencing token, and the name of the lock that it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The name.
    pub name: Arc<str>,
    /// The token, at least 1.
    pub token: u64,
}

/// The text is no fence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fence is written `NAME:TOKEN`, with a name of 1 to {NAME_BYTES_MAX} bytes and a token of at least 1")]
pub struct InvalidFence;

impl FromStr for Fence {
    type Err = InvalidFence;

    fn from_str(text: &str) -> Result<Self, InvalidFence> {
        let (name, token) = text.rsplit_once(':').ok_or(InvalidFence)?;
        let digits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_digit());
        let token = token.parse().ok().filter(|token| digits && *token > 0).ok_or(InvalidFence)?;
        let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
        if fits { Ok(Self { name: name.into(), token }) } else { Err(InvalidFence) }
    }
}

impl From<&Fence> for context::Fence {
    fn from(fence: &Fence) -> Self {
        Self { name: fence.name.as_ref().to_owned(), token: fence.token }
    }
}

impl Fence {
    /// Makes a commit behind the fence.
    pub(crate) async fn commit(
        &self, storage: &dyn Storage, scope: &Scope, table: &str, writes: Vec<Write>, limit: Usage,
    ) -> Result<u64, types::Error> {
        let key = format!("{RESERVED}{}", self.name);
        for _ in 0..TRIES {
            let found = storage.get(scope, table, &key).await?;
            let seen = found.as_ref().and_then(token);
            if let Some(seen) = seen.filter(|seen| *seen > self.token) {
                return Err(types::Error::Stale(seen));
            }
            let condition = found.map_or(Condition::Absent, |entry| Condition::At(entry.revision));
            let guard = if seen == Some(self.token) {
                Write::Check { key: key.clone(), condition }
            } else {
                Write::Put { key: key.clone(), value: self.token.to_string().into(), condition, ttl: None }
            };
            let behind = std::iter::once(guard).chain(writes.iter().cloned()).collect();
            match storage.commit_within(scope, table, behind, limit).await {
                Err(Error::Conflict(met)) if met.key == key => {}
                done => return Ok(done?),
            }
        }
        Err(types::Error::Unavailable(format!("the fence `{}` was moved {TRIES} times in a row; try again", self.name)))
    }
}

/// Fences of a table in order, after a name.
pub(crate) async fn list(
    storage: &dyn Storage, scope: &Scope, table: &str, after: Option<&str>, limit: usize,
) -> Result<Vec<Fence>, Error> {
    let after = after.map(|name| format!("{RESERVED}{name}"));
    let found = storage.scan(scope, table, RESERVED, after.as_deref(), limit).await?;
    let fence = |entry: Entry| {
        let name = entry.key.strip_prefix(RESERVED).map(Arc::from)?;
        Some(Fence { name, token: token(&entry)? })
    };
    Ok(found.into_iter().filter_map(fence).collect())
}

/// The rows of fences that are not behind what a table has already.
pub(crate) async fn rows(
    storage: &dyn Storage, scope: &Scope, table: &str, fences: Vec<Fence>,
) -> Result<Vec<Change>, Error> {
    let mut rows = Vec::with_capacity(fences.len());
    for Fence { name, token: given } in fences {
        let key = format!("{RESERVED}{name}");
        let found = storage.get(scope, table, &key).await?;
        if found.as_ref().and_then(token).is_none_or(|seen| seen < given) {
            let revision = found.map_or(1, |entry| entry.revision);
            rows.push(Change::Put(Entry { key, value: given.to_string().into(), revision, expires_ms: None }));
        }
    }
    Ok(rows)
}

fn token(entry: &Entry) -> Option<u64> {
    std::str::from_utf8(&entry.value).ok()?.parse().ok()
}

/// Whether a key is a fence's, which providers neither see nor write.
pub(crate) fn is_reserved(key: &str) -> bool {
    key.starts_with(RESERVED)
}

/// The error for a key that is a fence's.
pub(crate) fn reserved() -> types::Error {
    types::Error::Invalid("keys that start with U+10FFFF and `fence/` are the host's".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_have_one_form() {
        assert_eq!("a:b/c:7".parse(), Ok(Fence { name: "a:b/c".into(), token: 7 }));
        for bad in ["", "a", ":1", "a:", "a:0", "a:-1", "a:+1", "a: 1", "a:18446744073709551616", "a\n:1"] {
            assert_eq!(bad.parse::<Fence>(), Err(InvalidFence), "{bad}");
        }
        assert_eq!(format!("{}:1", "n".repeat(513)).parse::<Fence>(), Err(InvalidFence));
    }
}
