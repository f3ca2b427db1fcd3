//! [`Failure`]: what a check found, in words.

use std::fmt::Debug;

use futures::{Stream, StreamExt as _};
use platform_dataplane::{CallError, Event};

/// Longest form of a value in a message, in bytes.
const SHOWN_BYTES: usize = 300;

/// Why a check did not find that its promise is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The promise was not kept.
    #[error("{0}")]
    Broken(String),
    /// The promise is not made: it is of something optional that the component says it can't do.
    #[error("{0}")]
    NotMade(String),
}

/// What came of a check.
pub type Checked = Result<(), Failure>;

impl Failure {
    /// A failure in these words: what was done, what was promised, what was found instead.
    #[must_use]
    pub fn new(words: impl Into<String>) -> Self {
        Self::Broken(words.into())
    }
}

/// `truth` has to hold.
pub(crate) fn holds(truth: bool, what: &str) -> Checked {
    if truth { Ok(()) } else { Err(Failure::new(what)) }
}

/// `found` has to be `expected`.
pub(crate) fn same<T: PartialEq + Debug>(found: &T, expected: &T, what: &str) -> Checked {
    if found == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: expected {}, found {}", shown(expected), shown(found))))
}

/// The answer to a call that has to succeed.
pub(crate) fn answered<T, E: Debug>(answer: Result<T, CallError<E>>, what: &str) -> Result<T, Failure> {
    answer.map_err(|error| match error {
        CallError::Capability(error) => Failure::new(format!("{what} failed: {}", shown(&error))),
        other => Failure::new(format!("{what} failed: {other}")),
    })
}

/// The capability's error of a call that has to fail with one.
pub(crate) fn refused<T: Debug, E: Debug>(answer: Result<T, CallError<E>>, what: &str) -> Result<E, Failure> {
    match answer {
        Err(CallError::Capability(error)) => Ok(error),
        Err(other) => Err(Failure::new(format!("{what} has to be refused with an error of the interface: {other}"))),
        Ok(answer) => Err(Failure::new(format!("{what} has to be refused, and was answered with {}", shown(&answer)))),
    }
}

/// The first `count` changes that a watch tells, or as many more as come with the last of them; in the pieces they came in.
pub(crate) async fn told_by<C, E: Debug>(
    watch: Result<impl Stream<Item = Result<Event<C>, CallError<E>>>, CallError<E>>, count: usize,
) -> Result<Vec<Vec<C>>, Failure> {
    let mut watch = Box::pin(answered(watch, "`changes`")?);
    let mut pieces: Vec<Vec<C>> = Vec::new();
    while pieces.iter().map(Vec::len).sum::<usize>() < count {
        let event = watch.next().await.ok_or_else(|| Failure::new("the watch ended"))?;
        match answered(event, "`changes`")? {
            Event::Changes(changes) => pieces.push(changes),
            Event::Progress(_) => {}
        }
    }
    Ok(pieces)
}

/// The value in few words.
pub(crate) fn shown(value: &impl Debug) -> String {
    let mut text = format!("{value:?}");
    if text.len() > SHOWN_BYTES {
        text.truncate(text.floor_char_boundary(SHOWN_BYTES));
        text.push_str("...");
    }
    text
}
