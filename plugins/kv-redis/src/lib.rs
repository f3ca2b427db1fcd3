//! `kv.store` in a Redis or Valkey server, reached over a socket that was granted by host and port.
//!
//! Values lie as plain strings under `PREFIX:{NAMESPACE}:v:KEY`, where others may read them; what revisions, conditions,
//! expiry, changes and quotas take lies beside them (`space.lua`). Its invariant: whatever the store reads or writes in
//! one call is one script, which Redis runs as one step, so calls of all instances are in one order.
//!
//! How durable a write is when it returns, the server's own configuration says (`appendfsync always` for what
//! `kv-storage` gives).

use std::{collections::BTreeMap, time::Duration};

use platform_sdk::{
    Problem, context, export,
    kv::{
        Action, Change, Condition, Conflict, Content, Entry, Error, Expiry, Fence, Quota, Quotas, Result, Store, Usage,
        Write, check_key, check_keys, check_limit, check_restored, check_writes, number,
    },
};
use redis::ScriptInvocation;
use serde::Deserialize;

mod link;
mod server;

use link::Address;
use server::{Scripts, Server, bytes, count, entries, entry, expires, list, next, now, text};

/// Longest time to live, in milliseconds: a thousand years.
const TTL_MS_MAX: u64 = 31_556_952_000_000;

/// Where the server is, and what is kept there.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// `redis://[[USER]:PASSWORD@]HOST:PORT[/DATABASE]`, `rediss://` over TLS.
    url: String,
    /// What all keys begin with.
    #[serde(default = "prefix")]
    prefix: String,
    /// Changes kept for watchers, for each namespace.
    #[serde(default = "changes_kept")]
    changes_kept: u64,
    /// Bytes of changes kept, for each namespace.
    #[serde(default = "changes_bytes")]
    changes_bytes: u64,
    /// Quota of every namespace that has none of its own.
    #[serde(default)]
    quota: Quota,
    /// Quotas of single namespaces.
    #[serde(default)]
    quotas: BTreeMap<String, Quota>,
}

fn prefix() -> String {
    "platform".to_owned()
}

fn changes_kept() -> u64 {
    10_000
}

fn changes_bytes() -> u64 {
    64 << 20
}

/// A store with one connection; the host makes as many instances as there are calls at a time.
struct Remote {
    server: Server,
    scripts: Scripts,
    prefix: String,
    changes_kept: u64,
    changes_bytes: u64,
    quotas: Quotas,
}

export!(
    kv::Store for Remote,
    mode = "reused",
    grants = ["wasi"],
    settings_schema = include_str!("../settings.schema.json")
);

impl Store for Remote {
    type Settings = Settings;

    fn configure(settings: Settings) -> std::result::Result<Self, Problem> {
        let address = Address::parse(&settings.url)
            .map_err(|why| Problem::new(format!("it is no address of a Redis server: {why}")).at("/url"))?;
        Ok(Self {
            server: Server::new(address),
            scripts: Scripts::new(),
            prefix: settings.prefix,
            changes_kept: settings.changes_kept,
            changes_bytes: settings.changes_bytes,
            quotas: Quotas { quota: settings.quota, quotas: settings.quotas },
        })
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        match self.revision() {
            Ok(_) => Ok(()),
            Err(Error::Unavailable(why) | Error::Other(why)) => Err(Problem::new(why)),
            Err(error) => Err(Problem::new(format!("the Redis server does not answer: {error:?}"))),
        }
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>> {
        check_key(key)?;
        let mut script = self.begin(&self.scripts.read);
        script.arg(key);
        Ok(entries(self.server.invoke(&script)?)?.pop().flatten())
    }

    fn get_many(&mut self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        check_keys(keys)?;
        let mut script = self.begin(&self.scripts.read);
        for key in keys {
            script.arg(key);
        }
        entries(self.server.invoke(&script)?)
    }

    fn put(&mut self, key: &str, value: Vec<u8>, condition: Condition, expiry: Expiry) -> Result<u64> {
        let action = Action::Put(Content { value, expiry });
        self.commit(vec![Write { key: key.to_owned(), condition, action }])
    }

    fn delete(&mut self, key: &str, condition: Condition) -> Result<Option<u64>> {
        check_key(key)?;
        let made = self.make(&[Write { key: key.to_owned(), condition, action: Action::Delete }])?;
        Ok((made.changes > 0).then_some(made.revision))
    }

    fn commit(&mut self, writes: Vec<Write>) -> Result<u64> {
        check_writes(&writes)?;
        Ok(self.make(&writes)?.revision)
    }

    fn increment(&mut self, key: &str, by: i64) -> Result<i64> {
        check_key(key)?;
        let mut script = self.writing(&self.scripts.increment);
        script.arg(key).arg(by);
        let mut answer = list(self.server.invoke(&script)?)?;
        match text(next(&mut answer))?.as_str() {
            "made" => number(&bytes(next(&mut answer))?),
            "number" => Err(Error::Invalid("the value is no decimal number of 64 bits".into())),
            "beyond" => {
                let old = text(next(&mut answer))?;
                Err(Error::Invalid(format!("{old} plus {by} does not fit in 64 bits")))
            }
            kind => Err(refusal(kind, &mut answer)?),
        }
    }

    fn used(&mut self) -> Result<Usage> {
        let (keys, bytes, _) = self.state()?;
        let quota = self.quotas.of(&context::namespace());
        Ok(Usage { keys, bytes, keys_quota: quota.keys, bytes_quota: quota.bytes })
    }

    fn scan(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Entry)>> {
        let from = match after {
            Some(after) if after >= prefix => format!("({after}"),
            _ => format!("[{prefix}"),
        };
        // No text holds this byte, so it comes after all that begins with the prefix.
        let to = if prefix.is_empty() { b"+".to_vec() } else { [b"(", prefix.as_bytes(), b"\xff"].concat() };
        let mut script = self.begin(&self.scripts.scan);
        script.arg(from).arg(to).arg(check_limit(limit)?);
        let found = list(self.server.invoke(&script)?)?.map(|found| {
            let mut found = list(found)?;
            Ok((text(next(&mut found))?, entry(&mut found)?))
        });
        found.collect()
    }

    fn changes(&mut self, prefix: &str, after: u64, limit: u32, wait_ms: u32) -> Result<Vec<Change>> {
        let limit = check_limit(limit)?;
        let (begun, wait) = (now(), Duration::from_millis(wait_ms.into()));
        loop {
            let mut script = self.begin(&self.scripts.changes);
            script.arg(after).arg(limit).arg(prefix);
            let mut answer = list(self.server.invoke(&script)?)?;
            match text(next(&mut answer))?.as_str() {
                "changes" => return list(next(&mut answer))?.map(|found| change(&mut list(found)?)).collect(),
                "compacted" => return Err(Error::Compacted(count(&next(&mut answer))?)),
                _ => {}
            }
            let last = count(&next(&mut answer))?;
            let due = next(&mut answer);
            let left = wait.saturating_sub(begun.elapsed());
            let Some(left_ms) = u64::try_from(left.as_millis()).ok().filter(|left| *left > 0) else {
                return Ok(Vec::new());
            };
            // A key that expires is a change too, and nobody else may be there to notice it.
            let wait_ms = count(&due).map_or(left_ms, |due| due.min(left_ms));
            self.server.wait(&format!("{}log", self.space()), last, wait_ms)?;
        }
    }

    fn revision(&mut self) -> Result<u64> {
        self.state().map(|(_, _, revision)| revision)
    }

    fn fences(&mut self, after: Option<&str>, limit: u32) -> Result<Vec<Fence>> {
        let limit = check_limit(limit)? as usize;
        let script = self.begin(&self.scripts.fences);
        let mut answer = list(self.server.invoke(&script)?)?;
        let mut fences = Vec::new();
        while answer.len() > 0 {
            let (name, token) = (text(next(&mut answer))?, token(&text(next(&mut answer))?)?);
            if after.is_none_or(|after| name.as_str() > after) {
                fences.push(Fence { name, token });
            }
        }
        fences.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        fences.truncate(limit);
        Ok(fences)
    }

    fn restore(&mut self, changes: Vec<Change>, fences: Vec<Fence>, revision: u64) -> Result<()> {
        check_restored(&changes, &fences)?;
        let mut script = self.begin(&self.scripts.restore);
        script.arg(revision).arg(fences.len());
        for Fence { name, token } in fences {
            script.arg(name).arg(digits(token));
        }
        for Change { key, entry, .. } in changes {
            match entry {
                Some(Entry { value, revision, expires_ms }) => {
                    let expires = expires_ms.map_or_else(String::new, |ms| ms.to_string());
                    script.arg("put").arg(key).arg(revision).arg(value).arg(expires)
                }
                None => script.arg("delete").arg(key).arg("").arg("").arg(""),
            };
        }
        self.server.invoke(&script).map(drop)
    }
}

/// A token as the server keeps it: texts of one length compare like numbers.
fn digits(token: u64) -> String {
    format!("{token:020}")
}

fn token(text: &str) -> Result<u64> {
    text.parse().map_err(|_not_digits| Error::Other("the server keeps a fencing token that is none".into()))
}

/// What a commit came to.
struct Made {
    revision: u64,
    changes: u64,
}

impl Remote {
    /// What the keys of the call's namespace begin with.
    fn space(&self) -> String {
        format!("{}:{{{}}}:", self.prefix, context::namespace())
    }

    fn begin<'a>(&self, script: &'a redis::Script) -> ScriptInvocation<'a> {
        let mut script = script.key(self.space());
        script.arg(self.changes_kept).arg(self.changes_bytes);
        script
    }

    /// The same for a script that writes: with the quota and the fence of the call.
    fn writing<'a>(&self, script: &'a redis::Script) -> ScriptInvocation<'a> {
        let quota = self.quotas.of(&context::namespace());
        let most = |most: Option<u64>| most.map_or_else(String::new, |most| most.to_string());
        let mut script = self.begin(script);
        script.arg(most(quota.keys)).arg(most(quota.bytes));
        match context::fence() {
            Some(fence) => script.arg(fence.name).arg(digits(fence.token)),
            None => script.arg("").arg(""),
        };
        script
    }

    /// Keys, their bytes, and the last revision.
    fn state(&mut self) -> Result<(u64, u64, u64)> {
        let script = self.begin(&self.scripts.used);
        let mut answer = list(self.server.invoke(&script)?)?;
        Ok((count(&next(&mut answer))?, count(&next(&mut answer))?, count(&next(&mut answer))?))
    }

    fn make(&mut self, writes: &[Write]) -> Result<Made> {
        let mut script = self.writing(&self.scripts.commit);
        for Write { key, condition, action } in writes {
            let (action, value, expiry): (_, &[u8], _) = match action {
                Action::Put(Content { value, expiry }) => ("put", value, *expiry),
                Action::Delete => ("delete", &[], Expiry::Keep),
                Action::Check => ("check", &[], Expiry::Keep),
            };
            let (condition, at) = match *condition {
                Condition::Always => ("always", 0),
                Condition::Absent => ("absent", 0),
                Condition::Present => ("present", 0),
                Condition::At(revision) => ("at", revision),
            };
            let (expiry, ms) = match expiry {
                Expiry::Keep => ("keep", 0),
                Expiry::Never => ("never", 0),
                Expiry::AfterMs(ms) if ms > TTL_MS_MAX => {
                    return Err(Error::Invalid(format!("a time to live of {ms} ms is above {TTL_MS_MAX}")));
                }
                Expiry::AfterMs(ms) => ("after", ms),
            };
            script.arg(action).arg(condition).arg(at).arg(key).arg(value).arg(expiry).arg(ms);
        }
        let mut answer = list(self.server.invoke(&script)?)?;
        match text(next(&mut answer))?.as_str() {
            "made" => Ok(Made { revision: count(&next(&mut answer))?, changes: count(&next(&mut answer))? }),
            kind => Err(refusal(kind, &mut answer)?),
        }
    }
}

/// Why a write was not made.
fn refusal(kind: &str, answer: &mut impl Iterator<Item = redis::Value>) -> Result<Error> {
    let of = text(next(answer))?;
    Ok(match kind {
        "stale" => Error::Stale(token(&of)?),
        "quota" => {
            let held = count(&next(answer))?;
            Error::Quota(format!("the namespace would hold {held} {of}, more than its quota"))
        }
        _ => Error::Conflict(Conflict { key: of, revision: count(&next(answer))? }),
    })
}

fn change(found: &mut impl Iterator<Item = redis::Value>) -> Result<Change> {
    let (revision, key) = (count(&next(found))?, text(next(found))?);
    let entry = match next(found) {
        redis::Value::Nil => None,
        value => Some(Entry { value: bytes(value)?, revision, expires_ms: expires(&next(found))? }),
    };
    Ok(Change { key, entry, revision })
}
