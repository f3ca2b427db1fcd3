//! Commands against a store that is a map, one by one and together.

use std::collections::{BTreeMap, BTreeSet};

use platform_capability::kv::{Action, Condition, Entry, Expiry, Write};
use proptest::prelude::*;

use super::*;
use crate::resp::command;

/// A store that follows `platform:kv/store` as far as drafts need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Store {
    now_ms: u64,
    entries: BTreeMap<String, (Vec<u8>, u64, Option<u64>)>,
    revision: u64,
}

impl Store {
    fn get(&self, key: &str) -> Option<Entry> {
        let (value, revision, expires_ms) = self.entries.get(key)?.clone();
        (expires_ms.is_none_or(|at| at > self.now_ms)).then_some(Entry { value, revision, expires_ms })
    }

    fn allows(&self, writes: &[Write]) -> bool {
        let keys: BTreeSet<&String> = writes.iter().map(|write| &write.key).collect();
        assert_eq!(keys.len(), writes.len(), "a key is written once");
        writes.iter().all(|write| {
            let revision = self.get(&write.key).map_or(0, |entry| entry.revision);
            match write.condition {
                Condition::Always => true,
                Condition::Absent => revision == 0,
                Condition::Present => revision > 0,
                Condition::At(wanted) => revision > 0 && revision == wanted,
            }
        })
    }

    fn commit(&mut self, writes: Vec<Write>) {
        self.revision += 1;
        for Write { key, action, .. } in writes {
            match action {
                Action::Put(content) => {
                    let expires_ms = match content.expiry {
                        Expiry::Never => None,
                        Expiry::AfterMs(ms) => Some(self.now_ms + ms),
                        Expiry::Keep => self.get(&key).and_then(|entry| entry.expires_ms),
                    };
                    self.entries.insert(key, (content.value, self.revision, expires_ms));
                }
                Action::Delete => drop(self.entries.remove(&key)),
                Action::Check => {}
            }
        }
    }

    /// Runs commands on one draft, as the engine does; the answers, and what is to be written.
    fn draft(&self, commands: &[Data], strict: bool) -> (Vec<Reply>, Vec<Write>) {
        let reads = commands.iter().filter(|command| command.access() != Access::Blind);
        let keys: BTreeSet<&str> = reads.flat_map(Data::keys).collect();
        let found = keys.iter().map(|key| self.get(key)).collect();
        let mut draft = Draft::new(self.now_ms, strict, &keys, found);
        let replies = commands.iter().map(|command| command.run(&mut draft).unwrap_or_else(Reply::from)).collect();
        (replies, draft.writes())
    }

    /// Runs commands while nobody else writes.
    fn run(&mut self, commands: &[Data], strict: bool) -> Vec<Reply> {
        let (replies, writes) = self.draft(commands, strict);
        assert!(self.allows(&writes), "nobody else writes: {writes:?}");
        self.commit(writes);
        replies
    }

    /// What it holds, revisions left aside.
    fn shown(&self) -> Vec<(String, Vec<u8>, Option<u64>)> {
        let keys = self.entries.keys().filter_map(|key| Some((key.clone(), self.get(key)?)));
        keys.map(|(key, entry)| (key, entry.value, entry.expires_ms)).collect()
    }
}

fn parse(line: &str) -> Result<Data, Refusal> {
    let request = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
    let (spec, arguments) = command::find(&request)?;
    match spec.kind {
        command::Kind::Data(parse) => parse(spec.name, arguments),
        _ => panic!("`{line}` is no command on keys"),
    }
}

/// Runs lines one by one; the answers as text.
fn told(store: &mut Store, lines: &[&str]) -> Vec<String> {
    let shown = |reply: Reply| match reply {
        Reply::Simple(word) => word.to_owned(),
        Reply::Error(message) => message,
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(bytes) => format!("\"{}\"", bytes.escape_ascii()),
        Reply::Null => "nil".to_owned(),
        other => format!("{other:?}"),
    };
    let run = |line: &&str| match parse(line) {
        Ok(data) => shown(store.run(&[data], false).remove(0)),
        Err(refusal) => refusal.to_string(),
    };
    lines.iter().map(run).collect()
}

fn check(now_ms: u64, script: &[(&str, &str)]) {
    let mut store = Store { now_ms, ..Store::default() };
    for (line, expected) in script {
        assert_eq!(told(&mut store, &[line]), [*expected], "{line}");
    }
}

#[test]
fn values() {
    check(
        1_000_000,
        &[
            ("get a", "nil"),
            ("set a 1", "OK"),
            ("set a 2 NX", "nil"),
            ("set b 2 XX", "nil"),
            ("set a 2 XX GET", "\"1\""),
            ("set b 1 NX GET", "nil"),
            ("get b", "\"1\""),
            ("setnx a 3", "0"),
            ("setnx c 3", "1"),
            ("getset c 4", "\"3\""),
            ("strlen c", "1"),
            ("append c xy", "3"),
            ("append new xy", "2"),
            ("get c", "\"4xy\""),
            ("getdel c", "\"4xy\""),
            ("getdel c", "nil"),
            ("msetnx d 1 a 2", "0"),
            ("msetnx d 1 e 2", "1"),
            ("mset d 5 d 6", "OK"),
            ("get d", "\"6\""),
            ("exists a a gone", "2"),
            ("del a a gone d", "2"),
            ("type b", "string"),
            ("type a", "none"),
        ],
    );
}

#[test]
fn numbers() {
    check(
        1_000_000,
        &[
            ("incr n", "1"),
            ("incrby n 9", "10"),
            ("decr n", "9"),
            ("decrby n 10", "-1"),
            ("incrby n 9223372036854775807", "9223372036854775806"),
            ("incrby n 2", "ERR increment or decrement would overflow"),
            ("decrby n -9223372036854775808", "ERR increment or decrement would overflow"),
            ("incrby n 1.5", "ERR value is not an integer or out of range"),
            ("incrby n +1", "ERR value is not an integer or out of range"),
            ("set t 007", "OK"),
            ("incr t", "ERR value is not an integer or out of range"),
        ],
    );
}

#[test]
fn times_to_live() {
    check(
        1_000_000,
        &[
            ("ttl a", "-2"),
            ("set a 1", "OK"),
            ("ttl a", "-1"),
            ("expire a 10", "1"),
            ("ttl a", "10"),
            ("pttl a", "10000"),
            ("expire a 20 NX", "0"),
            ("expire a 5 GT", "0"),
            ("expire a 20 GT", "1"),
            ("expire a 30 LT", "0"),
            ("expire a 5 LT XX", "1"),
            ("expire a 5 NX XX", "ERR NX and XX, GT or LT options at the same time are not compatible"),
            ("set a 2 KEEPTTL", "OK"),
            ("append a 3", "2"),
            ("ttl a", "5"),
            ("set a 2", "OK"),
            ("ttl a", "-1"),
            ("pexpireat a 1000500", "1"),
            ("pttl a", "500"),
            ("persist a", "1"),
            ("persist a", "0"),
            ("getex a EX 7", "\"2\""),
            ("ttl a", "7"),
            ("getex a PERSIST", "\"2\""),
            ("ttl a", "-1"),
            ("expire a -1", "1"),
            ("get a", "nil"),
            ("expire a 1", "0"),
            ("setex a 0 1", "ERR invalid expire time in 'setex' command"),
            ("psetex a 100 1", "OK"),
            ("pttl a", "100"),
            ("set a 1 EX 0", "ERR invalid expire time in 'set' command"),
            ("set a 1 EX 9223372036854775807", "ERR invalid expire time in 'set' command"),
            ("set a 1 PX 9223372036854775807", "ERR invalid expire time in 'set' command"),
            ("set a 1 PXAT 1", "OK"),
            ("get a", "nil"),
            ("set a 1 EX", "ERR syntax error"),
            ("set a 1 EX 1 PX 1", "ERR syntax error"),
            ("set a 1 KEEPTTL EX 1", "ERR syntax error"),
            ("set a 1 NX XX", "ERR syntax error"),
            ("expire a x", "ERR value is not an integer or out of range"),
        ],
    );
}

#[test]
fn keys_and_values_have_bounds() {
    for (bytes, why) in
        [(&b""[..], "1 to 1024"), (&[b'k'; 1025], "1 to 1024"), (b"\xff", "UTF-8"), (b"a\nb", "control")]
    {
        assert!(key(bytes).unwrap_err().to_string().contains(why));
    }
    let large = Bytes::from(vec![0; VALUE_BYTES_MAX + 1]);
    let refused = value(&large).unwrap_err().to_string();
    assert_eq!(refused, "ERR string exceeds maximum allowed size (8388608 bytes)");
    let mut store = Store::default();
    let half = Data::Append("a".into(), large.slice(..VALUE_BYTES_MAX / 2 + 1));
    store.run(std::slice::from_ref(&half), false);
    assert_eq!(store.run(&[half], false), [Reply::Error(refused)]);
    let many = vec![Bytes::from_static(b"k"); KEYS_MAX + 1];
    assert!(matches!(del("del", &many), Err(Refusal::Keys(..))));
    assert!(matches!(mset("mset", &many), Err(Refusal::Arity(_))));
}

fn line() -> impl Strategy<Value = String> {
    let key = || prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        key().prop_map(|key| format!("get {key}")),
        (key(), key()).prop_map(|(a, b)| format!("mget {a} {b}")),
        (key(), 0..20_i64).prop_map(|(key, value)| format!("set {key} {value}")),
        (key(), prop::sample::select(vec!["NX", "XX", "GET", "KEEPTTL", "PX 50", "PXAT 10", "XX GET PX 9"]))
            .prop_map(|(key, option)| format!("set {key} 7 {option}")),
        key().prop_map(|key| format!("getdel {key}")),
        (key(), -3..4_i64).prop_map(|(key, by)| format!("incrby {key} {by}")),
        key().prop_map(|key| format!("append {key} 1")),
        (key(), key()).prop_map(|(a, b)| format!("del {a} {b}")),
        (key(), key()).prop_map(|(a, b)| format!("mset {a} 1 {b} 2")),
        (key(), key()).prop_map(|(a, b)| format!("msetnx {a} 1 {b} 2")),
        (key(), key()).prop_map(|(a, b)| format!("exists {a} {b}")),
        (key(), -2..90_i64).prop_map(|(key, ms)| format!("pexpire {key} {ms}")),
        (key(), prop::sample::select(vec!["NX", "XX", "GT", "LT"]))
            .prop_map(|(key, o)| format!("pexpire {key} 40 {o}")),
        key().prop_map(|key| format!("persist {key}")),
        key().prop_map(|key| format!("pttl {key}")),
        key().prop_map(|key| format!("getex {key} PX 30")),
    ]
}

proptest! {
    /// Together they give the answers, and leave the keys, that they give and leave one by one.
    #[test]
    fn a_batch_is_its_commands_in_order(
        batches in prop::collection::vec((prop::collection::vec(line(), 1..8), any::<bool>(), 0_u64..40), 1..6),
    ) {
        let mut apart = Store { now_ms: 1_000_000, ..Store::default() };
        let mut together = apart.clone();
        for (lines, strict, pause_ms) in batches {
            let commands: Vec<Data> = lines.iter().map(|line| parse(line).unwrap()).collect();
            let one_by_one: Vec<Reply> =
                commands.iter().map(|command| apart.run(std::slice::from_ref(command), false).remove(0)).collect();
            prop_assert_eq!(together.run(&commands, strict), one_by_one, "{:?}", lines);
            prop_assert_eq!(together.shown(), apart.shown());
            apart.now_ms += pause_ms;
            together.now_ms += pause_ms;
        }
    }

    /// Where others write between read and commit, the commit is refused, or is what it would be after theirs.
    #[test]
    fn a_commit_that_is_made_came_after_those_before_it(
        first in prop::collection::vec(line(), 0..6), others in prop::collection::vec(line(), 0..3),
        ours in prop::collection::vec(line(), 1..6), strict: bool,
    ) {
        let parse = |lines: Vec<String>| -> Vec<Data> { lines.iter().map(|line| parse(line).unwrap()).collect() };
        let ours = parse(ours);
        let mut store = Store { now_ms: 1_000_000, ..Store::default() };
        store.run(&parse(first), false);
        let before = store.clone();
        let (replies, writes) = store.draft(&ours, strict);
        store.run(&parse(others), false);
        prop_assume!(!writes.is_empty() && store.allows(&writes));
        let mut after = store.clone();
        let expected: Vec<Reply> =
            ours.iter().map(|command| after.run(std::slice::from_ref(command), false).remove(0)).collect();
        store.commit(writes);
        prop_assert_eq!(store.shown(), after.shown());
        // Without a transaction, what is asked before anything is written may be answered from before.
        let quiet = (1..=ours.len()).take_while(|count| before.draft(&ours[..*count], false).1.is_empty()).count();
        for (place, command) in ours.iter().enumerate() {
            if strict || place >= quiet || command.access() != Access::Read {
                prop_assert_eq!(&replies[place], &expected[place], "{:?}", command);
            }
        }
    }

    #[test]
    fn any_arguments_are_read_or_refused(
        place in 0..command::TABLE.len(), arguments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), 0..7),
    ) {
        let spec = &command::TABLE[place];
        let mut request = vec![Bytes::from_static(spec.name.as_bytes())];
        request.extend(arguments.into_iter().map(Bytes::from));
        if let Ok((spec, arguments)) = command::find(&request)
            && let command::Kind::Data(parse) = spec.kind
            && let Ok(data) = parse(spec.name, arguments)
        {
            Store::default().run(&[data], true);
        }
    }
}
