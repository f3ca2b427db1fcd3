//! [`Sink`]: the file or pipe that an export is written to.
//!
//! Must not know what is exported. Invariant: a file that is there already is gone on with or left alone, never written over.

use std::{
    fs, io,
    io::{BufWriter, Seek, SeekFrom, Write},
    path::PathBuf,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    End, Header, Place,
    cursor::{self, Cursor},
};
use crate::{
    cli::{Context, failure::Failure, output::Progress, quantity::human_bytes},
    words,
};

/// What is behind the name of a file in that of its cursor.
const ENDING: &str = ".cursor";

/// Where lines go.
enum Out {
    Stream(io::Stdout),
    File(BufWriter<fs::File>),
}

/// See the module.
pub(crate) struct Sink {
    out: Out,
    shown: String,
    cursor: Option<PathBuf>,
    at: Cursor,
    progress: Progress,
}

impl Sink {
    /// Opens what an export goes to; with the place where an earlier one broke off, if it goes on with that.
    pub(crate) fn open<P: DeserializeOwned>(
        context: &Context, place: &Place, export: &str,
    ) -> Result<(Self, Option<P>), Failure> {
        let of = Header::new(context, export);
        let at = Cursor { of: of.clone(), bytes: 0, lines: 0, place: serde_json::Value::Null };
        let progress = context.output.progress(format!("exporting {export}"));
        let shown = place.file.display().to_string();
        if place.is_stream() {
            if place.resume {
                return Err(Failure::usage("an export goes on only in a file; name it with `--file`"));
            }
            let mut sink = Self { out: Out::Stream(io::stdout()), shown, cursor: None, at, progress };
            sink.write(&of)?;
            return Ok((sink, None));
        }
        let path = cursor::beside(&place.file, ENDING);
        let earlier = if place.resume { cursor::read(&path, &of)? } else { None };
        let mut options = fs::OpenOptions::new();
        match &earlier {
            Some(_) => options.write(true),
            None => options.write(true).create_new(true),
        };
        let file = options.open(&place.file).map_err(|error| unopened(&shown, &path, &error))?;
        let mut sink = Self { out: Out::File(BufWriter::new(file)), shown, cursor: Some(path), at, progress };
        let Some(earlier) = earlier else {
            sink.write(&of)?;
            return Ok((sink, None));
        };
        sink.go_on(&earlier)?;
        let from = serde_json::from_value(earlier.place.clone());
        let from = from.map_err(|error| Failure::usage(format!("the cursor of `{}`: {error}", sink.shown)))?;
        sink.at = earlier;
        Ok((sink, Some(from)))
    }

    /// Cuts off what was written after the cursor was kept.
    fn go_on(&mut self, earlier: &Cursor) -> Result<(), Failure> {
        let Out::File(out) = &mut self.out else { return Ok(()) };
        let file = out.get_mut();
        let cut = file.metadata().and_then(|about| {
            if about.len() < earlier.bytes {
                return Err(io::Error::other("it is shorter than what was exported; remove it and its cursor"));
            }
            file.set_len(earlier.bytes)?;
            file.seek(SeekFrom::End(0)).map(drop)
        });
        cut.map_err(|error| Failure::usage(format!("can't go on with `{}`: {}", self.shown, words::of(&error))))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        self.write(line)?;
        self.at.lines += 1;
        Ok(())
    }

    fn write(&mut self, line: &impl Serialize) -> Result<(), Failure> {
        let mut bytes = serde_json::to_vec(line)
            .map_err(|error| Failure::usage(format!("a line can't be written as JSON: {error}")))?;
        bytes.push(b'\n');
        self.at.bytes += bytes.len() as u64;
        match &mut self.out {
            Out::Stream(out) => Ok(out.write_all(&bytes)?),
            Out::File(out) => out.write_all(&bytes).map_err(|error| unwritten(&self.shown, &error)),
        }
    }

    /// Notes that all up to here is in the file, and where the export goes on.
    pub(crate) fn checkpoint(&mut self, place: &impl Serialize) -> Result<(), Failure> {
        self.progress.update(format!("{} lines, {}", self.at.lines, human_bytes(self.at.bytes)));
        self.flush()?;
        let Some(path) = &self.cursor else { return Ok(()) };
        self.at.place = serde_json::to_value(place)
            .map_err(|error| Failure::usage(format!("the cursor can't be written as JSON: {error}")))?;
        cursor::write(path, &self.at)
    }

    /// Ends the file.
    pub(crate) fn finish(mut self) -> Result<u64, Failure> {
        let lines = self.at.lines;
        self.write(&End { end: true, lines })?;
        self.flush()?;
        match &self.cursor {
            Some(path) => cursor::remove(path).map(|()| lines),
            None => Ok(lines),
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match &mut self.out {
            Out::Stream(out) => Ok(out.flush()?),
            Out::File(out) => {
                let flushed = out.flush().and_then(|()| out.get_mut().sync_data());
                flushed.map_err(|error| unwritten(&self.shown, &error))
            }
        }
    }
}

fn unopened(shown: &str, cursor: &std::path::Path, error: &io::Error) -> Failure {
    if error.kind() != io::ErrorKind::AlreadyExists {
        return unwritten(shown, error);
    }
    Failure::usage(if cursor.exists() {
        format!("`{shown}` is an export that broke off; go on with `--resume`, or remove it")
    } else {
        format!("`{shown}` is there already; remove it, or name another file")
    })
}

fn unwritten(shown: &str, error: &io::Error) -> Failure {
    Failure::usage(format!("can't write `{shown}`: {}", words::of(error)))
}
