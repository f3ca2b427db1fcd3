//! [`Exit`] and [`Failure`]: how a client command ends.
//!
//! Owns the exit codes and the one sentence that a user reads; must not know the commands. Invariant: every failure has a
//! stable `reason` for scripts and a message with the way out for people, and never a stack trace.

use std::{io, process::ExitCode};

use platform_proto::code;
use serde::Serialize;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Exit codes, as `docs/cli.md` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, or the answer is yes.
    Done,
    /// The answer is no: denied, not found, a condition did not hold.
    No,
    /// The command was wrong, or the daemon refused it.
    Error,
    /// The daemon can't be reached or can't answer now; trying again may help.
    Unavailable,
    /// The token is missing, not valid, or not allowed to do this.
    Unauthorized,
    /// What a command that was run ended with.
    Of(u8),
}

impl Exit {
    /// The code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::No => 1,
            Self::Error => 2,
            Self::Unavailable => 3,
            Self::Unauthorized => 4,
            Self::Of(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) exit: Exit,
    /// UPPER_SNAKE, stable across versions.
    pub(crate) reason: String,
    /// One sentence.
    pub(crate) message: String,
    /// What the daemon answered; none when the failure is on this side.
    pub(crate) code: Option<Code>,
}

impl Failure {
    /// A failure on this side of the connection.
    pub(crate) fn new(exit: Exit, reason: &str, message: impl Into<String>) -> Self {
        Self { exit, reason: reason.to_owned(), message: message.into(), code: None }
    }

    /// The command line or a file it names is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Error, "INVALID_ARGUMENT", message)
    }

    /// Nobody reads what this process writes, as with `| head`: the end, but nothing to complain about.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.reason == CLOSED_PIPE
    }

    /// Whether trying again may help: the daemon is starting, stopping or away.
    pub(crate) fn is_transient(&self) -> bool {
        match self.code {
            None => self.exit == Exit::Unavailable,
            Some(code) => matches!(
                code,
                Code::Unavailable
                    | Code::Unknown
                    | Code::Cancelled
                    | Code::Internal
                    | Code::ResourceExhausted
                    | Code::DeadlineExceeded
            ),
        }
    }

    /// The failure as one line of JSON.
    pub(crate) fn to_json(&self) -> String {
        let error = Members { reason: &self.reason, message: &self.message, exit_code: self.exit.code() };
        serde_json::json!({ "error": error }).to_string()
    }
}

const CLOSED_PIPE: &str = "CLOSED_PIPE";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Members<'a> {
    reason: &'a str,
    message: &'a str,
    exit_code: u8,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let code = status.code();
        let reason = status.get_details_error_info().map(|info| info.reason);
        let mut message = status.message().to_owned();
        if message.is_empty() {
            message = format!("the daemon answered `{}` and no words", code::name(code));
        }
        let exit = match code {
            Code::Ok => Exit::Done,
            Code::NotFound | Code::Aborted | Code::AlreadyExists => Exit::No,
            Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Cancelled => Exit::Unavailable,
            Code::Unauthenticated | Code::PermissionDenied => Exit::Unauthorized,
            _ => Exit::Error,
        };
        let reason = reason.unwrap_or_else(|| code::name(code).to_owned());
        Self { exit, reason, message, code: Some(code) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Done, CLOSED_PIPE, "nobody reads the output");
        }
        Self::new(Exit::Error, "INPUT_OUTPUT", format!("can't write the output: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_status_keeps_its_reason_and_decides_the_exit_code() {
        let details = ErrorDetails::with_error_info("KEY_NOT_FOUND", "platform", []);
        let failure = Failure::from(Status::with_error_details(Code::NotFound, "there is no key `a`", details));
        assert_eq!((failure.exit, failure.reason.as_str()), (Exit::No, "KEY_NOT_FOUND"));
        let json: serde_json::Value = serde_json::from_str(&failure.to_json()).unwrap();
        let expected = serde_json::json!({"error": {
            "reason": "KEY_NOT_FOUND", "message": "there is no key `a`", "exitCode": 1,
        }});
        assert_eq!(json, expected);
    }

    #[test]
    fn a_bare_status_still_says_something() {
        let failure = Failure::from(Status::new(Code::PermissionDenied, ""));
        assert_eq!((failure.exit, failure.reason.as_str()), (Exit::Unauthorized, "PERMISSION_DENIED"));
        assert!(failure.message.contains("PERMISSION_DENIED"));
    }

    #[test]
    fn a_closed_pipe_is_no_complaint() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_closed_pipe());
        assert_eq!(failure.exit, Exit::Done);
        assert!(!Failure::from(io::Error::from(io::ErrorKind::StorageFull)).is_closed_pipe());
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        assert!(Failure::from(Status::unavailable("starting")).is_transient());
        assert!(Failure::new(Exit::Unavailable, "UNREACHABLE", "no").is_transient());
        assert!(!Failure::from(Status::out_of_range("compacted")).is_transient());
        assert!(!Failure::usage("no").is_transient());
    }
}
