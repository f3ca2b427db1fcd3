//! [`Recent`]: rows that were read or written lately, so that most reads of a row search no tree.
//!
//! Owns which rows are held and which views they answer; must not know what a row holds. Invariant: a row that is held is
//! what the newest visible batch made of it, and none is held that a batch under way writes: whoever asks meanwhile asks
//! the tree.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use quick_cache::{Weighter, unsync::Cache};
use xxhash_rust::xxh3::xxh3_64;

/// Parts with a lock of their own.
const SHARDS: usize = 64;
/// Rows above this are left to the tree, where the search is the lesser part of reading them.
const ROW_BYTES: usize = 64 << 10;
/// What holding a row takes beside its bytes, roughly.
const OVERHEAD_BYTES: u64 = 128;
/// Bytes of a row with its key and overhead, as far as the room is planned.
const TYPICAL_BYTES: u64 = 512;

/// See the module.
pub(super) struct Recent {
    shards: Vec<Mutex<Shard>>,
}

struct Shard {
    rows: Cache<Box<[u8]>, Held, Weigh>,
    /// Whether a batch under way writes to a row of this shard.
    writing: bool,
    /// Batches that did so far.
    batches: u64,
}

/// A row as a batch left it; none when there is no such row.
struct Held {
    row: Option<Bytes>,
    /// A batch that had become visible when the row was this.
    since: u64,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Box<[u8]>, Held> for Weigh {
    fn weight(&self, key: &Box<[u8]>, held: &Held) -> u64 {
        bytes(key, held.row.as_ref()) as u64 + OVERHEAD_BYTES
    }
}

/// What is known of a row.
#[derive(Debug)]
pub(super) enum Found {
    /// All of it.
    Row(Option<Bytes>),
    /// Nothing; what the view shows may be [kept](Recent::keep) if there is a ticket for it.
    Nothing(Option<Ticket>),
}

/// Says that no batch had written to a shard since a view was taken.
#[derive(Debug)]
pub(super) struct Ticket {
    batches: u64,
    at: u64,
}

impl Recent {
    /// Room for rows of about so many bytes.
    pub(super) fn new(room: u64) -> Self {
        let room = room / SHARDS as u64;
        let typical = usize::try_from(room / TYPICAL_BYTES).unwrap_or(usize::MAX);
        let shard = || Shard { rows: Cache::with_weighter(typical, room, Weigh), writing: false, batches: 0 };
        Self { shards: std::iter::repeat_with(|| Mutex::new(shard())).take(SHARDS).collect() }
    }

    /// The row under `key` for a view that was taken after the batch `at` became visible. `newest` is the newest that is
    /// visible.
    pub(super) fn find(&self, key: &[u8], at: u64, newest: &AtomicU64) -> Found {
        let Some(shard) = self.shard(key) else { return Found::Nothing(None) };
        match shard.rows.get(key) {
            // A later batch that writes the row would have taken it out before it became visible.
            Some(held) if held.since <= at => Found::Row(held.row.clone()),
            Some(_) => Found::Nothing(None),
            None => {
                // Looked at under the lock: a batch shows itself before it gives a shard free again.
                let fresh = !shard.writing && newest.load(Ordering::Acquire) == at;
                Found::Nothing(fresh.then_some(Ticket { batches: shard.batches, at }))
            }
        }
    }

    /// Holds a row as a view showed it, unless a batch has written to its shard since.
    pub(super) fn keep(&self, key: &[u8], row: Option<&Bytes>, Ticket { batches, at }: Ticket) {
        if bytes(key, row) > ROW_BYTES {
            return;
        }
        // A copy: what comes from a file would hold the whole block that it lies in.
        let held = Held { row: row.map(|row| Bytes::copy_from_slice(row)), since: at };
        if let Some(mut shard) = self.shard(key)
            && !shard.writing
            && shard.batches == batches
        {
            shard.rows.insert(key.into(), held);
        }
    }

    /// Takes out what a batch is about to write.
    pub(super) fn begin<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        for key in keys {
            if let Some(mut shard) = self.shard(key) {
                shard.rows.remove(key);
                shard.batches += u64::from(!shard.writing);
                shard.writing = true;
            }
        }
    }

    /// Holds what a batch has written, once it is visible.
    pub(super) fn end(&self, rows: Vec<(Box<[u8]>, Option<Bytes>)>, batch: u64) {
        for (key, row) in rows {
            if let Some(mut shard) = self.shard(&key) {
                shard.writing = false;
                if bytes(&key, row.as_ref()) <= ROW_BYTES {
                    shard.rows.insert(key, Held { row, since: batch });
                }
            }
        }
    }

    fn shard(&self, key: &[u8]) -> Option<MutexGuard<'_, Shard>> {
        let place = usize::try_from(xxh3_64(key) % SHARDS as u64).ok()?;
        self.shards.get(place).map(Mutex::lock)
    }
}

fn bytes(key: &[u8], row: Option<&Bytes>) -> usize {
    key.len() + row.map_or(0, Bytes::len)
}

#[cfg(test)]
mod tests {
    use std::iter;

    use super::*;

    fn row(text: &'static str) -> Option<Bytes> {
        Some(Bytes::from_static(text.as_bytes()))
    }

    fn write(recent: &Recent, newest: &AtomicU64, key: &[u8], row: Option<Bytes>) {
        let batch = newest.load(Ordering::Acquire) + 1;
        recent.begin(iter::once(key));
        newest.store(batch, Ordering::Release);
        recent.end(Vec::from([(key.into(), row)]), batch);
    }

    fn ticket(found: Found) -> Option<Ticket> {
        match found {
            Found::Nothing(ticket) => ticket,
            Found::Row(row) => panic!("there is {row:?}"),
        }
    }

    fn held(found: Found) -> Option<Bytes> {
        match found {
            Found::Row(row) => row,
            Found::Nothing(ticket) => panic!("nothing is held, {ticket:?}"),
        }
    }

    #[test]
    fn what_was_written_is_held_for_views_that_show_it() {
        let (recent, newest) = (Recent::new(1 << 20), AtomicU64::new(0));
        write(&recent, &newest, b"a", row("1"));
        assert_eq!(held(recent.find(b"a", 1, &newest)), row("1"));
        assert!(ticket(recent.find(b"a", 0, &newest)).is_none(), "an older view shows another row");
        write(&recent, &newest, b"a", None);
        assert_eq!(held(recent.find(b"a", 2, &newest)), None, "it was removed");
    }

    #[test]
    fn what_was_read_is_held_unless_it_was_written_meanwhile() {
        let (recent, newest) = (Recent::new(1 << 20), AtomicU64::new(0));
        let mut tickets = [(); 3].map(|()| ticket(recent.find(b"a", 0, &newest)));
        let mut keep = |index: usize| recent.keep(b"a", row("0").as_ref(), tickets[index].take().expect("a ticket"));
        keep(0);
        assert_eq!(held(recent.find(b"a", 0, &newest)), row("0"));
        recent.begin(iter::once(&b"a"[..]));
        assert!(ticket(recent.find(b"a", 0, &newest)).is_none(), "it is being written");
        keep(1);
        assert!(ticket(recent.find(b"a", 0, &newest)).is_none(), "it is being written");
        newest.store(1, Ordering::Release);
        recent.end(Vec::from([(b"a"[..].into(), row("1"))]), 1);
        keep(2);
        assert_eq!(held(recent.find(b"a", 1, &newest)), row("1"), "what was read before is outdated");
    }

    #[test]
    fn a_view_from_before_a_batch_keeps_nothing_after_it() {
        let (recent, newest) = (Recent::new(1 << 20), AtomicU64::new(0));
        let large = Bytes::from(vec![0; ROW_BYTES]);
        write(&recent, &newest, b"a", Some(large.clone()));
        assert!(ticket(recent.find(b"a", 0, &newest)).is_none(), "the view shows what was there before");
        let ticket = ticket(recent.find(b"a", 1, &newest)).expect("the newest view");
        recent.keep(b"a", Some(&large), ticket);
        assert!(matches!(recent.find(b"a", 1, &newest), Found::Nothing(_)), "too large to be held");
    }

    #[test]
    fn no_more_is_held_than_there_is_room() {
        let (recent, newest) = (Recent::new(64 << 10), AtomicU64::new(0));
        for index in 0..10_000_u32 {
            let ticket = ticket(recent.find(&index.to_be_bytes(), 0, &newest)).expect("nothing was written");
            recent.keep(&index.to_be_bytes(), row("value").as_ref(), ticket);
        }
        let weight: u64 = recent.shards.iter().map(|shard| shard.lock().rows.weight()).sum();
        assert!(weight <= 64 << 10, "{weight}");
        assert!(weight >= 32 << 10, "{weight}");
    }
}
