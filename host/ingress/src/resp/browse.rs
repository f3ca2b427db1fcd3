//! `SCAN`, `KEYS` and `DBSIZE`: looking through a namespace.
//!
//! Owns cursors and the bounds of a look; must not know connections. Invariant: a cursor goes on after a key in byte order,
//! so that a scan gives every key that was there from its first page to its last; and a cursor is good only for whom it
//! was given to, in the namespace it was given in.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use parking_lot::Mutex;
use platform_capability::Call;

use super::{command::Browse, data::integer, engine::Engine, glob::Glob, refusal::Refusal, reply::Reply};

/// Keys that a page of `SCAN` looks at when it names no `COUNT`.
const COUNT: u32 = 10;
/// Most keys that it looks at.
const COUNT_MAX: u32 = 1000;
/// Most keys that `KEYS` answers.
const KEYS_MAX: usize = 10_000;
/// Cursors that are remembered; the oldest give way.
const CURSORS_MAX: usize = 10_000;

/// Where scans go on, by cursor. Cursors are numbers by the protocol, and a key does not fit into one.
#[derive(Debug, Default)]
pub(super) struct Cursors(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    positions: HashMap<u64, Position>,
    order: VecDeque<u64>,
}

#[derive(Debug)]
struct Position {
    namespace: Arc<str>,
    subject: String,
    after: String,
}

impl Cursors {
    fn put(&self, call: &Call, after: String) -> u64 {
        let position = Position { namespace: Arc::clone(&call.namespace), subject: subject(call), after };
        let mut table = self.0.lock();
        // Random, so that nobody comes by the cursor of another; within 63 bits, which clients in any language read.
        let cursor = loop {
            let cursor = rand::random::<u64>() >> 1;
            if cursor != 0 && !table.positions.contains_key(&cursor) {
                break cursor;
            }
        };
        table.positions.insert(cursor, position);
        table.order.push_back(cursor);
        while table.order.len() > CURSORS_MAX {
            if let Some(oldest) = table.order.pop_front() {
                table.positions.remove(&oldest);
            }
        }
        cursor
    }

    fn get(&self, call: &Call, cursor: u64) -> Result<String, Refusal> {
        let table = self.0.lock();
        let position = table.positions.get(&cursor).ok_or(Refusal::Cursor)?;
        let ours = position.namespace == call.namespace && position.subject == subject(call);
        if ours { Ok(position.after.clone()) } else { Err(Refusal::Cursor) }
    }
}

fn subject(call: &Call) -> String {
    call.caller.as_ref().map(|caller| caller.subject.clone()).unwrap_or_default()
}

/// Runs one of the commands.
pub(super) async fn run(
    command: Browse, arguments: &[Bytes], call: &Call, engine: &Engine, cursors: &Cursors,
) -> Result<Reply, Refusal> {
    match command {
        Browse::DbSize => Ok(Reply::count(engine.kv().used(call).await?.keys)),
        Browse::Keys => keys(Glob::new(arguments.first().map_or(&[], |pattern| &pattern[..])), call, engine).await,
        Browse::Scan => scan(Scan::read(arguments)?, call, engine, cursors).await,
    }
}

/// The arguments of `SCAN`.
#[derive(Debug, PartialEq, Eq)]
struct Scan {
    cursor: u64,
    pattern: Option<Glob>,
    count: u32,
    /// Whether keys of the only type that there is are wanted.
    wanted: bool,
}

impl Scan {
    fn read(arguments: &[Bytes]) -> Result<Self, Refusal> {
        let (cursor, options) = arguments.split_first().ok_or(Refusal::Arity("scan"))?;
        let cursor = std::str::from_utf8(cursor).ok().and_then(|text| text.parse().ok());
        let mut scan = Self { cursor: cursor.ok_or(Refusal::Cursor)?, pattern: None, count: COUNT, wanted: true };
        let (pairs, rest) = options.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Refusal::Syntax);
        }
        for [word, argument] in pairs {
            match word.to_ascii_uppercase().as_slice() {
                b"MATCH" => scan.pattern = Some(Glob::new(argument)),
                b"COUNT" => {
                    let count = u32::try_from(integer(argument)?).map_err(|_out_of_range| Refusal::Syntax)?;
                    if count == 0 {
                        return Err(Refusal::Syntax);
                    }
                    scan.count = count.min(COUNT_MAX);
                }
                b"TYPE" => scan.wanted = argument.eq_ignore_ascii_case(b"string"),
                _ => return Err(Refusal::Syntax),
            }
        }
        Ok(scan)
    }
}

async fn scan(scan: Scan, call: &Call, engine: &Engine, cursors: &Cursors) -> Result<Reply, Refusal> {
    let mut after = if scan.cursor == 0 { None } else { Some(cursors.get(call, scan.cursor)?) };
    let prefix = scan.pattern.as_ref().map(Glob::prefix).unwrap_or_default();
    let mut found = Vec::new();
    let (mut looked, mut more) = (0, scan.wanted);
    while more && looked < scan.count {
        let page = engine.kv().scan(call, &prefix, after.as_deref(), scan.count - looked).await?;
        looked += u32::try_from(page.len()).unwrap_or(u32::MAX);
        more = !page.is_empty();
        after = page.last().map(|(key, _)| key.clone()).or(after);
        let matches = |key: &String| scan.pattern.as_ref().is_none_or(|pattern| pattern.matches(key.as_bytes()));
        found.extend(page.into_iter().map(|(key, _)| key).filter(matches).map(Reply::bulk));
    }
    let cursor = match after {
        Some(after) if more => cursors.put(call, after),
        _ => 0,
    };
    Ok(Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::Array(found)]))
}

async fn keys(pattern: Glob, call: &Call, engine: &Engine) -> Result<Reply, Refusal> {
    let prefix = pattern.prefix();
    let mut found = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = engine.kv().scan(call, &prefix, after.as_deref(), COUNT_MAX).await?;
        let Some((last, _)) = page.last() else { return Ok(Reply::Array(found)) };
        after = Some(last.clone());
        found.extend(
            page.into_iter().map(|(key, _)| key).filter(|key| pattern.matches(key.as_bytes())).map(Reply::bulk),
        );
        if found.len() > KEYS_MAX {
            return Err(Refusal::Other(format!("more than {KEYS_MAX} keys match; use SCAN")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use platform_capability::CallContext;

    use super::*;

    fn call(namespace: &str) -> Call {
        Arc::new(CallContext::new(None, &namespace.parse().unwrap(), Duration::from_secs(1)))
    }

    fn arguments(line: &str) -> Vec<Bytes> {
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn cursors_are_for_one_namespace_and_bounded() {
        let cursors = Cursors::default();
        let first = cursors.put(&call("a"), "k".to_owned());
        assert_eq!(cursors.get(&call("a"), first), Ok("k".to_owned()));
        assert_eq!(cursors.get(&call("b"), first), Err(Refusal::Cursor));
        assert_eq!(cursors.get(&call("a"), first ^ 1), Err(Refusal::Cursor));
        for _ in 0..CURSORS_MAX {
            cursors.put(&call("a"), "k".to_owned());
        }
        assert_eq!(cursors.get(&call("a"), first), Err(Refusal::Cursor), "the oldest gave way");
        assert_eq!(cursors.0.lock().positions.len(), CURSORS_MAX);
    }

    #[test]
    fn options_of_scan() {
        let scan = Scan::read(&arguments("7 COUNT 5000 match a* TYPE string")).unwrap();
        assert_eq!(scan, Scan { cursor: 7, pattern: Some(Glob::new(b"a*")), count: 1000, wanted: true });
        assert!(!Scan::read(&arguments("0 TYPE hash")).unwrap().wanted);
        for line in ["x", "-1", "0 COUNT", "0 COUNT 0", "0 COUNT -1", "0 LIMIT 1"] {
            assert!(Scan::read(&arguments(line)).is_err(), "{line}");
        }
    }
}
