//! `kv.store` that reads what `kv-storage` keeps, and does so well or badly, as its settings say. It never writes when it is
//! asked to: whoever asks it to has made a mistake.

use platform_sdk::{
    Problem, export,
    kv::{Change, Condition, Entry, Error, Expiry, Result, Store, Usage, Write},
    storage::{self, Table},
};
use platform_testkit_guests::{busy, number, trap};
use serde::Deserialize;

const ENTRIES: Table = Table::new("entries");

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
enum Way {
    /// Answers as `kv-storage` does.
    #[default]
    Well,
    /// Reads another value for one number in twenty.
    Differs,
    /// Traps on one number in a hundred.
    Traps,
    /// Says that it is unable to.
    Unable,
    /// Writes what it was asked for, then answers well.
    Writes,
    /// Takes so many milliseconds.
    Slow(u64),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    way: Way,
}

struct Strays(Way);

export!(kv::Store for Strays, mode = "reused", grants = ["storage"]);

fn unasked<T>() -> Result<T> {
    trap()
}

fn entry(found: storage::Entry) -> Entry {
    Entry { value: found.value, revision: found.revision, expires_ms: found.expires_ms }
}

impl Store for Strays {
    type Settings = Settings;

    fn configure(settings: Settings) -> std::result::Result<Self, Problem> {
        Ok(Self(settings.way))
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>> {
        let found = ENTRIES.get(key)?.map(entry);
        match self.0 {
            Way::Well => {}
            Way::Differs if number(key).is_multiple_of(20) => {
                return Ok(found.map(|entry| Entry { value: b"astray".to_vec(), ..entry }));
            }
            Way::Traps if number(key).is_multiple_of(100) => trap(),
            Way::Differs | Way::Traps => {}
            Way::Unable => return Err(Error::Unavailable("it can't reach what it keeps".to_owned())),
            Way::Writes => {
                ENTRIES.put(key, b"written by a candidate", storage::Condition::Always, None)?;
            }
            Way::Slow(ms) => busy(std::time::Duration::from_millis(ms)),
        }
        Ok(found)
    }

    fn get_many(&mut self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        keys.iter().map(|key| self.get(key)).collect()
    }

    fn put(&mut self, _: &str, _: Vec<u8>, _: Condition, _: Expiry) -> Result<u64> {
        unasked()
    }

    fn delete(&mut self, _: &str, _: Condition) -> Result<Option<u64>> {
        unasked()
    }

    fn commit(&mut self, _: Vec<Write>) -> Result<u64> {
        unasked()
    }

    fn increment(&mut self, _: &str, _: i64) -> Result<i64> {
        unasked()
    }

    fn used(&mut self) -> Result<Usage> {
        let used = ENTRIES.used()?;
        Ok(Usage { keys: used.keys, bytes: used.bytes, keys_quota: None, bytes_quota: None })
    }

    fn scan(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Entry)>> {
        let found = ENTRIES.scan(prefix, after, limit)?;
        Ok(found.into_iter().map(|found| (found.key.clone(), entry(found))).collect())
    }

    fn changes(&mut self, _: &str, _: u64, _: u32, _: u32) -> Result<Vec<Change>> {
        unasked()
    }

    fn revision(&mut self) -> Result<u64> {
        unasked()
    }
}
