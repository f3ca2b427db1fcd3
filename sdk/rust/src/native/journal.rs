//! Journals in memory, one set for each thread and namespace. They follow `wit/storage/journal.wit` except that reads
//! never wait.

use std::{cell::RefCell, collections::BTreeMap};

use super::context;
use crate::storage::{Error, Item, Result};

#[derive(Debug, Default)]
struct Journal {
    items: Vec<Item>,
    trimmed: u64,
}

thread_local! {
    static JOURNALS: RefCell<BTreeMap<(String, String), Journal>> = const { RefCell::new(BTreeMap::new()) };
}

fn with<T>(journal: &str, call: impl FnOnce(&mut Journal) -> T) -> T {
    JOURNALS.with(|journals| call(journals.borrow_mut().entry((context::namespace(), journal.to_owned())).or_default()))
}

impl Journal {
    fn last(&self) -> u64 {
        self.items.last().map_or(self.trimmed, |item| item.sequence)
    }
}

pub(crate) fn append(journal: &str, data: &[&[u8]]) -> Result<u64> {
    with(journal, |journal| {
        let first = journal.last() + 1;
        for data in data {
            let sequence = journal.last() + 1;
            journal.items.push(Item { sequence, time_ns: context::time_ns(), data: data.to_vec() });
        }
        Ok(first)
    })
}

pub(crate) fn read(journal: &str, from: u64, limit: u32, _wait_ms: u32) -> Result<Vec<Item>> {
    with(journal, |journal| {
        if from > 0 && from <= journal.trimmed {
            return Err(Error::Compacted(journal.trimmed + 1));
        }
        Ok(journal.items.iter().filter(|item| item.sequence >= from).take(limit as usize).cloned().collect())
    })
}

pub(crate) fn bounds(journal: &str) -> Result<(u64, u64)> {
    with(journal, |journal| Ok((journal.trimmed + 1, journal.last())))
}

pub(crate) fn trim(journal: &str, before: u64) -> Result<()> {
    with(journal, |journal| {
        let before = before.min(journal.last() + 1);
        journal.trimmed = journal.trimmed.max(before.saturating_sub(1));
        journal.items.retain(|item| item.sequence >= before);
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use crate::storage::{Error, Journal};

    #[test]
    fn numbers_reads_and_trims() {
        let journal = Journal::new("j");
        assert_eq!(journal.bounds(), Ok((1, 0)));
        assert_eq!(journal.append(&[b"a", b"b"]), Ok(1));
        assert_eq!(journal.append(&[b"c"]), Ok(3));
        journal.trim(3).unwrap();
        assert_eq!(journal.bounds(), Ok((3, 3)));
        assert_eq!(journal.read(1, 10, 0), Err(Error::Compacted(3)));
        assert_eq!(journal.read(3, 10, 0).unwrap()[0].data, b"c");
    }
}
