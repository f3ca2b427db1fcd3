//! `kv.store` that waits in storage: `get` waits as many milliseconds as its key says for a change that never comes.

use platform_sdk::{
    Problem, export,
    kv::{Change, Condition, Entry, Error, Expiry, Result, Store, Usage, Write},
    storage::Table,
};
use platform_testkit_guests::number;

const QUIET: Table = Table::new("quiet");

struct Waits;

export!(kv::Store for Waits, mode = "reused", grants = ["storage"]);

fn unable<T>() -> Result<T> {
    Err(Error::Other("it only waits".to_owned()))
}

impl Store for Waits {
    type Settings = ();

    fn configure((): ()) -> std::result::Result<Self, Problem> {
        Ok(Self)
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>> {
        let wait_ms = u32::try_from(number(key)).unwrap_or(u32::MAX);
        QUIET.changes("", 0, 1, wait_ms)?;
        Ok(None)
    }

    fn get_many(&mut self, _: &[String]) -> Result<Vec<Option<Entry>>> {
        unable()
    }

    fn put(&mut self, _: &str, _: Vec<u8>, _: Condition, _: Expiry) -> Result<u64> {
        unable()
    }

    fn delete(&mut self, _: &str, _: Condition) -> Result<Option<u64>> {
        unable()
    }

    fn commit(&mut self, _: Vec<Write>) -> Result<u64> {
        unable()
    }

    fn increment(&mut self, _: &str, _: i64) -> Result<i64> {
        unable()
    }

    fn used(&mut self) -> Result<Usage> {
        unable()
    }

    fn scan(&mut self, _: &str, _: Option<&str>, _: u32) -> Result<Vec<(String, Entry)>> {
        unable()
    }

    fn changes(&mut self, _: &str, _: u64, _: u32, _: u32) -> Result<Vec<Change>> {
        unable()
    }

    fn revision(&mut self) -> Result<u64> {
        unable()
    }
}
