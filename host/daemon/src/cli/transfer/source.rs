//! [`Source`]: the file or pipe that an import is read from.
//!
//! Must not know what is imported. Invariant: a line that is not understood is named by its number, and nothing of it or
//! after it was imported.

use std::{
    fs, io,
    io::{BufRead, BufReader, Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    End, Header, Place,
    cursor::{self, Cursor},
};
use crate::{
    cli::{
        Context,
        failure::{Exit, Failure},
        output::Progress,
        quantity::human_bytes,
    },
    words,
};

/// Longest line: a value of 8 MiB in base64, escaped, and what is around it.
const LINE_BYTES: u64 = 64 << 20;
/// What is behind the name of a file in that of its cursor.
const ENDING: &str = ".imported";

/// A line that was understood.
#[derive(Debug)]
pub(crate) struct Entry<T> {
    /// Number of the line in the file.
    pub(crate) number: u64,
    /// What it says.
    pub(crate) line: T,
}

/// See the module.
pub(crate) struct Source {
    input: Box<dyn BufRead>,
    shown: String,
    cursor: Option<PathBuf>,
    /// What is in the store.
    done: Cursor,
    /// What was read.
    bytes: u64,
    number: u64,
    ended: bool,
    progress: Progress,
}

impl Source {
    /// Opens what is imported, and goes to where an earlier import broke off if it is to go on.
    pub(crate) fn open(context: &Context, place: &Place, export: &str) -> Result<Self, Failure> {
        let mut of = Header::new(context, export);
        let progress = context.output.progress(format!("importing {export}"));
        let shown = if place.is_stream() { "standard input".to_owned() } else { place.file.display().to_string() };
        let unreadable = |error: io::Error| Failure::usage(format!("can't read `{shown}`: {}", words::of(&error)));
        let (cursor, earlier) = if place.is_stream() {
            if place.resume {
                return Err(Failure::usage("an import goes on only in a file; name it with `--file`"));
            }
            (None, None)
        } else {
            let path = cursor::beside(&place.file, ENDING);
            let earlier = if place.resume { cursor::read(&path, &of)? } else { None };
            (Some(path), earlier)
        };
        let input: Box<dyn BufRead> = match (&cursor, &earlier) {
            (None, _) => Box::new(BufReader::new(io::stdin())),
            (Some(_), earlier) => {
                let mut file = fs::File::open(&place.file).map_err(unreadable)?;
                file.seek(SeekFrom::Start(earlier.as_ref().map_or(0, |earlier| earlier.bytes))).map_err(unreadable)?;
                Box::new(BufReader::new(file))
            }
        };
        let fresh = Cursor { of: of.clone(), bytes: 0, lines: 0, place: Value::Null };
        let resumed = earlier.is_some();
        let done = earlier.unwrap_or(fresh);
        let (bytes, number) = (done.bytes, done.lines);
        let mut source = Self { input, shown, cursor, done, bytes, number, ended: false, progress };
        if !resumed {
            let first = source.read()?.unwrap_or_default();
            let header: Header = serde_json::from_slice(&first).map_err(|_other| source.foreign(export))?;
            of.namespace.clone_from(&header.namespace);
            if header != of {
                return Err(source.foreign(export));
            }
        }
        Ok(source)
    }

    fn foreign(&self, export: &str) -> Failure {
        Failure::usage(format!("`{}` is no export of {export}: its first line does not say so", self.shown))
    }

    /// The next line that says what to keep; none at the end.
    pub(crate) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<Entry<T>>, Failure> {
        loop {
            let Some(bytes) = self.read()? else { return Ok(None) };
            if bytes.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            if self.ended {
                return Err(self.wrong(self.number, "it comes after the end; remove it"));
            }
            let value: Value = match serde_json::from_slice(&bytes) {
                Ok(value) => value,
                Err(_half) if !bytes.ends_with(b"\n") => {
                    return Err(self.wrong(self.number, "it is cut off: the export broke off here"));
                }
                Err(error) => return Err(self.wrong(self.number, error)),
            };
            if value.get("end").is_some() {
                End::deserialize(value).map_err(|error| self.wrong(self.number, error))?;
                self.ended = true;
                continue;
            }
            let line = T::deserialize(value).map_err(|error| self.wrong(self.number, error))?;
            return Ok(Some(Entry { number: self.number, line }));
        }
    }

    fn read(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let mut line = Vec::new();
        let read = self.input.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line);
        let read =
            read.map_err(|error| Failure::usage(format!("can't read `{}`: {}", self.shown, words::of(&error))))? as u64;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read == LINE_BYTES && !line.ends_with(b"\n") {
            return Err(self.wrong(self.number, format!("it is longer than {}", human_bytes(LINE_BYTES))));
        }
        self.bytes += read;
        Ok(Some(line))
    }

    /// The failure for a line.
    pub(crate) fn wrong(&self, number: u64, why: impl std::fmt::Display) -> Failure {
        let way =
            if self.cursor.is_some() { "correct it and go on with `--resume`" } else { "correct it and try again" };
        Failure::usage(format!("`{}` line {number}: {why}; {way}", self.shown))
    }

    /// The failure of a call, with the lines that it was made for.
    pub(crate) fn refused(&self, from: u64, to: u64, failure: Failure) -> Failure {
        let lines = if from == to { format!("line {from}") } else { format!("one of the lines {from} to {to}") };
        let way = if self.cursor.is_some() { "; go on with `--resume`" } else { "" };
        let message = format!("`{}` {lines}: {failure}{way}", self.shown);
        Failure { message, ..failure }
    }

    /// Notes that all that was read so far is in the store.
    pub(crate) fn checkpoint(&mut self) -> Result<(), Failure> {
        self.progress.update(format!("{} lines, {}", self.number, human_bytes(self.bytes)));
        (self.done.bytes, self.done.lines) = (self.bytes, self.number);
        match &self.cursor {
            Some(path) => cursor::write(path, &self.done),
            None => Ok(()),
        }
    }

    /// Notes that all of the file is in the store; whether it was all that was to be exported.
    pub(crate) fn finish(self) -> Result<Exit, Failure> {
        if let Some(path) = &self.cursor {
            cursor::remove(path)?;
        }
        if self.ended {
            return Ok(Exit::Done);
        }
        let message = format!(
            "all of `{}` was imported, but it has no end: its export broke off; finish that with `--resume`, then import it again",
            self.shown
        );
        Err(Failure::new(Exit::No, "INCOMPLETE_EXPORT", message))
    }
}
