//! [`Output`]: what a command prints, for people and for scripts.
//!
//! Owns the formats, colour and the notes on standard error; must not know the commands. Invariant: JSON and YAML are the
//! messages of the API in the JSON form that protobuf defines, so they change only when the API does.

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
    sync::LazyLock,
    time::Duration,
};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use platform_proto::json;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, ReflectMessage, SerializeOptions};
use serde_json::Value;

use super::failure::{Exit, Failure};

/// How often an indicator moves.
const FRAME: Duration = Duration::from_millis(100);

/// How answers are printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For scripts.
    Json,
    /// For scripts that prefer it.
    Yaml,
}

/// Where and how a command prints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    format: Format,
    color: bool,
}

impl Output {
    /// Prints to standard output; in colour on a terminal, unless `NO_COLOR` is set.
    pub(crate) fn new(format: Format) -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = env::var_os("TERM").is_some_and(|value| value == "dumb");
        Self { format, color: io::stdout().is_terminal() && !unwanted && !dumb }
    }

    /// Whether a person reads along.
    pub(crate) fn is_human(self) -> bool {
        self.format == Format::Table
    }

    /// Prints the message `name` of the API: as it is for scripts, as `human` makes it for people.
    pub(crate) fn answer(
        self, name: &str, message: &impl Message, human: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => line(&human()),
            Format::Json | Format::Yaml => self.value(&to_json(name, message)?),
        }
    }

    /// Prints one message of a stream on a line of its own.
    pub(crate) fn event(
        self, name: &str, message: &impl Message, human: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => line(&human()),
            Format::Json => line(&to_json(name, message)?.to_string()),
            Format::Yaml => {
                line("---")?;
                self.value(&to_json(name, message)?)
            }
        }
    }

    /// Prints a value for scripts.
    pub(crate) fn value(self, value: &Value) -> Result<(), Failure> {
        let text = match self.format {
            Format::Yaml => serde_saphyr::to_string(value).map_err(|error| unprintable(&error))?,
            Format::Table | Format::Json => serde_json::to_string_pretty(value).map_err(|error| unprintable(&error))?,
        };
        line(text.trim_end())
    }

    /// Prints text for people.
    pub(crate) fn text(self, text: &str) -> Result<(), Failure> {
        line(text)
    }

    /// Prints bytes as they are.
    pub(crate) fn raw(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// Tells a person something that is no part of the answer, on standard error.
    pub(crate) fn note(self, text: &str) {
        if self.is_human() {
            complain(text);
        }
    }

    /// Tells a person that a list is empty or not the whole of it.
    pub(crate) fn remark(self, none: &str, is_empty: bool, next_page_token: &str) {
        if !next_page_token.is_empty() {
            self.note("there are more; raise `--limit`");
        } else if is_empty {
            self.note(none);
        }
    }

    /// Shows that something long goes on, to a person at a terminal.
    pub(crate) fn progress(self, text: String) -> Progress {
        if !self.is_human() || !io::stderr().is_terminal() {
            return Progress(None);
        }
        let bar = ProgressBar::new_spinner().with_message(text);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(FRAME);
        Progress(Some(bar))
    }

    /// A table with these headings, still without rows.
    pub(crate) fn table(self, headings: &[&str]) -> Table {
        let mut table = self.bare();
        // An empty heading would still be a line.
        if !headings.is_empty() {
            table.set_header(headings.iter().map(|heading| self.strong(heading)));
        }
        table
    }

    /// Names and values of one thing, one to a line; those without a value are left out.
    pub(crate) fn fields(self, fields: &[(&str, String)]) -> String {
        let mut table = self.bare();
        for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
            table.add_row([self.strong(name), Cell::new(value)]);
        }
        show(&table)
    }

    /// A cell that is good or bad news.
    pub(crate) fn verdict(self, good: bool, text: impl fmt::Display) -> Cell {
        let cell = Cell::new(text);
        match (self.color, good) {
            (false, _) => cell,
            (true, true) => cell.fg(Color::Green),
            (true, false) => cell.fg(Color::Red),
        }
    }

    fn strong(self, text: &str) -> Cell {
        let cell = Cell::new(text);
        if self.color { cell.add_attribute(Attribute::Bold) } else { cell }
    }

    fn bare(self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if self.color {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table
    }
}

/// A running indicator; it goes away when dropped.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Says how far it is.
    pub(crate) fn update(&self, text: String) {
        if let Some(bar) = &self.0 {
            bar.set_message(text);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// The lines of a table without the blanks at their sides.
pub(crate) fn show(table: &Table) -> String {
    let lines: Vec<String> =
        table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned()).collect();
    lines.join("\n")
}

/// Bytes on a line for people: text shortened to fit, or how many there are.
pub(crate) fn preview(bytes: &[u8]) -> String {
    const WIDEST: usize = 60;
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().all(|c| !c.is_control()) => {
            let mut short: String = text.chars().take(WIDEST).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            short
        }
        _ => format!("<{} bytes>", bytes.len()),
    }
}

/// A message of the API in the JSON form that protobuf defines.
pub(crate) fn to_json(name: &str, message: &impl Message) -> Result<Value, Failure> {
    let descriptor = descriptor(name).map_err(|error| unprintable(&error))?;
    let message =
        DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_err(|error| unprintable(&error))?;
    // As over HTTP: fields have a value even when it is the default one, so that answers have one shape.
    let options = SerializeOptions::new().skip_default_fields(false);
    let form = message.serialize_with_options(serde_json::value::Serializer, &options);
    let mut form = form.map_err(|error| unprintable(&error))?;
    json::embed(&mut form, &message.descriptor());
    Ok(form)
}

/// The message that a line of JSON is, as [`to_json`] writes it.
///
/// # Errors
/// Why it is none.
pub(crate) fn from_json<M: Message + Default>(name: &str, text: &str) -> Result<M, String> {
    let descriptor = descriptor(name)?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let message = DynamicMessage::deserialize(descriptor, &mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    message.transcode_to().map_err(|error| error.to_string())
}

fn descriptor(name: &str) -> Result<MessageDescriptor, String> {
    static POOL: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
        DescriptorPool::decode(platform_proto::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())
    });
    let message = POOL.as_ref()?.get_message_by_name(name);
    message.ok_or_else(|| format!("there is no message `{name}`"))
}

/// Writes a line to standard error, where nothing can be done if that fails.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if !text.is_empty() {
        writeln!(out, "{text}")?;
    }
    Ok(out.flush()?)
}

fn unprintable(error: &dyn fmt::Display) -> Failure {
    Failure::new(Exit::Error, "UNPRINTABLE", format!("can't print the answer: {error}"))
}

#[cfg(test)]
mod tests {
    use platform_proto::kv::v1::Entry;

    use super::*;

    #[test]
    fn json_is_the_protobuf_form() {
        let entry = Entry { key: "a".into(), value: "1".into(), revision: 7, expire_time: None };
        let json = to_json("platform.kv.v1.Entry", &entry).unwrap();
        assert_eq!(json, serde_json::json!({"key": "a", "value": "MQ==", "revision": "7"}));
    }

    #[test]
    fn tables_have_no_margins() {
        let output = Output { format: Format::Table, color: false };
        let mut table = output.table(&["KEY", "REVISION"]);
        table.add_row(["a", "1"]).add_row(["longer", "12"]);
        assert_eq!(show(&table), "KEY     REVISION\na       1\nlonger  12");
        assert_eq!(output.fields(&[("key", "a".into()), ("expires", String::new())]), "key  a");
    }

    #[test]
    fn previews_are_one_safe_line() {
        assert_eq!(preview(b"hello"), "hello");
        assert_eq!(preview(b"a\nb"), "<3 bytes>");
        assert_eq!(preview(&[0xff, 0]), "<2 bytes>");
        let long = preview("é".repeat(100).as_bytes());
        assert_eq!(long.chars().count(), 61);
    }
}
