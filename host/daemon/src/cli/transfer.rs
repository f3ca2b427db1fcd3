//! Exports and imports: what a capability keeps, as JSON lines in a file or a pipe.
//!
//! Owns the frame of such a file, a line that says what it is, lines that the capabilities write, and a line that ends it;
//! and the cursors with which a transfer that broke off goes on. Must not know what is kept. Invariant: a cursor tells of
//! nothing that is not in the file, or not in the store, already.

mod cursor;
mod sink;
mod source;

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::Args;
use serde::{Deserialize, Serialize};

pub(crate) use self::{sink::Sink, source::Source};
use super::{Context, failure::Failure};

/// Version of the form of files.
const VERSION: u32 = 1;

/// Where a transfer reads or writes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// The file; `-` is standard output or input.
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    file: PathBuf,
    /// Goes on where a transfer of this file broke off, by the cursor that was kept beside it.
    #[arg(long)]
    resume: bool,
}

impl Place {
    fn is_stream(&self) -> bool {
        self.file == Path::new("-")
    }
}

/// What a file says of itself in its first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    /// The capability.
    export: String,
    version: u32,
    namespace: String,
}

impl Header {
    fn new(context: &Context, export: &str) -> Self {
        let namespace = context.global.namespace.clone().filter(|name| !name.is_empty());
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        Self { export: export.to_owned(), version: VERSION, namespace }
    }
}

/// What a file says in its last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    end: bool,
    /// Lines between the first and this one.
    lines: u64,
}

/// Bytes as they stand in a line: as text when they are text, else in base64.
pub(crate) fn spell(bytes: &[u8]) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_not_text) => (None, Some(STANDARD.encode(bytes))),
    }
}

/// The bytes that [`spell`] wrote; none when there are none.
pub(crate) fn read_bytes(name: &str, text: Option<String>, coded: Option<String>) -> Result<Option<Bytes>, String> {
    match (text, coded) {
        (Some(_), Some(_)) => Err(format!("give either `text` or `{name}`")),
        (Some(text), None) => Ok(Some(text.into())),
        (None, Some(coded)) => {
            let bytes = STANDARD.decode(coded);
            Ok(Some(bytes.map_err(|error| format!("`{name}` is no base64: {error}; write text as `text`"))?.into()))
        }
        (None, None) => Ok(None),
    }
}

/// What a failure to read changes means to an export.
pub(crate) fn compacted(failure: Failure) -> Failure {
    if failure.reason != "COMPACTED" {
        return failure;
    }
    let message =
        "what changed since the export began is no longer kept; remove the file, and export anew at a quieter time";
    Failure { message: message.to_owned(), ..failure }
}

/// Tells what came of a transfer, unless standard output is what was written.
pub(crate) fn told(context: &Context, place: &Place, words: &str, counts: &serde_json::Value) -> Result<(), Failure> {
    match (context.output.is_human(), place.is_stream()) {
        (true, _) => context.output.note(words),
        (false, false) => context.output.value(counts)?,
        (false, true) => super::output::complain(&counts.to_string()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_whatever_they_are() {
        for bytes in [&b""[..], b"text", "\u{e9}\n\"".as_bytes(), b"\xff\x00", &[0; 3]] {
            let (text, coded) = spell(bytes);
            assert_eq!(text.is_some(), std::str::from_utf8(bytes).is_ok());
            assert_eq!(read_bytes("value", text, coded).unwrap().unwrap(), bytes);
        }
        assert_eq!(read_bytes("value", None, None), Ok(None));
        assert!(read_bytes("value", Some(String::new()), Some(String::new())).is_err());
        assert!(read_bytes("value", None, Some("?".to_owned())).unwrap_err().contains("no base64"));
    }
}
