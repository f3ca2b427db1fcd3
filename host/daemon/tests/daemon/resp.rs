//! The RESP port as clients of Redis use it.
//!
//! Owns a connection of bytes; the real clients are in `clients`, what goes wrong is in `bad_input`.

mod bad_input;
mod clients;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    thread,
};

use crate::support::{Daemon, PATIENCE, place, text, wait_for};

/// A token for the namespaces `default` and `dev`, and one for a subject without any.
const SETTINGS: &str = r#"
[server.resp]
namespaces = ["default", "dev", "closed"]

[[server.identity.tokens]]
subject = "svc/cache"
token = "the-token-of-svc-cache"
namespaces = ["default", "dev"]
access = "data"
"#;
const TOKEN: &str = "the-token-of-svc-cache";

/// A daemon that serves clients of Redis, with more settings of that door.
fn start(data: &Path, more: &str) -> Daemon {
    let file = data.with_extension("toml");
    fs::write(&file, SETTINGS.replace("[server.resp]", &format!("[server.resp]\n{more}"))).unwrap();
    let arguments =
        ["--server-address", "127.0.0.1:0", "--resp-address", "127.0.0.1:0", "--config", file.to_str().unwrap()];
    Daemon::start_with(data, &arguments)
}

fn address(data: &Path) -> String {
    fs::read_to_string(data.join("resp-address")).unwrap().trim().to_owned()
}

/// A connection of bytes.
struct Wire(TcpStream);

impl Wire {
    fn open(data: &Path) -> Self {
        let stream = TcpStream::connect(address(data)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// One whose caller is known.
    fn known(data: &Path) -> Self {
        let mut wire = Self::open(data);
        wire.expect(&format!("AUTH {TOKEN}"), "+OK\r\n");
        wire
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn receive(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    /// Sends a line and expects an answer.
    fn expect(&mut self, line: &str, answer: &str) {
        self.send(format!("{line}\r\n").as_bytes());
        assert_eq!(text(&self.receive(answer.len())), answer, "{line}");
    }

    /// The next line of an answer.
    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.receive(1));
        }
        text(&line).trim_end().to_owned()
    }

    /// Sends a line and expects a bulk string, or none.
    fn value(&mut self, line: &str) -> Option<String> {
        self.send(format!("{line}\r\n").as_bytes());
        let length = self.line().strip_prefix('$')?.parse().ok()?;
        let value = text(&self.receive(length));
        self.receive(2);
        Some(value)
    }

    /// Whatever comes until the other side closes.
    fn rest(mut self) -> String {
        let mut bytes = Vec::new();
        let _reset = self.0.read_to_end(&mut bytes);
        text(&bytes)
    }
}

fn bulk(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

#[test]
fn transactions_are_all_or_none() {
    let (_root, data) = place();
    let daemon = start(&data, "");
    let (mut one, mut other) = (Wire::known(&data), Wire::known(&data));
    one.expect("SET a 1", "+OK\r\n");
    one.expect("MULTI", "+OK\r\n");
    one.expect("INCR a", "+QUEUED\r\n");
    one.expect("SET b x", "+QUEUED\r\n");
    one.expect("INCR b", "+QUEUED\r\n");
    other.expect("GET a", "$1\r\n1\r\n");
    one.expect("EXEC", "*3\r\n:2\r\n+OK\r\n-ERR value is not an integer or out of range\r\n");

    one.expect("WATCH a gone", "+OK\r\n");
    other.expect("SET a 5", "+OK\r\n");
    one.expect("MULTI", "+OK\r\n");
    one.expect("INCR a", "+QUEUED\r\n");
    one.expect("EXEC", "*-1\r\n");
    other.expect("GET a", "$1\r\n5\r\n");
    one.expect("WATCH gone", "+OK\r\n");
    other.expect("SET gone 1", "+OK\r\n");
    one.expect("MULTI", "+OK\r\n");
    one.expect("GET a", "+QUEUED\r\n");
    one.expect("EXEC", "*-1\r\n");
    one.expect("WATCH a", "+OK\r\n");
    one.expect("UNWATCH", "+OK\r\n");
    other.expect("EXPIRE a 100", ":1\r\n");
    one.expect("MULTI", "+OK\r\n");
    one.expect("TTL a", "+QUEUED\r\n");
    one.expect("EXEC", "*1\r\n:100\r\n");

    one.expect("MULTI", "+OK\r\n");
    one.expect("SET a 9", "+QUEUED\r\n");
    one.expect("NONSENSE", "-ERR unknown command 'NONSENSE', with args beginning with: \r\n");
    one.expect("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n");
    one.expect("GET a", "$1\r\n5\r\n");
    one.expect("MULTI", "+OK\r\n");
    one.expect("MULTI", "-ERR MULTI calls can not be nested\r\n");
    one.expect("WATCH a", "-ERR WATCH inside MULTI is not allowed\r\n");
    one.expect("SCAN 0", "-ERR Command not allowed inside a transaction\r\n");
    one.expect("DISCARD", "+OK\r\n");
    one.expect("EXEC", "-ERR EXEC without MULTI\r\n");
    one.expect("DISCARD", "-ERR DISCARD without MULTI\r\n");
    daemon.stop();
}

/// Counts with `WATCH`, as clients do that know no `INCR`; nothing is lost though all write the same key.
#[test]
fn watched_counts_add_up() {
    let (_root, data) = place();
    let daemon = start(&data, "");
    let writers: Vec<_> = (0..4)
        .map(|_| {
            let mut wire = Wire::known(&data);
            thread::spawn(move || {
                let mut made = 0;
                while made < 25 {
                    wire.expect("WATCH n", "+OK\r\n");
                    let seen = wire.value("GET n").map_or(0, |text| text.parse::<u32>().unwrap());
                    wire.expect("MULTI", "+OK\r\n");
                    wire.expect(&format!("SET n {}", seen + 1), "+QUEUED\r\n");
                    wire.send(b"EXEC\r\n");
                    match &wire.line()[..] {
                        "*1" => made += u32::from(wire.line() == "+OK"),
                        other => assert_eq!(other, "*-1"),
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(daemon.ok(&["kv", "get", "n"]), "100");
    daemon.stop();
}

#[test]
fn pipelines_keep_their_order() {
    let (_root, data) = place();
    let daemon = start(&data, "");
    let mut wire = Wire::known(&data);
    let (mut sent, mut expected) = (Vec::new(), String::new());
    for n in 1..=500 {
        sent.extend_from_slice(
            format!("INCR n\r\nSET k{n} {n}\r\nGET k{n}\r\nPING {n}\r\nGET n\r\nNONSENSE\r\n").as_bytes(),
        );
        let digits = n.to_string().len();
        expected += &format!(
            ":{n}\r\n+OK\r\n${digits}\r\n{n}\r\n${digits}\r\n{n}\r\n${digits}\r\n{n}\r\n-ERR unknown command 'NONSENSE', with args \
             beginning with: \r\n"
        );
    }
    let mut writer = wire.0.try_clone().unwrap();
    let sending = thread::spawn(move || {
        for piece in sent.chunks(777) {
            writer.write_all(piece).unwrap();
        }
    });
    assert_eq!(text(&wire.receive(expected.len())), expected);
    sending.join().unwrap();
    daemon.stop();
}

#[test]
fn a_drain_answers_what_was_asked() {
    let (_root, data) = place();
    let daemon = start(&data, "");
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let mut wire = Wire::known(&data);
            thread::spawn(move || {
                let mut made = 0_u64;
                loop {
                    let asked = wire.0.write_all(format!("INCR n{writer}\r\n").as_bytes());
                    let mut byte = [0; 1];
                    if asked.is_err() || !matches!(wire.0.read(&mut byte), Ok(1)) {
                        return (writer, made);
                    }
                    while byte != *b"\n" {
                        wire.0.read_exact(&mut byte).unwrap();
                    }
                    made += 1;
                }
            })
        })
        .collect();
    wait_for("some writes", || (daemon.json(&["kv", "usage"])["keys"] == "4").then_some(()));
    daemon.stop();
    let made: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    let daemon = start(&data, "");
    for (writer, made) in made {
        let kept: u64 = daemon.ok(&["kv", "get", &format!("n{writer}")]).parse().unwrap();
        assert!(kept == made || kept == made + 1, "`n{writer}` is {kept}, {made} were acknowledged");
    }
    daemon.stop();
}
