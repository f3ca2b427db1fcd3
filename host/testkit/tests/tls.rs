//! Plugins that speak TLS to real servers: `kv-redis` and `db-postgres`. What they do over it is in the conformance suites.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]
#![expect(clippy::disallowed_methods, reason = "tasks of a test end with it")]

use std::net::SocketAddr;

use platform_capability::{
    SlotKind,
    db::{Action, Condition as If, Content, Write},
    kv::{Condition, Error, Expiry},
};
use platform_dataplane::{CallError, Place, Plugin};
use platform_testkit::{Authority, Fixture, Postgres, Redis, alone, call, component, plugin, slot, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

/// The names that servers are reached by here.
const NAMES: &str = "IP:127.0.0.1,DNS:localhost";

fn granted(kind: SlotKind, name: &str, address: SocketAddr, host: &str, url: &str) -> Plugin {
    let grants = ["wasi", &format!("network:{host}:{}", address.port())];
    let mut plugin = plugin(kind, name, &component("plugins", name), &grants);
    plugin.settings = format!(r#"{{"url": "{url}"}}"#);
    plugin
}

fn redis(address: SocketAddr) -> Plugin {
    granted(SlotKind::KvStore, "kv-redis", address, "127.0.0.1", &format!("rediss://{address}"))
}

fn postgres(address: SocketAddr, url: &str) -> Plugin {
    granted(SlotKind::DbStore, "db-postgres", address, "127.0.0.1", url)
}

/// Why a plugin can't be bound.
async fn why_not(fixture: &Fixture, slot_text: &str, plugin: Plugin) -> String {
    fixture.plane.prepare(&slot(slot_text), alone(plugin)).await.unwrap_err().to_string()
}

/// A server that reads a little of what comes, says something, and hangs up.
async fn saying(answers: &'static [&'static [u8]]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            for answer in answers {
                let mut some = [0; 4096];
                // Who has hung up already hears nothing.
                let _ = stream.read(&mut some).await;
                let _ = stream.write_all(answer).await;
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_reached_over_tls_and_found_again() {
    let authority = Authority::new();
    let mut server = Redis::start_secure(authority.sign(NAMES)).await;
    let fixture = Fixture::trusting(&authority);
    fixture.bind("kv.store", alone(redis(server.secure_address()))).await;
    let kv = fixture.plane.kv();
    let put =
        async |key: &str, value: &[u8]| kv.put(&call(), key, value, Condition::Always, Expiry::Never).await.map(drop);
    let large = vec![7; 8 << 20];
    put("large", &large).await.unwrap();
    assert_eq!(kv.get(&call(), "large").await.unwrap().unwrap().value, large);
    let many = (0..50).map(|_| async { kv.increment(&call(), "sum", 1).await });
    for sum in futures::future::join_all(many).await {
        sum.unwrap();
    }
    assert_eq!(server.ask("GET platform:{default}:v:sum"), "$2\r\n50\r\n", "on the plain port of the same server");
    let connections = || {
        let told = server.ask("INFO stats");
        let made = told.split("total_connections_received:").nth(1).unwrap().lines().next().unwrap();
        made.parse::<u32>().unwrap()
    };
    let before = connections();
    for _ in 0..20 {
        kv.get(&call(), "sum").await.unwrap();
    }
    assert_eq!(connections() - before, 1, "the one that asks: connections stay open between calls");

    server.kill();
    let refused = put("key", b"1").await;
    assert!(matches!(&refused, Err(CallError::Capability(Error::Unavailable(_)))), "{refused:?}");
    server.restart().await;
    until("the server to be found again", async || put("key", b"2").await.is_ok()).await;

    // A server that is somebody else by now is not spoken to, and nothing is lost when it is itself again.
    let stranger = Authority::new();
    server.restart_with(stranger.sign(NAMES)).await;
    until("the stranger to be told", async || {
        let told = kv.get(&call(), "key").await;
        matches!(told, Err(CallError::Capability(Error::Unavailable(why))) if why.contains("tls.ca_files"))
    })
    .await;
    server.restart_with(authority.sign(NAMES)).await;
    until("the server to be itself again", async || kv.get(&call(), "key").await.is_ok()).await;
    assert_eq!(kv.get(&call(), "key").await.unwrap().unwrap().value, b"2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_for_names_too() {
    let authority = Authority::new();
    let server = Redis::start_secure(authority.sign("DNS:localhost")).await;
    let (fixture, address) = (Fixture::trusting(&authority), server.secure_address());
    let by_address = why_not(&fixture, "kv.store", redis(address)).await;
    assert!(by_address.contains("`127.0.0.1` has another's certificate"), "{by_address}");
    assert!(by_address.contains("localhost"), "{by_address}");
    let url = format!("rediss://localhost:{}", address.port());
    let by_name = granted(SlotKind::KvStore, "kv-redis", address, "localhost", &url);
    fixture.plane.prepare(&slot("kv.store"), alone(by_name)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_can_not_be_trusted_is_refused_with_the_way_out() {
    let server = Redis::start_secure(Authority::new().sign(NAMES)).await;
    let fixture = Fixture::new();
    let why = why_not(&fixture, "kv.store", redis(server.secure_address())).await;
    assert!(why.contains("`127.0.0.1`") && why.contains("`tls.ca_files`"), "{why}");
    // A real server that waits for the rest of what makes no sense to it, one that says so, and two that hang up.
    for (address, expected) in [
        (server.address(), "does it speak TLS on that port?"),
        (saying(&[b"-ERR unknown command\r\n"]).await, "does not speak TLS on that port"),
        (saying(&[b""]).await, "broke in the TLS handshake"),
        (saying(&[b"\x16\x03\x03\x00\x7a\x02\x00"]).await, "broke in the TLS handshake"),
    ] {
        let why = why_not(&fixture, "kv.store", redis(address)).await;
        assert!(why.contains(expected) && why.contains("127.0.0.1"), "{expected}: {why}");
    }
    assert_eq!(server.ask("DBSIZE"), ":0\r\n", "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_encrypted_as_far_as_it_is_asked_to() {
    let authority = Authority::new();
    let server = Postgres::start_secure(&authority.sign(NAMES)).await;
    let (trusting, other, address) = (Fixture::trusting(&authority), Fixture::new(), server.address());
    for mode in ["prefer", "require", "verify-full"] {
        let provider = postgres(address, &server.secure_url(mode));
        let bound = trusting.plane.prepare(&slot("db.store"), alone(provider)).await;
        bound.unwrap_or_else(|error| panic!("{mode}: {error}"));
    }
    let plain = why_not(&trusting, "db.store", postgres(address, &server.secure_url("disable"))).await;
    assert!(plain.contains("no encryption"), "{plain}");
    // Who prefers a connection that can be trusted, and has none, goes without: that is refused where it has to be encrypted.
    let preferred = why_not(&other, "db.store", postgres(address, &server.secure_url("prefer"))).await;
    assert!(preferred.contains("no encryption"), "{preferred}");
    let open = postgres(address, &format!("{}?sslmode=prefer", server.url()));
    other.plane.prepare(&slot("db.store"), alone(open)).await.unwrap();
    let untrusted = why_not(&other, "db.store", postgres(address, &server.secure_url("require"))).await;
    assert!(untrusted.contains("`127.0.0.1`") && untrusted.contains("`tls.ca_files`"), "{untrusted}");
    let wrong = why_not(&other, "db.store", postgres(address, &server.secure_url("allow"))).await;
    assert!(wrong.contains("/url") && wrong.contains("`verify-full`"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_has_no_tls_or_breaks_off_is_told() {
    let server = Postgres::start().await;
    let fixture = Fixture::new();
    let require = |address: SocketAddr| postgres(address, &format!("postgres://me@{address}/shop?sslmode=require"));
    let url = format!("{}?sslmode=require", server.url());
    let why = why_not(&fixture, "db.store", postgres(server.address(), &url)).await;
    assert!(why.contains("`127.0.0.1` has no TLS") && why.contains("`sslmode=disable`"), "{why}");
    let cases: [(&'static [&'static [u8]], &str); 5] = [
        (&[b""], "the PostgreSQL server"),
        (&[b"S", b""], "broke in the TLS handshake"),
        (&[b"S", b"RRRRRRRRRRRR"], "does not speak TLS"),
        (&[b"E"], "whether it has TLS"),
        // What comes behind the answer, before there is any encryption, is no part of what is said later.
        (&[b"SR\0\0\0\x08\0\0\0\0"], "`127.0.0.1`"),
    ];
    for (answers, expected) in cases {
        let why = why_not(&fixture, "db.store", require(saying(answers).await)).await;
        assert!(why.contains(expected), "{expected}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_found_again_over_tls() {
    let authority = Authority::new();
    let mut server = Postgres::start_secure(&authority.sign(NAMES)).await;
    let fixture = Fixture::trusting(&authority);
    fixture.bind("db.store", alone(postgres(server.address(), &server.secure_url("verify-full")))).await;
    let db = fixture.plane.db();
    let put = async |id: &str| {
        let action = Action::Put(Content { metadata: Vec::new(), data: vec![7; 1 << 20] });
        let write = Write { table: "orders".to_owned(), id: id.to_owned(), condition: If::Always, action };
        db.commit(&call(), "shop", &[write]).await
    };
    put("1").await.unwrap();
    server.kill();
    let refused = put("2").await;
    let is_typed = matches!(&refused, Err(CallError::Capability(platform_capability::db::Error::Unavailable(_))));
    assert!(is_typed, "{refused:?}");
    server.restart().await;
    until("the server to be found again", async || put("2").await.is_ok()).await;
    let place = Place { database: "shop", table: "orders" };
    let found = db.get(&call(), place, &["1", "2"]).await.unwrap();
    assert!(found.iter().all(Option::is_some));
}
