//! A look at fjall's files before fjall opens them.
//!
//! Fjall trusts lengths it reads from its journals, cuts a journal at the first batch it can't read, and does not check
//! the sums of its version files; damage there ends in a panic, an abort or a quiet loss. This checks the sums first,
//! so that fjall only ever opens files that are whole.
//!
//! Owns the reading of fjall's format 3; must not know what batches mean but for their marks. Invariant: what a crash
//! leaves behind the last batch is cut off, and anything else that is not as it was written is refused.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::{
    OpenError, directory,
    marks::{self, Expected, MARK_BYTES},
};

/// Fjall's own keyspace, and one for each of ours.
const KEYSPACES: usize = 6;
/// Ends every batch of a journal.
const TRAILER: &[u8; 4] = b"FJL\x03";

/// Checks the version file of every keyspace; all exist once the directory was made.
pub(super) fn keyspaces(data: &Path) -> Result<(), OpenError> {
    let damaged = |file: PathBuf, why: &str| Err(OpenError::Damaged { file, why: why.to_owned() });
    let folder = data.join("keyspaces");
    let missing = |file: &Path| {
        let file = file.to_owned();
        move |error: io::Error| OpenError::Damaged { file, why: format!("it can't be read: {error}") }
    };
    let mut count = 0;
    for keyspace in fs::read_dir(&folder).map_err(missing(&folder))? {
        let keyspace = keyspace.map_err(missing(&folder))?.path();
        if keyspace.is_file() {
            continue;
        }
        let numbered =
            keyspace.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u64>().is_ok());
        if !numbered {
            return damaged(keyspace, "it is no keyspace and does not belong here");
        }
        count += 1;
        let current = keyspace.join("current");
        let bytes = fs::read(&current).map_err(missing(&current))?;
        let parts = bytes.split_first_chunk().and_then(|(id, rest)| Some((id, rest.first_chunk()?)));
        let Some((id, sum)) = parts else { return damaged(current, "it is cut short") };
        let version = keyspace.join(format!("v{}", u64::from_le_bytes(*id)));
        let bytes = fs::read(&version).map_err(missing(&version))?;
        if xxh3_128(&bytes) != u128::from_le_bytes(*sum) {
            return damaged(version, "it does not have the checksum it was written with");
        }
    }
    if count < KEYSPACES { damaged(folder, "a keyspace is missing from it") } else { Ok(()) }
}

/// Checks every batch of every journal and cuts off what a crash left; adds what they show to what is expected.
pub(super) fn journals(data: &Path, expected: &mut Expected) -> Result<(), OpenError> {
    let mut last = None;
    let journals = list(data).map_err(|error| directory::unusable(data, &error))?;
    if journals.is_empty() {
        let why = "its journal is missing, without which fjall hides what the table files hold".to_owned();
        return Err(OpenError::Damaged { file: data.to_owned(), why });
    }
    for (position, journal) in journals.iter().enumerate() {
        let unusable = |error: &io::Error| directory::unusable(journal, error);
        let file = File::open(journal).map_err(|error| unusable(&error))?;
        let mut reader = Batches::new(file).map_err(|error| unusable(&error))?;
        while let Some(mark) = reader.next().map_err(|error| unusable(&error))? {
            let Some(mark) = mark else { continue };
            if let Some(last) = last.filter(|last| last + 1 != mark) {
                let why = format!("batch {mark} follows batch {last}, so acknowledged ones between them are gone");
                return Err(OpenError::Damaged { file: journal.clone(), why });
            }
            last = Some(mark);
            expected.raise(mark, journal);
        }
        let end = reader.valid;
        if end == reader.length {
            continue;
        }
        let mut rest = reader.file.into_inner();
        rest.seek(SeekFrom::Start(end)).map_err(|error| unusable(&error))?;
        let beyond = marks::find(rest).map_err(|error| unusable(&error))?;
        // One batch may have been cut short: the next one, not yet acknowledged, at the end of the last journal.
        let next = last.map(|last| last + 1);
        let torn = match beyond[..] {
            [] => true,
            [mark] => position + 1 == journals.len() && next.is_none_or(|next| mark == next),
            _ => false,
        };
        let noted = last.is_none_or(|last| last >= expected.number);
        if !torn || (!noted && position + 1 == journals.len()) {
            let why = format!("the batch at byte {end} is not what was written, and acknowledged batches follow it");
            return Err(OpenError::Damaged { file: journal.clone(), why });
        }
        let cut = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).open(journal)?;
            file.set_len(end)?;
            file.sync_all()
        };
        cut().map_err(|error| unusable(&error))?;
    }
    Ok(())
}

/// Journals in the order they were written.
fn list(data: &Path) -> io::Result<Vec<PathBuf>> {
    let mut journals = Vec::new();
    for file in fs::read_dir(data)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals.into_iter().map(|(_, path)| path).collect())
}

/// Reads a journal batch by batch, as far as their checksums agree.
struct Batches {
    file: BufReader<File>,
    length: u64,
    /// End of the last batch that is whole.
    valid: u64,
    position: u64,
}

/// A batch that can't be read, or a file that can't.
enum Stop {
    Batch,
    File(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::UnexpectedEof { Self::Batch } else { Self::File(error) }
    }
}

impl Batches {
    fn new(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { file: BufReader::with_capacity(1 << 18, file), length, valid: 0, position: 0 })
    }

    /// The mark of the next batch, if it has one; none at the first batch that is not whole.
    fn next(&mut self) -> io::Result<Option<Option<u64>>> {
        match self.batch() {
            Ok(mark) => {
                self.valid = self.position;
                Ok(Some(mark))
            }
            Err(Stop::Batch) => Ok(None),
            Err(Stop::File(error)) => Err(error),
        }
    }

    /// A batch is a start with the number of its entries, the entries, and their checksum.
    fn batch(&mut self) -> Result<Option<u64>, Stop> {
        let mut sum = Xxh3::new();
        let mut mark = None;
        let [1] = self.array()? else { return Err(Stop::Batch) };
        let count = u32::from_le_bytes(self.array()?);
        let _sequence: [u8; 8] = self.array()?;
        for _ in 0..count {
            let [tag] = self.array()?;
            sum.update(&[tag]);
            match tag {
                2 => mark = self.item(&mut sum)?.or(mark),
                4 => sum.update(&self.array::<8>()?),
                _ => return Err(Stop::Batch),
            }
        }
        let [3] = self.array()? else { return Err(Stop::Batch) };
        let written = u64::from_le_bytes(self.array()?);
        let whole = self.array()? == *TRAILER && written == sum.digest();
        if whole { Ok(mark) } else { Err(Stop::Batch) }
    }

    /// Kind, compression, keyspace, lengths of key, value and value on disk, then key and value.
    fn item(&mut self, sum: &mut Xxh3) -> Result<Option<u64>, Stop> {
        let head: [u8; 20] = self.array()?;
        sum.update(&head);
        let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = head;
        let key = u64::from(u16::from_le_bytes([k0, k1]));
        let value = u64::from(u32::from_le_bytes([v0, v1, v2, v3]));
        if key + value > self.length.saturating_sub(self.position) {
            return Err(Stop::Batch);
        }
        if (key, value) == (marks::KEY.len() as u64, MARK_BYTES as u64) {
            let bytes: [u8; marks::KEY.len() + MARK_BYTES] = self.array()?;
            sum.update(&bytes);
            return Ok(bytes.strip_prefix(marks::KEY).and_then(marks::decode));
        }
        let mut left = key + value;
        while left > 0 {
            let buffered = self.file.fill_buf()?;
            let taken = buffered.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let Some(bytes) = buffered.get(..taken).filter(|bytes| !bytes.is_empty()) else { return Err(Stop::Batch) };
            sum.update(bytes);
            self.file.consume(taken);
            self.position += taken as u64;
            left -= taken as u64;
        }
        Ok(None)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut bytes = [0; N];
        self.file.read_exact(&mut bytes)?;
        self.position += N as u64;
        Ok(bytes)
    }
}
