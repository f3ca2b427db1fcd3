//! Why a project can't be made or built.

use std::{io, path::PathBuf};

/// Why a project can't be made or built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name can't be that of a plugin's package.
    #[error("`{name}` can't be the name of a plugin: {why}; name it with `--name`")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no template.
    #[error("there is no template for `{slot}` in `{language}`; there are {others}")]
    NoTemplate {
        /// The slot.
        slot: String,
        /// The language.
        language: &'static str,
        /// Slots that there are templates for.
        others: String,
    },
    /// What the binary carries does not fit together: a mistake in this program.
    #[error("what this program carries is not complete: {0}")]
    Carried(String),
    /// A program can't be started.
    #[error("can't start `{program}`: {source}; {way_out}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
        /// What to do about it.
        way_out: &'static str,
    },
    /// Part of what compiles is missing.
    #[error("{what} is missing; {way_out}")]
    Missing {
        /// What.
        what: String,
        /// What to do about it.
        way_out: &'static str,
    },
    /// A program did not do what it should; it has said why.
    #[error("`{0}` failed")]
    Failed(String),
    /// A program wrote what makes no sense.
    #[error("`{program}` wrote {what}")]
    Output {
        /// The program.
        program: String,
        /// What is wrong with it.
        what: String,
    },
    /// It is no project of a plugin.
    #[error(
        "`{0}` is no project of a plugin: it has no `Cargo.toml` with `[package.metadata.platform]` and a `target`, and no `manifest.json` with sources beside it; `platform plugin new` makes one"
    )]
    NoProject(PathBuf),
    /// Its files can't be used.
    #[error("{0}")]
    Project(String),
    /// Guests are not built for it.
    #[error("`package.metadata.platform.target` is `{0}`; plugins are built for {targets}", targets = crate::TARGETS.join(" or "))]
    Target(String),
    /// The standard library is missing.
    #[error("the Rust toolchain can't compile for {0}; run `rustup target add {0}`")]
    NoStandardLibrary(String),
    /// What the compiler left is nothing to go on with.
    #[error("{0}")]
    Component(String),
}
