//! Marks: every durable batch carries its number, so that a batch that got lost is noticed.
//!
//! Fjall ends its replay at the first bytes of a journal that it can't read and cuts off what follows, because a crash
//! leaves such bytes behind the last batch. A flipped bit in the middle looks the same, and the acknowledged writes
//! behind it would be gone without a word. Batch n is written only after batch n - 1 was fsynced: whoever finds the
//! mark of n in a journal knows that n - 1 must be readable.
//!
//! Owns the numbers and the search for them; must not know what else a batch holds. Invariant: a directory that has
//! lost a batch is refused, now and at every later try.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use memchr::memmem;
use xxhash_rust::xxh3::xxh3_64;

use super::{OpenError, directory};

/// Key of the newest mark among the names; no name starts so.
pub(super) const KEY: &[u8] = b"!mark";

/// Starts a mark; long and odd enough not to be met by chance.
const MAGIC: [u8; 16] = [0x9e, 0x17, 0xd4, 0x6b, 0x03, 0xf8, 0x51, 0xac, 0x2d, 0xe0, 0x7a, 0x95, 0xc6, 0x38, 0xbf, 0x44];
/// Bytes of a mark: magic, number, checksum.
const MARK_BYTES: usize = 32;
/// Bytes of a journal that are searched at once.
const CHUNK: usize = 1 << 20;

/// The mark of a batch.
pub(super) fn encode(number: u64) -> Vec<u8> {
    let numbered = [&MAGIC[..], &number.to_be_bytes()].concat();
    [&numbered[..], &xxh3_64(&numbered).to_be_bytes()].concat()
}

/// The number at the start of `bytes`, none when there is no mark.
pub(super) fn decode(bytes: &[u8]) -> Option<u64> {
    let (numbered, rest) = bytes.split_at_checked(MAGIC.len() + 8)?;
    let sum = u64::from_be_bytes(rest.first_chunk().copied()?);
    let number = numbered.strip_prefix(&MAGIC)?.first_chunk().copied()?;
    (sum == xxh3_64(numbered)).then_some(u64::from_be_bytes(number))
}

/// Batches that must be readable, and the file that says so.
#[derive(Debug)]
pub(super) struct Expected {
    number: u64,
    file: PathBuf,
}

impl Expected {
    /// Refuses a newest readable batch that is older than it must be.
    pub(super) fn check(&self, found: u64) -> Result<(), OpenError> {
        if found >= self.number {
            return Ok(());
        }
        let why = format!(
            "it shows that batch {} was acknowledged, but the batches after {found} can't be read",
            self.number
        );
        Err(OpenError::Damaged { file: self.file.clone(), why })
    }
}

/// What must be readable, from the journals in `data` and from what was noted before. Notes it anew.
pub(super) fn expect(directory: &Path, data: &Path) -> Result<Expected, OpenError> {
    let noted = directory.join("mark");
    let unusable = |error: &io::Error| directory::unusable(directory, error);
    let before = match fs::read(&noted) {
        Ok(bytes) => decode(&bytes).ok_or_else(|| OpenError::Damaged {
            file: noted.clone(),
            why: "it does not hold the number that was written".to_owned(),
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        Err(error) => return Err(unusable(&error)),
    };
    let mut expected = Expected { number: before, file: noted };
    for journal in journals(data).map_err(|error| unusable(&error))? {
        let newest = File::open(&journal).and_then(newest).map_err(|error| unusable(&error))?;
        // The newest batch itself may have been cut short by a crash before it was acknowledged.
        let number = newest.map_or(0, |newest| newest.saturating_sub(1));
        if number > expected.number {
            expected = Expected { number, file: journal };
        }
    }
    if expected.number > before {
        write(directory, expected.number).map_err(|error| unusable(&error))?;
    }
    Ok(expected)
}

/// Notes that batch `number` was acknowledged.
pub(super) fn write(directory: &Path, number: u64) -> io::Result<()> {
    directory::replace(&directory.join("mark"), &encode(number))
}

fn journals(data: &Path) -> io::Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(data) {
        Ok(listed) => listed,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut journals = Vec::new();
    for file in listed {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            journals.push(path);
        }
    }
    Ok(journals)
}

/// Highest number of a mark in `file`.
fn newest(mut file: impl Read) -> io::Result<Option<u64>> {
    let finder = memmem::Finder::new(&MAGIC);
    let mut newest = None;
    let mut window = Vec::with_capacity(CHUNK + MARK_BYTES);
    loop {
        let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut window)?;
        for start in finder.find_iter(&window) {
            newest = newest.max(window.get(start..).and_then(decode));
        }
        if read == 0 {
            return Ok(newest);
        }
        // A mark that is cut by the end of the window is found in the next one.
        window.drain(..window.len().saturating_sub(MARK_BYTES - 1));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn marks_are_found_wherever_they_lie(numbers in proptest::collection::vec((0..3 * CHUNK, any::<u64>()), 0..6)) {
            let mut file = vec![0xAA; 3 * CHUNK + MARK_BYTES];
            let mut written = std::collections::BTreeMap::new();
            for (at, number) in numbers {
                if written.range(at.saturating_sub(MARK_BYTES)..at + MARK_BYTES).next().is_none() {
                    file[at..at + MARK_BYTES].copy_from_slice(&encode(number));
                    written.insert(at, number);
                }
            }
            prop_assert_eq!(newest(&file[..]).unwrap(), written.values().max().copied());
        }

        #[test]
        fn a_flipped_mark_is_no_mark(number: u64, bit in 0..MARK_BYTES * 8) {
            let mut mark = encode(number);
            prop_assert_eq!(decode(&mark), Some(number));
            mark[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(decode(&mark), None);
            prop_assert_eq!(decode(&mark[..MARK_BYTES - 1]), None);
        }
    }

    #[test]
    fn a_loss_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let journal = data.join("0.jnl");
        fs::write(&journal, [encode(6), encode(7)].concat()).unwrap();
        let expected = expect(directory.path(), &data).unwrap();
        assert!(expected.check(7).is_ok());
        assert!(expected.check(6).is_ok(), "batch 7 may have been cut short");
        assert!(matches!(expected.check(5), Err(OpenError::Damaged { file, .. }) if file == journal));
        fs::write(&journal, "").unwrap();
        assert!(expect(directory.path(), &data).unwrap().check(5).is_err(), "also once the journal is cut");
    }
}
