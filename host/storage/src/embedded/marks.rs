//! Marks: every batch carries its number, so that a batch that got lost is noticed.
//!
//! A crash leaves bytes behind the last batch of a journal that can't be read, and they are cut off. A flipped bit in
//! the middle looks the same, and the acknowledged writes behind it would be gone without a word. Batch n is written
//! only after batch n - 1 was fsynced: whoever finds the mark of n knows that n - 1 must be readable.
//!
//! Owns the numbers, the search for them and the note of the last one; must not know what else a batch holds.
//! Invariant: a directory that has lost a batch is refused, now and at every later try.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use memchr::memmem;
use xxhash_rust::xxh3::xxh3_64;

use super::{OpenError, directory};

/// Key of the newest mark among the names; no name starts so.
pub(super) const KEY: &[u8] = b"!mark";
/// Bytes of a mark: magic, number, checksum.
pub(super) const MARK_BYTES: usize = 32;

/// Starts a mark; long and odd enough not to be met by chance.
const MAGIC: [u8; 16] =
    [0x9e, 0x17, 0xd4, 0x6b, 0x03, 0xf8, 0x51, 0xac, 0x2d, 0xe0, 0x7a, 0x95, 0xc6, 0x38, 0xbf, 0x44];
/// Bytes that are searched at once.
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

/// Numbers of all marks in `file`, in the order they lie there.
pub(super) fn find(mut file: impl Read) -> io::Result<Vec<u64>> {
    let finder = memmem::Finder::new(&MAGIC);
    let mut found = Vec::new();
    let mut window = Vec::with_capacity(CHUNK + MARK_BYTES);
    loop {
        let read = file.by_ref().take(CHUNK as u64).read_to_end(&mut window)?;
        found.extend(finder.find_iter(&window).filter_map(|start| window.get(start..).and_then(decode)));
        if read == 0 {
            return Ok(found);
        }
        // A mark that is cut by the end of the window is found in the next one.
        window.drain(..window.len().saturating_sub(MARK_BYTES - 1));
    }
}

/// Number of the batch that must be readable, and the file that says so.
#[derive(Debug)]
pub(super) struct Expected {
    pub(super) number: u64,
    pub(super) file: PathBuf,
}

impl Expected {
    /// What was noted last; nothing at first.
    pub(super) fn noted(directory: &Path) -> Result<Self, OpenError> {
        let file = directory.join("mark");
        match fs::read(&file) {
            Ok(bytes) if bytes.len() == MARK_BYTES => decode(&bytes),
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(0),
            Err(error) => return Err(directory::unusable(directory, &error)),
        }
        .map(|number| Self { number, file: file.clone() })
        .ok_or_else(|| OpenError::Damaged { file, why: "it does not hold the number that was written".to_owned() })
    }

    /// Expects batch `number` too, because `file` shows it.
    pub(super) fn raise(&mut self, number: u64, file: &Path) {
        if number > self.number {
            *self = Self { number, file: file.to_owned() };
        }
    }

    /// Refuses a newest readable batch that is older than it must be.
    pub(super) fn check(&self, found: u64) -> Result<(), OpenError> {
        if found >= self.number {
            return Ok(());
        }
        let number = self.number;
        let why = format!("it shows that batch {number} was acknowledged, but the batches after {found} can't be read");
        Err(OpenError::Damaged { file: self.file.clone(), why })
    }
}

/// Notes that batch `number` was acknowledged.
pub(super) fn note(directory: &Path, number: u64) -> io::Result<()> {
    directory::replace(&directory.join("mark"), &encode(number))
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
            prop_assert_eq!(find(&file[..]).unwrap(), written.into_values().collect::<Vec<_>>());
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
    fn what_was_noted_is_expected() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Expected::noted(directory.path()).unwrap().number, 0);
        note(directory.path(), 7).unwrap();
        let mut expected = Expected::noted(directory.path()).unwrap();
        expected.raise(6, Path::new("older"));
        assert!(expected.check(7).is_ok());
        let refused = expected.check(6).unwrap_err();
        assert!(matches!(refused, OpenError::Damaged { file, .. } if file == directory.path().join("mark")));
        fs::write(directory.path().join("mark"), "torn").unwrap();
        assert!(Expected::noted(directory.path()).is_err());
    }
}
