//! What a person sees while a task runs: steps as they begin and end, with the time they took, and a summary.
//!
//! Owns the only writes to the terminal. Colour appears on a terminal alone, so logs stay plain text.

use std::cell::RefCell;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;

/// Prints progress and remembers the steps for the summary.
pub(crate) struct Report {
    colour: bool,
    steps: RefCell<Vec<Step>>,
}

struct Step {
    name: String,
    took: Duration,
    passed: bool,
}

impl Report {
    pub(crate) fn new() -> Self {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { colour, steps: RefCell::default() }
    }

    /// Runs one step: its name before, its time after, also when it fails.
    pub(crate) fn step<T>(&self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.line(&format!("{} {name}", self.paint("1;36", "==>")));
        let started = now();
        let outcome = work();
        let took = started.elapsed();
        let word = if outcome.is_ok() { self.paint("32", "done") } else { self.paint("31", "FAILED") };
        self.line(&format!("    {word} {name} in {}", seconds(took)));
        self.steps.borrow_mut().push(Step { name: name.to_owned(), took, passed: outcome.is_ok() });
        outcome
    }

    /// One line below a step.
    pub(crate) fn note(&self, text: impl Display) {
        self.line(&format!("    {text}"));
    }

    /// Text as it is.
    pub(crate) fn plain(&self, text: impl Display) {
        self.line(&text.to_string());
    }

    pub(crate) fn failure(&self, error: &anyhow::Error) {
        self.line(&format!("{} {error:#}", self.paint("1;31", "error:")));
    }

    /// The steps so far and their times.
    pub(crate) fn summary(&self) {
        let steps = self.steps.borrow();
        self.line(&format!("{} summary", self.paint("1;36", "==>")));
        for step in steps.iter() {
            let word = if step.passed { self.paint("32", "ok    ") } else { self.paint("31", "FAILED") };
            self.line(&format!("    {word} {:>9}  {}", seconds(step.took), step.name));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn line(&self, text: &str) {
        // A closed standard error must not end the task: there is nobody left to tell.
        let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
    }
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[expect(clippy::disallowed_methods, reason = "the platform's clock is not a dependency of the tool that builds it")]
fn now() -> Instant {
    Instant::now()
}

/// Rows under headings, each column as wide as its widest cell; numbers stand to the right.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, &width)| {
            let numeric = cell.starts_with(|first: char| first.is_ascii_digit()) && cell.contains(' ');
            if numeric { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(&mut headings.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_line_up() {
        let rows = vec![
            vec!["kv-storage".to_owned(), "19.0 KiB".to_owned(), "ab".to_owned()],
            vec!["x".to_owned(), "119.0 KiB".to_owned(), "cd".to_owned()],
        ];
        let text = table(&["name", "size", "digest"], &rows);
        assert_eq!(text, "name        size       digest\nkv-storage   19.0 KiB  ab\nx           119.0 KiB  cd");
    }
}
