//! [`Refusal`]: why a command was not done, in the words that Redis's clients know.
//!
//! Owns prefixes and messages; must not know connections. Invariant: the first word tells programs what to do, the rest
//! tells people.

use platform_capability::kv;
use platform_dataplane::CallError;
use tonic::Status;

use super::reply::Reply;
use crate::{fault::Fault, grpc};

/// Why a command was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is no such command here.
    #[error("ERR unknown command '{}', with args beginning with: {}", shown(.0), beginning(.1))]
    UnknownCommand(String, Vec<String>),
    /// A command of commands, and one of those that it does not have.
    #[error("ERR unknown subcommand '{}'. Try {}.", shown(.0), .1)]
    UnknownSubcommand(String, &'static str),
    /// Too few arguments, or too many.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(&'static str),
    /// An option that is none, or does not go with another.
    #[error("ERR syntax error")]
    Syntax,
    /// No number, or one that does not fit.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// A sum that does not fit.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// A time to live that is none.
    #[error("ERR invalid expire time in '{0}' command")]
    ExpireTime(&'static str),
    /// Options of `EXPIRE`.
    #[error("ERR NX and XX, GT or LT options at the same time are not compatible")]
    ExpireOptions,
    /// A key that can't be one here.
    #[error("ERR {0}")]
    Key(&'static str),
    /// A value larger than any may be.
    #[error("ERR string exceeds maximum allowed size ({0} bytes)")]
    ValueSize(usize),
    /// More keys than one command or transaction may name.
    #[error("ERR {0} keys at once, more than {1}")]
    Keys(usize, usize),
    /// Nobody has said who calls.
    #[error("NOAUTH Authentication required.")]
    Unauthenticated,
    /// `HELLO` before anybody has said who calls.
    #[error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
         option can be used to authenticate the client and select the RESP protocol version at the same time"
    )]
    HelloUnauthenticated,
    /// A token that proves nothing; the name may be the reason.
    #[error("WRONGPASS invalid username-password pair or user is disabled: {0}")]
    WrongPassword(String),
    /// Another version of the protocol.
    #[error("NOPROTO unsupported protocol version")]
    Protocol,
    /// A number without a namespace.
    #[error("ERR DB index is out of range")]
    Database,
    /// A command that is not for transactions, or one more than they take.
    #[error("ERR {0}")]
    Transaction(&'static str),
    /// A transaction in which a command was refused before it was run.
    #[error("EXECABORT Transaction discarded because of previous errors.")]
    Aborted,
    /// Others wrote the same keys again and again.
    #[error("TRYAGAIN the keys were written by others again and again")]
    Contended,
    /// A cursor that no `SCAN` of this caller in this namespace gave, or one of long ago.
    #[error("ERR invalid cursor: it is not of this namespace, or too old; begin again with 0")]
    Cursor,
    /// What the platform says; prefix and message.
    #[error("{0} {1}")]
    Fault(&'static str, String),
    /// Anything else, in words.
    #[error("ERR {0}")]
    Other(String),
}

/// The start of what a peer sent, for messages.
fn shown(text: &str) -> String {
    text.chars().take(128).collect()
}

fn beginning(arguments: &[String]) -> String {
    arguments.iter().map(|argument| format!("'{}' ", shown(argument))).collect()
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        Self::Error(refusal.to_string())
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::Fault("NOPERM", fault.message().to_owned())
    }
}

impl From<CallError<kv::Error>> for Refusal {
    fn from(error: CallError<kv::Error>) -> Self {
        let prefix = match &error {
            CallError::Capability(kv::Error::Quota(_)) => "OOM",
            CallError::Capability(kv::Error::Unavailable(_)) | CallError::NotBound(_) | CallError::Fault { .. } => {
                "TRYAGAIN"
            }
            CallError::Capability(_) => "ERR",
        };
        let message = Status::message(&grpc::status(error)).to_owned();
        Self::Fault(prefix, message)
    }
}
