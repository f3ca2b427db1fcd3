//! The RESP port as clients of Redis use it: the real ones, and bytes that no client sends.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use crate::support::{Daemon, PATIENCE, place, refused, text, wait_for};

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

/// A tool that `cargo xtask setup --servers` installs; none where it is missing, which fails a test in CI.
fn tool(name: &str) -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_platform")).ancestors().nth(2).unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain([target.join("tools/python/bin")]);
    let found = places.map(|folder| folder.join(name)).find(|file| file.is_file());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "no `{name}`; run `cargo xtask setup --servers`");
    found
}

/// The interpreter that has redis-py.
fn python() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_platform")).ancestors().nth(2).unwrap().to_owned();
    let own = target.join("tools/python/bin/python");
    let has =
        |python: &Path| Command::new(python).args(["-c", "import redis"]).output().is_ok_and(|it| it.status.success());
    let found = Some(own).filter(|python| has(python));
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "no redis-py; run `cargo xtask setup --servers`");
    found
}

/// `redis-cli` or `redis-benchmark` against the port.
fn redis(program: &Path, data: &Path, arguments: &[&str]) -> Output {
    let address = address(data);
    let (host, port) = address.rsplit_once(':').unwrap();
    Command::new(program).args(["-h", host, "-p", port]).args(arguments).output().unwrap()
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
fn redis_cli_works() {
    let Some(program) = tool("redis-cli") else { return };
    let (_root, data) = place();
    let daemon = start(&data, "");
    let cli = |arguments: &[&str]| {
        let output = redis(&program, &data, &[&["-a", TOKEN, "--no-auth-warning"], arguments].concat());
        text(&output.stdout).trim_end().to_owned()
    };
    for protocol in ["-2", "-3"] {
        assert_eq!(cli(&[protocol, "SET", "greeting", "hello", "EX", "100"]), "OK");
        assert_eq!(cli(&[protocol, "GET", "greeting"]), "hello");
        assert_eq!(cli(&[protocol, "TTL", "greeting"]), "100");
        assert_eq!(cli(&[protocol, "MSET", "a", "1", "b", "2"]), "OK");
        assert_eq!(cli(&[protocol, "MGET", "a", "gone", "b"]), "1\n\n2");
        assert_eq!(cli(&[protocol, "DEL", "a", "b", "gone"]), "2");
        assert_eq!(cli(&[protocol, "DBSIZE"]), "1");
        assert_eq!(cli(&[protocol, "TYPE", "greeting"]), "string");
        assert!(cli(&[protocol, "INFO", "server"]).contains("redis_version:"));
        assert!(cli(&[protocol, "CONFIG", "GET", "max*"]).contains("maxmemory"));
    }
    assert_eq!(daemon.ok(&["kv", "get", "greeting"]), "hello", "it is the same store");
    assert_eq!(cli(&["-n", "1", "GET", "greeting"]), "", "another number, another namespace");
    daemon.ok(&["--namespace", "dev", "kv", "put", "there", "x"]);
    assert_eq!(cli(&["-n", "1", "GET", "there"]), "x");
    assert!(cli(&["-n", "2", "GET", "there"]).contains("NOPERM"), "the token is not good there");
    assert!(cli(&["SELECT", "3"]).contains("DB index is out of range"));
    for n in 0..25 {
        cli(&["SET", &format!("scan/{n:02}"), "x"]);
    }
    let scanned = cli(&["--scan", "--pattern", "scan/*", "--count", "7"]);
    assert_eq!(scanned.lines().count(), 25, "{scanned}");
    assert_eq!(cli(&["KEYS", "scan/?4"]), "scan/04\nscan/14\nscan/24");
    for (command, refusal) in [
        (&["SUBSCRIBE", "a"][..], "ERR unknown command"),
        (&["LPUSH", "a", "b"], "ERR unknown command"),
        (&["EVAL", "return 1", "0"], "ERR unknown command"),
        (&["GET"], "ERR wrong number of arguments for 'get' command"),
        (&["CONFIG", "SET", "a", "b"], "only CONFIG GET is served"),
    ] {
        assert!(cli(command).contains(refusal), "{command:?}: {}", cli(command));
    }
    let unknown = redis(&program, &data, &["GET", "greeting"]);
    assert!(text(&unknown.stdout).contains("NOAUTH"), "{unknown:?}");
    let wrong = redis(&program, &data, &["-a", "0123456789abcdef", "--no-auth-warning", "GET", "greeting"]);
    assert!(text(&[wrong.stdout, wrong.stderr].concat()).contains("WRONGPASS"));
    daemon.stop();
}

#[test]
fn redis_benchmark_works() {
    let Some(program) = tool("redis-benchmark") else { return };
    let (_root, data) = place();
    let daemon = start(&data, "");
    for more in [&["-c", "20", "-P", "16"][..], &["-c", "5", "-r", "100", "-d", "1000"], &["-c", "1", "-3"]] {
        let tests = ["-a", TOKEN, "-t", "ping,set,get,incr,mset", "-n", "300", "-q"];
        let output = redis(&program, &data, &[&tests[..], more].concat());
        let told = text(&[output.stdout, output.stderr].concat());
        assert!(output.status.success() && !told.to_lowercase().contains("error"), "{more:?}: {told}");
        for name in ["PING_MBULK", "SET", "GET", "INCR", "MSET"] {
            assert!(told.contains(name), "{more:?}: {told}");
        }
    }
    let counted: u64 = daemon.ok(&["kv", "get", "counter:__rand_int__"]).parse().unwrap();
    assert_eq!(counted, 600, "no increment is lost and none made twice");
    daemon.stop();
}

#[test]
fn redis_py_works() {
    let Some(python) = python() else { return };
    let (_root, data) = place();
    let daemon = start(&data, "");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/resp.py");
    let output = Command::new(python).arg(script).arg(address(&data)).arg(TOKEN).output().unwrap();
    assert!(output.status.success(), "{}{}\n{}", text(&output.stdout), text(&output.stderr), daemon.log());
    daemon.stop();
}

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
