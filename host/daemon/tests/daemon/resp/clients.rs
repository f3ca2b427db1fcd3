//! The clients of Redis themselves, unmodified: redis-cli, redis-benchmark, redis-py.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use platform_testkit::{Authority, Certificate};

use super::{TOKEN, Wire, address, start};
use crate::support::{place, text};

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
    assert!(cli(&["SELECT", "2"]).contains("NOPERM"), "the token is not good there");
    assert!(cli(&["SELECT", "3"]).contains("DB index is out of range"));
    for n in 0..25 {
        cli(&["SET", &format!("scan/{n:02}"), "x"]);
    }
    let scanned = cli(&["--scan", "--pattern", "scan/*"]);
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
fn redis_cli_works_over_tls() {
    let Some(program) = tool("redis-cli") else { return };
    let (_root, data) = place();
    let (authority, stranger) = (Authority::new(), Authority::new());
    let Certificate { certificate, key } = authority.sign("IP:127.0.0.1");
    let files = [("tls_certificate_file", certificate), ("tls_key_file", key)];
    let settings = files.map(|(name, file)| format!("{name} = '{}'\n", file.display())).concat();
    let daemon = start(&data, &settings);
    let cli = |authority: &Authority, arguments: &[&str]| {
        let ca = authority.file().display().to_string();
        let begin = ["-a", TOKEN, "--no-auth-warning", "--tls", "--cacert", &ca];
        let output = redis(&program, &data, &[&begin[..], arguments].concat());
        text(&[output.stdout, output.stderr].concat()).trim_end().to_owned()
    };
    assert_eq!(cli(&authority, &["SET", "greeting", "hello"]), "OK");
    assert_eq!(cli(&authority, &["-3", "GET", "greeting"]), "hello");
    let long = "x".repeat(100_000);
    assert_eq!(cli(&authority, &["SET", "long", &long]), "OK");
    assert_eq!(cli(&authority, &["GET", "long"]), long);
    assert!(cli(&stranger, &["GET", "greeting"]).contains("certificate verify failed"));
    let plain = redis(&program, &data, &["-a", TOKEN, "--no-auth-warning", "GET", "greeting"]);
    assert!(!text(&plain.stdout).contains("hello"), "{plain:?}");
    let mut wire = Wire::open(&data);
    wire.send(b"PING\r\n");
    assert!(!wire.rest().contains("PONG"), "who does not speak TLS is not answered");
    assert_eq!(daemon.ok(&["kv", "get", "greeting"]), "hello", "it is the same store");
    daemon.stop();
}

#[test]
fn redis_benchmark_works() {
    let Some(program) = tool("redis-benchmark") else { return };
    let (_root, data) = place();
    let daemon = start(&data, "");
    for more in [&["-c", "20", "-P", "16"][..], &["-c", "5", "-r", "100", "-d", "1000"], &["-c", "1", "-3"]] {
        let tests = ["-a", TOKEN, "-t", "ping,set,get,incr,mset", "-n", "320", "-q"];
        let output = redis(&program, &data, &[&tests[..], more].concat());
        let told = text(&[output.stdout, output.stderr].concat());
        assert!(output.status.success() && !told.to_lowercase().contains("error"), "{more:?}: {told}");
        for name in ["PING_MBULK", "SET", "GET", "INCR", "MSET"] {
            assert!(told.contains(name), "{more:?}: {told}");
        }
    }
    let counted: u64 = daemon.ok(&["kv", "get", "counter:__rand_int__"]).parse().unwrap();
    assert_eq!(counted, 640, "no increment is lost and none made twice");
    daemon.stop();
}

#[test]
fn redis_py_works() {
    let Some(python) = python() else { return };
    let (_root, data) = place();
    let daemon = start(&data, "");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/daemon/resp/clients.py");
    let output = Command::new(python).arg(script).arg(address(&data)).arg(TOKEN).output().unwrap();
    assert!(output.status.success(), "{}{}\n{}", text(&output.stdout), text(&output.stderr), daemon.log());
    daemon.stop();
}
