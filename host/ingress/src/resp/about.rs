//! What is told of the daemon: `INFO`, `COMMAND` and `CONFIG GET`.
//!
//! Owns the answers that clients and tools ask for when they connect; must not run anything. Invariant: nothing is told
//! that a caller without a token for control may not know.

use bytes::Bytes;

use super::{
    command::{Spec, TABLE},
    glob::Glob,
    refusal::Refusal,
    reply::Reply,
};

/// Version of Redis whose behaviour the commands follow; clients look at it to know what they may send.
pub(super) const REDIS_VERSION: &str = "7.2.0";

/// What `INFO` tells.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) version: &'a str,
    pub(super) uptime_s: u64,
    pub(super) connections: usize,
    pub(super) database: usize,
    /// Keys in it; none when they can't be counted.
    pub(super) keys: Option<u64>,
}

/// `INFO [SECTION...]`.
pub(super) fn info(facts: &Facts<'_>, sections: &[Bytes]) -> Reply {
    let Facts { version, uptime_s, connections, database, keys } = facts;
    let all = [
        (
            "Server",
            format!(
                "redis_version:{REDIS_VERSION}\r\nredis_mode:standalone\r\nplatform_version:{version}\r\nprocess_id:{}\r\n\
                 uptime_in_seconds:{uptime_s}\r\n",
                std::process::id()
            ),
        ),
        ("Clients", format!("connected_clients:{connections}\r\n")),
        ("Persistence", "loading:0\r\naof_enabled:1\r\n".to_owned()),
        ("Replication", "role:master\r\nconnected_slaves:0\r\n".to_owned()),
        ("Cluster", "cluster_enabled:0\r\n".to_owned()),
        (
            "Keyspace",
            keys.filter(|keys| *keys > 0)
                .map(|keys| format!("db{database}:keys={keys},expires=0,avg_ttl=0\r\n"))
                .unwrap_or_default(),
        ),
    ];
    let wanted = |name: &str| {
        sections.is_empty()
            || sections.iter().any(|section| {
                [name, "all", "default", "everything"].iter().any(|one| section.eq_ignore_ascii_case(one.as_bytes()))
            })
    };
    let parts: Vec<String> =
        all.into_iter().filter(|(name, _)| wanted(name)).map(|(name, text)| format!("# {name}\r\n{text}")).collect();
    Reply::Text(parts.join("\r\n"))
}

/// `COMMAND [COUNT | LIST | INFO | DOCS]`.
pub(super) fn command(arguments: &[Bytes]) -> Result<Reply, Refusal> {
    let Some((word, names)) = arguments.split_first() else {
        return Ok(Reply::Array(TABLE.iter().map(describe).collect()));
    };
    match word.to_ascii_lowercase().as_slice() {
        b"count" => Ok(Reply::count(TABLE.len())),
        b"list" => Ok(Reply::Array(TABLE.iter().map(|spec| Reply::bulk(spec.name)).collect())),
        b"info" if names.is_empty() => Ok(Reply::Array(TABLE.iter().map(describe).collect())),
        b"info" => {
            Ok(Reply::Array(names.iter().map(|name| Spec::named(name).map_or(Reply::NullArray, describe)).collect()))
        }
        b"docs" => {
            let wanted = |spec: &&Spec| {
                names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(spec.name.as_bytes()))
            };
            let docs = |spec: &Spec| {
                let group = if spec.keys.0 > 0 { "string" } else { "connection" };
                let members = [("summary", "See docs/kv.md of the platform."), ("group", group), ("since", "1.0.0")];
                let members = members.map(|(name, text)| (Reply::bulk(name), Reply::bulk(text)));
                (Reply::bulk(spec.name), Reply::Map(members.into()))
            };
            Ok(Reply::Map(TABLE.iter().filter(wanted).map(docs).collect()))
        }
        other => Err(Refusal::UnknownSubcommand(String::from_utf8_lossy(other).into_owned(), "COMMAND HELP")),
    }
}

fn describe(spec: &Spec) -> Reply {
    let (first, last, step) = spec.keys;
    Reply::Array(vec![
        Reply::bulk(spec.name),
        Reply::count(spec.arity),
        Reply::Array(spec.flags.iter().map(|flag| Reply::Simple(flag)).collect()),
        Reply::count(first),
        Reply::count(last),
        Reply::count(step),
        // Categories of access lists, tips, key specifications, subcommands: none.
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

/// `CONFIG GET PATTERN...`; what else there is under `CONFIG` changes settings, which stand in the configuration file.
pub(super) fn config(arguments: &[Bytes], databases: usize) -> Result<Reply, Refusal> {
    let (word, patterns) = arguments.split_first().ok_or(Refusal::Arity("config"))?;
    if !word.eq_ignore_ascii_case(b"get") {
        let message = "only CONFIG GET is served: settings stand in platform.toml, see `platform config show`";
        return Err(Refusal::Other(message.to_owned()));
    }
    if patterns.is_empty() {
        return Err(Refusal::Arity("config|get"));
    }
    let settings = [
        ("appendonly", "yes".to_owned()),
        ("appendfsync", "always".to_owned()),
        ("databases", databases.to_string()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("proto-max-bulk-len", (8 << 20).to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ];
    let globs: Vec<Glob> = patterns.iter().map(|pattern| Glob::new(&pattern.to_ascii_lowercase())).collect();
    let wanted = settings.into_iter().filter(|(name, _)| globs.iter().any(|glob| glob.matches(name.as_bytes())));
    Ok(Reply::Map(wanted.map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect()))
}
