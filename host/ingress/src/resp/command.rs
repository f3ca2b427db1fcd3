//! The commands: their names, how many arguments they take, and what they are.
//!
//! Owns the table that `COMMAND` tells and that requests are looked up in; what a command does is in the file of its
//! family. Invariant: a command is in this table or it is unknown.

use bytes::Bytes;

use super::{
    data::{self, Data},
    frame::Request,
    refusal::Refusal,
};

/// Reads the arguments of a data command, which are as many as its arity asks for.
pub(super) type Parse = fn(&'static str, &[Bytes]) -> Result<Data, Refusal>;

/// What a command works on.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Keys: it can run on a draft, in a batch or a transaction.
    Data(Parse),
    /// Everything that a namespace holds.
    Browse(Browse),
    /// The connection, or the daemon.
    Session(Session),
}

/// Commands that look through a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Browse {
    Scan,
    Keys,
    DbSize,
}

/// Commands of the connection and the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Session {
    Ping,
    Echo,
    Quit,
    Reset,
    Hello,
    Auth,
    Select,
    Client,
    Info,
    Command,
    Config,
    Watch,
    Unwatch,
    Multi,
    Exec,
    Discard,
}

impl Session {
    /// Whether it is answered before anybody has said who calls.
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Auth | Self::Hello | Self::Quit | Self::Reset)
    }
}

/// One command.
pub(super) struct Spec {
    pub(super) name: &'static str,
    /// The name under which it is counted.
    pub(super) metric: &'static str,
    /// Words of a request with the name itself; at least so many when negative.
    pub(super) arity: i8,
    /// Place of the first key, of the last (negative: from the end), and the step between them; zeros when there is none.
    pub(super) keys: (i8, i8, i8),
    pub(super) flags: &'static [&'static str],
    pub(super) kind: Kind,
}

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const REMOVE: &[&str] = &["write"];
const LOOK: &[&str] = &["readonly"];
const OPEN: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth"];
const ADMIN: &[&str] = &["loading", "stale"];
const NONE: (i8, i8, i8) = (0, 0, 0);
const ONE: (i8, i8, i8) = (1, 1, 1);
const ALL: (i8, i8, i8) = (1, -1, 1);
const PAIRS: (i8, i8, i8) = (1, -1, 2);

macro_rules! table {
    ($($name:literal $arity:literal $keys:ident $flags:ident $kind:expr;)+) => {
        /// All commands, by family.
        pub(super) const TABLE: &[Spec] = &[$(Spec {
            name: $name,
            metric: concat!("resp/", $name),
            arity: $arity,
            keys: $keys,
            flags: $flags,
            kind: $kind,
        }),+];
    };
}

table! {
    "get" 2 ONE READ Kind::Data(data::get);
    "strlen" 2 ONE READ Kind::Data(data::strlen);
    "mget" -2 ALL READ Kind::Data(data::mget);
    "set" -3 ONE WRITE Kind::Data(data::set);
    "setnx" 3 ONE WRITE Kind::Data(data::setnx);
    "setex" 4 ONE WRITE Kind::Data(data::setex);
    "psetex" 4 ONE WRITE Kind::Data(data::psetex);
    "getset" 3 ONE WRITE Kind::Data(data::getset);
    "getdel" 2 ONE REMOVE Kind::Data(data::getdel);
    "getex" -2 ONE WRITE Kind::Data(data::getex);
    "append" 3 ONE WRITE Kind::Data(data::append);
    "mset" -3 PAIRS WRITE Kind::Data(data::mset);
    "msetnx" -3 PAIRS WRITE Kind::Data(data::msetnx);
    "incr" 2 ONE WRITE Kind::Data(data::incr);
    "decr" 2 ONE WRITE Kind::Data(data::decr);
    "incrby" 3 ONE WRITE Kind::Data(data::incrby);
    "decrby" 3 ONE WRITE Kind::Data(data::decrby);
    "del" -2 ALL REMOVE Kind::Data(data::del);
    "unlink" -2 ALL REMOVE Kind::Data(data::del);
    "exists" -2 ALL READ Kind::Data(data::exists);
    "type" 2 ONE READ Kind::Data(data::kind);
    "ttl" 2 ONE READ Kind::Data(data::ttl);
    "pttl" 2 ONE READ Kind::Data(data::pttl);
    "expire" -3 ONE WRITE Kind::Data(data::expire);
    "pexpire" -3 ONE WRITE Kind::Data(data::pexpire);
    "expireat" -3 ONE WRITE Kind::Data(data::expireat);
    "pexpireat" -3 ONE WRITE Kind::Data(data::pexpireat);
    "persist" 2 ONE WRITE Kind::Data(data::persist);
    "scan" -2 NONE LOOK Kind::Browse(Browse::Scan);
    "keys" 2 NONE LOOK Kind::Browse(Browse::Keys);
    "dbsize" 1 NONE LOOK Kind::Browse(Browse::DbSize);
    "watch" -2 ALL READ Kind::Session(Session::Watch);
    "unwatch" 1 NONE READ Kind::Session(Session::Unwatch);
    "multi" 1 NONE READ Kind::Session(Session::Multi);
    "exec" 1 NONE READ Kind::Session(Session::Exec);
    "discard" 1 NONE READ Kind::Session(Session::Discard);
    "ping" -1 NONE ADMIN Kind::Session(Session::Ping);
    "echo" 2 NONE ADMIN Kind::Session(Session::Echo);
    "quit" -1 NONE OPEN Kind::Session(Session::Quit);
    "reset" 1 NONE OPEN Kind::Session(Session::Reset);
    "hello" -1 NONE OPEN Kind::Session(Session::Hello);
    "auth" -2 NONE OPEN Kind::Session(Session::Auth);
    "select" 2 NONE ADMIN Kind::Session(Session::Select);
    "client" -2 NONE ADMIN Kind::Session(Session::Client);
    "info" -1 NONE ADMIN Kind::Session(Session::Info);
    "command" -1 NONE ADMIN Kind::Session(Session::Command);
    "config" -2 NONE ADMIN Kind::Session(Session::Config);
}

impl Spec {
    /// The command of a name, whatever its case.
    pub(super) fn named(name: &[u8]) -> Option<&'static Self> {
        TABLE.iter().find(|spec| name.eq_ignore_ascii_case(spec.name.as_bytes()))
    }
}

/// The command of a request and its arguments.
pub(super) fn find(request: &Request) -> Result<(&'static Spec, &[Bytes]), Refusal> {
    let (name, arguments) = request.split_first().map_or((&b""[..], &[][..]), |(name, rest)| (name, rest));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let spec = Spec::named(name).ok_or_else(|| {
        Refusal::UnknownCommand(text(name), arguments.iter().take(8).map(|argument| text(argument)).collect())
    })?;
    let words = request.len();
    let wanted = usize::from(spec.arity.unsigned_abs());
    let fits = if spec.arity < 0 { words >= wanted } else { words == wanted };
    if fits { Ok((spec, arguments)) } else { Err(Refusal::Arity(spec.name)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn names_have_no_case_and_one_meaning() {
        let mut names: Vec<_> = TABLE.iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        assert_eq!(find(&request("gEt a")).ok().map(|(spec, _)| spec.name), Some("get"));
    }

    #[test]
    fn refusals_are_in_the_words_of_redis() {
        let refused = |line: &str| find(&request(line)).err().map(|refusal| refusal.to_string()).unwrap();
        assert_eq!(refused("SUBSCRIBE a b"), "ERR unknown command 'SUBSCRIBE', with args beginning with: 'a' 'b' ");
        for line in ["get", "get a b", "set a", "mget", "ttl a b"] {
            let name = line.split(' ').next().unwrap();
            assert_eq!(refused(line), format!("ERR wrong number of arguments for '{name}' command"));
        }
        assert!(refused(&format!("{} x", "y".repeat(5000))).len() < 300);
        assert!(find(&Vec::new()).is_err());
    }
}
