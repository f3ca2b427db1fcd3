//! `kv.store` of counters in memory, which hands them over. What a key that starts with `!` names is done instead; how
//! it is prepared and hands over, its settings say.

use std::{collections::BTreeMap, time::Duration};

use platform_sdk::{
    Handover, Problem, context, export,
    kv::{Change, Condition, Entry, Error, Expiry, Result, Store, Usage, Write, number as counter},
};
use platform_testkit_guests::{Ill, busy, forever, hoard, number, trap};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    tag: String,
    configure: Ill,
    self_test: Ill,
    save: Ill,
    load: Ill,
    /// How long `load` takes.
    load_ms: u64,
}

struct Counts {
    settings: Settings,
    calls: u64,
    counters: BTreeMap<String, i64>,
}

export!(kv::Store + Handover for Counts, mode = "single");

impl Counts {
    /// Does what a key that starts with `!` names; its answer.
    fn act(&self, key: &str) -> String {
        let (act, argument) = key.split_once(':').unwrap_or((key, ""));
        match act {
            "!loop" => forever(),
            "!trap" => trap(),
            "!hoard" => hoard(),
            "!busy" => busy(Duration::from_millis(number(argument))),
            "!calls" => return self.calls.to_string(),
            "!tag" => return self.settings.tag.clone(),
            "!remaining" => return context::remaining().as_millis().to_string(),
            "!namespace" => return context::namespace(),
            "!who" => return context::who().map_or_else(String::new, |who| who.subject),
            _ => {}
        }
        String::new()
    }

    fn entry(value: String) -> Entry {
        Entry { value: value.into_bytes(), revision: 1, expires_ms: None }
    }
}

fn unable<T>() -> Result<T> {
    Err(Error::Other("it only counts".to_owned()))
}

impl Store for Counts {
    type Settings = Settings;

    fn configure(settings: Settings) -> std::result::Result<Self, Problem> {
        settings.configure.act()?;
        Ok(Self { settings, calls: 0, counters: BTreeMap::new() })
    }

    fn self_test(&mut self) -> std::result::Result<(), Problem> {
        self.settings.self_test.act()
    }

    fn get(&mut self, key: &str) -> Result<Option<Entry>> {
        self.calls += 1;
        if key.starts_with('!') {
            return Ok(Some(Self::entry(self.act(key))));
        }
        Ok(self.counters.get(key).map(|count| Self::entry(count.to_string())))
    }

    fn get_many(&mut self, _: &[String]) -> Result<Vec<Option<Entry>>> {
        unable()
    }

    fn put(&mut self, key: &str, value: Vec<u8>, _: Condition, _: Expiry) -> Result<u64> {
        self.counters.insert(key.to_owned(), counter(&value)?);
        Ok(1)
    }

    fn delete(&mut self, _: &str, _: Condition) -> Result<Option<u64>> {
        unable()
    }

    fn commit(&mut self, _: Vec<Write>) -> Result<u64> {
        unable()
    }

    fn increment(&mut self, key: &str, by: i64) -> Result<i64> {
        let count = self.counters.entry(key.to_owned()).or_default();
        *count += by;
        Ok(*count)
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

impl Handover for Counts {
    fn save(&mut self) -> std::result::Result<Vec<u8>, Problem> {
        self.settings.save.act()?;
        let lines: Vec<String> = self.counters.iter().map(|(key, count)| format!("{key} {count}")).collect();
        Ok(lines.join("\n").into_bytes())
    }

    fn load(&mut self, state: &[u8]) -> std::result::Result<(), Problem> {
        self.settings.load.act()?;
        busy(Duration::from_millis(self.settings.load_ms));
        let lines = String::from_utf8_lossy(state);
        let entries = lines.lines().filter_map(|line| line.split_once(' '));
        self.counters = entries.filter_map(|(key, count)| Some((key.to_owned(), count.parse().ok()?))).collect();
        Ok(())
    }
}
