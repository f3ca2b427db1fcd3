//! [`StartError`]: why the daemon does not run, and the exit code that says so.
//!
//! Owns the exit codes of `platform server`; must not know how starting works. Invariant: one sentence with the way out,
//! never a stack trace.

use std::{io, process::ExitCode};

use platform_storage::{NatsError, OpenError};

use super::data_dir::DataDirError;
use crate::{settings::Mistake, words};

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration file is wrong.
    #[error(transparent)]
    Configuration(#[from] Mistake),
    /// The address can't be listened on.
    #[error("can't listen on `{address}`: {why}; use another with `--server-address`, port 0 takes a free one")]
    Address {
        /// The address.
        address: String,
        /// What the system said.
        why: String,
    },
    /// The data directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The storage in the data directory can't be opened.
    #[error(transparent)]
    Storage(#[from] OpenError),
    /// The storage on NATS can't be opened.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// Something that has to be there for the daemon to run.
    #[error("can't start: {0}")]
    Other(String),
}

impl StartError {
    /// The code that the process ends with, as `docs/operations.md` lists them.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Other(_) | Self::Nats(_) => 1,
            Self::Usage(_) | Self::Configuration(_) => 2,
            Self::Address { .. } => 3,
            Self::DataDir(_) | Self::Storage(_) => 4,
        })
    }

    /// The address can't be listened on.
    pub(crate) fn address(address: &str, why: &io::Error) -> Self {
        let text = match why.kind() {
            io::ErrorKind::AddrInUse => "another process listens there".to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            io::ErrorKind::PermissionDenied => "this user may not use that port".to_owned(),
            _ => words::of(why),
        };
        Self::Address { address: address.to_owned(), why: text }
    }
}
