//! What no client sends, and what clients send too much of.

use std::{fs, io::Write, net::Shutdown, thread};

use super::{TOKEN, Wire, bulk, start};
use crate::support::{PATIENCE, place, refused, text, wait_for};

#[test]
fn nothing_is_done_before_somebody_is_known() {
    let (_root, data) = place();
    let daemon = start(&data, "");
    let mut wire = Wire::open(&data);
    for line in ["GET a", "PING", "INFO", "COMMAND", "MULTI", "SELECT 1", "SCAN 0", "CLIENT ID"] {
        wire.expect(line, "-NOAUTH Authentication required.\r\n");
    }
    wire.expect("HELLO 4", "-NOPROTO unsupported protocol version\r\n");
    wire.expect("HELLO 3", "-NOAUTH HELLO must be called");
    let mut wire = Wire::open(&data);
    wire.expect("AUTH 0123456789abcdef", "-WRONGPASS ");
    let mut wire = Wire::open(&data);
    wire.expect(&format!("AUTH someone {TOKEN}"), "-WRONGPASS ");
    let mut wire = Wire::open(&data);
    wire.expect(&format!("AUTH svc/cache {TOKEN}"), "+OK\r\n");
    wire.expect("PING", "+PONG\r\n");
    wire.expect("RESET", "+RESET\r\n");
    wire.expect("PING", "-NOAUTH Authentication required.\r\n");

    // Who is not known yet sends little; who is, may send much in the same packet.
    let large = vec![b'x'; 100_000];
    let mut wire = Wire::open(&data);
    wire.send(&bulk(&[b"SET", b"k", &large]));
    assert!(wire.rest().starts_with("-ERR Protocol error: unauthenticated"));
    let mut wire = Wire::open(&data);
    wire.send(&[bulk(&[b"AUTH", TOKEN.as_bytes()]), bulk(&[b"SET", b"k", &large])].concat());
    assert_eq!(wire.receive(10), b"+OK\r\n+OK\r\n");
    daemon.stop();
}

#[test]
fn a_door_that_can_not_open_is_said() {
    let (root, data) = place();
    let file = root.path().join("platform.toml");
    for (settings, complaint) in [
        ("[server.resp]\naddress = 'nowhere'", "is no address"),
        ("[server.resp]\naddress = '127.0.0.1:0'\nnamespaces = []", "`namespaces` is empty"),
        ("[server.resp]\naddress = '127.0.0.1:0'\nnamespaces = ['../a']", "`../a`"),
        ("[server.resp]\naddress = '127.0.0.1:0'\nunnamed_subject = 'nobody'", "`nobody`"),
        ("[server.resp]\nadress = '127.0.0.1:0'", "did you mean `address`?"),
    ] {
        fs::write(&file, settings).unwrap();
        let arguments = ["--data-dir", data.to_str().unwrap(), "--config", file.to_str().unwrap()];
        let said = refused(2, &[&arguments[..], &["--server-address", "127.0.0.1:0"]].concat());
        assert!(said.contains(complaint), "{said}");
    }
}

#[test]
fn connections_without_auth_may_have_a_subject() {
    let (_root, data) = place();
    let daemon = start(&data, "unnamed_subject = \"svc/cache\"");
    let mut wire = Wire::open(&data);
    wire.expect("SET a 1", "+OK\r\n");
    wire.expect("SELECT 1", "+OK\r\n");
    wire.expect("SELECT 2", "-NOPERM ");
    daemon.stop();
    assert!(!data.join("resp-address").exists(), "it is withdrawn at the end");
}

/// There is memory for one large request at a time, and all of them are made.
#[test]
fn large_requests_take_turns() {
    let (_root, data) = place();
    let daemon = start(&data, "large_requests_bytes = 1");
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let mut wire = Wire::known(&data);
            thread::spawn(move || {
                let value = vec![b'x'; 4 << 20];
                for _ in 0..2 {
                    wire.send(&bulk(&[b"MSET", format!("a{writer}").as_bytes(), &value, b"small", b"1", b"b", &value]));
                    assert_eq!(wire.line(), "+OK");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.join().unwrap();
    }
    assert_eq!(daemon.json(&["kv", "usage"])["keys"], "8");
    daemon.stop();
}

#[test]
fn values_have_any_bytes_up_to_8_mib() {
    let (_root, data) = place();
    let daemon = start(&data, "");
    let mut wire = Wire::known(&data);
    let value: Vec<u8> = (0..8 << 20).map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    wire.send(&bulk(&[b"SET", b"large", &value]));
    assert_eq!(wire.receive(5), b"+OK\r\n");
    wire.send(&bulk(&[b"GET", b"large"]));
    assert_eq!(wire.receive(10), b"$8388608\r\n");
    assert!(wire.receive(8 << 20) == value);
    wire.receive(2);
    let over = [&value[..], b"x"].concat();
    wire.send(&bulk(&[b"SET", b"large", &over]));
    let refused = "-ERR string exceeds maximum allowed size (8388608 bytes)\r\n";
    assert_eq!(text(&wire.receive(refused.len())), refused);
    wire.expect("STRLEN large", ":8388608\r\n");
    wire.expect("APPEND large x", refused);
    for n in 0..3 {
        wire.send(&bulk(&[b"SET", format!("part{n}").as_bytes(), &value]));
        assert_eq!(wire.receive(5), b"+OK\r\n");
    }
    // More than one answer of the store holds: one by one in a pipeline, refused in one command.
    wire.expect("MGET part0 part1 part2", "-ERR ");
    let mut wire = Wire::known(&data);
    wire.send(b"GET part0\r\nGET part1\r\nGET part2\r\nPING\r\n");
    let answers = wire.receive(3 * (10 + (8 << 20) + 2) + 7);
    assert!(answers.ends_with(b"+PONG\r\n") && answers.starts_with(b"$8388608\r\n"));
    for (key, why) in
        [(&b"\xff\xfe"[..], "UTF-8"), (b"", "1 to 1024"), (b"a\tb", "control"), (&[b'k'; 1025], "1 to 1024")]
    {
        let mut wire = Wire::known(&data);
        wire.send(&bulk(&[b"SET", key, b"x"]));
        wire.0.shutdown(Shutdown::Write).unwrap();
        let refused = wire.rest();
        assert!(refused.starts_with("-ERR invalid key") && refused.contains(why), "{refused}");
    }
    daemon.stop();
}

#[test]
fn what_is_no_request_ends_the_connection() {
    let (_root, data) = place();
    let daemon = start(&data, "");
    for (bytes, refusal) in [
        (&b"*1\r\n*1\r\n$4\r\nPING\r\n"[..], "expected '$', got '*'"),
        (b"*100000\r\n", "invalid multibulk length"),
        (b"*1\r\n$99999999999\r\n", "the request is larger than"),
        (b"*1\r\n$-2\r\n", "invalid bulk length"),
        (b"*a\r\n", "invalid multibulk length"),
        (b"SET \"a\r\n", "unbalanced quotes"),
        (&[b'x'; 70_000], "too big inline request"),
    ] {
        let mut wire = Wire::known(&data);
        wire.send(b"PING\r\n");
        wire.send(bytes);
        let answer = wire.rest();
        assert!(answer.starts_with("+PONG\r\n-ERR Protocol error") && answer.contains(refusal), "{refusal}: {answer}");
    }
    let mut wire = Wire::known(&data);
    wire.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a 1\r\n");
    assert!(!wire.rest().contains("OK"), "a browser does nothing here");
    let mut wire = Wire::known(&data);
    wire.expect("EXISTS a", ":0\r\n");
    wire.expect("QUIT", "+OK\r\n");
    assert_eq!(wire.rest(), "");
    daemon.stop();
}

#[test]
fn a_peer_that_does_not_read_is_let_go() {
    let (_root, data) = place();
    let daemon = start(&data, "write_timeout_ms = 300\nrequest_timeout_ms = 300");
    let mut wire = Wire::known(&data);
    wire.send(&bulk(&[b"SET", b"large", &vec![b'x'; 8 << 20]]));
    assert_eq!(wire.receive(5), b"+OK\r\n");
    wire.0.set_write_timeout(Some(PATIENCE)).unwrap();
    // It never reads; after a while the other side is gone and writing fails.
    wait_for("the connection to be cut", || wire.0.write_all(b"GET large\r\n").is_err().then_some(()));
    let mut half = Wire::known(&data);
    half.send(b"*2\r\n$3\r\nGET\r\n$10\r\nabc");
    assert!(half.rest().contains("did not come in time"));
    daemon.stop();
}

#[test]
fn cursors_are_not_forged() {
    let (_root, data) = place();
    let daemon = start(&data, "");
    let mut wire = Wire::known(&data);
    wire.expect("MSET a 1 b 2 c 3", "+OK\r\n");
    wire.send(b"SCAN 0 COUNT 1\r\n");
    let digits: usize = text(&wire.receive(9))[5..7].parse().unwrap();
    let cursor = text(&wire.receive(digits));
    assert_eq!(text(&wire.receive(13)), "\r\n*1\r\n$1\r\na\r\n");
    wire.expect(&format!("SCAN {cursor} COUNT 1"), "*2\r\n$");
    let mut wire = Wire::known(&data);
    wire.expect("SELECT 1", "+OK\r\n");
    wire.expect(&format!("SCAN {cursor}"), "-ERR invalid cursor");
    let mut wire = Wire::known(&data);
    wire.expect("SCAN 12345", "-ERR invalid cursor");
    daemon.stop();
}
