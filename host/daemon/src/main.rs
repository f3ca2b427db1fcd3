//! The `platform` binary: the daemon and the commands that talk to it.
//!
//! Owns how the platform's parts are put together and what the user sees of it on a terminal; the parts themselves are
//! the crates below. Invariant: no user input ends in a panic or a stack trace.
//!
//! In reading order: `cli` (what may be written), `settings` (what may be configured), `server` (configure, assemble, wait
//! for a signal, drain), `allocator` (how memory is held), `place` (where files lie), `words` (what the system says).

mod allocator;
mod cli;
mod place;
mod server;
mod settings;
mod words;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(std::env::args_os())
}
