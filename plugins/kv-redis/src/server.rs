//! Calls to the server, and what scripts are told and answer. Must not know what a store means, nor how a connection is made.
//!
//! Its invariant: a call that failed on the way leaves no connection behind, so no answer is ever taken for another's.

use std::time::{Duration, Instant};

use platform_sdk::kv::{Entry, Error, MAX_COMMIT_BYTES, Result};
use redis::{ConnectionLike, ErrorKind, RedisError, Script, ScriptInvocation, Value};

use crate::link::{Address, Link};

/// The time, of which a guest with WASI has no other source.
#[expect(clippy::disallowed_methods, reason = "the host's clock is out of a guest's reach")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// A connection that was used so lately is taken to be open still.
const SURELY_OPEN: Duration = Duration::from_secs(1);

/// The scripts, each of which Redis runs as one step.
pub(crate) struct Scripts {
    pub(crate) read: Script,
    pub(crate) commit: Script,
    pub(crate) increment: Script,
    pub(crate) scan: Script,
    pub(crate) changes: Script,
    pub(crate) used: Script,
    pub(crate) fences: Script,
    pub(crate) restore: Script,
}

impl Scripts {
    pub(crate) fn new() -> Self {
        let script = |body: &str| Script::new(&[include_str!("space.lua"), body].concat());
        let writing = |body: &str| script(&[include_str!("write.lua"), body].concat());
        Self {
            read: script(include_str!("read.lua")),
            commit: writing(include_str!("commit.lua")),
            increment: writing(include_str!("increment.lua")),
            scan: script(include_str!("scan.lua")),
            changes: script(include_str!("changes.lua")),
            used: script(include_str!("used.lua")),
            fences: script(include_str!("fences.lua")),
            restore: script(include_str!("restore.lua")),
        }
    }
}

/// A server, and the connection to it once there was a call.
pub(crate) struct Server {
    address: Address,
    open: Option<(Link, Instant)>,
}

impl Server {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, open: None }
    }

    pub(crate) fn invoke(&mut self, script: &ScriptInvocation<'_>) -> Result<Value> {
        self.call(|connection| script.invoke(connection))
    }

    /// Waits until the stream has an entry after a revision.
    pub(crate) fn wait(&mut self, stream: &str, after: u64, wait_ms: u64) -> Result<()> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(1).arg("BLOCK").arg(wait_ms);
        command.arg("STREAMS").arg(stream).arg(format!("{after}-{}", u64::MAX));
        self.call(|connection| command.query::<Value>(connection)).map(drop)
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Link) -> redis::RedisResult<T>) -> Result<T> {
        let mut connection = self.connection()?;
        match call(&mut connection) {
            Ok(answer) => {
                self.open = Some((connection, now()));
                Ok(answer)
            }
            Err(error) => {
                // What the server refused it has answered; anything else leaves the connection in an unknown state.
                if matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension) {
                    self.open = Some((connection, now()));
                }
                Err(failure(&error))
            }
        }
    }

    fn connection(&mut self) -> Result<Link> {
        if let Some((mut connection, used)) = self.open.take()
            && (used.elapsed() < SURELY_OPEN || connection.check_connection())
        {
            return Ok(connection);
        }
        Link::open(&self.address).map_err(|error| failure(&error))
    }
}

/// Trying again makes sense unless the server said otherwise; a write may have been made when the connection broke.
fn failure(error: &RedisError) -> Error {
    let why = format!("the Redis server: {error}");
    let may_pass = matches!(error.code(), Some("OOM" | "MISCONF" | "LOADING" | "BUSY" | "READONLY" | "CLUSTERDOWN"));
    if may_pass || error.is_io_error() || error.is_unrecoverable_error() {
        Error::Unavailable(why)
    } else {
        Error::Other(why)
    }
}

fn unexpected(value: &Value) -> Error {
    let kind = match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) => "a text",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    Error::Other(format!("the Redis server answered with {kind} where a script answers otherwise"))
}

/// A list that a script answers with.
pub(crate) fn list(value: Value) -> Result<std::vec::IntoIter<Value>> {
    match value {
        Value::Array(values) => Ok(values.into_iter()),
        other => Err(unexpected(&other)),
    }
}

pub(crate) fn next(values: &mut impl Iterator<Item = Value>) -> Value {
    values.next().unwrap_or(Value::Nil)
}

pub(crate) fn count(value: &Value) -> Result<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|_negative| unexpected(value)),
        other => Err(unexpected(other)),
    }
}

pub(crate) fn bytes(value: Value) -> Result<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(unexpected(&other)),
    }
}

pub(crate) fn text(value: Value) -> Result<String> {
    String::from_utf8(bytes(value)?).map_err(|_not_utf8| {
        Error::Other("the Redis server holds a key that is no UTF-8; nobody else may write there".into())
    })
}

/// A value, its revision, and when it expires if it does.
pub(crate) fn entry(values: &mut impl Iterator<Item = Value>) -> Result<Entry> {
    let (value, revision) = (bytes(next(values))?, count(&next(values))?);
    Ok(Entry { value, revision, expires_ms: expires(&next(values))? })
}

pub(crate) fn expires(value: &Value) -> Result<Option<u64>> {
    if *value == Value::Nil { Ok(None) } else { count(value).map(Some) }
}

/// What a read of several keys holds; a number where it is more than an answer may be.
pub(crate) fn entries(value: Value) -> Result<Vec<Option<Entry>>> {
    if let Value::Int(size) = value {
        return Err(Error::TooLarge(format!("the keys hold {size} bytes, the limit is {MAX_COMMIT_BYTES}")));
    }
    let found = list(value)?.map(|found| match found {
        Value::Nil => Ok(None),
        found => entry(&mut list(found)?).map(Some),
    });
    found.collect()
}
